"""Data. `DataLoader` checks the arrays once, and hands them to the program."""

import copy
import functools
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from neuron.counters import words
from neuron.samplers import Sampler, Shuffle
from neuron.trees import paths
from neuron.types import Batch, Device, whole_number


# Where a frame is library code and not the user's.
_INSIDE = ("neuron.", "jax.", "jaxtyping.")


class DataLoader:
    """Rows, how many make a batch, and which.

    ```python
    loader = neuron.DataLoader((x, y), batch_size=100, sampler=neuron.Bootstrap(seed=123))
    ```

    An *epoch* is `len(loader)` batches: as many as it takes to draw as many rows as there are,
    or as the sampler's `epoch_rows` says.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int = 32,
        *,
        sampler: Sampler = Shuffle(),
        drop_last: bool = False,
    ):
        """**Arguments:**

        - `data`: `(inputs,)`, `(inputs, targets)` or `(inputs, targets, weight)`: arrays, or trees
            of arrays, NumPy or JAX, whose first axis is the rows. Floats, integers and booleans
            are taken; 64-bit ones become 32-bit ones unless `jax_enable_x64` is set. The weight,
            one number of at least 0 a row, says how much a row counts in losses and metrics.
        - `batch_size`: rows a step.
        - `sampler`: which rows.
        - `drop_last`: whether to leave out a last batch that would be short.

        The rows go to the device when they are first trained on, and stay there; do not write to
        them afterwards.

        **Raises:**

        - `ValueError` or `TypeError` for data that can not be meant: empty, of unequal lengths,
            with NaN or infinity (naming array and row), or of a type that is no number.
        """
        self.batch_size = whole_number("DataLoader(batch_size=...)", batch_size, least=1)
        if not isinstance(sampler, Sampler):
            raise TypeError(
                "`DataLoader(sampler=...)` must be a neuron.Sampler, such as neuron.Shuffle(); "
                f"got {sampler!r}."
            )
        self.sampler = sampler
        self.drop_last = drop_last
        self.data = checked("DataLoader(data)", _as_batch(data))
        self.rows = len(jax.tree.leaves(self.data)[0])
        sampler.check(self.batch_size, self.rows)
        _check_drop_last(drop_last, self.batch_size, sampler.epoch_rows(self.rows))
        self._placed: dict[Device, Batch] = {}

    def __len__(self) -> int:
        """How many steps an epoch has."""
        whole, rest = divmod(self.sampler.epoch_rows(self.rows), self.batch_size)
        return whole if self.drop_last else whole + (rest > 0)

    def in_groups(self, batches: int) -> "DataLoader":
        """The same rows, that many batches a step."""
        grouped = copy.copy(self)
        grouped.batch_size = batches * self.batch_size
        grouped.sampler.check(grouped.batch_size, self.rows)
        epoch_rows = self.sampler.epoch_rows(self.rows)
        _check_drop_last(grouped.drop_last, grouped.batch_size, epoch_rows)
        return grouped

    def smallest_batch(self) -> int:
        """How many rows the last batch of an epoch has; the others are full."""
        place = jnp.array(len(self) - 1, jnp.uint32)
        last = self.sampler.indices(words(0), place, self.batch_size, self.rows)
        return int(np.sum(np.asarray(last) >= 0))

    def __repr__(self) -> str:
        return (
            f"DataLoader({self.rows} rows, batch_size={self.batch_size}, sampler={self.sampler!r}, "
            f"{len(self)} steps an epoch)"
        )

    def on(self, device: Device) -> Batch:
        """The rows on a device, put there once."""
        if device not in self._placed:
            # A copy: on the CPU JAX may read NumPy's memory in place, `may_alias=False` or not.
            own = jax.tree.map(lambda a: np.array(a) if isinstance(a, np.ndarray) else a, self.data)
            self._placed[device] = jax.device_put(own, device)
        return self._placed[device]


def _check_drop_last(drop_last: bool, batch_size: int, rows: int) -> None:
    if drop_last and batch_size > rows:
        raise ValueError(
            "`DataLoader(drop_last=True)` must leave at least one batch; "
            f"got batch_size={batch_size} for {rows} rows."
        )


def as_loader(call: str, data: Any) -> DataLoader:
    """A loader as it is; a tuple of arrays as one, with 32 rows a batch or all there are."""
    if isinstance(data, DataLoader):
        return data
    if isinstance(data, tuple):
        rows = min((len(leaf) for leaf in jax.tree.leaves(data) if np.ndim(leaf)), default=32)
        return DataLoader(data, max(1, min(32, rows)))
    raise TypeError(
        f"`{call}` must be a neuron.DataLoader or a tuple of arrays (inputs, targets); "
        f"got {type(data).__name__}."
    )


def blocks(rows: PyTree, batch_size: int) -> Iterator[tuple[PyTree, int]]:
    """Rows in blocks of one fixed shape, some batches each, with how many rows of it count.

    The shape depends on the batch and not on the number of rows, so that one program serves any
    number of them. What a block lacks is filled with its own first row.
    """
    leaves = jax.tree.leaves(rows)
    row_bytes = sum(leaf.nbytes // max(1, len(leaf)) for leaf in leaves)
    batches = max(1, min(64, (1 << 22) // max(1, row_bytes * batch_size)))
    size = batches * batch_size
    for start in range(0, len(leaves[0]), size):
        part = functools.partial(_part, start=start, size=size)
        yield jax.tree.map(part, rows), min(size, len(leaves[0]) - start)


def _part(rows: Any, start: int, size: int) -> np.ndarray:
    part = np.asarray(rows[start : start + size])
    if len(part) == size:
        return part
    return np.concatenate([part, np.repeat(part[:1], size - len(part), axis=0)])


def _as_batch(data: Any) -> Batch:
    if isinstance(data, tuple) and 1 <= len(data) <= 3:
        return Batch(*data)
    got = f"a tuple of {len(data)}" if isinstance(data, tuple) else type(data).__name__
    raise TypeError(
        "`DataLoader(data)` must be a tuple: (inputs,), (inputs, targets) or "
        f"(inputs, targets, weight); got {got}."
    )


def checked(call: str, batch: Batch) -> Batch:
    """The rows as the program takes them, or an error that names the array and the row."""
    arrays = jax.tree_util.tree_map_with_path(
        lambda path, leaf: _as_rows(call, jax.tree_util.keystr(path).lstrip("."), leaf),
        batch,
        is_leaf=lambda node: isinstance(node, list),
    )
    return _of_one_length(call, arrays)


def _of_one_length(call: str, batch: Batch) -> Batch:
    arrays = [(path.lstrip("."), leaf) for path, leaf in paths(batch)]
    if not jax.tree.leaves(batch.inputs):
        raise ValueError(f"`{call}` must have inputs; got none.")
    lengths = {name: len(leaf) for name, leaf in arrays}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {rows}" for name, rows in lengths.items())
        raise ValueError(f"`{call}` must have equally many rows in each array; {shown}.")
    if not all(lengths.values()):
        raise ValueError(f"`{call}` must have at least one row; got 0.")
    for name, leaf in arrays:
        _refuse_nonfinite(call, name, leaf)
    _check_weight(call, batch.weight)
    return batch


def _as_rows(call: str, name: str, rows: Any) -> Any:
    if not isinstance(rows, jax.Array):
        try:
            rows = np.asarray(rows)
        except ValueError as error:
            raise ValueError(f"`{call}` must have rows of one shape; {name}: {error}.") from error
    if not any(jnp.issubdtype(rows.dtype, kind) for kind in (jnp.floating, jnp.integer, bool)):
        raise TypeError(
            f"`{call}` must hold floats, integers or booleans; {name} has dtype {rows.dtype}."
        )
    if rows.ndim == 0:
        raise ValueError(f"`{call}` must have rows along a first axis; {name} has shape ().")
    return _narrowed(call, name, rows) if isinstance(rows, np.ndarray) else rows


def _narrowed(call: str, name: str, rows: np.ndarray) -> np.ndarray:
    """The array in JAX's own width: float64 is float32 unless `jax_enable_x64` is set."""
    dtype = jax.dtypes.canonicalize_dtype(np.float64 if rows.dtype == np.longdouble else rows.dtype)
    if rows.dtype == dtype:
        return rows
    if rows.dtype.kind == "f":
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


def _refuse_nonfinite(call: str, name: str, rows: Any) -> None:
    if not jnp.issubdtype(rows.dtype, jnp.floating):
        return
    numpy = np if isinstance(rows, np.ndarray) else jnp
    finite = numpy.isfinite(rows)
    if not bool(finite.all()):
        row = int(np.argmin(np.asarray(finite).reshape(len(rows), -1).all(axis=1)))
        raise ValueError(
            f"`{call}` must hold finite numbers; {name} has {np.asarray(rows[row])} in row {row}."
        )


def _check_weight(call: str, weight: Any) -> None:
    if weight is None:
        return
    shape = np.shape(weight)
    if len(shape) != 1:
        raise ValueError(f"`{call}` must have one weight a row; weight has shape {shape}.")
    values = np.asarray(weight)
    if (values < 0).any():
        row = int(np.argmax(values < 0))
        raise ValueError(
            f"`{call}` must have weights of at least 0; weight has {values[row]} in row {row}."
        )
    if not values.any():
        raise ValueError(f"`{call}` must have a weight above 0; got only zeros.")
