"""Driving: who makes the host look, and how often."""

import jax
import numpy as np
import pytest

import neuron
from neuron import driving
from neuron.run import Run


X = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
Y = X.sum(1)


@pytest.fixture
def calls(monkeypatch):
    """How many steps each call of the program was asked for."""
    asked = []
    take = Run.take

    def counted(self, steps):
        asked.append(steps)
        return take(self, steps)

    monkeypatch.setattr(Run, "take", counted)
    monkeypatch.setattr(driving.Slices, "steps", lambda self: _started(self))
    return asked


def _started(slices):
    slices._started = 0.0
    return 10_000


def fit(callbacks=(), metrics=None, **options):
    trainer = neuron.Trainer(
        neuron.Dense(2, key=jax.random.key(0)), callbacks=callbacks, metrics=metrics, progress=False
    )
    trainer.fit(neuron.DataLoader((X, Y), 10), **options)
    return trainer


class Step(neuron.Callback):
    def __init__(self, every):
        self.every = every

    def on_step_end(self, trainer, logs):
        pass


class Epoch(neuron.Callback):
    def on_epoch_end(self, trainer, logs):
        pass


class Whole(neuron.Metric):
    def observe(self, prediction, target):
        return np.float32(1)

    def compute(self, total):
        return total


class PerClass(Whole):
    def compute(self, total):
        return total * np.ones(2, np.float32)


def test_nobody_looks_and_nothing_is_cut(calls):
    fit(epochs=5)
    fit([neuron.Callback()], epochs=5)
    assert calls == [20, 20]


def test_looks_are_where_somebody_wants_them(calls):
    fit([Step(7)], epochs=5)
    assert calls == [7, 7, 6]
    calls.clear()
    fit([Step(3)], epochs=2, validation=(X, Y))
    assert calls == [3, 1, 2, 2]
    calls.clear()
    fit([Epoch()], steps=6)
    assert calls == [4, 2]


def test_metrics_that_are_numbers_cut_nothing(calls):
    history = fit(metrics={"rows": Whole()}, epochs=3).history
    assert calls == [12]
    assert [row["rows"] for row in history.epochs] == [40, 40, 40]
    np.testing.assert_array_equal(history["rows"], 10.0 * np.tile([1, 2, 3, 4], 3))


def test_metrics_that_are_not_are_read_where_an_epoch_ends(calls):
    history = fit(metrics={"rows": PerClass()}, epochs=3).history
    assert calls == [4, 4, 4]
    assert "rows" not in history.names
    np.testing.assert_array_equal([row["rows"] for row in history.epochs], np.full((3, 2), 40))
