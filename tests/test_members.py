"""Members: arrays of many models, members first, beside those that all have in common."""

import jax
import jax.numpy as jnp
import numpy as np

from neuron.members import (
    alike,
    chosen,
    members_of,
    merged,
    over_members,
    own_of,
    repeated,
    stacked,
    together,
)


ONE = [jnp.zeros(3), jnp.zeros(())]
MANY = [jnp.arange(6.0).reshape(2, 3), jnp.asarray(5.0)]


def test_what_has_a_member_axis_is_seen_beside_one_member():
    assert stacked(ONE, MANY) == (True, False)
    assert stacked(ONE, ONE) == (False, False)


def test_each_member_has_its_own_and_what_is_shared():
    flags = stacked(ONE, MANY)
    (own,) = own_of(MANY, flags)
    np.testing.assert_array_equal(own, MANY[0])
    assert merged(MANY, flags, ["mine"]) == ["mine", MANY[1]]
    found = list(members_of(MANY, flags))
    assert [float(arrays[0].sum()) for arrays in found] == [3.0, 12.0]
    assert all(arrays[1] is MANY[1] for arrays in found)


def test_a_function_of_each_member():
    total = lambda arrays: arrays[0].sum() + arrays[1]
    np.testing.assert_array_equal(over_members(total, MANY, (True, False)), [8.0, 17.0])
    assert over_members(total, ONE, (False, False)) == 0


def test_what_is_the_same_for_all_stays_as_it_is():
    large = jnp.zeros(1000)
    trees = [{"a": jnp.asarray(float(k)), "b": jnp.ones(2), "c": large} for k in range(3)]
    found = together(trees)
    np.testing.assert_array_equal(found["a"], [0, 1, 2])
    assert found["b"].shape == (2,)
    assert found["c"] is large
    assert together([{"c": large}, {"c": jnp.zeros(1000)}])["c"].shape == (2, 1000)
    assert not alike([jnp.asarray(jnp.nan)] * 1 + [jnp.asarray(jnp.nan)])


def test_many_equal_ones_and_a_choice_among_two():
    one = repeated({"a": jnp.arange(2.0)}, 3)
    other = jax.tree.map(lambda leaf: leaf + 10, one)
    found = chosen(np.array([True, False, True]), one, other)["a"]
    np.testing.assert_array_equal(found, [[0, 1], [10, 11], [0, 1]])
