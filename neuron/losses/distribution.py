"""Losses for distributions: how unlikely the target is under what was predicted."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy
from jaxtyping import Array, PyTree, Shaped

from neuron.losses.loss import Loss, floor, one_logit_a_class, same_shape, within
from neuron.types import Number, Scalar, hyperparameter


class PoissonNegativeLogLikelihood(Loss):
    """`exp(prediction) - target prediction`: the prediction is the logarithm of a rate.

    Targets are counts, of at least 0. Left out is `log(target!)`, which no model changes;
    `full` adds Stirling's approximation of it, `t log(t) - t + log(2 pi t) / 2`, where `t > 1`.
    """

    full: bool = eqx.field(static=True)

    def __init__(self, *, full: bool = False):
        """**Arguments:**

        - `full`: whether to add the term that depends on the target alone.
        """
        self.full = full

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        same_shape(self, prediction, target)
        target = target.astype(prediction.dtype)
        score = jnp.exp(prediction) - target * prediction
        if self.full:
            count = jnp.where(target > 1, target, 1)
            stirling = count * jnp.log(count) - count + jnp.log(2 * math.pi * count) / 2
            score = score + jnp.where(target > 1, stirling, 0)
        return jnp.mean(score)

    def check(self, prediction: PyTree, targets: np.ndarray) -> None:
        within(self, targets, "at least 0", targets >= 0)


class GaussianNegativeLogLikelihood(Loss):
    """`(log(v) + (target - m)^2 / v) / 2`: the prediction is a pair, the mean `m` and the
    logarithm of the variance `v` (Nix & Weigend, 1994).

    The pair is two arrays of the target's shape, or one array that holds them along its first
    axis: `eqx.nn.MLP(3, 2, 16, 1, key=key)` predicts a number and how sure it is. The variance
    counts as at least `eps`; below, the loss keeps the slope that it has there, so that a model
    that is too sure of itself finds back.
    """

    eps: Number
    full: bool = eqx.field(static=True)

    def __init__(self, *, eps: Number = 1e-6, full: bool = False):
        """**Arguments:**

        - `eps`: the least variance, in the target's unit squared; above 0.
        - `full`: whether to add the constant, `log(2 pi) / 2`.
        """
        self.eps = hyperparameter(
            "GaussianNegativeLogLikelihood(eps=...)", eps, "above 0", lambda e: e > 0
        )
        self.full = full

    def __call__(self, prediction: tuple[Array, Array] | Array, target: Array) -> Scalar:
        mean, log_variance = self._pair(prediction)
        same_shape(self, mean, target)
        same_shape(self, log_variance, target)
        lifted = jnp.maximum(log_variance, jnp.log(floor(self.eps, log_variance)))
        # The value is the lifted one, and the slope, of what is 0, goes past `maximum`.
        slope = log_variance - jax.lax.stop_gradient(log_variance)
        log_variance = jax.lax.stop_gradient(lifted) + slope
        deviations = (target - mean) * jnp.exp(-log_variance / 2)
        constant = math.log(2 * math.pi) / 2 if self.full else 0.0
        return jnp.mean(log_variance + deviations**2) / 2 + constant

    def _pair(self, prediction: tuple[Array, Array] | Array) -> tuple[Array, Array]:
        parts = len(prediction) if isinstance(prediction, tuple) else prediction.shape[:1]
        if parts not in (2, (2,)):
            shapes = jax.tree.map(jnp.shape, prediction)
            raise ValueError(
                f"`{self!r}` takes a pair, mean and log variance, as one example's prediction: two "
                f"arrays, or one of shape (2, ...); got shape {shapes}."
            )
        mean, log_variance = prediction
        return mean, log_variance


class KullbackLeibler(Loss):
    """`sum(q log(q / softmax(prediction)))`: the prediction is one logit a class, the target a
    probability for each (Kullback & Leibler, 1951).

    Cross entropy less the entropy of the target: the same gradient, and 0 at an exact fit.
    """

    def __call__(self, prediction: Shaped[Array, " classes"], target: Array) -> Scalar:
        one_logit_a_class(self, prediction)
        same_shape(self, prediction, target)
        # A class that can not be (probability 0, logit -inf) adds nothing.
        likelihood = jnp.where(target == 0, 0, target * jax.nn.log_softmax(prediction))
        return jnp.sum(xlogy(target, target) - likelihood)

    def check(self, prediction: PyTree, targets: np.ndarray) -> None:
        within(self, targets, "probabilities, from 0 to 1", (targets >= 0) & (targets <= 1))
        # Half precision is off by less than a hundredth.
        total = np.sum(targets, axis=-1, dtype=np.float64)
        within(self, targets, "probabilities, 1 in sum", abs(total - 1) < 0.01)
