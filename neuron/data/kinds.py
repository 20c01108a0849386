"""What a `DataLoader` takes, and what it becomes: a source, a stream, or a function of the step."""

import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from neuron.data.arrays import Arrays, Labeled, is_array
from neuron.data.iterables import Batches, Columnar, Columns, Examples, Indexed, OneShot
from neuron.data.source import Source, Stream
from neuron.rows import FORMS, Generated, as_batch
from neuron.types import Batch


Kind = Source | Stream | Generated


@runtime_checkable
class Table(Protocol):
    """What tables of pandas, polars and pyarrow have in common."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...


def as_kind(call: str, data: Any) -> Kind:
    """The data by what it can do.

    **Raises:**

    - `TypeError` for what can not be read, or could be meant in two ways.
    """
    if isinstance(data, Source | Stream | Generated):
        return data
    if isinstance(data, bytes | type):
        raise _not_data(call, data)
    if is_table(data):
        raise TypeError(
            f"`{call}` must say which columns of a table are meant; got a "
            f"{type(data).__module__.split('.')[0]} {type(data).__name__}. "
            "Use `DataLoader.from_dataframe(table, target=...)`."
        )
    if isinstance(data, tuple | Mapping | Batch) or is_array(data):
        return Arrays(call, as_batch(call, data))
    if isinstance(data, list) and not any(isinstance(row, tuple | dict) for row in data):
        if any(isinstance(row, np.ndarray | jax.Array) for row in data):
            raise TypeError(
                f"`{call}` must be a tuple: {FORMS}; got a list of arrays. It could be meant as "
                "inputs and targets, or as the rows."
            )
        return Arrays(call, Batch(data))
    if isinstance(data, str | pathlib.Path):
        raise _not_data(call, data)
    return _iterable(call, data)


def is_table(data: Any) -> bool:
    """Whether data is a table of pandas, polars or pyarrow, or a column of one."""
    return isinstance(data, Table | Labeled) and not isinstance(data, Columnar)


def _iterable(call: str, data: Any) -> Kind:
    if isinstance(data, Columnar):
        return Columns(data)
    if isinstance(data, Indexed):
        return Examples(data)
    if isinstance(data, Iterator):
        return OneShot(data)
    if isinstance(data, Iterable):
        return Batches(data)
    if isinstance(data, Callable):
        return Generated(data)
    raise _not_data(call, data)


def _not_data(call: str, data: Any) -> TypeError:
    hint = " Files are read by `DataLoader.from_files(path, target=...)`."
    return TypeError(
        f"`{call}` must be a tuple of arrays, {FORMS}, a dataset with `__len__` and "
        "`__getitem__`, an iterable of batches, a neuron.Source or neuron.Stream, or a function "
        f"of the step; got {data!r}.{hint if isinstance(data, str | pathlib.Path) else ''}"
    )
