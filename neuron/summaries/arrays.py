"""The arrays of a model, one row each."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array

from neuron.selection import Selection, dotted, parameters, selected
from neuron.types import Model, ModelState


@dataclasses.dataclass(frozen=True)
class Row:
    """One array. `path` is what patterns such as `trainable="head.*"` are matched with."""

    path: str
    shape: tuple[int, ...]
    dtype: Any
    parameters: int
    bytes: int
    trainable: bool


def rows_of(model: Model, model_state: ModelState, trainable: Selection | None) -> Iterator[Row]:
    """A row for each array of the model, then of its state."""
    params = parameters(model, _is_float)
    chosen = selected("summary(trainable=...)", params, True if trainable is None else trainable)
    trained = {path for path, is_trained in jtu.tree_leaves_with_path(chosen) if is_trained}
    for path, leaf in jtu.tree_leaves_with_path(model):
        if is_array(leaf):
            yield _row(path, leaf, path in trained)
    if model_state is not None:
        yield from (_row(path, leaf, False) for path, leaf in _state_leaves(model, model_state))


def _row(path: tuple, leaf: Any, trainable: bool) -> Row:
    size = int(leaf.size)
    return Row(dotted(path), leaf.shape, leaf.dtype, size, size * leaf.dtype.itemsize, trainable)


def _state_leaves(model: Model, model_state: ModelState) -> Iterator[tuple[tuple, Any]]:
    """The arrays of a state, each at the path of the index under which the model has it."""
    is_index = lambda node: isinstance(node, eqx.nn.StateIndex)
    for path, index in jtu.tree_leaves_with_path(model, is_leaf=is_index):
        if is_index(index):
            for rest, leaf in jtu.tree_leaves_with_path(model_state.get(index)):
                yield (*path, *rest), leaf


def is_array(leaf: Any) -> bool:
    """Whether a leaf is an array: JAX's, NumPy's, or its shape and type alone."""
    return isinstance(leaf, Array | np.ndarray | np.generic | jax.ShapeDtypeStruct)


def _is_float(leaf: Any) -> bool:
    return is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)
