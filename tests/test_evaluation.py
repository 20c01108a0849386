"""Evaluation: exact sums, any number of rows."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import neuron
from neuron.evaluation import finisher
from neuron.objectives import Supervised


def test_finisher_takes_any_number_of_means():
    finish = finisher(Supervised(neuron.RootMeanSquaredError()))
    for count in (1, 2, 3, 5, 8, 100):
        means = np.arange(count, dtype=np.float64)
        values = finish(means, np.arange(count))
        np.testing.assert_allclose(values["loss"], np.sqrt(means), rtol=1e-6)


def test_evaluation_adds_up_in_double_precision():
    """In single precision a sum over these rows would be off by more than the last rows add."""
    rows = 200_000
    x = np.ones((rows, 1), np.float32)
    y = np.where(np.arange(rows) < rows // 2, 1.0, 1e-2).astype(np.float32)
    zero = eqx.tree_at(
        lambda m: m.weight,
        neuron.Dense(1, use_bias=False, key=jax.random.key(0)),
        jnp.zeros((1, 1)),
    )
    trainer = neuron.Trainer(zero, neuron.MeanAbsoluteError(), progress=False)
    exact = np.mean(y, dtype=np.float64)
    np.testing.assert_allclose(trainer.evaluate((x, y))["loss"], exact, rtol=1e-7)
