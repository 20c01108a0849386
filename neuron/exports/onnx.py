"""ONNX: a model as a file for other programs than JAX, checked against onnxruntime."""

import contextlib
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import PyTree

from neuron.checkpoint import Path, write
from neuron.exports.forward import (
    Forward,
    any_keys,
    any_number,
    forward,
    refuse_draws,
    refuse_nodes,
)
from neuron.extras import extra
from neuron.selection import dotted
from neuron.types import Model, ModelState


def export_onnx(
    model: Model,
    example: PyTree,
    path: Path,
    *,
    model_state: ModelState = None,
) -> None:
    """Writes a model into an ONNX file, for any number of rows.

    ```python
    neuron.export_onnx(trainer.model, x[0], "model.onnx", model_state=trainer.model_state)
    session = onnxruntime.InferenceSession("model.onnx")
    (outputs,) = session.run(None, {"inputs": x})
    ```

    The model is in inference mode, as for `export`. Its inputs are named `inputs`, or
    `inputs.name` and `inputs.0` where they are a tree, and its outputs likewise. jax2onnx makes
    the file, and onnxruntime runs it on some rows: it is written only if it gives what the model
    gives. Install both by `pip install "neuron-equinox[onnx]"`.

    **Arguments:**

    - `model`, `example`, `path`, `model_state`: as for `export`. The rows that are tried are the
        example, and its multiples where it has floats; for shapes alone they are made up.

    **Raises:**

    - `TypeError` or `ValueError` for what can not be meant, and for a model that ONNX,
        jax2onnx or onnxruntime can not express.
    - `CheckpointError` for a file that can not be written.
    - `ImportError` without jax2onnx or onnxruntime.
    """
    does = "`export_onnx` needs jax2onnx and onnxruntime"
    jax2onnx, onnxruntime = extra(does, "onnx", "jax2onnx", "onnxruntime")
    call = forward("export_onnx", model, example, model_state, None)
    refuse_draws("export_onnx", model, call)
    rows = _rows_to_try(call, example)
    wanted = _outputs(call, rows)
    refuse_nodes("export_onnx(model)(example)", jtu.tree_structure(wanted))
    names = {
        "input_names": _names("inputs", call.example),
        "output_names": _names("outputs", wanted),
    }
    wide = any(leaf.dtype == np.float64 for leaf in jax.tree.leaves((call.rows(1), wanted)))
    complaints = []
    like = jax.tree.leaves(call.rows(any_number()))
    for way in (_by_layers, _by_operations):
        try:
            with _lenient():
                proto = jax2onnx.to_onnx(
                    way(call, like), like, enable_double_precision=wide, **names
                )
            content = proto.SerializeToString()
            _refuse_difference(onnxruntime, content, rows, wanted)
        # Whatever the two libraries raise for what they can not do.
        except Exception as error:
            complaints.append(str(error).partition("\n")[0])
        else:
            return write(pathlib.Path(path), content)
    raise ValueError(
        f"`export_onnx(model, example)` must have a model that ONNX can express; of "
        f"{type(model).__name__} jax2onnx and onnxruntime say: {' / '.join(complaints)}"
    )


def _by_layers(call: Forward, like: list[Any]) -> Callable[..., Any]:
    """The model as it is: jax2onnx knows many of Equinox's layers."""
    del like
    treedef = jtu.tree_structure(call.example)
    arrays = list(call.arrays.values())

    def outputs(*leaves: Any) -> tuple[Any, ...]:
        # Without keys, which no layer needs in inference mode and ONNX has no word for.
        found = jax.tree.leaves(call.function(arrays, treedef.unflatten(leaves), None))
        # An input that is an output as well would need two names.
        given = set(map(id, leaves))
        return tuple(jnp.copy(leaf) if id(leaf) in given else leaf for leaf in found)

    return outputs


def _by_operations(call: Forward, like: list[Any]) -> Callable[..., Any]:
    """The model as JAX's operations, without those on keys that no output needs."""
    treedef = jtu.tree_structure(call.example)
    arrays = list(call.arrays.values())

    def outputs(*leaves: Any) -> list[Any]:
        keys = any_keys(leaves[0].shape[0])
        return jax.tree.leaves(call.function(arrays, treedef.unflatten(leaves), keys))

    closed = jax.make_jaxpr(outputs)(*like)
    jaxpr, _ = dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True)
    return jaxpr_as_fun(ClosedJaxpr(jaxpr, closed.consts))


@contextlib.contextmanager
def _lenient() -> Iterator[None]:
    """What jax2onnx itself does is not held to how strict the user's program is."""
    with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        yield


def _rows_to_try(call: Forward, example: PyTree) -> PyTree:
    """Three rows: the example, a half and the double of it."""
    times = np.array([1, 0.5, 2])

    def rows(given: Any, like: jax.ShapeDtypeStruct) -> np.ndarray:
        if isinstance(given, jax.ShapeDtypeStruct):
            given = np.linspace(0, 1, like.size).reshape(like.shape)
        three = np.stack([np.asarray(given)] * 3)
        if jnp.issubdtype(like.dtype, np.inexact):
            three = three * times.reshape(-1, *[1] * len(like.shape))
        return three.astype(like.dtype)

    return jax.tree.map(rows, example, call.example)


def _outputs(call: Forward, rows: PyTree) -> PyTree:
    found = call.function(list(call.arrays.values()), rows, any_keys(3))
    return jax.tree.map(np.asarray, found)


def _refuse_difference(onnxruntime: Any, content: bytes, rows: PyTree, wanted: PyTree) -> None:
    """Refuses a file that gives other outputs than the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # What goes wrong is raised as well.
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    # All rows, then one alone, whose axis might be taken for one to broadcast.
    for number in (3, 1):
        first = [leaf[:number] for leaf in jax.tree.leaves(rows)]
        found = session.run(None, dict(zip(names, first, strict=True)))
        _compare(found, [leaf[:number] for leaf in jax.tree.leaves(wanted)])


def _compare(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    for one, other in zip(found, wanted, strict=True):
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            raise ValueError(
                f"it gives {one.dtype}{list(one.shape)} for {other.dtype}{list(other.shape)}"
            )
        size = np.abs(other[np.isfinite(other)]).max(initial=1)
        if not np.allclose(one, other, rtol=1e-3, atol=1e-4 * size, equal_nan=True):
            raise ValueError("it gives other numbers than the model")


def _names(root: str, tree: PyTree) -> list[str]:
    paths = (dotted(path) for path, _ in jtu.tree_leaves_with_path(tree))
    return [f"{root}.{path}" if path else root for path in paths]
