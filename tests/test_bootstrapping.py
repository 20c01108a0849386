"""The bootstrap: replicas that are each trained on a resample that is drawn once."""

import jax
import numpy as np
import pytest

import neuron


rng = np.random.default_rng(0)
X = rng.normal(size=(80, 2)).astype(np.float32)
Y = (X @ np.float32([1, -2]) + 0.3 * rng.normal(size=80)).astype(np.float32)


def weight(model):
    return model.weight[0]


@pytest.fixture(scope="module")
def result():
    model = neuron.Dense(2, key=jax.random.key(0))
    trainer = neuron.Trainer(model, optimizer=neuron.SGD(0.2), progress=False)
    loader = neuron.DataLoader((X, Y), 80, sampler=neuron.Sequential())
    return neuron.bootstrap(trainer, loader, replicas=200, steps=200, seed=3)


def solved(counts):
    design = np.column_stack([X, np.ones(len(X))]).astype(np.float64)
    weighted = design * counts[:, None]
    return np.linalg.solve(design.T @ weighted, weighted.T @ Y)[:2]


def test_each_replica_is_the_least_squares_of_its_resample(result):
    estimate, replicates = result.statistic(weight)
    np.testing.assert_allclose(estimate, solved(np.ones(80)), atol=1e-5)
    counts = neuron.Cases().counts(80, 200, 3).T
    np.testing.assert_array_equal(result.counts, counts)
    np.testing.assert_allclose(replicates, [solved(c) for c in counts], atol=1e-5)
    assert result.optimization_error.center < 0.01


def test_the_out_of_bag_loss_is_that_of_rows_not_seen(result):
    _, replicates = result.statistic(lambda model: jax.numpy.append(model.weight[0], model.bias))
    errors = [(Y - X @ w[:2] - w[2]) ** 2 for w in replicates]
    out = result.counts == 0
    np.testing.assert_allclose(result.out_of_bag["loss"], np.array(errors)[out].mean(), rtol=1e-5)
