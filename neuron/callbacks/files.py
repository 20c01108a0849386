"""Loggers that write files of lines, which survive kills and resumes."""

import csv
import io
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from neuron.callbacks.callback import Logs
from neuron.callbacks.logfile import LogFile
from neuron.callbacks.logger import Logger, period
from neuron.history import portable


if TYPE_CHECKING:
    from neuron.trainer import Trainer


class CSVLogger(Logger):
    """Writes a table: one line an epoch, or a step, as soon as it is over.

    A killed process loses at most the line that it was writing. A run that goes on from a step
    drops the rows of later steps first, so that the file of a run that was killed and resumed has
    the bytes of one that never was. A run at step 0 moves the file of an earlier one aside
    (`log.csv` to `log.1.csv`).

    A name that comes later, a `val_loss` say, becomes a column behind the others, empty in the rows
    before it. A metric that is an array is one cell with a list in it, as JSON has it. A value that
    is not finite is `nan`, `inf` or `-inf`; a cell of a name that a row does not have is empty.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every: int | None = None,
        seconds: bool = False,
        overwrite: bool = False,
    ):
        """**Arguments:**

        - `path`: the file; folders that do not exist are made.
        - `every`: how many steps lie between two rows of steps, in columns `step_*`; rows of epochs
            alone if `None`.
        - `seconds`: whether the column `seconds` of the epochs is written: of all values it alone
            is another one each time that a run is repeated.
        - `overwrite`: whether a run at step 0 deletes an existing file, instead of moving it aside.

        **Raises:**

        - `TypeError` or `ValueError` for arguments out of their range; when a fit begins, for a
            file with which it can not go on.
        - `OSError` that names the file, when a fit begins or a line is written.
        """
        self.every = period("CSVLogger(every=...)", every)
        self._seconds = seconds
        self._file = LogFile("CSVLogger", path, overwrite=overwrite)

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self._columns: list[str] = []
        self._file.open(trainer.step, self._step_of)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: what the file has is what a run goes on with. A checkpoint is about to be
        written, and must not be on the disk before the lines that lead to it."""
        self._file.sync()
        return {}

    def on_fit_end(self, trainer: "Trainer") -> None:
        self._file.close()

    def log(self, values: Logs, step: int) -> None:
        row = _row(values, step, seconds=self._seconds)
        text, new = "", [name for name in row if name not in self._columns]
        columns = [*self._columns, *new]
        if new:
            if any("\n" in name or "\r" in name for name in new):
                raise ValueError(f"`CSVLogger()` takes names without line breaks; got {new}.")
            header = _line(columns)
            if self._columns:
                self._file.rewrite(lambda lines: _widened(lines, header, len(new)))
                self._columns = columns
            else:
                text = header
        cells = (row.get(name, "") for name in columns)
        # An array in a cell is JSON, whose commas are quoted.
        cells = (json.dumps(cell) if isinstance(cell, list) else cell for cell in cells)
        self._file.append(text + _line(cells))
        self._columns = columns

    def _step_of(self, line: str) -> int:
        if self._columns:
            return int(line.partition(",")[0])
        (cells,) = csv.reader([line])
        if cells[:1] != ["step"]:
            raise ValueError("its first column is not `step`")
        self._columns = cells
        return 0


class JSONLLogger(Logger):
    """Writes a file of JSON, one object a line: an epoch, or a step, as soon as it is over.

    It survives kills and resumes as `CSVLogger` does. Each line has the names that it has values
    for; a metric that is an array is a list; JSON knows no number that is not finite, so these are
    strings: `"nan"`, `"inf"`, `"-inf"`, which `float` takes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every: int | None = None,
        seconds: bool = False,
        overwrite: bool = False,
    ):
        """**Arguments:**

        - `path`, `every`, `seconds`, `overwrite`: as for `CSVLogger`.

        **Raises:**

        - What `CSVLogger` raises.
        """
        self.every = period("JSONLLogger(every=...)", every)
        self._seconds = seconds
        self._file = LogFile("JSONLLogger", path, overwrite=overwrite)

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self._file.open(trainer.step, _step_of_json)

    def state_dict(self) -> dict[str, Any]:
        """As `CSVLogger` has it."""
        self._file.sync()
        return {}

    def on_fit_end(self, trainer: "Trainer") -> None:
        self._file.close()

    def log(self, values: Logs, step: int) -> None:
        row = _row(values, step, seconds=self._seconds)
        self._file.append(json.dumps(row, allow_nan=False) + "\n")


def _row(values: Logs, step: int, *, seconds: bool) -> dict[str, Any]:
    """What a line says, in plain Python; floats that are not finite as strings."""
    named = {name: portable(value) for name, value in values.items()}
    if not seconds:
        named.pop("seconds", None)
    return {"step": step} | named


def _line(cells: Any) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def _widened(lines: Iterator[str], header: str, more: int) -> Iterator[str]:
    """The lines of a table under another header, with that many empty cells at the end of each."""
    next(lines)
    yield header
    for line in lines:
        yield line.removesuffix("\n") + "," * more + "\n"


def _step_of_json(line: str) -> int:
    try:
        row = json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested without end") from error
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        raise ValueError("it is no object with a whole number `step`")
    return row["step"]
