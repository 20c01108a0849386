"""Samplers of blocks: shuffles that read a file piece by piece, and the bootstrap of a series."""

import functools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from draws import batches, by_chance, cells, is_whole_epoch, one_epoch, order_numbers, orders
from hypothesis import example, given, settings
from hypothesis import strategies as st

import neuron


WORD = 1 << 32


def blocks_of(sizes):
    """The block of each row."""
    return np.repeat(np.arange(len(sizes)), sizes)


def windows_of(sampler, epoch=0):
    """The blocks of each window of an epoch, read off the rows that a batch of all of them has."""
    sizes = np.asarray(sampler.sizes)
    block = blocks_of(sizes)[orders(sampler, [epoch], sizes.sum())[0]]
    seen, place, windows = [], 0, []
    while place < len(block):
        # A window ends where all rows of so many new blocks have come.
        here = list(dict.fromkeys(block[place:]))[: sampler.window]
        windows.append(set(here))
        seen += here
        place += int(sizes[here].sum())
    assert len(seen) == len(set(seen))
    return windows


# ── every row once, in few blocks ──


@given(
    seed=st.integers(0, WORD**2 - 1),
    epoch=st.integers(0, WORD**2 - 1),
    sizes=st.lists(st.integers(0, 40), min_size=6, max_size=6),
    window=st.sampled_from([1, 2, 4, 9]),
)
@example(seed=0, epoch=0, sizes=[1] * 6, window=2)
@example(seed=0, epoch=0, sizes=[0, 0, 1, 0, 239, 0], window=1)
@settings(max_examples=60, deadline=None)
def test_an_epoch_is_every_row_once(seed, epoch, sizes, window):
    # One number of rows, so that few programs are compiled.
    sizes = [*sizes, 240 - sum(sizes)]
    sampler = neuron.ShuffleBlocks(sizes, seed, window=window)
    assert is_whole_epoch(one_epoch(sampler, 32, 240, epoch), 240)


@pytest.mark.parametrize("sizes", [[1], [2], [1, 1], [5], [100_000, 3, 70_000], [1] * 300])
@pytest.mark.parametrize("window", [1, 4])
def test_an_epoch_of_any_sizes_is_every_row_once(sizes, window):
    size = sum(sizes)
    rows = one_epoch(neuron.ShuffleBlocks(sizes, 3, window=window), -(-size // 3), size, epoch=5)
    assert rows.dtype == np.int32
    assert is_whole_epoch(rows, size)


@given(
    seed=st.integers(0, WORD**2 - 1),
    sizes=st.lists(st.integers(16, 40), min_size=6, max_size=6),
    window=st.sampled_from([1, 2, 3]),
)
@settings(max_examples=20, deadline=None)
def test_a_batch_lies_in_two_windows_at_most(seed, sizes, window):
    sizes = [*sizes, 256 - sum(sizes)]
    sampler = neuron.ShuffleBlocks(sizes, seed, window=window)
    windows = windows_of(sampler)
    assert [len(blocks) for blocks in windows[:-1]] == [window] * (len(windows) - 1)
    block = blocks_of(sizes)
    # No window is smaller than a batch.
    for rows in batches(sampler, range(16), 16, 256):
        touched = {number for number, w in enumerate(windows) if w & set(block[rows])}
        assert len(touched) <= 2
        assert max(touched) - min(touched) <= 1


def test_one_window_of_all_blocks_mixes_them_all():
    rows = orders(neuron.ShuffleBlocks([40, 10, 30], window=3), np.arange(2000), 80)
    table = cells(np.broadcast_to(np.arange(80), rows.shape), rows, size=80).reshape(80, 80)
    assert by_chance(table, df=79**2, scale=79 / 80)


def test_the_batch_size_does_not_change_the_order():
    sampler = neuron.ShuffleBlocks([40, 10, 30, 20], 1, window=2)
    assert (one_epoch(sampler, 7, 100, epoch=3)[:100] == orders(sampler, [3], 100)[0]).all()


# ── orders are equally likely ──


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_all_orders_of_a_window_are_equally_likely(size):
    # The second of two blocks, in windows of one, wherever it comes.
    rows = orders(neuron.ShuffleBlocks([2, size], 5, window=1), np.arange(60_000), 2 + size)
    own = rows[rows >= 2].reshape(-1, size) - 2
    assert by_chance(np.bincount(order_numbers(own), minlength=math.factorial(size)))


@pytest.mark.parametrize("blocks", [2, 3, 5])
def test_all_orders_of_the_blocks_are_equally_likely(blocks):
    sizes = np.arange(1, blocks + 1)
    rows = orders(neuron.ShuffleBlocks(sizes, 6, window=1), np.arange(60_000), sizes.sum())
    block = blocks_of(sizes)[rows]
    first = [[*dict.fromkeys(line)] for line in block.tolist()]
    counts = np.bincount(order_numbers(np.array(first)), minlength=math.factorial(blocks))
    assert by_chance(counts)


@functools.cache
def two_windows(size):
    """The orders of two windows of one block each, as the places of their rows."""
    rows = orders(neuron.ShuffleBlocks([size, size], 8, window=1), np.arange(3000), 2 * size)
    return rows[:, :size] % size, rows[:, size:] % size


@pytest.mark.parametrize("size", [9, 33, 63, 64, 65, 130, 257])
def test_each_row_comes_to_each_place_of_its_window_as_often(size):
    for rows in two_windows(size):
        places = np.broadcast_to(np.arange(size), rows.shape)
        table = cells(places, rows, size=size).reshape(size, size)
        assert by_chance(table, df=(size - 1) ** 2, scale=1 - 1 / size)
        for lag in (1, 2):
            steps = (rows[:, lag:] - rows[:, :-lag]) % size
            assert by_chance(np.bincount(steps.ravel(), minlength=size)[1:], chance=1e-9)


@pytest.mark.parametrize("size", [9, 33, 65])
def test_windows_of_one_size_have_orders_of_their_own(size):
    one, other = two_windows(size)
    assert by_chance(cells(one, other, size=size), df=(size - 1) ** 2, chance=1e-9)
    assert not (one == other).all(axis=1).any()
    # About one place of an epoch, as Poisson has it.
    assert abs(np.sum(one == other) - len(one)) < 6 * np.sqrt(len(one))


def test_every_seed_and_epoch_has_an_order_of_its_own():
    numbers = [0, 1, 2, WORD, WORD + 1, WORD**2 - 1]
    seen = {
        tuple(order)
        for seed in numbers
        for order in orders(neuron.ShuffleBlocks([30, 30], seed, window=1), numbers, 60).tolist()
    }
    assert len(seen) == len(numbers) ** 2


# ── BlockBootstrap ──


@pytest.mark.parametrize(("length", "batch_size"), [(1, 10), (4, 10), (5, 10), (10, 10)])
def test_a_batch_is_blocks_end_to_end(length, batch_size):
    rows = batches(neuron.BlockBootstrap(length, 1), range(3000), batch_size, 30)
    assert rows.dtype == np.int32
    steps, inside = np.diff(rows), np.arange(1, batch_size) % length > 0
    assert (steps[:, inside] == 1).all()
    # A block may begin wherever it ends within the data, each place as likely.
    for offset in range(length):
        own = rows[:, offset::length] - offset
        assert own.min() >= 0
        assert own.max() <= 30 - length
        if length < 30:
            assert by_chance(np.bincount(own.ravel(), minlength=31 - length))


def test_blocks_of_one_row_are_a_bootstrap_and_of_all_are_the_data():
    rows = batches(neuron.BlockBootstrap(1, 2), range(50), 20, 40)
    assert (rows == batches(neuron.Bootstrap(2), range(50), 20, 40)).all()
    assert (batches(neuron.BlockBootstrap(40, 2), range(5), 40, 40) == np.arange(40)).all()


def test_the_blocks_of_a_batch_steps_and_epochs_are_independent():
    sampler = neuron.BlockBootstrap(3, 4)
    begins = batches(sampler, range(20_000), 6, 12)[:, [0, 3]]
    later = batches(sampler, range(20_000), 6, 12, epoch=1)[:, [0, 3]]
    assert by_chance(cells(begins[:, 0], begins[:, 1], size=10))
    assert by_chance(cells(begins[0::2], begins[1::2], size=10))
    assert by_chance(cells(begins, later, size=10))


# ── what can not be meant ──


def test_a_block_is_at_most_the_data_and_the_batch():
    sampler = neuron.BlockBootstrap(5)
    sampler.check(5, 5)
    sampler.check(9, 5)
    with pytest.raises(ValueError, match=r"the number of rows; got a length of 5 for 4\."):
        sampler.check(5, 4)
    with pytest.raises(ValueError, match=r"the batch size; got a length of 5 for 4\."):
        sampler.check(4, 100)


def test_sizes_must_sum_to_the_rows():
    sampler = neuron.ShuffleBlocks([5, 5])
    sampler.check(10, 10)
    with pytest.raises(ValueError, match=r"sum to the number of rows; got 10 for 11 rows\."):
        sampler.check(1, 11)
    with pytest.raises(ValueError, match=r"as ShuffleBlocks does; got batch_size=11 for 10 rows"):
        sampler.check(11, 10)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: neuron.ShuffleBlocks([]), ValueError, r"not be empty; got shape \(0,\)"),
        (lambda: neuron.ShuffleBlocks(5), ValueError, r"one axis.* got shape \(\)"),
        (lambda: neuron.ShuffleBlocks([[5]]), ValueError, r"got shape \(1, 1\)"),
        (lambda: neuron.ShuffleBlocks([3, -1]), ValueError, "at least 0; got -1 in place 1"),
        (lambda: neuron.ShuffleBlocks([2**30] * 2), ValueError, "less than 2.31; got 2147483648"),
        (lambda: neuron.ShuffleBlocks([2**63, 2**63]), ValueError, "got 18446744073709551616"),
        (lambda: neuron.ShuffleBlocks([1.5]), TypeError, "whole numbers; got dtype float64"),
        (lambda: neuron.ShuffleBlocks(["a"]), TypeError, "whole numbers; got dtype <U1"),
        (lambda: neuron.ShuffleBlocks([5], window=0), ValueError, "window=.* at least 1; got 0"),
        (lambda: neuron.ShuffleBlocks([5], window=2.0), TypeError, "window=.* a whole number"),
        (lambda: neuron.ShuffleBlocks([5], -1), ValueError, r"ShuffleBlocks\(seed=...\)` must"),
        (lambda: neuron.ShuffleBlocks([5], None), TypeError, r"ShuffleBlocks\(seed=...\)` must"),
        (lambda: neuron.BlockBootstrap(0), ValueError, "length.* at least 1; got 0"),
        (lambda: neuron.BlockBootstrap(2.5), TypeError, "length.* a whole number; got 2.5"),
        (lambda: neuron.BlockBootstrap(2, -1), ValueError, r"BlockBootstrap\(seed=...\)` must"),
    ],
)
def test_arguments_that_can_not_be_meant_are_refused(unchecked, make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_they_print_as_what_they_are():
    assert repr(neuron.ShuffleBlocks([5, 6], 7)) == "ShuffleBlocks(2 blocks, seed=7, window=4)"
    assert repr(neuron.ShuffleBlocks(jnp.array([5]), window=1)).endswith("seed=0, window=1)")
    assert repr(neuron.BlockBootstrap(24, 3)) == "BlockBootstrap(24, seed=3)"
