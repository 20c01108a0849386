"""What every sampler promises: pure functions of the step, the same rows everywhere, one compile."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import batches, drawn, epoch_words
from helpers import tree_allclose

import neuron
from neuron.run import Run


WORD = 1 << 32
SIZE = 35
LABELS = np.arange(SIZE) % 4
# A sampler of each kind, of any seed.
KINDS = {
    "Bootstrap": neuron.Bootstrap,
    "Shuffle": neuron.Shuffle,
    "Weighted": lambda seed: neuron.Weighted(np.arange(SIZE) % 5, seed),
    "Balanced": lambda seed: neuron.Balanced(LABELS, seed),
    "Stratified": lambda seed: neuron.Stratified(LABELS, seed),
    "Grouped": lambda seed: neuron.Grouped(np.arange(SIZE) // 4, seed),
    "BlockBootstrap": lambda seed: neuron.BlockBootstrap(3, seed),
    "ShuffleBlocks": lambda seed: neuron.ShuffleBlocks([10, 5, 20], seed, window=2),
    "Subset": lambda seed: neuron.Subset(np.arange(SIZE)[::-1], neuron.Shuffle(seed)),
}
each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())


@each_kind
def test_the_same_rows_however_they_are_computed(make):
    sampler = make(3)
    expected = batches(sampler, range(4), 8, SIZE, epoch=WORD + 3)
    epoch = epoch_words([WORD + 3])[0]

    @jax.jit
    def in_a_loop(sampler):
        rows = jnp.zeros((4, 8), jnp.int32)
        body = lambda p, rows: rows.at[p].set(sampler.indices(epoch, p.astype(jnp.uint32), 8, SIZE))
        return jax.lax.fori_loop(0, 4, body, rows)

    with jax.default_prng_impl("rbg"):
        assert (in_a_loop(sampler) == expected).all()
    # In another order, beside other batches, and again.
    assert (batches(sampler, [3, 1, 1], 8, SIZE, epoch=WORD + 3) == expected[[3, 1, 1]]).all()


@each_kind
def test_the_same_rows_under_x64(make, request):
    epochs, positions = epoch_words([0, 1, WORD + 1]), np.arange(3, dtype=np.uint32)
    before = drawn(make(2), epochs, positions, 8, SIZE)
    request.getfixturevalue("x64")
    after = drawn(make(2), epochs, positions, 8, SIZE)
    assert jnp.arange(3).dtype == jnp.int64
    assert after.dtype == np.int32
    assert tree_allclose(before, after, rtol=0, atol=0)


@each_kind
def test_every_seed_and_epoch_has_rows_of_its_own(make):
    numbers = [0, 1, WORD, WORD**2 - 1]
    rows = {
        batches(make(seed), range(4), 8, SIZE, epoch).tobytes()
        for seed in numbers
        for epoch in numbers
    }
    assert len(rows) == len(numbers) ** 2


class Counting(eqx.Module):
    weight: jax.Array

    def __call__(self, x):
        TRACES.append("model")
        return self.weight @ x


TRACES = []
X = np.random.default_rng(0).normal(size=(SIZE, 2)).astype(np.float32)


def trained(sampler, **options):
    trainer = neuron.Trainer(
        Counting(jnp.ones(2)), optimizer=neuron.SGD(0.01), progress=False, **options
    )
    data = neuron.DataLoader((X, X[:, 0]), 8, sampler=sampler)
    trainer.fit(data, steps=13)
    return trainer


@each_kind
def test_another_seed_is_no_trace_and_the_steps_are_one_kernel(make, monkeypatch):
    kernels, take = [], Run.take
    # After the call: a run goes on without its kernel where that does not compile.
    monkeypatch.setattr(
        Run, "take", lambda run, n: (take(run, n), kernels.append(run.program.one_kernel))[0]
    )
    jax.clear_caches()
    first = trained(make(1))
    TRACES.clear()
    second = trained(make(2))
    assert TRACES == []
    assert neuron.run.loop.loop._cache_size() == 1
    assert not np.array_equal(first.model.weight, second.model.weight)
    assert set(kernels) == {True}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (neuron.Weighted(np.ones(SIZE)), neuron.Weighted(np.arange(SIZE))),
        (neuron.Balanced(LABELS), neuron.Balanced(np.arange(SIZE) % 7)),
        (neuron.Stratified(LABELS), neuron.Stratified(np.arange(SIZE) % 7)),
        (neuron.Grouped(LABELS), neuron.Grouped(np.arange(SIZE) // 10)),
        (neuron.ShuffleBlocks([10, 25]), neuron.ShuffleBlocks([34, 1])),
    ],
)
def test_other_tables_of_the_same_shape_are_no_trace(one, other):
    trained(one)
    TRACES.clear()
    trained(other)
    assert TRACES == []


@each_kind
def test_a_fit_takes_the_batches_that_the_sampler_gives(make):
    trainer = trained(make(5))
    weight, steps = np.ones(2), 13
    for step in range(steps):
        epoch, position = divmod(step, 5)
        (rows,) = batches(make(5), [position], 8, SIZE, epoch)
        x = X[rows[rows >= 0]].astype(np.float64)
        weight = weight - 0.01 * 2 * np.mean((x @ weight - x[:, 0])[:, None] * x, axis=0)
    np.testing.assert_allclose(trainer.model.weight, weight, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "Subset"])
def test_seeds_that_can_not_be_meant_are_refused(unchecked, name):
    for seed in (-1, WORD**2):
        with pytest.raises(ValueError, match=rf"`{name}\(seed=...\)` must be from 0"):
            KINDS[name](seed)
    for seed in (1.0, True, None, "1"):
        with pytest.raises(TypeError, match=rf"`{name}\(seed=...\)` must be a whole"):
            KINDS[name](seed)
