"""Frames: tables of pandas, polars and pyarrow, through narwhals, as arrays of numbers."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from neuron.data.arrays import Arrays
from neuron.data.checks import Names, numbered
from neuron.data.columns import Choice, Columns, listed, present
from neuron.extras import extra
from neuron.types import Batch


def from_frame(call: str, frame: Any, choice: Choice) -> tuple[Arrays, Columns]:
    """The rows of a table in memory, and which of its columns they are.

    **Raises:**

    - `ImportError` without narwhals, which the extra `neuron-equinox[frames]` brings.
    - `TypeError` or `ValueError` that names the column, and the row.
    """
    table = opened(call, frame)
    columns = choice.of(table.columns)
    if choice.like is None:
        columns = typed(call, columns, table.schema)
        found = {name: words_of(table[name]) for name in columns.categories}
        columns = dataclasses.replace(columns, categories=found)
    return Arrays(call, rows(call, columns, table)), columns


def opened(call: str, frame: Any) -> Any:
    """A table as narwhals sees it."""
    nw = narwhals_for(call)
    try:
        return nw.from_native(frame, eager_only=True)
    except nw.exceptions.DuplicateError as error:
        raise ValueError(
            f"`{call}` must have columns of different names; {' '.join(str(error).split())}."
        ) from error
    except TypeError as error:
        lazy = " Call its `collect()` first." if "Lazy" in type(frame).__name__ else ""
        raise TypeError(
            f"`{call}` must be a table of pandas, polars or pyarrow; got "
            f"{type(frame).__module__}.{type(frame).__name__}.{lazy}"
        ) from error


def narwhals_for(call: str) -> Any:
    """The one library that knows all kinds of tables."""
    return extra(f"`{call}` reads tables with narwhals", "frames", "narwhals")


def typed(call: str, columns: Columns, schema: Any) -> Columns:
    """The columns with those of categories told apart, which are yet to be found."""
    held = kinds(call, columns, schema)
    among = {name: () for name, kind in held.items() if kind == "categories"}
    classes = all(held[name] != "floats" for name in columns.targets)
    return dataclasses.replace(columns, categories=among, classes=bool(columns.targets) and classes)


def kinds(call: str, columns: Columns, schema: Any, where: str = "") -> dict[str, str]:
    """What each column holds: floats, integers, booleans or categories.

    **Raises:**

    - `TypeError` for a column that holds something else.
    """
    held = {name: _kind(schema[name]) for name in columns.names}
    for name, kind in held.items():
        if kind is None:
            raise TypeError(
                f"`{call}` must have columns of numbers, booleans or categories; {name!r} has "
                f"dtype {schema[name]}{where}. Leave it out by `features=`, or make it numbers."
            )
    if columns.weight is not None and held[columns.weight] == "categories":
        raise TypeError(
            f"`{call}` must have numbers as weights; {columns.weight!r} has dtype "
            f"{schema[columns.weight]}{where}."
        )
    return held  # pyright: ignore[reportReturnType]


def _kind(dtype: Any) -> str | None:
    if dtype.is_float() or dtype.is_decimal():
        return "floats"
    if dtype.is_integer():
        return "integers"
    name = type(dtype).__name__
    if name == "Boolean":
        return "booleans"
    return "categories" if name in ("String", "Categorical", "Enum") else None


def words_of(series: Any) -> tuple[str, ...]:
    """The categories of a column in the order of their codes: as the column declares them, or else
    those that occur, sorted."""
    if type(series.dtype).__name__ == "Enum":
        return tuple(map(str, series.dtype.categories))
    if type(series.dtype).__name__ == "Categorical" and series.implementation.is_pandas_like():
        return tuple(map(str, series.to_native().cat.categories))
    return tuple(sorted(distinct(series)))


def distinct(series: Any) -> Iterable[str]:
    """The categories that occur."""
    return _as_words(series.drop_nulls().unique()).to_list()


def rows(call: str, columns: Columns, table: Any, name: Names = numbered) -> Batch:
    """A table's rows: one matrix of features, targets and weight.

    **Arguments:**

    - `table`: as narwhals sees it.
    - `name`: what a row is called in an error.

    **Raises:**

    - `TypeError` or `ValueError` that names the column, and the row.
    """
    present(call, columns, table.columns)
    schema = table.schema
    held = kinds(call, columns, schema)
    floats = jax.dtypes.canonicalize_dtype(np.float64)

    def matrix(names: tuple[str, ...], dtype: np.dtype) -> np.ndarray:
        for column in names:
            _refuse_other(call, columns, column, held[column], schema[column])
        if dtype.kind == "f" and all(schema[column].is_float() for column in names):
            whole = _at_once(table.select(names), dtype)
            if whole is not None:
                return whole
        made = np.empty((len(table), len(names)), dtype)
        for place, column in enumerate(names):
            words = columns.categories.get(column)
            made[:, place] = _numbers(call, table[column], words, dtype, name)
        return made

    targets = weight = None
    if columns.target is not None:
        dtype = jax.dtypes.canonicalize_dtype(np.int64) if columns.classes else floats
        targets = matrix(columns.targets, dtype)
        targets = targets[:, 0] if isinstance(columns.target, str) else targets
    if columns.weight is not None:
        weight = matrix((columns.weight,), floats)[:, 0]
    return Batch(matrix(columns.features, floats), targets, weight)


def _refuse_other(call: str, columns: Columns, column: str, kind: str, dtype: Any) -> None:
    """Refuses a column that holds something else than it did where the columns are from."""
    if column in columns.categories and kind not in ("categories", "integers"):
        rule = "categories"
    elif column not in columns.categories and kind == "categories":
        rule = "numbers"
    elif columns.classes and column in columns.targets and kind == "floats":
        rule = "classes"
    else:
        return
    raise TypeError(f"`{call}` must have {rule} in {column!r}, as before; it has dtype {dtype}.")


def _at_once(table: Any, dtype: np.dtype) -> np.ndarray | None:
    """All columns of a table of floats, unless there is something in them to refuse: then the
    columns are gone through one by one, to say what."""
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.ascontiguousarray(table.to_numpy(), dtype)
        return numbers if np.isfinite(numbers).all() else None


def _numbers(
    call: str, series: Any, words: tuple[str, ...] | None, dtype: np.dtype, name: Names
) -> np.ndarray:
    """One column as numbers."""
    if series.null_count():
        row = int(np.argmax(series.is_null().to_numpy()))
        raise ValueError(
            f"`{call}` must have a value in every row; {series.name!r} has none (null or NaN) in "
            f"{name(row)}. Fill it in, or leave out the row or the column."
        )
    if words is not None:
        return _codes(call, series, words, name)
    nw = narwhals_for(call)
    # Arrow has no integer beyond 2^53 cast to a float, as it would be rounded.
    known = series.dtype.is_float() or series.dtype.is_integer()
    values = (series if known else series.cast(nw.Float64)).to_numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = values.astype(dtype, copy=False)
        right = np.isfinite(numbers) if dtype.kind == "f" else numbers == values
    if not right.all():
        row = int(np.argmin(right))
        kind = "finite numbers" if dtype.kind == "f" else "whole numbers"
        raise ValueError(
            f"`{call}` must have {kind} that fit {dtype}; {series.name!r} has {values[row]} in "
            f"{name(row)}."
        )
    return numbers


def _codes(call: str, series: Any, words: tuple[str, ...], name: Names) -> np.ndarray:
    nw = narwhals_for(call)
    # An empty column may have no type of words at all.
    if not len(series):
        return np.zeros(0, np.int32)
    series = _as_words(series)
    known = series.is_in(list(words)).to_numpy()
    if not known.all():
        row = int(np.argmin(known))
        raise ValueError(
            f"`{call}` must have known categories in {series.name!r}; got {series[row]!r} in "
            f"{name(row)}, and there are {listed(words)}."
        )
    codes = series.replace_strict(list(words), list(range(len(words))), return_dtype=nw.Int32)
    return codes.to_numpy()


def _as_words(series: Any) -> Any:
    return series.cast(narwhals_for("").String)
