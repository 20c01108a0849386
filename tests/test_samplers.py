"""Samplers: the contract, and those that draw every row as any other."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import (
    batches,
    by_chance,
    cells,
    drawn,
    epoch_words,
    is_whole_epoch,
    one_epoch,
    order_numbers,
    orders,
    reseeded,
)
from helpers import tree_allclose
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax.extend.core import jaxpr_as_fun

import neuron
from neuron.counters import words
from neuron.samplers import drawing


WORD = 1 << 32
SIZES = [1, 2, 3, 5, 64, 1024, 1025, 65_536, 65_537]
HUGE = [10**9, 2**31 - 1]
KINDS = [neuron.Bootstrap(3), neuron.Shuffle(3), neuron.Sequential()]


# ── every row once ──


@functools.cache
def epochs_of_each_size(kind):
    """Some epochs in batches of a third of the rows, for each size; one program, so one compile."""
    epochs = epoch_words(e for e in (0, 1, WORD - 1, WORD + 3, WORD**2 - 1) for _ in range(3))
    positions = np.tile(np.arange(3, dtype=np.uint32), 5)

    @jax.jit
    def draw(sampler, epochs, positions):
        return {n: drawn(sampler, epochs, positions, -(-n // 3), n) for n in SIZES}

    return {
        size: np.reshape(rows, (5, -1)) for size, rows in draw(kind(), epochs, positions).items()
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [neuron.Shuffle, neuron.Sequential])
def test_an_epoch_is_every_row_once(kind, size):
    for rows in epochs_of_each_size(kind)[size]:
        assert rows.dtype == np.int32
        assert is_whole_epoch(rows, size)


@given(
    shape=st.sampled_from([(37, 5), (200, 64)]),
    seed=st.integers(0, WORD**2 - 1),
    epoch=st.integers(0, WORD**2 - 1),
)
@settings(max_examples=60, deadline=None)
def test_an_epoch_is_every_row_once_for_any_seed(shape, seed, epoch):
    size, batch_size = shape
    assert is_whole_epoch(one_epoch(neuron.Shuffle(seed), batch_size, size, epoch), size)


def test_sequential_gives_rows_in_their_order():
    assert one_epoch(neuron.Sequential(), 4, 10).tolist() == [*range(10), -1, -1]
    assert batches(neuron.Sequential(), [2, 0], 4, 10, epoch=5)[:, 0].tolist() == [8, 0]


# ── many rows ──


@pytest.mark.parametrize("size", HUGE)
def test_shuffle_of_very_many_rows_is_still_a_permutation(size):
    # If these were drawn with replacement, about 16 of the 2^18 rows would come twice.
    batch_size = 1 << 16
    last = -(-size // batch_size) - 1
    *rows, end = batches(neuron.Shuffle(1), [0, 1, last // 2, last - 1, last], batch_size, size)
    left = size - last * batch_size
    assert (end[left:] == -1).all()
    rows = np.append(rows, end[:left])
    assert rows.min() >= 0
    assert rows.max() < size
    assert np.unique(rows).size == rows.size
    assert by_chance(np.bincount(rows // (size // 64 + 1), minlength=64)[:63])


@pytest.mark.parametrize("kind", [neuron.Shuffle, neuron.Bootstrap])
def test_nothing_grows_with_the_rows(kind):
    def trace(size):
        call = lambda epoch, position: kind(1).indices(epoch, position, 8, size)
        return jax.make_jaxpr(call)(words(0), np.uint32(0))

    # Rows that fill a grid, and rows that do not.
    for few, many in [(70_000, 10**9), (70_001, 2**31 - 1)]:
        assert len(str(trace(many)).splitlines()) == len(str(trace(few)).splitlines())
        jaxpr = trace(many)
        assert all(np.size(const) <= 16 for const in jaxpr.consts)
        assert max(sizes_in(jaxpr.jaxpr)) <= 16
        assert len(jaxpr_as_fun(jaxpr)(words(0), np.uint32(0))[0]) == 8


def sizes_in(jaxpr):
    for equation in jaxpr.eqns:
        yield from (math.prod(v.aval.shape) for v in (*equation.invars, *equation.outvars))
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")
        ):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from sizes_in(getattr(inner, "jaxpr", inner))


@given(st.integers(1, 2**31 - 1))
@example(2**30 + 1)
@example(2**31 - 1)
def test_the_grid_holds_the_rows_and_little_else(size):
    width, height = drawing._grid(size)
    assert width % 2 == 0
    assert max(width, height) <= 1 << 16
    # What is to spare is walked over, so it is little.
    assert size <= width * height <= size + max(3, size // 20)


def test_sequential_of_very_many_rows():
    size = 2**31 - 1
    last = -(-size // 1000) - 1
    rows = batches(neuron.Sequential(), [last], 1000, size)[0].astype(np.int64)
    left = size - last * 1000
    assert (rows[:left] == last * 1000 + np.arange(left)).all()
    assert (rows[left:] == -1).all()


# ── the orders of Shuffle ──


@functools.cache
def order_of_each_epoch(size):
    """The orders of 60,000 epochs, by their numbers, across the border of the low word."""
    return order_numbers(orders(neuron.Shuffle(11), WORD - 30_000 + np.arange(60_000), size))


@pytest.mark.parametrize("size", [3, 4, 5, 6])
def test_all_orders_are_equally_likely_over_epochs(size):
    assert by_chance(np.bincount(order_of_each_epoch(size), minlength=math.factorial(size)))


@pytest.mark.parametrize("size", [3, 4])
def test_an_epochs_order_does_not_tell_the_next_ones(size):
    numbers, kinds = order_of_each_epoch(size), math.factorial(size)
    assert by_chance(cells(numbers[0::2], numbers[1::2], size=kinds))
    assert by_chance(cells(numbers[1:-1:2], numbers[2::2], size=kinds))


@pytest.mark.parametrize("size", [3, 5])
def test_all_orders_are_equally_likely_over_seeds(size):
    seeds = reseeded(neuron.Shuffle(), WORD - 30_000 + np.arange(60_000))
    call = lambda s: s.indices(jnp.zeros(2, jnp.uint32), jnp.uint32(0), size, size)
    rows = np.asarray(jax.jit(jax.vmap(call))(seeds))
    assert by_chance(np.bincount(order_numbers(rows), minlength=math.factorial(size)))


@functools.cache
def thousand():
    """3,000 epochs of 1,000 rows."""
    return orders(neuron.Shuffle(2), np.arange(3000), 1000).astype(np.int64)


def test_the_batch_size_does_not_change_the_order():
    assert (one_epoch(neuron.Shuffle(2), 64, 1000, epoch=5)[:1000] == thousand()[5]).all()


def test_each_row_comes_to_each_place_as_often():
    rows = thousand()
    table = cells(np.broadcast_to(np.arange(1000), rows.shape), rows, size=1000).reshape(1000, 1000)
    # A sum of permutation matrices: both margins are set, and a cell's variance is 1 - 1/n.
    assert by_chance(table, df=999**2, scale=0.999)
    blocks = table.reshape(20, 50, 20, 50).sum(axis=(1, 3))
    assert by_chance(blocks, df=19**2, scale=0.999)


def test_epochs_agree_in_as_many_places_as_by_chance():
    rows = thousand()
    for lag in (1, 2, 16):
        # About one place a pair of epochs, as Poisson has it: 6 standard deviations.
        fixed, pairs = np.sum(rows[lag:] == rows[:-lag]), len(rows) - lag
        assert abs(fixed - pairs) < 6 * np.sqrt(pairs)


def test_a_place_does_not_tell_the_next_ones():
    rows = thousand()
    for lag in (1, 2, 10):
        steps = (rows[:, lag:] - rows[:, :-lag]) % 1000
        assert by_chance(np.bincount(steps.ravel(), minlength=1000)[1:])


@pytest.mark.parametrize("size", [9, 63])
def test_all_neighbors_are_equally_likely(size):
    rows = orders(neuron.Shuffle(4), np.arange(80 * size), size)
    table = cells(rows[:, :-1], rows[:, 1:], size=size).reshape(size, size)
    pairs = table[~np.eye(size, dtype=bool)]
    # The bound is wider: neighbors along one order are not quite independent.
    assert by_chance(pairs, df=(size - 1) ** 2, chance=1e-9)


# ── Bootstrap ──


@pytest.mark.parametrize(
    ("size", "batch_size", "steps"),
    [(3, 10, 1000), (1000, 1000, 1000), (70_000, 7000, 200)],
)
def test_bootstrap_draws_each_row_as_often(size, batch_size, steps):
    rows = batches(neuron.Bootstrap(1), range(steps), batch_size, size)
    assert rows.dtype == np.int32
    assert rows.min() >= 0
    assert rows.max() < size
    assert by_chance(np.bincount(rows.ravel(), minlength=size))


@pytest.mark.parametrize("size", HUGE)
def test_bootstrap_of_very_many_rows(size):
    rows = batches(neuron.Bootstrap(1), range(4), 1 << 16, size)
    assert rows.min() >= 0
    assert rows.max() < size
    assert by_chance(np.bincount(rows.ravel() // (size // 64 + 1), minlength=64)[:63])
    # Drawn with replacement: pairs of equal rows are as many as at birthdays.
    twice = rows.size - np.unique(rows).size
    expected = rows.size**2 / 2 / size
    assert abs(twice - expected) < 6 * np.sqrt(expected)


@pytest.mark.parametrize(("size", "count"), [(1000, 400), (70_000, 20)])
def test_a_group_of_n_from_n_holds_63_percent_of_the_rows(size, count):
    groups = neuron.Bootstrap(8).groups(range(size), size=size, count=count)
    held = np.array([np.unique(rows).size for rows in groups])
    # A row is missed with (1 - 1/n)^n, two rows are with (1 - 2/n)^n.
    one, two = (1 - 1 / size) ** size, (1 - 2 / size) ** size
    mean = size * (1 - one)
    variance = size * one + size * (size - 1) * two - (size * one) ** 2
    assert abs(held.mean() - mean) < 5 * np.sqrt(variance / count)
    assert abs(held.mean() / size - 0.632) < 0.004
    # That the groups scatter as they should: sqrt(2 / count) is the deviation of a variance.
    assert abs(held.var(ddof=1) / variance - 1) < 6 * np.sqrt(2 / (count - 1))


def test_steps_epochs_and_places_of_a_bootstrap_are_independent():
    size, sampler = 30, neuron.Bootstrap(6)
    rows = batches(sampler, range(20_000), 20, size)
    next_epoch = batches(sampler, range(20_000), 20, size, epoch=1)
    assert by_chance(cells(rows[0::2], rows[1::2], size=size))
    assert by_chance(cells(rows[:, 0::2], rows[:, 1::2], size=size))
    assert by_chance(cells(rows[:, :10], rows[:, 10:], size=size))
    assert by_chance(cells(rows, next_epoch, size=size))
    over_epochs = drawn(sampler, epoch_words(range(20_000)), np.zeros(20_000, np.uint32), 20, size)
    over_epochs = np.asarray(over_epochs)
    assert by_chance(cells(over_epochs[0::2], over_epochs[1::2], size=size))


def test_seeds_beside_each_other_draw_independent_rows():
    seeds = reseeded(neuron.Bootstrap(), np.arange(20_000))
    call = lambda s: s.indices(jnp.zeros(2, jnp.uint32), jnp.uint32(0), 20, 30)
    rows = np.asarray(jax.jit(jax.vmap(call))(seeds))
    assert by_chance(cells(rows[0::2], rows[1::2], size=30))


def test_a_bootstrap_batch_may_be_larger_than_the_data():
    rows = batches(neuron.Bootstrap(1), [0], 100, 3)
    assert sorted(set(rows.ravel().tolist())) == [0, 1, 2]


def test_one_row_is_always_drawn():
    assert not batches(neuron.Bootstrap(1), range(5), 10, 1).any()


def bootstrap_of_words(monkeypatch, first, second, size):
    """The rows that `Bootstrap` makes of these words."""
    table = jnp.asarray(np.append(first, second).astype(np.uint32))
    monkeypatch.setattr(drawing, "random_words", lambda key, counts: table[counts])
    return neuron.Bootstrap(0).indices(words(0), jnp.uint32(0), len(first), size).tolist()


def borders(size, bits):
    """Words of so many bits at which the next row begins, and the last ones before."""
    rng = np.random.default_rng(size)
    rows = {1, size // 2, size - 1, *rng.integers(1, max(2, size), 40).tolist()} - {0, size}
    for row in sorted(rows):
        first = -(-(row << bits) // size)
        assert [n * size >> bits for n in (first - 1, first)] == [row - 1, row]
        yield from (first - 1, first)


@pytest.mark.parametrize("size", [2, 3, 100, 1000, 65_535, 65_536])
def test_one_word_is_scaled_exactly(monkeypatch, size):
    random = np.random.default_rng(0).integers(0, WORD, 1000).tolist()
    # As many for each size, so that JAX compiles its operations once.
    numbers = [*borders(size, 32), 0, WORD - 1, *random][:1000]
    expected = [number * size // WORD for number in numbers]
    assert bootstrap_of_words(monkeypatch, numbers, numbers, size) == expected


@pytest.mark.parametrize("size", [65_537, 100_000, 1 << 20, 10**6 + 3, *HUGE])
def test_two_words_are_scaled_exactly(monkeypatch, size):
    rng = np.random.default_rng(1)
    random = [(int(high) << 32) + int(low) for high, low in rng.integers(0, WORD, (1000, 2))]
    numbers = [*borders(size, 64), 0, WORD**2 - 1, *random][:1000]
    first, second = zip(*(divmod(number, WORD) for number in numbers), strict=True)
    expected = [number * size // WORD**2 for number in numbers]
    if size & (size - 1):
        # The carry matters here: one word alone would give some other rows.
        assert expected != [n * size // WORD for n in first]
    assert bootstrap_of_words(monkeypatch, first, second, size) == expected


def test_groups_are_the_batches_of_an_epoch():
    # Across blocks of 256, where large ones are fewer a block.
    for size, rows, count in [(5, 20, 600), (50_000, 100_000, 45)]:
        groups = list(neuron.Bootstrap(9).groups(np.empty(rows), size=size, count=count))
        assert len(groups) == count
        assert (groups == batches(neuron.Bootstrap(9), range(count), size, rows)).all()


@pytest.mark.parametrize("data", [[1, 2, 3], np.ones((3, 4)), jnp.ones(3), "abc", range(3)])
def test_groups_need_only_a_length(data):
    groups = neuron.Bootstrap(1).groups(data, size=2, count=5)
    rows = next(groups)
    assert isinstance(rows, np.ndarray)
    assert rows.shape == (2,)
    assert rows.dtype == np.int32
    assert len(list(groups)) == 4
    assert list(neuron.Bootstrap(1).groups(data, size=2, count=0)) == []


def test_groups_refuse_what_can_not_be_meant():
    # At the call, and not when the first group is taken.
    groups = functools.partial(neuron.Bootstrap(1).groups, range(5))
    with pytest.raises(ValueError, match=r"at most the number of rows; got size=6 for 5 rows\."):
        groups(size=6, count=1)
    with pytest.raises(ValueError, match=r"got size=1 for 0 rows\."):
        neuron.Bootstrap(1).groups([], size=1, count=1)
    with pytest.raises(ValueError, match=r"`Bootstrap.groups\(size=...\)` must be at least 1"):
        groups(size=0, count=1)
    with pytest.raises(ValueError, match=r"`Bootstrap.groups\(count=...\)` must be at least 0"):
        groups(size=1, count=-1)


def test_groups_refuse_other_types(unchecked):
    groups = functools.partial(neuron.Bootstrap(1).groups, range(5))
    with pytest.raises(TypeError, match=r"`Bootstrap.groups\(size=...\)` must be a whole number"):
        groups(size=2.0, count=1)
    with pytest.raises(TypeError, match=r"`Bootstrap.groups\(count=...\)` must be a whole number"):
        groups(size=2, count=True)


# ── all of them ──


def test_the_same_bits_under_x64(request):
    epochs, positions = epoch_words([0, 1, WORD + 1]), np.arange(3, dtype=np.uint32)

    def every(samplers, epochs, positions):
        return [drawn(s, epochs, positions, 4, n) for s in samplers for n in (1000, 70_001)]

    before = jax.jit(every)(KINDS, epochs, positions)
    request.getfixturevalue("x64")
    after = jax.jit(every)(KINDS, epochs, positions)
    assert jnp.arange(3).dtype == jnp.int64
    assert {rows.dtype for rows in after} == {np.dtype(np.int32)}
    assert tree_allclose(before, after, rtol=0, atol=0)


@pytest.mark.parametrize("sampler", KINDS, ids=repr)
def test_the_same_bits_however_they_are_computed(sampler):
    expected = batches(sampler, range(5), 8, 35, epoch=3)

    @jax.jit
    def in_a_loop(sampler, epoch):
        rows = jnp.zeros((5, 8), jnp.int32)
        body = lambda p, rows: rows.at[p].set(sampler.indices(epoch, p.astype(jnp.uint32), 8, 35))
        return jax.lax.fori_loop(0, 5, body, rows)

    # Whatever generator a user may prefer.
    with jax.default_prng_impl("rbg"):
        assert (in_a_loop(sampler, words(3)) == expected).all()


@pytest.mark.parametrize("kind", [neuron.Bootstrap, neuron.Shuffle])
def test_every_seed_and_epoch_has_rows_of_its_own(kind):
    numbers = [0, 1, 2, WORD, WORD + 1, 2 * WORD, WORD**2 - 1]
    rows = [
        tuple(one_epoch(kind(seed), 20, 20, epoch).tolist())
        for seed in numbers
        for epoch in numbers
    ]
    assert len(set(rows)) == len(numbers) ** 2


def test_every_position_of_a_bootstrap_has_rows_of_its_own():
    positions = [*range(1000), 2**31, WORD - 1]
    rows = batches(neuron.Bootstrap(1), positions, 4, 10**6)
    assert len({tuple(batch) for batch in rows.tolist()}) == len(positions)


@pytest.mark.parametrize("sampler", [neuron.Shuffle(), neuron.Sequential()], ids=repr)
def test_without_replacement_a_batch_is_at_most_the_data(sampler):
    sampler.check(10, 10)
    with pytest.raises(ValueError, match=r"without replacement, .* got batch_size=11 for 10 rows"):
        sampler.check(11, 10)
    neuron.Bootstrap().check(11, 10)


class Reversed(neuron.Sampler):
    def indices(self, epoch, position, batch_size, size):
        rows = size - 1 - (position.astype(jnp.int32) * batch_size + jnp.arange(batch_size))
        return jnp.maximum(rows, -1)


def test_a_sampler_of_your_own_is_one_method():
    assert one_epoch(Reversed(), 4, 10).tolist() == [*range(9, -1, -1), -1, -1]
    assert Reversed().check(100, 1) is None
    with pytest.raises(TypeError, match="abstract"):
        neuron.Sampler()
