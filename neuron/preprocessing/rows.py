"""The rows that something is fitted on: block by block, once, and never all together."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neuron.data import DataLoader


# What a block holds at most.
_ROWS, _BYTES = 4096, 1 << 22
Block = tuple[np.ndarray, np.ndarray | None]


def rows_of(call: str, data: Any, what: str) -> Iterator[Block]:
    """Blocks of rows, and the weight of each row where there are weights; one pass.

    **Arguments:**

    - `call`: who fits, for the errors.
    - `data`: an array, a `DataLoader`, or an iterable of arrays, each a block of rows.
    - `what`: which part of a loader, `"inputs"` or `"targets"`.

    **Raises:**

    - `ValueError` or `TypeError` for rows that can not be meant: none at all, of several shapes,
        with NaN or infinity, or of a type that is no number.
    """
    if what not in ("inputs", "targets"):
        raise ValueError(f"`{call}(what=...)` must be 'inputs' or 'targets'; got {what!r}.")
    seen, shape = 0, None
    for rows, weight in _found(call, data, what):
        _check_block(call, rows, shape, seen)
        seen, shape = seen + len(rows), rows.shape[1:]
        if len(rows):
            yield rows, weight
    if not seen:
        raise ValueError(f"`{call}(data)` must have at least one row; got 0.")


def _found(call: str, data: Any, what: str) -> Iterator[Block]:
    if isinstance(data, DataLoader):
        yield from _of_loader(call, data, what)
    elif what != "inputs":
        raise ValueError(
            f"`{call}(what='targets')` must come with a neuron.DataLoader; got "
            f"{type(data).__name__}. Hand over the targets themselves."
        )
    elif isinstance(data, jax.Array | np.ndarray):
        yield from _in_blocks(_with_rows(call, data))
    elif isinstance(data, Iterable) and not isinstance(data, tuple | dict | str):
        yield from ((_as_block(call, block), None) for block in data)
    else:
        # A tuple may be blocks or, as everywhere else here, (inputs, targets).
        raise TypeError(
            f"`{call}(data)` must be an array, a neuron.DataLoader, or an iterable of arrays; got "
            f"{type(data).__name__}."
        )


def _of_loader(call: str, loader: DataLoader, what: str) -> Iterator[Block]:
    """Every row of a loader that an evaluation would go through, once."""
    loader.refuse_spent(call)
    like = {"inputs": loader.sample().inputs, "targets": loader.sample().targets}[what]
    if not isinstance(like, jax.Array | np.ndarray):
        raise TypeError(
            f"`{call}(what={what!r})` must find one array in the loader; got {type(like).__name__}."
        )
    with contextlib.closing(loader.read()) as blocks:
        for block, count in blocks:
            rows = {"inputs": block.inputs, "targets": block.targets}[what]
            yield rows[:count], None if block.weight is None else block.weight[:count]


def _in_blocks(rows: Any) -> Iterator[Block]:
    size = max(1, min(_ROWS, _BYTES // max(1, rows.nbytes // max(1, len(rows)))))
    for start in range(0, len(rows), size):
        yield np.asarray(rows[start : start + size]), None


def _as_block(call: str, block: Any) -> np.ndarray:
    if not isinstance(block, jax.Array | np.ndarray):
        raise TypeError(
            f"`{call}(data)` must be an iterable of arrays, each a block of rows; it gave "
            f"{type(block).__name__}."
        )
    return np.asarray(_with_rows(call, block))


def _with_rows(call: str, rows: Any) -> Any:
    if rows.ndim == 0:
        raise ValueError(f"`{call}(data)` must have rows along a first axis; got shape ().")
    return rows


def _check_block(call: str, rows: np.ndarray, shape: tuple[int, ...] | None, seen: int) -> None:
    if not any(jnp.issubdtype(rows.dtype, kind) for kind in (jnp.floating, jnp.integer, bool)):
        raise TypeError(
            f"`{call}(data)` must hold floats, integers or booleans; got dtype {rows.dtype}."
        )
    if shape not in (None, rows.shape[1:]):
        raise ValueError(
            f"`{call}(data)` must have rows of one shape; got {shape} and then {rows.shape[1:]}."
        )
    if jnp.issubdtype(rows.dtype, jnp.floating):
        finite = np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
        if not finite.all():
            row = int(np.argmin(finite))
            raise ValueError(
                f"`{call}(data)` must hold finite numbers; got {rows[row]} in row {seen + row}."
            )
