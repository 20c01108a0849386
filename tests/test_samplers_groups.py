"""Grouped: whole groups with replacement."""

import numpy as np
import pytest
from draws import batches, by_chance
from scipy import stats

import neuron


# Groups of 1 to 7 rows, scattered over the data.
SIZES = [1, 2, 3, 7]
OWNERS = np.array([*"abbcccddddddd"])[np.random.default_rng(3).permutation(13)]
MEMBERS = {owner: np.flatnonzero(owner == OWNERS).tolist() for owner in "abcd"}


def pieces(batch, owners, members):
    """A batch as its groups: which one, and the rows that were taken of it."""
    place, found = 0, []
    while place < len(batch):
        owner = owners[batch[place]]
        rest = members[owner][members[owner].index(batch[place]) :]
        taken = batch[place : place + len(rest)]
        # Each piece is of one group, its rows in their order.
        assert taken == rest[: len(taken)]
        found.append((owner, taken))
        place += len(taken)
    return found


def test_all_groups_but_the_first_and_the_last_of_a_batch_are_whole():
    for batch in batches(neuron.Grouped(OWNERS, 1), range(300), 40, 13).tolist():
        first, *inner, last = pieces(batch, OWNERS, MEMBERS)
        assert all(taken == MEMBERS[owner] for owner, taken in inner)
        owner, taken = first
        assert taken == MEMBERS[owner][-len(taken) :]
        owner, taken = last
        assert taken == MEMBERS[owner][: len(taken)]


@pytest.mark.parametrize("batch_size", [1, 5, 12, 30])
def test_each_row_is_as_likely_at_each_place(batch_size):
    # 5 and 12 rows are less than the two largest groups together.
    rows = batches(neuron.Grouped(OWNERS, 2), range(20_000), batch_size, 13)
    assert rows.dtype == np.int32
    for column in rows.T:
        assert by_chance(np.bincount(column, minlength=13), chance=1e-8)


def test_groups_follow_each_other_as_drawn_with_equal_chances():
    drawn = [
        [owner for owner, _ in pieces(batch, OWNERS, MEMBERS)]
        for batch in batches(neuron.Grouped(OWNERS, 3), range(4000), 60, 13).tolist()
    ]
    # Six groups behind the first one can not fill the batch, so none is chosen by its size.
    later = np.array([["abcd".index(owner) for owner in owners[1:7]] for owners in drawn])
    for column in later.T:
        assert by_chance(np.bincount(column, minlength=4))
    assert by_chance(np.bincount((4 * later[:, :-1] + later[:, 1:]).ravel(), minlength=16))
    # A first group is as likely as it has rows.
    first = np.bincount(["abcd".index(owners[0]) for owners in drawn], minlength=4)
    assert stats.chisquare(first, np.array(SIZES) / 13 * 4000).pvalue > 5e-7


def test_steps_epochs_and_seeds_have_groups_of_their_own():
    rows = batches(neuron.Grouped(OWNERS, 4), range(3000), 1, 13).ravel()
    for other in (
        np.roll(rows, 1),
        batches(neuron.Grouped(OWNERS, 4), range(3000), 1, 13, epoch=1).ravel(),
        batches(neuron.Grouped(OWNERS, 5), range(3000), 1, 13).ravel(),
    ):
        assert by_chance(np.bincount(13 * rows + other, minlength=169))


def test_a_group_larger_than_a_batch_is_entered_anywhere():
    rows = batches(neuron.Grouped([0] * 1000 + [1], 6), range(5000), 10, 1001)
    assert by_chance(np.bincount(rows[:, 9], minlength=1001))
    # And one behind another: the border is a whole group away.
    assert {*np.diff(rows).ravel().tolist()} <= {1, -999, -1000, 0}


def test_groups_of_one_row_are_a_bootstrap():
    rows = batches(neuron.Grouped(np.arange(40), 7), range(3000), 20, 40)
    assert by_chance(np.bincount(rows.ravel(), minlength=40))


def test_one_group_is_the_data_again_and_again():
    rows = batches(neuron.Grouped(["x"] * 5, 8), range(100), 12, 5)
    assert (np.diff(rows) % 5 == 1).all()
    assert set(rows[:, 0]) == set(range(5))


def test_a_batch_of_very_many_rows_wraps_nowhere():
    # 100,000 groups of up to 100,000 rows would be more than 2^32.
    owners = np.repeat([0, 1, 2], [100_000, 90_000, 3])
    (batch,) = batches(neuron.Grouped(owners, 9), [0], 100_000, len(owners)).tolist()
    members = {owner: np.flatnonzero(owners == owner).tolist() for owner in range(3)}
    assert sum(len(taken) for _, taken in pieces(batch, owners, members)) == 100_000


def test_what_can_not_be_meant_is_refused():
    sampler = neuron.Grouped(OWNERS)
    sampler.check(100, 13)
    with pytest.raises(ValueError, match=r"`Grouped\(groups\)` .* one group a row; got 13 for 12"):
        sampler.check(1, 12)
    with pytest.raises(ValueError, match=r"`Grouped\(groups\)` .* got shape \(3, 3\)"):
        neuron.Grouped(np.eye(3))
    with pytest.raises(ValueError, match=r"got shape \(0,\)"):
        neuron.Grouped([])


def test_it_prints_as_what_it_is():
    assert repr(neuron.Grouped(OWNERS, 3)) == "Grouped(4 groups, seed=3)"
