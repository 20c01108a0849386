"""Models. How any Equinox model is called: with its state, with a key, for one example."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from neuron.trees import Shapes, Static, compiled_in, structure
from neuron.types import Key, Model, ModelState


def apply(
    model: Model, model_state: ModelState, inputs: PyTree, *, key: Key | None
) -> tuple[PyTree, ModelState]:
    """Calls a model on one example.

    **Arguments:**

    - `model`, `model_state`: the model, and its `equinox.nn.State`; `None` for a model without.
    - `inputs`: one example's inputs.
    - `key`: handed over where the model takes one.

    **Returns:**

    The model's output, and its state after the call.
    """
    arguments = {"key": key} if takes_key(model) else {}
    if model_state is None:
        return model(inputs, **arguments), None
    return model(inputs, model_state, **arguments)


def renewed(model_state: ModelState) -> ModelState:
    """The same state, good for one more use: an `equinox.nn.State` is spent by its first change."""
    return jax.tree.map(lambda leaf: leaf, model_state)


def for_inference(model: Model, *, dropout: bool = False) -> Model:
    """The model in inference mode; with `dropout`, its `equinox.nn.Dropout` layers stay on."""
    model = eqx.nn.inference_mode(model)
    if not dropout:
        return model
    return jax.tree.map(
        lambda node: eqx.nn.inference_mode(node, value=False) if _is_dropout(node) else node,
        model,
        is_leaf=_is_dropout,
    )


def batch_axis(model: Model) -> Any:
    """The name under which the model's layers know the batch; `"batch"` where none does.

    **Raises:**

    - `ValueError` where layers name it differently.
    """
    names = {path: name for path, name in compiled_in(model) if ".axis_name" in path}
    distinct = {name for name in names.values() if name is not None}
    if len(distinct) > 1:
        raise ValueError(
            f"`Trainer(model)` must name the batch axis alike in all layers; got {names}."
        )
    return distinct.pop() if distinct else "batch"


def whole_batch(model: Model, value: PyTree) -> PyTree:
    """A value of this example, and of all others of its batch: rows first.

    For an objective that couples examples; see `Objective`.
    """
    return jax.lax.all_gather(value, batch_axis(model))


def check_state(model: Model, model_state: ModelState, *, call: str = "Trainer") -> None:
    """Refuses a stateful model without its state, and a state without a stateful model.

    **Arguments:**

    - `call`: who was handed them, for the error.

    **Raises:**

    - `ValueError` or `TypeError`.
    """
    stateful = any(map(_is_index, jax.tree.leaves(model, is_leaf=_is_index)))
    hint = "`model, state = equinox.nn.make_with_state(...)(...)`"
    if model_state is not None and not isinstance(model_state, eqx.nn.State):
        raise TypeError(
            f"`{call}(model_state=...)` must be the state of {hint}; got {model_state!r}."
        )
    if stateful and model_state is None:
        raise ValueError(
            f"`{call}(model)` must come with `model_state=` where layers have state; got none. "
            f"Make both by {hint}."
        )
    if not stateful and model_state is not None:
        raise ValueError(
            f"`{call}(model_state=...)` must belong to a model with stateful layers; got a state "
            f"for {type(model).__name__}, which has none."
        )


def needs_two_rows(model: Model) -> bool:
    """Whether a layer takes statistics over the batch, which one row does not have."""
    is_norm = lambda node: isinstance(node, eqx.nn.BatchNorm)
    return any(map(is_norm, jax.tree.leaves(model, is_leaf=is_norm)))


def prediction_like(model: Model, model_state: ModelState, inputs: PyTree) -> PyTree:
    """The shape and type of one prediction; traces a model of given structure once.

    **Arguments:**

    - `inputs`: rows of inputs.

    **Raises:**

    - `ValueError` where the model can not take one such example, with the model's own error.
    """
    parts = (model, model_state)
    leaves, treedef = jax.tree.flatten(jax.tree.map(without_rows, inputs))
    return _prediction_like(*structure(parts), tuple(leaves), treedef)


def without_rows(rows: Any) -> jax.ShapeDtypeStruct:
    """One row's shape and type, as the device will have it."""
    return jax.ShapeDtypeStruct(rows.shape[1:], jax.dtypes.canonicalize_dtype(rows.dtype))


@functools.lru_cache(maxsize=256)
def _prediction_like(static: Static, arrays: Shapes, leaves: tuple, treedef: Any) -> PyTree:
    def predict(arrays: tuple, rows: PyTree, key: Key) -> PyTree:
        model, model_state = static.combine(arrays)
        model = for_inference(model)
        one = lambda x: apply(model, model_state, x, key=key)[0]
        return jax.vmap(one, axis_name=batch_axis(model))(rows)

    rows = [jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype) for leaf in leaves]
    inputs = jax.tree.unflatten(treedef, rows)
    key = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
    shapes = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves)
    try:
        return jax.tree.map(without_rows, jax.eval_shape(predict, arrays, inputs, key))
    except NameError as error:
        raise ValueError(
            "`model(x)` may reduce over the batch under one name only, that of its layers' "
            f"`axis_name` or 'batch'; the model answered: {error}"
        ) from error
    except (TypeError, ValueError, AssertionError) as error:
        raise ValueError(
            f"`model(x)` must take one example, x of {shapes} here (the trainer adds the batch "
            f"axis); the model answered: {error}"
        ) from error


def takes_key(function: Callable[..., Any]) -> bool:
    """Whether a model, or a function, is called with `key=`."""
    if isinstance(function, eqx.Module):
        return _class_takes_key(type(function))
    return _names_key(function)


@functools.cache
def _class_takes_key(kind: type) -> bool:
    return _names_key(kind.__call__)


def _names_key(call: Callable[..., Any]) -> bool:
    parameters = inspect.signature(call).parameters.values()
    return any(p.name == "key" or p.kind is p.VAR_KEYWORD for p in parameters)


def _is_dropout(node: Any) -> bool:
    return isinstance(node, eqx.nn.Dropout)


def _is_index(node: Any) -> bool:
    return isinstance(node, eqx.nn.StateIndex)
