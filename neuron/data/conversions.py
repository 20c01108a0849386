"""What a trainer is handed in the place of a loader, as one."""

from typing import Any

from neuron.data.arrays import Arrays
from neuron.data.columns import Choice, Columns
from neuron.data.frames import from_frame
from neuron.data.kinds import as_kind, is_table
from neuron.data.loader import DataLoader
from neuron.data.source import Source
from neuron.types import Batch


def as_loader(call: str, data: Any, columns: Columns | None = None) -> DataLoader:
    """A loader as it is; a tuple of arrays as one, with 32 rows a batch or all there are, and so a
    table that has the columns."""
    if isinstance(data, DataLoader):
        return data
    if columns is not None and is_table(data):
        rows, _ = from_frame(call, data, Choice(call, like=columns))
        return DataLoader(rows, max(1, min(32, len(rows))))
    if isinstance(data, tuple):
        kind = as_kind(call, data)
        return DataLoader(kind, max(1, min(32, len(kind))) if isinstance(kind, Source) else None)
    raise TypeError(
        f"`{call}` must be a neuron.DataLoader or a tuple of arrays (inputs, targets); "
        f"got {type(data).__name__}."
    )


def as_inputs(call: str, inputs: Any, columns: Columns | None) -> DataLoader:
    """What to predict from: a loader as it is, rows of inputs, or a table that has the columns."""
    if isinstance(inputs, DataLoader):
        return inputs
    if columns is not None and is_table(inputs):
        rows, _ = from_frame(call, inputs, Choice(call, like=columns.inputs()))
        return DataLoader(rows, 1)
    return DataLoader(Arrays(call, Batch(inputs)), 1)
