"""Resampling: counts of rows, and the jackknife's weights."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import neuron
from neuron.resampling import Resampling


# Groups of 1 to 7 rows, scattered over the data.
OWNERS = np.array([*"abbcccddddddd"])[np.random.default_rng(3).permutation(13)]
KINDS = [neuron.Cases(), neuron.Clusters(np.arange(60) // 7), neuron.Blocks(7)]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=repr)


@each_kind
def test_a_replica_is_a_function_of_the_seed_and_its_number(kind):
    few, many = kind.counts(60, 5, seed=4), kind.counts(60, 40, seed=4)
    assert (few.shape, many.shape, few.dtype) == ((60, 5), (60, 40), np.uint8)
    np.testing.assert_array_equal(few, many[:, :5])
    assert len(np.unique(many, axis=1).T) == 40
    assert (kind.counts(60, 40, seed=5) != many).any(axis=0).all()


@pytest.mark.parametrize("seed", [0, 2**32, 2**64 - 1])
def test_cases_are_those_of_numpys_own_spawned_generators(seed):
    counts = neuron.Cases().counts(50, 6, seed)
    for column, child in zip(counts.T, np.random.SeedSequence(seed).spawn(6), strict=True):
        rows = np.random.Generator(np.random.PCG64(child)).integers(50, size=50)
        assert column.tolist() == [np.sum(rows == row) for row in range(50)]


def test_counts_of_cases_are_multinomial():
    # All 10 outcomes of three draws from three rows, by their chances.
    counts = neuron.Cases().counts(3, 20_000, 1).astype(int)
    law = stats.multinomial(3, [1 / 3] * 3)
    outcomes = np.array([(a, b, 3 - a - b) for a in range(4) for b in range(4 - a)])
    found = np.bincount(np.array([16, 4, 1]) @ counts, minlength=64)[outcomes @ [16, 4, 1]]
    assert found.sum() == 20_000
    assert stats.chisquare(found, 20_000 * law.pmf(outcomes)).pvalue > 5e-7


def test_each_row_is_as_likely_by_blocks_that_do_not_fit():
    # Three blocks of 4 are cut to 10 rows.
    counts = neuron.Blocks(4).counts(10, 6000, 2)
    assert (counts.sum(axis=0, dtype=int) == 10).all()
    # A block of 4 holds a row with a chance of 0.4, the last piece of 2 with one of 0.2.
    spread = np.sqrt(6000 * (0.4 * 0.6 + 0.4 * 0.6 + 0.2 * 0.8))
    drawn = counts.sum(axis=1, dtype=int)
    assert 1 < np.abs(drawn - 6000).max() / spread < 5.5


def test_a_resample_by_blocks_is_pieces_of_the_circle():
    counts = neuron.Blocks(5).counts(11, 200, 3).astype(int)
    # Every sum of two whole blocks and one of a single row.
    block = lambda begin, length: np.bincount((begin + np.arange(length)) % 11, minlength=11)
    whole = [block(begin, 5) for begin in range(11)]
    sums = {tuple(a + b + block(c, 1)) for a in whole for b in whole for c in range(11)}
    assert {tuple(column) for column in counts.T} <= sums


def test_rows_of_a_cluster_come_together_and_each_cluster_is_as_likely():
    counts = neuron.Clusters(OWNERS).counts(13, 6000, 4)
    of_group = {owner: counts[owner == OWNERS] for owner in "abcd"}
    assert all((rows == rows[0]).all() for rows in of_group.values())
    drawn = np.stack([rows[0] for rows in of_group.values()]).astype(int)
    assert (drawn.sum(axis=0) == 4).all()
    assert stats.chisquare(drawn.sum(axis=1)).pvalue > 5e-7
    # Clusters of one row are cases.
    np.testing.assert_array_equal(
        neuron.Clusters(np.arange(30)).counts(30, 8, 5), neuron.Cases().counts(30, 8, 5)
    )


@each_kind
def test_a_weighted_mean_varies_as_the_mean_of_a_resample_does(kind):
    # The spread of the bootstrap's means, worked out: that of sums of units, in as many draws.
    x = np.random.default_rng(0).normal(size=60).cumsum()
    counts = kind.counts(60, 20_000, 6).astype(float)
    means = (x - x.mean()) @ counts / 60
    if isinstance(kind, neuron.Blocks):
        sums = lambda length: np.array(
            [(x - x.mean())[(begin + np.arange(length)) % 60].sum() for begin in range(60)]
        )
        variance = 8 * sums(7).var() + sums(4).var()
    else:
        units = kind.units(60)
        variance = np.bincount(units, x - x.mean()).var() * (units.max() + 1)
    assert means.std() == pytest.approx(np.sqrt(variance) / 60, rel=0.03)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 40), st.integers(2, 45), st.integers(1, 39))
def test_every_unit_is_left_out_once(rows, most, length):
    groups = np.random.default_rng(rows).integers(0, 4, rows)
    groups[:2] = 0, 1
    kinds = [neuron.Cases(), neuron.Clusters(groups)]
    kinds += [neuron.Blocks(length)] if length < rows else []
    for kind in kinds:
        units, weights = kind.units(rows), kind.without_one(rows, most)
        assert weights.dtype == np.uint8
        out = weights == 0
        assert (out.sum(axis=1) == 1).all()
        assert weights.shape == (rows, min(most, units.max() + 1))
        # A unit is left out whole, and as many in each part, to within one.
        sizes = [len(np.unique(units[column])) for column in out.T]
        assert sum(sizes) == units.max() + 1
        assert 1 <= max(sizes) <= min(sizes) + 1


def test_the_jackknife_of_a_mean_is_its_textbook_standard_error():
    x = np.random.default_rng(1).normal(size=40)
    weights = neuron.Cases().without_one(40)
    means = x @ weights / weights.sum(axis=0)
    error = np.sqrt(39 / 40 * np.sum((means - means.mean()) ** 2))
    assert error == pytest.approx(x.std(ddof=1) / np.sqrt(40))


def test_groups_of_cases_are_drawn_at_random_and_are_the_same_each_time():
    weights = neuron.Cases().without_one(1000, most=20)
    np.testing.assert_array_equal(weights, neuron.Cases().without_one(1000, most=20))
    parts = weights.argmin(axis=1)
    assert stats.pearsonr(parts, np.arange(1000)).pvalue > 1e-6


def test_blocks_of_the_jackknife_lie_side_by_side():
    assert neuron.Blocks(4).units(10).tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert neuron.Blocks(5).units(10).tolist() == [0] * 5 + [1] * 5


class Often(Resampling):
    """All draws are of the first row."""

    def units(self, rows):
        return np.arange(rows)

    def resample(self, units, generator):
        return np.bincount([0] * len(units), minlength=len(units))


def test_counts_above_255_take_16_bits():
    for rows, dtype in ((255, np.uint8), (256, np.uint16)):
        counts = Often().counts(rows, 3)
        assert (counts.dtype, counts[0].tolist()) == (dtype, [rows] * 3)
        assert not counts[1:].any()


def test_they_are_frozen_and_print_as_what_they_are():
    groups = np.array([1, 1, 2])
    kinds = neuron.Cases(), neuron.Clusters(groups), neuron.Blocks(3)
    assert [repr(kind) for kind in kinds] == [
        "Cases()", "Clusters(2 groups of 3 rows)", "Blocks(length=3)",
    ]  # fmt: skip
    groups[:] = 0
    assert kinds[1].units(3).tolist() == [0, 0, 1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        kinds[2].length = 4
    assert neuron.Blocks(3) == kinds[2] != neuron.Blocks(2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: neuron.Cases().counts(1, 5), r"`Cases\(\)` must have at least two rows .* got 1"),
        (lambda: neuron.Cases().counts(5, 0), r"`Cases.counts\(replicas\)` must be at least 1"),
        (lambda: neuron.Cases().counts(5, 5, -1), r"`Cases.counts\(seed\)` must be from 0"),
        (lambda: neuron.Cases().without_one(5, 1), r"`Cases.without_one\(most\)` .* at least 2"),
        (lambda: neuron.Blocks(0), r"`Blocks\(length\)` must be at least 1; got 0"),
        (lambda: neuron.Blocks(5).counts(5, 2), r"`Blocks\(length\)` .* length of 5 for 5 rows"),
        (lambda: neuron.Clusters([1, 1]), r"`Clusters\(groups\)` .* two groups .* one, of 2 rows"),
        (lambda: neuron.Clusters([]), r"`Clusters\(groups\)` must have one label a row"),
        (lambda: neuron.Clusters(np.eye(2)), r"one label a row; got shape \(2, 2\)"),
        (lambda: neuron.Clusters([1, 2]).counts(3, 2), r"one group a row; got 2 for 3 rows"),
        (lambda: neuron.Clusters([1, np.nan, 2]), r"a group for every row; got nan in row 1"),
    ],
)
def test_what_can_not_be_meant_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_no_whole_number_is_refused(unchecked):
    with pytest.raises(TypeError, match=r"`Cases.counts\(rows\)` must be a whole number; got 2.5"):
        neuron.Cases().counts(2.5, 2)
    with pytest.raises(TypeError, match=r"`Cases.counts\(seed\)` must be a whole number"):
        neuron.Cases().counts(3, 2, 0.5)
    with pytest.raises(TypeError, match=r"`Blocks\(length\)` must be a whole number; got True"):
        neuron.Blocks(True)
