"""Numbers as an optimizer's fields, and in the type of what they multiply."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from neuron.types import Number, hyperparameter


def not_negative(call: str, value: Number) -> Any:
    """A number of at least 0 as a field."""
    return hyperparameter(call, value, "at least 0", lambda v: v >= 0)


def fraction(call: str, value: Number) -> Any:
    """A number in [0, 1) as a field."""
    return hyperparameter(call, value, "in [0, 1)", lambda v: 0 <= v < 1)


def as_like(like: Array, value: Any) -> Array:
    """A number in another array's type."""
    return jnp.asarray(value, like.dtype)
