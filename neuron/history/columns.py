"""Columns that grow, and rows as columns."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from neuron.types import Number


Row = dict[str, int | float | np.ndarray]


# From so many bytes on, values are put in their place when somebody asks for them.
_LATER = 1 << 16


class Column:
    """An array that grows: twice as large each time it is full."""

    def __init__(self, dtype: np.dtype, values: Sequence[Number] | np.ndarray = ()):
        self._buffer = np.empty((1024, *np.asarray(values).shape[1:]), dtype)
        self._length = 0
        self._to_come: list[np.ndarray] = []
        self.extend(values)

    def extend(self, values: Sequence[Number] | np.ndarray) -> None:
        """Adds values behind those that are there. A large array is kept as it is: it may not be
        written to afterwards."""
        values = np.asarray(values, self._buffer.dtype)
        if self._to_come or values.nbytes >= _LATER:
            self._to_come.append(values)
        else:
            self._append(values)

    @property
    def last(self) -> Any:
        """The last one."""
        return (self._to_come[-1] if self._to_come else self.values)[-1]

    def _settle(self) -> None:
        for values in self._to_come:
            self._append(values)
        self._to_come = []

    def _append(self, values: np.ndarray) -> None:
        end = self._length + len(values)
        if end > len(self._buffer):
            longer = max(end, 2 * len(self._buffer))
            grown = np.empty((longer, *self._buffer.shape[1:]), self._buffer.dtype)
            grown[: self._length] = self._buffer[: self._length]
            self._buffer = grown
        self._buffer[self._length : end] = values
        self._length = end

    @property
    def values(self) -> np.ndarray:
        """What is there, not to be written to."""
        self._settle()
        view = self._buffer[: self._length]
        view.flags.writeable = False
        return view


def table_of(rows: list[Row]) -> dict[str, Any]:
    """Rows by column: in which of them there is a value, and the values."""
    names = dict.fromkeys(name for row in rows for name in row)
    table: dict[str, Any] = {}
    for name in names:
        places = [place for place, row in enumerate(rows) if name in row]
        values = [rows[place][name] for place in places]
        kinds = {type(value) for value in values}
        plain = kinds in ({int}, {float})
        table[name] = {
            "rows": np.array(places, np.int64),
            "values": np.array(values, np.int64 if kinds == {int} else float) if plain else values,
        }
    return table


def rows_of(table: dict[str, Any]) -> list[Row]:
    """The inverse of `table_of`."""
    rows: dict[int, Row] = {}
    for name, column in table.items():
        values = column["values"]
        values = values.tolist() if isinstance(values, np.ndarray) else values
        for place, value in zip(column["rows"].tolist(), values, strict=True):
            rows.setdefault(place, {})[name] = value
    return [rows[place] for place in sorted(rows)]
