"""Sweeps: the same run with many values of its numbers, each as a trainer alone would end."""

import jax
import numpy as np
import pytest

import neuron


rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2)).astype(np.float32)
Y = (X @ np.float32([1, -2])).astype(np.float32)


def trainer(rate=1e-2, **options):
    model = neuron.Dense(2, key=jax.random.key(0))
    return neuron.Trainer(model, optimizer=neuron.Adam(rate), progress=False, **options)


def test_each_setting_ends_where_a_trainer_alone_does():
    rates = [1e-3, 1e-2, 1e-1]
    found = neuron.sweep(
        trainer(), (X, Y), {"optimizer.learning_rate": rates}, epochs=3, validation=(X[:9], Y[:9])
    )
    for rate, value, row in zip(rates, found.values["val_loss"], found.rows, strict=True):
        one = trainer(rate)
        one.fit((X, Y), epochs=3)
        assert value == pytest.approx(one.evaluate((X[:9], Y[:9]))["loss"], rel=1e-12)
        assert row["optimizer.learning_rate"] == rate
    best = int(np.argmin(found.values["val_loss"]))
    assert found.best_setting() == {"optimizer.learning_rate": rates[best]}
    assert found.best().step == 6


def test_every_combination_of_several():
    settings = {"optimizer.learning_rate": [1e-3, 1e-2], "optimizer.b1": [0.5, 0.9, 0.95]}
    found = neuron.sweep(trainer(), (X, Y), settings, steps=3)
    assert len(found.population) == 6
    assert sorted(set(found.settings["optimizer.b1"])) == [0.5, 0.9, 0.95]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "at least one number"),
        ({"optimizer.speed": [1.0]}, "got 'optimizer.speed', there are"),
        ({"optimizer.learning_rate": []}, "a list of numbers"),
        ({"optimizer.learning_rate": [1e-3, -1.0]}, "at least 0"),
    ],
)
def test_refused(settings, words, unchecked):
    with pytest.raises(ValueError, match=words):
        neuron.sweep(trainer(), (X, Y), settings, steps=3)
