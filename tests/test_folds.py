"""Cross-validation: each row scored by a model that has not seen it."""

import jax
import numpy as np
import pytest

import neuron


rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2)).astype(np.float32)
Y = (X @ np.float32([1, -2]) + 0.1 * rng.normal(size=60)).astype(np.float32)


def trainer():
    model = neuron.Dense(2, key=jax.random.key(0))
    return neuron.Trainer(model, optimizer=neuron.Adam(0.05), progress=False)


def test_a_fold_is_a_fit_in_which_its_rows_weigh_nothing():
    scores = neuron.cross_validate(trainer(), (X, Y), folds=4, epochs=3)
    assert sorted(np.bincount(scores.fold_of)) == [15] * 4
    for fold in range(4):
        held = scores.fold_of == fold
        one = trainer()
        one.fit((X, Y, (~held).astype(np.float32)), epochs=3)
        assert scores["loss"][fold] == pytest.approx(one.evaluate((X[held], Y[held]))["loss"])
    predicted = scores.predict(X)
    assert np.mean((predicted - Y) ** 2) == pytest.approx(scores.mean["loss"], rel=1e-5)


def test_rows_that_are_held_out_change_nothing():
    scores = neuron.cross_validate(trainer(), (X, Y), folds=3, epochs=2)
    other = np.where(scores.fold_of == 0, Y + 100, Y).astype(np.float32)
    again = neuron.cross_validate(trainer(), (X, other), folds=3, epochs=2)
    np.testing.assert_array_equal(scores.trainers[0].model.weight, again.trainers[0].model.weight)
