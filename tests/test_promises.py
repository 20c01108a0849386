"""DESIGN's seven promises, one test or more each."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array

import neuron
from neuron.run import Run
from neuron.slices import Slices


rng = np.random.default_rng(0)
X = rng.normal(size=(103, 3)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5]) + 0.3 + 0.1 * rng.normal(size=103)).astype(np.float32)
W = rng.integers(0, 3, 103).astype(np.float32)

traces: list[str] = []


class Counting(eqx.Module):
    """A linear neuron that notes each time it is traced."""

    weight: Array
    bias: Array

    def __init__(self, width=3):
        self.weight = jnp.full(width, 0.1)
        self.bias = jnp.zeros(())

    def __call__(self, x):
        traces.append("model")
        return self.weight @ x + self.bias


def trainer(model=None, **options):
    options = {"loss": neuron.RootMeanSquaredError(), "optimizer": neuron.SGD(0.01)} | options
    return neuron.Trainer(Counting() if model is None else model, progress=False, **options)


def loader(batch_size=20, sampler=None, **options):
    return neuron.DataLoader((X, Y), batch_size, sampler=sampler or neuron.Bootstrap(1), **options)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def same_run(a, b):
    return bits(a.state) == bits(b.state) and bits(a.history["loss"]) == bits(b.history["loss"])


class Look(neuron.Callback):
    def __init__(self, every):
        self.every = every
        self.seen = []

    def on_step_end(self, trainer, logs):
        self.seen.append((trainer.step, logs["loss"]))


# 1. One compile.


def test_one_trace_whatever_changes_but_the_structure():
    jax.clear_caches()
    first = trainer()
    first.fit(loader(), steps=50)
    traces.clear()
    first.fit(loader(), steps=7)
    first.set(learning_rate=0.5)
    first.fit(loader(), epochs=2)
    second = trainer(seed=9, optimizer=neuron.SGD(0.3), callbacks=[Look(3)])
    second.fit(loader(sampler=neuron.Bootstrap(77)), steps=11)
    assert traces == []


def test_a_schedule_an_optax_object_and_an_activation_trace_once_if_named():
    schedule = optax.cosine_decay_schedule(0.1, 100)
    transformation = optax.adam(1e-2)
    for optimizer in (neuron.Adam(schedule), transformation):
        trainer(optimizer=optimizer).fit(loader(), steps=3)
        traces.clear()
        again = neuron.Adam(schedule) if optimizer is not transformation else transformation
        trainer(optimizer=again).fit(loader(), steps=3)
        assert traces == []


def test_evaluate_and_predict_trace_once_for_any_number_of_rows():
    one = trainer()
    one.predict(X), one.evaluate((X, Y))
    traces.clear()
    for rows in (1, 2, 31, 103):
        assert one.predict(X[:rows]).shape == (rows,)
        one.evaluate(neuron.DataLoader((X[:rows], Y[:rows]), 256, sampler=neuron.Bootstrap()))
    assert traces == []


def test_the_step_is_compiled_once():
    jax.clear_caches()
    one = trainer(callbacks=[Look(4)])
    for steps in (1, 5, 40):
        one.fit(loader(), steps=steps)
    assert neuron.run.loop.loop._cache_size() == 1


# 2. How the run is cut never changes a bit.


@pytest.mark.parametrize("sampler", [neuron.Bootstrap(3), neuron.Shuffle(3), neuron.Sequential()])
@pytest.mark.parametrize("every", [1, 2, 7, 100])
def test_looking_changes_no_bit(sampler, every):
    whole = trainer(optimizer=neuron.Adam(0.05))
    whole.fit(loader(sampler=sampler), steps=300)
    look = Look(every)
    cut = trainer(optimizer=neuron.Adam(0.05), callbacks=[look])
    cut.fit(loader(sampler=sampler), steps=300)
    assert same_run(whole, cut)
    losses = whole.history["loss"]
    assert look.seen == [(step, losses[step - 1]) for step in range(every, 301, every)]


@pytest.mark.parametrize("steps", [1, 13, 128, 129])
def test_slices_and_fits_change_no_bit(monkeypatch, steps):
    whole = trainer()
    whole.fit(loader(), steps=260)
    monkeypatch.setattr(Slices, "steps", lambda self: setattr(self, "_started", 0.0) or steps)
    sliced = trainer()
    sliced.fit(loader(), steps=100)
    sliced.fit(loader(), steps=0)
    sliced.fit(loader(), steps=160)
    assert same_run(whole, sliced)
    for a, b in zip(whole.history.epochs, sliced.history.epochs, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {
            k: v for k, v in b.items() if k != "seconds"
        }


ON_SO_MANY_CORES = """
import os, sys
cores = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, cores[: int(sys.argv[1])])
import equinox as eqx, jax, numpy as np, neuron

x = np.random.default_rng(0).normal(size=(512, 64)).astype(np.float32)
y = x[:, 0]

def train(*fits):
    model = eqx.nn.MLP(64, "scalar", 256, 2, key=jax.random.key(0))
    trainer = neuron.Trainer(model, progress=False)
    for steps in fits:
        trainer.fit(neuron.DataLoader((x, y), 128), steps=steps)
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(trainer.state)]

assert len(os.sched_getaffinity(0)) == min(int(sys.argv[1]), len(cores))
whole = train(60)
assert train(1, 7, 52) == whole
assert train(*[1] * 60) == whole
"""


@pytest.mark.parametrize("cores", [1, 2])
def test_cutting_a_network_with_threads_changes_no_bit(cores):
    """XLA does not promise it where matrix products run on several threads, so it is watched."""
    command = [sys.executable, "-c", ON_SO_MANY_CORES, str(cores)]
    subprocess.run(command, check=True, capture_output=True, text=True)


def test_everything_at_once_changes_no_bit():
    whole = trainer()
    whole.fit(loader(), epochs=12)
    busy = neuron.Trainer(
        Counting(),
        neuron.RootMeanSquaredError(),
        neuron.SGD(0.01),
        progress=True,
        callbacks=[
            Look(5),
            neuron.PrintLog(),
            neuron.EarlyStopping(patience=99, restore_best=False),
        ],
    )
    busy.fit(loader(), epochs=12, validation=(X, Y))
    assert same_run(whole, busy)


class Noisy(eqx.Module):
    """A model with randomness of its own: dropout by hand."""

    weight: Array

    def __call__(self, x, *, key):
        keep = jax.random.bernoulli(key, 0.7, x.shape) if key is not None else 1.0
        return self.weight @ (x * keep)


def test_keys_are_functions_of_seed_and_step():
    runs = [
        trainer(Noisy(jnp.ones(3)), seed=seed, callbacks=c)
        for seed, c in ((4, []), (4, [Look(3)]), (5, []))
    ]
    for one in runs:
        one.fit(loader(), steps=50)
    assert same_run(runs[0], runs[1])
    assert not same_run(runs[0], runs[2])


# A checkpoint, a kill and a resume change none either: test_resume.py, and tests/faults.


# 3. Nobody waits for the host.


def test_the_host_looks_only_when_asked(monkeypatch):
    trips = []
    take = Run.take
    monkeypatch.setattr(Run, "take", lambda self, n: trips.append(n) or take(self, n))
    monkeypatch.setattr(Slices, "steps", lambda self: setattr(self, "_started", 0.0) or 10**6)
    trainer().fit(loader(), steps=3_000)  # 500 epochs
    assert trips == [3_000]
    trips.clear()
    trainer(callbacks=[Look(1_000), neuron.Callback()]).fit(loader(), steps=2_500)
    assert trips == [1_000, 1_000, 500]


# 4. Exact means.


@pytest.mark.parametrize("weight", [None, W])
def test_means_are_exact_with_a_ragged_last_batch(weight):
    data = (X, Y) if weight is None else (X, Y, weight)
    one = trainer(optimizer=neuron.SGD(0.0), loss=neuron.RootMeanSquaredError())
    history = one.fit(neuron.DataLoader(data, 20, sampler=neuron.Shuffle(1)), epochs=3)
    squares = (X.astype(np.float64) @ np.full(3, np.float32(0.1)) - Y) ** 2
    weights = np.ones(103) if weight is None else weight
    exact = np.sqrt((weights * squares).sum() / weights.sum())
    assert [row["step"] for row in history.epochs] == [6, 12, 18]
    np.testing.assert_allclose([row["loss"] for row in history.epochs], exact, rtol=1e-6)
    for batch_size in (7, 20, 103):
        held_out = neuron.DataLoader(data, batch_size, sampler=neuron.Sequential())
        np.testing.assert_allclose(one.evaluate(held_out)["loss"], exact, rtol=1e-6)


def test_each_step_is_the_weighted_mean_of_its_own_rows():
    one = trainer(optimizer=neuron.SGD(0.0), loss=neuron.MeanSquaredError())
    data = neuron.DataLoader((X, Y, W), 20, sampler=neuron.Sequential())
    losses = one.fit(data, epochs=1)["loss"]
    squares = (X.astype(np.float64) @ np.full(3, np.float32(0.1)) - Y) ** 2
    for step, start in enumerate(range(0, 103, 20)):
        rows = slice(start, start + 20)
        np.testing.assert_allclose(
            losses[step], np.average(squares[rows], weights=W[rows]), rtol=1e-5
        )


# 5. Any Equinox model, unchanged.


@pytest.mark.parametrize(
    "make",
    [
        lambda key: eqx.nn.MLP(3, "scalar", 16, 2, key=key),
        lambda key: eqx.nn.Sequential(
            [eqx.nn.Linear(3, 8, key=key), eqx.nn.Lambda(jax.nn.tanh), neuron.Dense(8, key=key)]
        ),
        lambda key: neuron.Dense(3, key=key),
        lambda key: Counting(),
        lambda key: Noisy(jnp.ones(3)),
    ],
)
def test_any_model_trains(make, getkey):
    one = trainer(make(getkey()), loss=neuron.MeanSquaredError(), optimizer=neuron.Adam(0.02))
    before = one.evaluate((X, Y))["loss"]
    one.fit(loader(), epochs=100)
    assert one.evaluate((X, Y))["loss"] < 0.3 * before


# 6. The user's arrays stay theirs.


def test_the_users_arrays_stay_theirs():
    model, x, y = Counting(), X.copy(), Y.copy()
    before = bits(model)
    one = trainer(model)
    data = neuron.DataLoader((x, y), 20)
    one.fit(data, steps=10)
    held, kept = one.model, bits(one.model)
    one.fit(data, steps=10)
    assert bits(model) == before
    assert bits(held) == kept
    assert bits([x, y]) == bits([X, Y])
    reference = trainer()
    reference.fit(neuron.DataLoader((X, Y), 20), steps=40)
    x[:] = np.nan
    one.fit(data, steps=20)
    assert same_run(one, reference)


def test_what_a_hook_keeps_is_a_snapshot():
    class Keep(neuron.Callback):
        every = 5
        kept = None

        def on_step_end(self, trainer, logs):
            if self.kept is None:
                self.live, self.kept, self.then = (
                    trainer.model,
                    trainer.snapshot(),
                    bits(trainer.state),
                )

    keep = Keep()
    trainer(callbacks=[keep]).fit(loader(), steps=20)
    assert bits(keep.kept) == keep.then
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(keep.live))


# 7. Bad input is refused before the first step: test_errors.py.
