"""Loggers that write files of lines, which survive kills and resumes."""

import abc
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


class Lines(Logger):
    """Writes a file of lines: one an epoch, or a step, as soon as it is over.

    A killed process loses at most the line that it was writing. A run that goes on from a step
    drops the lines of later steps first, so that the file of a run that was killed and resumed has
    the bytes of one that never was. A run at step 0 moves the file of an earlier one aside
    (`log.csv` to `log.1.csv`).
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
        - `every`: how many steps lie between two lines of steps, with names `step_*`; lines of
            epochs alone if `None`.
        - `seconds`: whether the `seconds` of the epochs are written: of all values they alone are
            others each time that a run is repeated.
        - `overwrite`: whether a run at step 0 deletes an existing file, instead of moving it aside.

        **Raises:**

        - `TypeError` or `ValueError` for arguments out of their range; when a fit begins, for a
            file with which it can not go on.
        - `OSError` that names the file, when a fit begins or a line is written.
        """
        kind = type(self).__name__
        self.every = period(f"{kind}(every=...)", every)
        self._seconds = seconds
        self._file = LogFile(kind, path, overwrite=overwrite)

    @abc.abstractmethod
    def step_of(self, line: str) -> int:
        """The step of a line of an earlier run, in their order; `ValueError` for what is none."""

    @abc.abstractmethod
    def write(self, row: dict[str, Any]) -> None:
        """Writes a line: numbers, strings for those that are not finite, and lists, by name."""

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self._file.open(trainer.step, self.step_of)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: what the file has is what a run goes on with. A checkpoint is about to be
        written, and must not be on the disk before the lines that lead to it."""
        self._file.sync()
        return {}

    def on_fit_end(self, trainer: "Trainer") -> None:
        self._file.close()

    def log(self, values: Logs, step: int) -> None:
        row = {"step": step} | {name: portable(value) for name, value in values.items()}
        if not self._seconds:
            row.pop("seconds", None)
        self.write(row)


class CSVLogger(Lines):
    """Writes a table.

    A name that comes later, a `val_loss` say, becomes a column behind the others, empty in the rows
    before it. A metric that is an array is one cell with a list in it, as JSON has it. A value that
    is not finite is `nan`, `inf` or `-inf`; a cell of a name that a row does not have is empty.
    """

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self._columns: list[str] = []
        super().on_fit_begin(trainer)

    def write(self, row: dict[str, Any]) -> None:
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

    def step_of(self, line: str) -> int:
        if self._columns:
            return int(line.partition(",")[0])
        (cells,) = csv.reader([line])
        if cells[:1] != ["step"]:
            raise ValueError("its first column is not `step`")
        self._columns = cells
        return 0


class JSONLLogger(Lines):
    """Writes JSON, one object a line.

    Each line has the names that it has values for; a metric that is an array is a list; JSON knows
    no number that is not finite, so these are strings: `"nan"`, `"inf"`, `"-inf"`, which `float`
    takes.
    """

    def write(self, row: dict[str, Any]) -> None:
        self._file.append(json.dumps(row, allow_nan=False) + "\n")

    def step_of(self, line: str) -> int:
        try:
            row = json.loads(line)
        except RecursionError as error:
            raise ValueError("it is nested without end") from error
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise ValueError("it is no object with a whole number `step`")
        return row["step"]


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
