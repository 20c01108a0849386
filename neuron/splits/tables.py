"""What may be split, and how its rows are taken: of tables through narwhals, an extra."""

from typing import Any

import jax
import numpy as np

from neuron.extras import extra
from neuron.trees import paths
from neuron.types import whole_number


def count_rows(call: str, data: Any) -> int:
    """How many rows the data has.

    **Raises:**

    - `ValueError` or `TypeError` for what can not be split, `ImportError` for a table without
        narwhals.
    """
    if isinstance(data, int | np.integer):
        return whole_number(call, data, least=1)
    lengths = {path: _length(call, path, leaf) for path, leaf in paths(data)}
    if not lengths:
        raise ValueError(f"`{call}` must have rows; got {data!r}.")
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{path} has {rows}" for path, rows in lengths.items())
        raise ValueError(f"`{call}` must have equally many rows in each array; {shown}.")
    return next(iter(lengths.values()))


def taken(call: str, data: Any, chosen: np.ndarray) -> Any:
    """The rows of the data at which a mask is true, in their order."""
    rows = np.flatnonzero(chosen)
    if isinstance(data, int | np.integer):
        return rows
    of_leaf = lambda leaf: leaf[rows] if _is_array(leaf) else _table(call, leaf)[rows].to_native()
    return jax.tree.map(of_leaf, data)


def column(call: str, data: Any, given: Any) -> np.ndarray:
    """One value a row: as it was given, or the column of a table."""
    if not isinstance(given, str):
        return np.asarray(given)
    if _is_array(data) or not _is_leaf(data) or isinstance(data, int | np.integer):
        raise TypeError(
            f"`{call}` must be an array of one value a row, for data that is no table; got the "
            f"name {given!r}."
        )
    table = _table(call, data)
    if given not in table.columns:
        raise ValueError(
            f"`{call}` must name a column of the table; got {given!r}, there are {table.columns}."
        )
    return table[given].to_numpy()


def _length(call: str, path: str, leaf: Any) -> int:
    if not _is_array(leaf):
        return len(_table(call, leaf, path))
    if leaf.ndim == 0:
        raise ValueError(
            f"`{call}` must have rows along a first axis; {path or 'it'} has shape ()."
        )
    return len(leaf)


def _table(call: str, leaf: Any, path: str = "") -> Any:
    """A table, or one column of one, as narwhals has it."""
    where = f" at {path}" if path else ""
    refusal = (
        f"`{call}` must be arrays, a tree of them, a table in memory, or a number of rows; got "
        f"{type(leaf).__name__}{where}."
    )
    # Nobody needs an extra to be told that a string is no table.
    if type(leaf).__module__ == "builtins":
        raise TypeError(refusal)
    nw = extra(f"`{call}` reads a {type(leaf).__name__} by narwhals", "frames", "narwhals")
    try:
        return nw.from_native(leaf, eager_only=True, allow_series=True)
    except TypeError as error:
        raise TypeError(refusal) from error


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def _is_leaf(data: Any) -> bool:
    return jax.tree_util.all_leaves([data])
