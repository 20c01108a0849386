"""A moving average of the weights, which evaluation, prediction and `trainer.model` then use."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuron.types import Number, Params, hyperparameter


class Average(eqx.Module):
    """The exponential moving average of the parameters after each update, debiased.

    With `decay` near 1 it is the mean over about the last `1 / (1 - decay)` updates. Early on it is
    the same weighted mean over the updates there were, and never a blend with where they began
    (Kingma & Ba, 2015, section 3). `weight` is `1 - decay^updates`.
    """

    params: Params
    weight: Float[Array, ""]

    def moved(self, decay: Number, params: Params) -> "Average":
        """The average after one more update."""
        new = 1 - jnp.asarray(decay, self.weight.dtype)
        weight = self.weight + new * (1 - self.weight)
        share = new / weight
        blend = lambda mean, value: mean + share.astype(mean.dtype) * (value - mean)
        return Average(jax.tree.map(blend, self.params, params), weight)


def no_average(params: Params) -> Average:
    """The average before the first update: the parameters, which count for nothing."""
    return Average(params, jnp.zeros((), jax.dtypes.canonicalize_dtype(float)))


def decay(call: str, value: Number) -> Any:
    """The decay of an average as a leaf: a number in [0, 1)."""
    return hyperparameter(call, value, "in [0, 1)", lambda d: 0 <= d < 1)
