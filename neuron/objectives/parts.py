"""Parts: what predictions and targets that are dicts hold by name, and what is for one array."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree


def entry(option: str, name: str, tree: PyTree) -> PyTree:
    """A dict's entry, and anything else as it is.

    **Arguments:**

    - `option`: which one of `Trainer`'s named it, for the error.

    **Raises:**

    - `ValueError` where a dict has none of that name.
    """
    if not isinstance(tree, dict):
        return tree
    if name not in tree:
        raise ValueError(
            f"`Trainer({option}={{{name!r}: ...}})` must name an entry of predictions and targets; "
            f"there are {sorted(tree, key=str)}."
        )
    return tree[name]


def compared(call: str, hint: str, function: Callable[..., Any], prediction: Any, target: Any):
    """`function(prediction, target)`. What was written for arrays does not know that it was handed
    a dict or a tuple, and speaks of attributes.

    **Arguments:**

    - `call`: what the function is, for the error.
    - `hint`: how to name a part.

    **Raises:**

    - `TypeError` where the function can not take what is no array.
    """
    try:
        return function(prediction, target)
    except (AttributeError, TypeError) as error:
        if _is_array(prediction) and _is_array(target):
            raise
        raise TypeError(
            f"`{call}` must take an example's prediction and target as they are; got a prediction "
            f"of {_shapes(prediction)} and a target of {_shapes(target)}, and it answered: "
            f"{error}. For one part of them, let both be dicts, and write `{hint}`."
        ) from error


def _is_array(side: Any) -> bool:
    return isinstance(side, Array | np.ndarray | jax.ShapeDtypeStruct)


def _shapes(side: PyTree) -> str:
    like = lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))
    return eqx.tree_pformat(jax.tree.map(like, side), width=10**6, struct_as_array=True)
