"""Numbers as an optimizer's fields, and in the type of what they multiply."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
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


@jax.custom_jvp
def root(square: Array) -> Array:
    """The square root, with a slope of 0 at 0, where it has none: a parameter that gets no gradient
    would make the derivatives of a whole run NaN."""
    return jnp.sqrt(square)


@root.defjvp
def _root_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (square,), (tangent,) = primals, tangents
    length = root(square)
    zero = length == 0
    return length, jnp.where(zero, 0, tangent / (2 * jnp.where(zero, 1, length)))


def is_number(field: Any) -> bool:
    """Whether a field is a number, which may change."""
    if not isinstance(field, np.ndarray | Array) or field.ndim != 0:
        return False
    return jnp.issubdtype(field.dtype, jnp.floating) or jnp.issubdtype(field.dtype, jnp.integer)


def value_of(field: Any) -> Any:
    """A field's number for a reader; as it is where it is traced."""
    return field if isinstance(field, Tracer) else float(field)
