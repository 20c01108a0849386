"""Rows: their names, their places, and batches that a function makes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron
from neuron.counters import words
from neuron.rows import Cut, Delivered, Generated, as_batch, draw_ahead, indices_ahead, rows_at


x = np.arange(8, dtype=np.float32)


def test_a_batch_by_its_names_or_in_their_order():
    for rows in ((x, -x), [x, -x], {"inputs": x, "targets": -x}, neuron.Batch(x, -x)):
        batch = as_batch("f(rows)", rows)
        assert batch.inputs is x
        assert batch.weight is None
    assert as_batch("f(rows)", x).targets is None


@pytest.mark.parametrize(
    ("rows", "point"),
    [
        ({"image": x, "label": x}, r"`f\(rows\)`.*a dict of \['image', 'label'\]"),
        ({"targets": x}, r"a dict of \['targets'\]"),
        ({"inputs": x, "mask": x}, r"a dict of \['inputs', 'mask'\]"),
        ((x, x, x, x), "a tuple of 4"),
        ((), "a tuple of 0"),
        ([], "a list of 0"),
    ],
)
def test_other_names_are_refused(rows, point):
    with pytest.raises(TypeError, match=point):
        as_batch("f(rows)", rows)


@pytest.mark.parametrize("epoch", [0, (1 << 32) - 1, 1 << 40])
def test_a_chunk_is_read_from_its_first_batch_on(epoch):
    """Over the end of an epoch of 3 batches, and of a word of the epoch's number."""
    present = np.ones((4, 2), bool)
    present[2, 1] = False
    sampler = Delivered(words(epoch), np.uint32(1), np.uint32(3), present)
    position = np.array(1, np.uint32)
    drawn = draw_ahead(sampler, words(epoch), position, Cut(8, 2, 3), 6)
    # Beyond the chunk nobody reads; the last batch stands there.
    np.testing.assert_array_equal(drawn, [[0, 1], [2, 3], [4, -1], [6, 7], [6, 7], [6, 7]])


def test_rows_drawn_ahead_are_those_of_the_program(getkey):
    sampler, cut = neuron.Shuffle(7), Cut(100, 8, 13, short=4)
    inside = jax.jit(lambda e, p: indices_ahead(sampler, e, p, cut, 30))
    position = np.array(5, np.uint32)
    ahead = np.asarray(draw_ahead(sampler, words(2), position, cut, 30))
    np.testing.assert_array_equal(inside(words(2), position), ahead)
    # 8 steps of epoch 2, the last of which is short, and 13 of the next: each row once.
    assert (ahead[7] < 0).sum() == 4
    epoch = ahead[8:21].ravel()
    assert sorted(epoch[epoch >= 0]) == list(range(100))


def test_rows_by_their_places():
    rows = rows_at(neuron.Batch({"a": jnp.asarray(x)}, jnp.asarray(-x)), jnp.array([3, 3, 0]))
    np.testing.assert_array_equal(rows.inputs["a"], [3, 3, 0])
    np.testing.assert_array_equal(rows.targets, [-3, -3, 0])


def test_a_function_of_the_step_is_asked_once_for_each_batch():
    made = Generated(lambda step: jnp.full((2,), step), batches=3)
    np.testing.assert_array_equal(made.at(words(4), words(0)).inputs, [12, 12, 13, 13, 14, 14])


def test_its_keys_belong_to_the_seed_the_step_and_the_batch():
    made = Generated(lambda step, *, key: jax.random.uniform(key, (1,)), batches=2)
    draws = [np.asarray(made.at(words(s), words(seed)).inputs) for seed in (0, 1) for s in (0, 1)]
    assert len(np.unique(np.concatenate(draws))) == 8
    np.testing.assert_array_equal(made.at(words(0), words(0)).inputs, draws[0])
