"""Samplers of unequal chances: weights, and balanced classes."""

import numpy as np
import pytest
from draws import batches, by_chance, cells
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

import neuron
from neuron.samplers.weighted import aliases


WORD = 1 << 32


def chances(table):
    """What a table draws each row with, in units of 2^-32 of an even chance: whole numbers."""
    units = [0] * len(table.other)
    for row, (threshold, other) in enumerate(
        zip(table.threshold.tolist(), table.other.tolist(), strict=True)
    ):
        units[row] += threshold
        units[other] += WORD - threshold
    return np.array(units, dtype=object)


def as_expected(rows, shares, chance=5e-7):
    """Whether rows come as often as their shares say, by chi-square."""
    counts = np.bincount(np.ravel(rows), minlength=len(shares))
    assert not counts[shares == 0].any()
    counts, shares = counts[shares > 0], shares[shares > 0]
    expected = shares / shares.sum() * counts.sum()
    assert expected.min() >= 5
    return stats.chisquare(counts, expected).pvalue > chance


# ── the table ──


@given(
    hnp.arrays(
        np.float64,
        st.integers(1, 60),
        elements=st.one_of(st.just(0.0), st.floats(0, 1e308), st.floats(0, 1), st.just(1.0)),
    ).filter(np.any)
)
@example(np.array([1.0]))
@example(np.array([0.0, 1.0]))
@example(np.array([1e308] * 5))
@example(np.array([5e-324] * 3))
@example(np.array([1e308, *[5e-324] * 50]))
@settings(deadline=None)
def test_a_tables_chances_are_the_weights(weights):
    units = chances(aliases(weights))
    assert units.sum() == WORD * len(weights)
    shares = weights / weights.max()
    exact = shares / shares.sum() * len(weights) * WORD
    # Within a unit: 2^-32 of an even row's chance.
    assert np.abs(units - exact).max() <= 1
    assert not units[weights == 0].any()


@pytest.mark.parametrize("spread", ["even", "light tail", "heavy tail", "one heavy", "many zeros"])
def test_tables_of_many_rows(spread):
    rng = np.random.default_rng(0)
    weights = {
        "even": rng.random(20_000),
        "light tail": rng.exponential(size=20_000),
        "heavy tail": rng.pareto(0.5, 20_000),
        "one heavy": np.append(1e9, rng.random(19_999)),
        "many zeros": rng.random(20_000) * (rng.random(20_000) < 0.01),
    }[spread]
    exact = weights / weights.sum() * len(weights) * WORD
    units = chances(aliases(weights))
    assert units.sum() == WORD * len(weights)
    # Beside a unit, what double precision leaves of the largest.
    assert (np.abs(units - exact) <= 1 + 1e-9 * exact).all()
    assert not units[weights == 0].any()


# ── Weighted ──


@pytest.mark.parametrize(
    "weights", [[1, 2, 3, 4], [0, 1, 0, 3], [7], [0.1, 1e3, 2e3], np.arange(300) % 7]
)
def test_rows_come_as_their_weights_say(weights):
    weights = np.asarray(weights, float)
    rows = batches(neuron.Weighted(weights, 1), range(2000), 200, len(weights))
    assert rows.dtype == np.int32
    assert as_expected(rows, weights / weights.sum()) or len(weights) == 1


def test_many_rows_come_as_their_weights_say():
    # More than 2^16 rows: drawn by two words.
    size = 100_000
    weights = (np.arange(size) % 3).astype(float)
    rows = batches(neuron.Weighted(weights, 2), range(300), 10_000, size)
    assert not (rows % 3 == 0).any()
    assert as_expected(rows % 3, np.array([0.0, 1, 2]) / 3)
    assert as_expected(rows, weights / weights.sum())


def test_equal_weights_are_those_of_a_bootstrap():
    rows = batches(neuron.Weighted(np.full(50, 0.3), 3), range(1000), 50, 50)
    assert by_chance(np.bincount(rows.ravel(), minlength=50))
    # The same rows, in fact: no row is exchanged for another.
    assert (rows == batches(neuron.Bootstrap(3), range(1000), 50, 50)).all()


def test_steps_epochs_and_places_are_independent():
    sampler = neuron.Weighted([1, 2, 3, 4], 6)
    shares = np.array([1, 2, 3, 4]) / 10
    pairs = np.outer(shares, shares).ravel()
    rows = batches(sampler, range(20_000), 10, 4)
    later = batches(sampler, range(20_000), 10, 4, epoch=1)
    for one, other in [
        (rows[0::2], rows[1::2]),
        (rows[:, 0::2], rows[:, 1::2]),
        (rows[:, :5], rows[:, 5:]),
        (rows, later),
        (rows, batches(neuron.Weighted([1, 2, 3, 4], 7), range(20_000), 10, 4)),
    ]:
        observed = cells(one, other, size=4)
        assert stats.chisquare(observed, pairs * observed.sum()).pvalue > 5e-7


def test_a_batch_may_be_larger_than_the_data():
    assert set(batches(neuron.Weighted([1, 0, 2]), [0], 100, 3).ravel()) == {0, 2}


# ── Balanced ──


LABELS = np.array(["b"] * 30 + ["a"] * 3 + ["c"] * 7)[np.random.default_rng(1).permutation(40)]


@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS.tolist(), np.unique(LABELS, return_inverse=True)[1] - 5, LABELS.astype(object)],
    ids=["strings", "a list", "integers", "objects"],
)
def test_each_class_comes_as_often_and_each_row_within_it(labels):
    rows = batches(neuron.Balanced(labels, 1), range(2000), 50, 40)
    number = np.unique(LABELS, return_inverse=True)[1]
    assert by_chance(np.bincount(number[rows.ravel()]))
    assert as_expected(rows, 1 / (3 * np.bincount(number)[number]))


def test_classes_have_the_same_chance_to_2_to_the_minus_32():
    labels = np.repeat(np.arange(5), [1, 10, 100, 1000, 8889])
    units = chances(neuron.Balanced(labels).table)
    for label in range(5):
        rows = units[labels == label]
        assert abs(rows.sum() / units.sum() - 1 / 5) < 2**-32
        assert max(rows) - min(rows) <= 1


def test_one_class_alone_is_a_bootstrap():
    rows = batches(neuron.Balanced([True] * 20, 4), range(500), 20, 20)
    assert (rows == batches(neuron.Bootstrap(4), range(500), 20, 20)).all()


# ── what can not be meant ──


nan, inf = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: neuron.Weighted([]), ValueError, r"one number a row; got shape \(0,\)"),
        (lambda: neuron.Weighted(1.0), ValueError, r"one number a row; got shape \(\)"),
        (lambda: neuron.Weighted([[1.0]]), ValueError, r"got shape \(1, 1\)"),
        (lambda: neuron.Weighted([1.0, -2.0]), ValueError, "at least 0; got -2.0 in row 1"),
        (lambda: neuron.Weighted([1.0, nan]), ValueError, "finite .* got nan in row 1"),
        (lambda: neuron.Weighted([inf, 1.0]), ValueError, "finite .* got inf in row 0"),
        (lambda: neuron.Weighted([0, 0]), ValueError, "one above 0; got only zeros"),
        (lambda: neuron.Weighted(["1"]), TypeError, "real numbers; got dtype <U1"),
        (lambda: neuron.Weighted([1j]), TypeError, "real numbers; got dtype complex128"),
        (lambda: neuron.Balanced([]), ValueError, r"one label a row; got shape \(0,\)"),
        (lambda: neuron.Balanced("abc"), ValueError, r"one label a row; got shape \(\)"),
        (lambda: neuron.Balanced(np.eye(3)), ValueError, r"one label a row; got shape \(3, 3\)"),
        (
            lambda: neuron.Balanced(np.array(["a", 1, None], object)),
            TypeError,
            r"`Balanced\(labels\)` must be labels that can be sorted",
        ),
    ],
)
def test_arguments_that_can_not_be_meant_are_refused(unchecked, make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_they_print_as_what_they_are():
    assert repr(neuron.Weighted([1, 2], 5)) == "Weighted(2 weights, seed=5)"
    assert repr(neuron.Balanced([1, 2, 2])) == "Balanced(3 labels, seed=0)"
