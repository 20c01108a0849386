"""What rows must be: numbers of one length, in JAX's own width, finite; or an error that names the
array and the row."""

import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neuron.trees import paths
from neuron.types import Batch


# Where a frame is library code and not the user's.
_INSIDE = ("neuron.", "jax.", "jaxtyping.")
Names = Callable[[int], str]


def numbered(row: int) -> str:
    """A row's name, where it has no better one."""
    return f"row {row}"


def checked(call: str, batch: Batch, name: Names = numbered) -> Batch:
    """The rows as the program takes them.

    **Arguments:**

    - `call`: what is quoted in an error.
    - `batch`: arrays, or what NumPy makes arrays of, rows first.
    - `name`: what a row is called in an error, by its place.

    **Raises:**

    - `ValueError` or `TypeError` that names the array and the row.
    """
    arrays = of_one_length(call, as_arrays(call, batch))
    for path, leaf in named(arrays):
        _refuse_nonfinite(call, path, leaf, name)
    _check_weight(call, arrays.weight, name)
    return arrays


def as_arrays(call: str, batch: Batch) -> Batch:
    """Every leaf as an array of numbers, in JAX's own width."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: as_rows(call, jax.tree_util.keystr(path).lstrip("."), leaf),
        batch,
        is_leaf=lambda node: isinstance(node, list),
    )


def of_one_length(call: str, batch: Batch) -> Batch:
    """The same arrays, if they have equally many rows."""
    if not jax.tree.leaves(batch.inputs):
        raise ValueError(f"`{call}` must have inputs; got none.")
    lengths = {path: leaf.shape[0] for path, leaf in named(batch)}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{path} has {rows}" for path, rows in lengths.items())
        raise ValueError(f"`{call}` must have equally many rows in each array; {shown}.")
    if not all(lengths.values()):
        raise ValueError(f"`{call}` must have at least one row; got 0.")
    return batch


def named(batch: Batch) -> Iterator[tuple[str, Any]]:
    """Each leaf with its path: `inputs['a']`."""
    for path, leaf in paths(batch):
        yield path.lstrip("."), leaf


def as_rows(call: str, name: str, rows: Any) -> Any:
    """One leaf as an array of numbers, rows first."""
    if isinstance(rows, np.ma.MaskedArray) and np.ma.is_masked(rows):
        raise ValueError(
            f"`{call}` must have a number in every place; {name} has masked ones. Use `.filled()`, "
            "or a weight of 0."
        )
    if not isinstance(rows, jax.Array):
        try:
            rows = np.asarray(rows)
        except (ValueError, RuntimeError) as error:
            # PyTorch raises the latter for tensors that carry a gradient.
            raise ValueError(f"`{call}` must have rows of one shape; {name}: {error}.") from error
    refuse_kind(call, name, rows)
    return _narrowed(call, name, rows) if isinstance(rows, np.ndarray) else rows


def refuse_kind(call: str, name: str, rows: Any) -> None:
    """Refuses what holds no numbers, or has no rows, by its type and shape alone."""
    numbers = any(jnp.issubdtype(rows.dtype, kind) for kind in (jnp.floating, jnp.integer, bool))
    # To NumPy a duration is an integer.
    if not numbers or jnp.issubdtype(rows.dtype, np.timedelta64):
        raise TypeError(
            f"`{call}` must hold floats, integers or booleans; {name} has dtype {rows.dtype}."
        )
    if not rows.shape:
        raise ValueError(f"`{call}` must have rows along a first axis; {name} has shape ().")


def _narrowed(call: str, name: str, rows: np.ndarray) -> np.ndarray:
    """The array in JAX's own width: float64 is float32 unless `jax_enable_x64` is set."""
    native = np.dtype(np.float64 if rows.dtype == np.longdouble else rows.dtype).newbyteorder("=")
    dtype = jax.dtypes.canonicalize_dtype(native)
    if rows.dtype == dtype:
        return rows
    if rows.dtype.kind == "f":
        if rows.dtype.itemsize > dtype.itemsize:
            _warn_of_float64()
    elif rows.size:
        limits = np.iinfo(dtype)
        if rows.min() < limits.min or rows.max() > limits.max:
            raise ValueError(
                f"`{call}` must hold integers that fit {dtype}; {name} has values from "
                f"{rows.min()} to {rows.max()}."
            )
    with np.errstate(over="ignore"):
        return rows.astype(dtype)


@functools.cache
def _warn_of_float64() -> None:
    """Once a process, at the line outside of this package that handed the data over."""
    warnings.warn(
        "The data is float64 and is trained on as float32. Pass float32 arrays if you mean that, "
        "or set `jax.config.update('jax_enable_x64', True)` to train in double precision.",
        stacklevel=_depth_of_caller(),
    )


def _depth_of_caller() -> int:
    """How many frames lie between the warning and whoever called this package."""
    depth, frame = 1, sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_INSIDE):
        depth, frame = depth + 1, frame.f_back
    return depth + 1


def _refuse_nonfinite(call: str, path: str, rows: Any, name: Names) -> None:
    if not jnp.issubdtype(rows.dtype, jnp.floating):
        return
    numpy = np if isinstance(rows, np.ndarray) else jnp
    finite = numpy.isfinite(rows)
    if not bool(finite.all()):
        row = int(np.argmin(np.asarray(finite).reshape(len(rows), -1).all(axis=1)))
        raise ValueError(
            f"`{call}` must hold finite numbers; {path} has {np.asarray(rows[row])} in {name(row)}."
        )


def _check_weight(call: str, weight: Any, name: Names) -> None:
    if weight is None:
        return
    shape = np.shape(weight)
    if len(shape) != 1:
        raise ValueError(f"`{call}` must have one weight a row; weight has shape {shape}.")
    values = np.asarray(weight)
    if (values < 0).any():
        row = int(np.argmax(values < 0))
        raise ValueError(
            f"`{call}` must have weights of at least 0; weight has {values[row]} in {name(row)}."
        )


def refuse_no_weight(call: str, weight: Any) -> None:
    """Refuses weights that leave out every row."""
    if weight is not None and not np.asarray(weight).any():
        raise ValueError(f"`{call}` must have a weight above 0; got only zeros.")
