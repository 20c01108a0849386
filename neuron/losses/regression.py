"""Losses for numbers: how far a prediction is from its target."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from neuron.losses.loss import Loss, floor, residual, same_shape, within
from neuron.types import Number, Scalar, hyperparameter


class MeanSquaredError(Loss):
    """`mean((prediction - target)^2)`."""

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        return jnp.mean(residual(self, prediction, target) ** 2)


class RootMeanSquaredError(Loss):
    """`sqrt(mean((prediction - target)^2))`, the root being taken of the mean over the batch.

    Its gradient at an exact fit, where the root has none, is zero.
    """

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        return jnp.mean(residual(self, prediction, target) ** 2)

    def finish(self, mean: Scalar) -> Scalar:
        # Both branches are differentiated: the inner `where` keeps the root's slope finite.
        exact = mean == 0
        return jnp.where(exact, 0, jnp.sqrt(jnp.where(exact, 1, mean)))


class MeanSquaredLogError(Loss):
    """`mean((log(1 + prediction) - log(1 + target))^2)`, as scikit-learn defines it.

    Predictions and targets are above -1. A prediction that is not has no logarithm, and the
    score is NaN: nothing is clipped, since a clipped prediction would never learn. Let the
    model end in `jax.nn.softplus` or `jnp.exp`.
    """

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        target = target.astype(prediction.dtype)
        return jnp.mean(residual(self, jnp.log1p(prediction), jnp.log1p(target)) ** 2)

    def check(self, prediction: PyTree, targets: np.ndarray) -> None:
        within(self, targets, "above -1", targets > -1)


class MeanAbsoluteError(Loss):
    """`mean(|prediction - target|)`."""

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        return jnp.mean(_size(residual(self, prediction, target)))


class MeanAbsolutePercentageError(Loss):
    """`mean(|prediction - target| / max(|target|, eps))`, as scikit-learn defines it.

    A share and not a percentage: 0.25 is a quarter off. A target of 0 makes it huge.
    """

    eps: Number

    def __init__(self, *, eps: Number = 2.0**-52):
        """**Arguments:**

        - `eps`: the least size of a target that a residual is divided by, in its unit; above 0.
        """
        self.eps = hyperparameter(
            "MeanAbsolutePercentageError(eps=...)", eps, "above 0", lambda e: e > 0
        )

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        size = _size(residual(self, prediction, target))
        return jnp.mean(
            size / jnp.maximum(jnp.abs(target.astype(size.dtype)), floor(self.eps, size))
        )


class Huber(Loss):
    """`r^2 / 2` for `|r| <= delta`, `delta (|r| - delta / 2)` beyond (Huber, 1964)."""

    delta: Number

    def __init__(self, delta: Number = 1.0):
        """**Arguments:**

        - `delta`: the residual, in the target's unit, where the parabola becomes a line; above 0.
        """
        self.delta = hyperparameter("Huber(delta=...)", delta, "above 0", lambda d: d > 0)

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        size = jnp.abs(residual(self, prediction, target))
        delta = jnp.asarray(self.delta, size.dtype)
        # min(r, d) (r - min(r, d) / 2) is both branches in one.
        inner = jnp.minimum(size, delta)
        return jnp.mean(inner * (size - inner / 2))


class LogCosh(Loss):
    """`mean(log(cosh(prediction - target)))` (Green, 1990).

    Nearly `r^2 / 2` for a small residual, and `|r| - log(2)` for a large one.
    """

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        size = jnp.abs(residual(self, prediction, target))
        # |r| + log((1 + exp(-2 |r|)) / 2): no overflow for a large r, and nothing lost for a small.
        return jnp.mean(size + jnp.log1p(jnp.expm1(-2 * size) / 2))


class Quantile(Loss):
    """`mean(max(level r, (level - 1) r))` with `r = target - prediction` (Koenker & Bassett, 1978).

    The pinball loss: least where the share `level` of targets lies below the prediction.
    """

    level: Number

    def __init__(self, level: Number):
        """**Arguments:**

        - `level`: the quantile to predict, in (0, 1); half the absolute error at 0.5.
        """
        self.level = hyperparameter("Quantile(level=...)", level, "in (0, 1)", lambda q: 0 < q < 1)

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        above = -residual(self, prediction, target)
        level = jnp.asarray(self.level, above.dtype)
        return jnp.mean(jnp.maximum(level * above, (level - 1) * above))


class CosineSimilarity(Loss):
    """`1 - cos(prediction, target)` along the last axis: 0 for one direction, 2 for opposite ones.

    `cos` is the product of the vectors over `max(|prediction|, eps) max(|target|, eps)`, so a
    prediction of zero has the score 1 and a finite gradient.
    """

    eps: Number

    def __init__(self, *, eps: Number = 1e-8):
        """**Arguments:**

        - `eps`: the least length that a vector is divided by, above 0. No slope is steeper than
          `1 / eps`.
        """
        self.eps = hyperparameter("CosineSimilarity(eps=...)", eps, "above 0", lambda e: e > 0)

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        same_shape(self, prediction, target)
        if prediction.ndim == 0:
            raise ValueError(
                f"`{self!r}` takes vectors, of shape (..., features), as one example's prediction "
                "and target; got shape ()."
            )
        target = target.astype(prediction.dtype)
        cosine = jnp.sum(self._unit(prediction) * self._unit(target), axis=-1)
        return 1 - jnp.mean(cosine)

    def _unit(self, vector: Array) -> Array:
        square = jnp.sum(vector**2, axis=-1, keepdims=True)
        # The root has no slope at 0; both branches are differentiated.
        length = jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))
        return vector / jnp.maximum(length, floor(self.eps, length))

    def check(self, prediction: PyTree, targets: np.ndarray) -> None:
        within(self, targets, "not all zero", (targets != 0).any(axis=-1))


def _size(residual: Array) -> Array:
    # `jnp.abs` has a slope of 1 at 0; an exact fit should pull nowhere.
    return residual * jnp.sign(residual)
