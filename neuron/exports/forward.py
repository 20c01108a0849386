"""What is exported: a model as a pure function of its arrays and of rows, in inference mode."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array, PyTree

from neuron.models import batch_axis, check_state, prediction_like, takes_key
from neuron.step import checked_precision, prediction_step
from neuron.trees import Static, as_device, on_entry, paths, refuse_unhashable
from neuron.types import Batch, Model, ModelState


_ARRAYS = Array | np.ndarray | np.generic | jax.ShapeDtypeStruct


class Forward(NamedTuple):
    """`function(arrays, rows, keys)` gives what `Trainer.predict` gives for the rows.

    `arrays` are those of the model and its state, by path; `example` is one row's shapes and types.
    """

    function: Callable[..., PyTree]
    arrays: dict[str, Array]
    example: PyTree

    def rows(self, number: Any) -> PyTree:
        """The shapes of that many rows."""
        return _rows_like(self.example, number)


def forward(
    call: str, model: Model, example: PyTree, model_state: ModelState, precision: str | None
) -> Forward:
    """A model as a function.

    **Raises:**

    - `TypeError` or `ValueError` for a model, a state or an example that can not be meant.
    """
    if not callable(model):
        raise TypeError(
            f"`{call}(model)` must be callable on one example; got {type(model).__name__}. Of a "
            "trainer, hand over `trainer.model`."
        )
    refuse_unhashable(f"{call}(model)", model)
    check_state(model, model_state, call=call)
    batch_axis(model)
    precision = checked_precision(f"{call}(precision=...)", precision)
    like = _one_example(call, example)
    parts = on_entry((model, model_state), as_device(f"{call}(model)", None))
    arrays = _by_path(call, *parts)
    model, model_state = parts
    static = Static(parts)
    prediction_like(model, model_state, _rows_like(like, 1))

    def function(arrays: list[Array], rows: PyTree, keys: Array | None) -> PyTree:
        model, model_state = static.combine(arrays)
        return prediction_step(
            model, model_state, precision, None, Batch(rows), keys, dropout=False
        )

    return Forward(function, arrays, like)


def any_number() -> Any:
    """Of rows, as a dimension of shapes."""
    (number,) = jax.export.symbolic_shape("batch")
    return number


def refuse_draws(call: str, model: Model, forward: Forward) -> None:
    """Refuses a model whose outputs depend on its key: it would draw the same at every call."""
    if not takes_key(model):
        return
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0, impl="threefry2x32"), 2))
    arrays = list(forward.arrays.values())
    jaxpr = jax.make_jaxpr(forward.function)(arrays, forward.rows(2), keys).jaxpr
    *_, used = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[1]
    if used:
        raise ValueError(
            f"`{call}(model)` must give the same outputs for the same inputs; "
            f"{type(model).__name__} draws at random in inference mode as well. Export one that is "
            "handed its random numbers as inputs."
        )


def refuse_nodes(call: str, treedef: Any) -> None:
    """Refuses a tree that holds anything else than arrays in tuples, lists and dicts: whoever loads
    a model may not have its classes."""
    kind, names = treedef.node_data() or (tuple, ())
    words = kind is not dict or all(isinstance(name, str) for name in names)
    if kind not in (tuple, list, dict, type(None)) or not words:
        what = kind.__name__ if words else f"a dict with the keys {list(names)}"
        raise TypeError(
            f"`{call}` must be arrays in tuples, lists, and dicts with words as keys; got {what}."
        )
    for child in treedef.children():
        refuse_nodes(call, child)


def any_keys(number: Any) -> Array:
    """Keys for that many rows of a model whose outputs do not depend on them."""
    return jnp.broadcast_to(jax.random.key(0, impl="threefry2x32"), (number,))


def shown(tree: PyTree) -> str:
    """Shapes and types as errors have them: `float32[3]`, `(float32[8], int32[])`."""
    leaves, treedef = jtu.tree_flatten(tree)
    words = [_Word(leaf) for leaf in leaves]
    return repr(jtu.tree_unflatten(treedef, words))


class _Word:
    """A leaf that prints as its type and shape."""

    def __init__(self, leaf: Any):
        array = isinstance(leaf, _ARRAYS)
        self._text = f"{leaf.dtype}{list(leaf.shape)}" if array else type(leaf).__name__

    def __repr__(self) -> str:
        return self._text


def is_numeric(dtype: Any) -> bool:
    """Whether it is a type of numbers or booleans."""
    return jnp.issubdtype(dtype, np.number) or dtype == np.bool_


def _one_example(call: str, example: PyTree) -> PyTree:
    leaves, treedef = jtu.tree_flatten(example)
    if not leaves or not all(isinstance(x, _ARRAYS) and is_numeric(x.dtype) for x in leaves):
        raise TypeError(
            f"`{call}(example)` must be one example's inputs, as arrays of numbers or "
            f"jax.ShapeDtypeStruct; got {shown(example)}."
        )
    refuse_nodes(f"{call}(example)", treedef)
    canonical = jax.dtypes.canonicalize_dtype
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, canonical(x.dtype)), example)


def _rows_like(example: PyTree, number: Any) -> PyTree:
    with_rows = lambda leaf: jax.ShapeDtypeStruct((number, *leaf.shape), leaf.dtype)
    return jax.tree.map(with_rows, example)


def _by_path(call: str, model: Model, model_state: ModelState) -> dict[str, Array]:
    """The arrays of a model and its state, in order."""
    found = {}
    for name, tree in (("model", model), ("state", model_state)):
        for path, leaf in paths(tree):
            if isinstance(leaf, Array):
                found[name + path] = leaf
    keys = [path for path, leaf in found.items() if not is_numeric(leaf.dtype)]
    if keys:
        raise TypeError(f"`{call}(model)` must have arrays of numbers; got random keys at {keys}.")
    return found
