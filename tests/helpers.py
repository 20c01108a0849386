"""What several tests use."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import neuron


def line(rows=1000, noise=0.1):
    """Inputs (rows, 2), and targets 3 x1 + 4 x2 + 5 with some noise, in float32."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 2))
    y = 3 * x[:, 0] + 4 * x[:, 1] + 5 + noise * rng.normal(size=rows)
    return x.astype(np.float32), y.astype(np.float32)


def counted(weight):
    """A linear model of a class of its own, and a list that grows whenever it is traced."""
    traces = []

    class Line(eqx.Module):
        weight: jax.Array

        def __call__(self, x):
            traces.append(1)
            return x @ self.weight

    return Line(jnp.asarray(weight)), traces


class Normed(eqx.Module):
    """A neuron of two inputs behind a layer with state."""

    norm: eqx.nn.BatchNorm
    dense: neuron.Dense

    def __init__(self):
        self.norm = eqx.nn.BatchNorm(2, "batch", mode="batch")
        self.dense = neuron.Dense(2, key=jax.random.key(0))

    def __call__(self, x, state):
        x, state = self.norm(x, state)
        return self.dense(x), state


@jax.jit
def score(loss, prediction, target):
    """What a loss makes of one example; compiled once for all numbers of a loss."""
    return loss(prediction, target)


@jax.jit
def scores_and_slopes(loss, predictions, targets):
    """What a loss makes of rows of examples, and its gradients."""
    return jax.vmap(jax.value_and_grad(loss))(predictions, targets)


def differences(loss, prediction, target, step=1e-6):
    """The gradient of a loss at one example, and its central finite differences."""
    at = np.asarray(prediction)
    steps = step * np.eye(at.size).reshape(-1, *at.shape)
    rows = np.concatenate([at[None], at + steps, at - steps])
    values, slopes = scores_and_slopes(
        loss, rows, np.broadcast_to(target, (len(rows), *target.shape))
    )
    above, below = values[1:].reshape(2, *at.shape)
    return slopes[0], (above - below) / (2 * step)


def tree_allclose(tree, other, *, rtol=1e-5, atol=1e-8):
    """Whether two trees have one structure, and leaves of the same shapes, types and, nearly, values."""
    leaves, treedef = jax.tree.flatten(tree)
    others, other_treedef = jax.tree.flatten(other)
    return treedef == other_treedef and all(
        np.shape(a) == np.shape(b)
        and np.asarray(a).dtype == np.asarray(b).dtype
        and np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
        for a, b in zip(leaves, others, strict=True)
    )


def measured(metric, predictions, targets, weight=None, cuts=(), *, double=False):
    """The value of a metric over rows that are cut into batches, each totaled by itself.

    Totals are merged as they are, or on the host in double precision; those of all rows are
    always there.
    """
    weight = np.ones(len(targets)) if weight is None else np.asarray(weight)
    rows = predictions, targets, weight.astype(jnp.result_type(float))
    pieces = zip(*(np.split(np.asarray(each), cuts) for each in rows), strict=True)
    totals = [_total(metric, *piece) for piece in pieces]
    if isinstance(metric, neuron.Gathered):
        totals = jax.tree.map(np.asarray, totals)
        return metric.compute(functools.reduce(metric.merge, totals))
    if double:
        totals = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), totals)
        return metric.compute(functools.reduce(metric.merge, totals))
    return _value(metric, totals)


@jax.jit
def _total(metric, predictions, targets, weight):
    return metric.total(jax.vmap(metric.observe)(predictions, targets), weight)


@jax.jit
def _value(metric, totals):
    return metric.compute(functools.reduce(metric.merge, totals))
