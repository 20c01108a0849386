"""Stratified: every row once an epoch, and each class in each batch by its share."""

import math

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
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

import neuron
from neuron.samplers.stratified import _places


# ── the places, for any numbers ──


@given(
    batch_size=st.integers(1, 300),
    full=st.integers(1, 60),
    rest=st.floats(0, 1, exclude_max=True),
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@example(batch_size=1, full=1, rest=0.0, cuts=(0.0, 1.0))
@example(batch_size=300, full=1, rest=0.999, cuts=(0.0, 0.01))
@settings(max_examples=500, deadline=None)
def test_each_class_has_its_share_of_each_batch(batch_size, full, rest, cuts):
    size = full * batch_size + int(rest * batch_size)
    # A class is an interval of the line.
    begin, end = sorted(int(cut * size) for cut in cuts)
    whole, short = _places(batch_size, size)
    dealt = whole.astype(np.int64)[None, :] + np.arange(full)[:, None]
    left = short[short >= 0]
    assert sorted([*dealt.ravel(), *left]) == list(range(size))
    assert (short[len(left) :] == -1).all()
    in_batches = ((dealt >= begin) & (dealt < end)).sum(axis=1)
    share = (end - begin) * batch_size / size
    assert in_batches.min() >= math.floor(share)
    assert in_batches.max() <= math.ceil(share)
    in_last = ((left >= begin) & (left < end)).sum()
    assert abs(in_last - (end - begin) * len(left) / size) < 1 + full * len(left) / size < 2


# ── the sampler ──


@pytest.mark.parametrize("batch_size", [1, 7, 32, 50, 99, 100])
@pytest.mark.parametrize("shares", [[100], [50, 50], [1, 99], [5, 20, 30, 45], [1] * 100])
def test_an_epoch_is_every_row_once_by_shares(batch_size, shares):
    labels = np.repeat(np.arange(len(shares)), shares)[np.random.default_rng(0).permutation(100)]
    sampler = neuron.Stratified(labels, 3)
    for epoch in (0, 7):
        rows = one_epoch(sampler, batch_size, 100, epoch)
        assert rows.dtype == np.int32
        assert is_whole_epoch(rows, 100)
        for batch in rows.reshape(-1, batch_size):
            present = batch[batch >= 0]
            counts = np.bincount(labels[present], minlength=len(shares))
            exact = np.array(shares) * len(present) / 100
            bound = 1 if len(present) == batch_size else 2
            assert (np.abs(counts - exact) < bound).all()


def test_each_microbatch_has_each_class_too():
    labels = np.repeat(np.arange(4), 300)
    rows = batches(neuron.Stratified(labels, 1), range(10), 120, 1200)
    counts = np.array([np.bincount(labels[m], minlength=4) for m in rows.reshape(-1, 20)])
    assert counts.min() >= 3
    assert counts.max() <= 7


LABELS = np.array(["cat"] * 12 + ["dog"] * 5 + ["owl"] * 3)[
    np.random.default_rng(2).permutation(20)
]
NUMBERS = np.unique(LABELS, return_inverse=True)[1]


@pytest.mark.parametrize("labels", [LABELS, LABELS.tolist(), NUMBERS * 10 - 7, LABELS == "cat"])
def test_labels_may_be_anything_that_can_be_told_apart(labels):
    rows = batches(neuron.Stratified(labels, 5), range(5), 4, 20, epoch=2)
    own = np.asarray(labels)
    for label in np.unique(own):
        counts = (own[rows] == label).sum(axis=1)
        share = 4 * np.mean(own == label)
        assert (np.abs(counts - share) < 1).all()


def test_each_row_comes_to_each_full_batch_as_often():
    epochs, positions = np.repeat(np.arange(1500), 5), np.tile(np.arange(5, dtype=np.uint32), 1500)
    rows = np.asarray(drawn(neuron.Stratified(LABELS, 4), epoch_words(epochs), positions, 4, 20))
    count = cells(positions[:, None] + 0 * rows, rows, size=20).reshape(20, 20)[:5]
    # A row is in one of the five batches of an epoch: a variance of 1/5 x 4/5 a cell.
    assert (np.abs(count - 300) < 6 * np.sqrt(1500 * 0.16)).all()


@pytest.mark.parametrize("counts", [(3, 4), (5, 2)])
def test_all_orders_of_a_class_are_equally_likely(counts):
    labels = np.repeat([0, 1], counts)
    rows = orders(neuron.Stratified(labels, 6), np.arange(60_000), sum(counts))
    one, other = rows[rows < counts[0]], rows[rows >= counts[0]] - counts[0]
    numbers = [order_numbers(r.reshape(60_000, -1)) for r in (one, other)]
    for number, count in zip(numbers, counts, strict=True):
        assert by_chance(np.bincount(number, minlength=math.factorial(count)))
    # And those of two classes are independent.
    kinds = max(map(math.factorial, counts))
    table = cells(*numbers, size=kinds).reshape(kinds, kinds)
    table = table[: math.factorial(counts[0]), : math.factorial(counts[1])]
    assert by_chance(table)


def test_classes_of_one_size_have_orders_of_their_own():
    rows = orders(neuron.Stratified(np.repeat([0, 1], 70), 8), np.arange(2000), 140)
    one, other = rows[rows < 70].reshape(2000, 70), rows[rows >= 70].reshape(2000, 70) - 70
    # As many equal places as by chance: one an epoch, as Poisson has it.
    assert abs(np.sum(one == other) - 2000) < 6 * np.sqrt(2000)


def test_the_order_of_the_full_batches_is_of_the_epoch():
    # Only one batch of four has the rare row, and it is each one as often.
    labels = np.array([1] + [0] * 39)
    sampler = neuron.Stratified(labels, 9)
    where = [np.argwhere(batches(sampler, range(4), 10, 40, e) == 0)[0, 0] for e in range(1000)]
    assert by_chance(np.bincount(where, minlength=4))


def test_what_can_not_be_meant_is_refused():
    sampler = neuron.Stratified([0, 1, 1])
    sampler.check(3, 3)
    with pytest.raises(ValueError, match=r"`Stratified\(labels\)` .* a row; got 3 for 4 rows\."):
        sampler.check(1, 4)
    with pytest.raises(ValueError, match=r"as Stratified does; got batch_size=4 for 3 rows\."):
        sampler.check(4, 3)
    with pytest.raises(ValueError, match=r"`Stratified\(labels\)` .* got shape \(3, 3\)"):
        neuron.Stratified(np.eye(3))
    with pytest.raises(ValueError, match=r"got shape \(0,\)"):
        neuron.Stratified([])


def test_it_prints_as_what_it_is():
    assert repr(neuron.Stratified(LABELS, 3)) == "Stratified(20 labels, seed=3)"
