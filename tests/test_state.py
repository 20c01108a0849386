"""The state: counters, and parts that are put in."""

import jax.numpy as jnp
import numpy as np

from neuron.counters import number, words
from neuron.state import TrainState, initial_state


def at(step, position):
    flag = jnp.array(False)
    place = jnp.array(position, jnp.uint32)
    return TrainState(
        {"w": jnp.ones(2)},
        None,
        None,
        None,
        {},
        jnp.array(words(step)),
        jnp.array(words(step)),
        place,
        jnp.array(words(0)),
        flag,
    )


def test_counting_carries_into_the_high_word():
    for step in (0, 2**31 - 1, 2**32 - 1, 2**40):
        state = at(step, 4).counted(5, taken=jnp.array(True), dropped=jnp.array(False))
        assert (number(state.step), number(state.epoch), int(state.position)) == (
            step + 1,
            step + 1,
            0,
        )
        state = at(step, 3).counted(5, taken=jnp.array(True), dropped=jnp.array(True))
        assert (number(state.step), number(state.epoch), int(state.position)) == (step + 1, step, 4)
        assert number(state.skipped) == 1


def test_a_step_that_is_not_taken_counts_nothing():
    state = at(7, 4).counted(5, taken=jnp.array(False), dropped=jnp.array(True))
    assert (number(state.step), number(state.epoch), int(state.position)) == (7, 7, 4)
    assert number(state.skipped) == 0
    assert bool(state.stopped)


def test_parts_are_put_in():
    state, other = at(3, 1), initial_state({"w": jnp.zeros(2)}, "its state", "its optimizer")
    mixed = state.with_weights_of(other)
    assert mixed.params is other.params
    assert mixed.model_state == "its state"
    assert mixed.opt_state is None
    np.testing.assert_array_equal(mixed.step, state.step)
