"""Where a run stands, as the host counts."""

import jax.numpy as jnp
import numpy as np

from neuron.counters import words
from neuron.place import Place
from neuron.state import initial_state


def test_it_counts_as_the_state_does():
    place, state = Place(), initial_state({}, None, None)
    place.cut(5)
    one = jnp.uint32(1)
    for steps in (1, 3, 1, 12, 5):
        place.advance(steps)
        for _ in range(steps):
            state = state.ahead(one, 5)
        there = Place()
        there.move_to(state)
        assert (place.step, place.epoch, place.position) == (
            there.step,
            there.epoch,
            there.position,
        )
    assert (place.step, place.epoch, place.position, place.epoch_end) == (22, 4, 2, 25)


def test_data_cut_in_another_way_begin_an_epoch():
    place = Place(step=7, epoch=1, position=2, steps_per_epoch=5)
    place.cut(5)
    assert (place.epoch, place.position) == (1, 2)
    place.cut(4)
    assert (place.step, place.epoch, place.position, place.epoch_end) == (7, 2, 0, 11)


def test_a_place_that_the_data_do_not_have_begins_an_epoch():
    """As where a state of other data was put in, and nobody knows how those were cut."""
    for position, expected in ((3, (6, 3)), (4, (7, 0))):
        place = Place(epoch=6, position=position)
        place.cut(4)
        assert (place.epoch, place.position) == expected


def test_a_state_goes_on_from_a_place():
    state = Place(step=3, epoch=2, position=1).put_into(initial_state({}, None, None))
    np.testing.assert_array_equal(state.epoch, words(2))
    assert int(state.position) == 1
    assert not state.stopped
