"""Functions of the models of all members."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from neuron.members import members_of, stacked
from neuron.trees import Static, arrays_of
from neuron.types import Model


def over_models(function: Callable[[Model], Any], one: Model, many: Model) -> np.ndarray:
    """A function of each member's model, members first; see `Population.each`.

    **Arguments:**

    - `one`: a single model, which says what has no member axis in that of all, `many`.
    """
    static, arrays = Static(one), arrays_of(many)
    flags = stacked(arrays_of(one), arrays)
    axes = [0 if flag else None for flag in flags]

    def of(arrays: list[Any]) -> Any:
        return function(static.combine(arrays))

    try:
        found = jax.jit(jax.vmap(of, in_axes=(axes,)))(arrays)
    # Booleans that pick numbers are an `IndexError` of JAX.
    except (jax.errors.JAXTypeError, IndexError, TypeError, ValueError):
        rows = [np.asarray(of(member)) for member in members_of(arrays, flags)]
        return np.stack(rows)
    if not isinstance(found, jax.Array):
        raise TypeError(
            "`Population.each(function)` must be a function of a model that returns a "
            f"number or an array; got {type(found).__name__}."
        )
    return np.asarray(found)
