"""Precision: what a model computes in, where that is not what its weights are kept in."""

import equinox as eqx
import jax
from jaxtyping import PyTree

from neuron.types import Model, is_fixed


def in_precision(precision: str | None, tree: PyTree) -> PyTree:
    """A tree with its floating-point arrays in another precision, but for its `Fixed` parts."""
    if precision is None:
        return tree
    cast = lambda leaf: leaf.astype(precision) if eqx.is_inexact_array(leaf) else leaf
    return jax.tree.map(cast, tree, is_leaf=is_fixed)


def inputs_in_precision(precision: str | None, model: Model, inputs: PyTree) -> PyTree:
    """Inputs in another precision, or as they are for a model that holds `Fixed` parts: the numbers
    of bfloat16 near 10,000 lie 64 apart, and no mean that is subtracted later brings back more."""
    has_fixed = any(map(is_fixed, jax.tree.leaves(model, is_leaf=is_fixed)))
    return inputs if has_fixed else in_precision(precision, inputs)


def checked_precision(call: str, precision: str | None) -> str | None:
    """A precision to compute in, or `None`; `ValueError` for another one."""
    if precision not in (None, "bfloat16", "float32"):
        raise ValueError(
            f"`{call}` must be 'bfloat16', 'float32' or None (float16 would need its losses "
            f"scaled); got {precision!r}."
        )
    return precision
