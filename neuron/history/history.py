"""History. Every step's loss, and one row an epoch."""

import csv
import io
import json
import os
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from neuron.history.columns import Column, Row, rows_of, table_of
from neuron.history.epochs import epochs_of, is_behind
from neuron.history.values import from_portable, portable
from neuron.plotting import axes_for


class History:
    """What was recorded, step by step and epoch by epoch.

    `history["loss"]` is every step's loss, in the loss's own type; `history.epochs` is a list
    of rows with `epoch`, `step`, `loss` (the exact weighted mean over the epoch's examples),
    the `val_*` of a validation, `learning_rate` (the last step's) and `seconds`. With
    `Trainer(nonfinite="skip")`, `skipped` is 1 at the steps whose update was left out, and in the
    epoch's row how many they were.
    """

    def __init__(
        self,
        finish: Callable[..., dict[str, np.ndarray]] = lambda means, steps: {"loss": means},
        metrics: Collection[str] = (),
    ):
        """**Arguments:**

        - `finish`: maps weighted means, of the loss or of each of several by name, and the steps
            at which they were taken, to values by name.
        - `metrics`: the names of what is measured over an epoch so far, so that an epoch's last
            value is the epoch's.
        """
        self._finish = finish
        self._metrics = frozenset(metrics)
        self._columns: dict[str, Column] = {}
        self._steps = 0
        # At which second of training which step was reached: the hands of a clock.
        self._clock = {name: Column(np.dtype(float), [0.0]) for name in ("steps", "seconds")}
        # Stretches in which epochs end, whose rows are made when somebody asks: (epoch, the place
        # at which it began, steps from there, steps per epoch, steps of the run before place 0).
        self._ending: list[tuple[int, int, int, int, int]] = []
        self._of_epochs: dict[int, Row] = {}
        self._rows: list[Row] = []

    def record(
        self,
        columns: Mapping[str, np.ndarray],
        seconds: float,
        *,
        step: int,
        epoch: int,
        position: int,
        steps_per_epoch: int,
    ) -> None:
        """Appends what the steps from this one on recorded, which took `seconds`."""
        taken = len(next(iter(columns.values())))
        for name, values in columns.items():
            if name not in self._columns:
                self._columns[name] = Column(values.dtype, values[:0])
            self._columns[name].extend(values)
        first, self._steps = self._steps, self._steps + taken
        self._clock["steps"].extend([self._steps])
        self._clock["seconds"].extend([self._clock["seconds"].values[-1] + seconds])
        if position + taken >= steps_per_epoch:
            stretch = (epoch, first - position, position + taken, steps_per_epoch, step - first)
            self._ending.append(stretch)

    def record_epoch(self, epoch: int, logs: Row) -> None:
        """Adds values to the row of an epoch: a validation's `val_*`, metrics that are no single
        number."""
        self._of_epochs.setdefault(epoch, {}).update(logs)
        # Where a validation was interrupted, somebody may have asked for the row before.
        if self._rows and self._rows[-1]["epoch"] == epoch:
            self._rows[-1].update(logs)

    def last(self) -> Row:
        """What the last step recorded."""
        rows = {name: self._columns[name].last for name in self.names}
        return {name: row if np.ndim(row) else float(row) for name, row in rows.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.names:
            raise KeyError(f"`history[{name!r}]` is not recorded; there are {self.names}.")
        return self._columns[name].values.T

    def __len__(self) -> int:
        """How many steps are recorded."""
        return self._steps

    @property
    def names(self) -> list[str]:
        """What is recorded at every step."""
        return [name for name in self._columns if not is_behind(name)]

    @property
    def epochs(self) -> list[Row]:
        """One row for each epoch that came to its end."""
        if self._ending:
            columns = {name: column.values for name, column in self._columns.items()}
            clock = {name: column.values for name, column in self._clock.items()}
            made = epochs_of(self._ending, columns, clock, self._finish, self._metrics)
            self._rows += [self._with(row) for row in made]
            self._ending = []
        return self._rows

    def _with(self, row: Row) -> Row:
        """A row with the values that were added to its epoch, behind the loss."""
        first = {name: row[name] for name in ("epoch", "step", "loss")}
        return first | self._of_epochs.get(int(row["epoch"]), {}) | row

    def __repr__(self) -> str:
        if not self._steps:
            return "History(no steps yet)"
        loss = self["loss"]
        text = f"History({self._steps} steps, {len(self.epochs)} epochs, "
        text += f"loss {loss[0]:.4g} at the first step and {loss[-1]:.4g} at the last"
        if self.epochs and "val_loss" in self.epochs[-1]:
            text += f", val_loss {self.epochs[-1]['val_loss']:.4g}"
        return text + ")"

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The history as JSON, also written to a file if one is named."""
        columns = {name: column.values for name, column in self._columns.items()}
        text = json.dumps(
            {
                "version": 1,
                "steps": {
                    name: {"dtype": values.dtype.name, "values": portable(values.tolist())}
                    for name, values in columns.items()
                },
                "epochs": [
                    {name: portable(value) for name, value in row.items()} for row in self.epochs
                ],
                "clock": {name: column.values.tolist() for name, column in self._clock.items()},
            },
            allow_nan=False,
        )
        return _written(text, path)

    @classmethod
    def from_json(cls, source: str | pathlib.Path) -> "History":
        """The inverse of `to_json`; a `pathlib.Path` is read, a string is the JSON itself."""
        content = json.loads(source.read_text() if isinstance(source, pathlib.Path) else source)
        history = cls()
        for name, column in content["steps"].items():
            values = np.array(from_portable(column["values"]), np.dtype(column["dtype"]))
            history._columns[name] = Column(values.dtype, values)
            history._steps = len(values)
        history._rows = [
            {name: from_portable(value) for name, value in row.items()} for row in content["epochs"]
        ]
        history._clock = {
            name: Column(np.dtype(float), values) for name, values in content["clock"].items()
        }
        return history

    def state_dict(self) -> dict[str, Any]:
        """Everything that is recorded, for a checkpoint: arrays, numbers, lists and dicts."""
        ends = {str(epoch): self._of_epochs.get(epoch) for epoch in self._epochs_to_come()}
        return {
            "steps": {name: column.values for name, column in self._columns.items()},
            "clock": {name: column.values for name, column in self._clock.items()},
            "rows": table_of(self._rows),
            "ending": np.array(self._ending, np.int64).reshape(-1, 5),
            "of_epochs": {epoch: logs for epoch, logs in ends.items() if logs},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse: as if it had all been recorded here.

        **Raises:**

        - `LookupError`, `TypeError`, `ValueError` or `AttributeError` for what `state_dict` can not
            have given.
        """
        as_columns = lambda found: {n: Column(v.dtype, v) for n, v in found.items()}
        self._columns, self._clock = as_columns(state["steps"]), as_columns(state["clock"])
        self._steps = int(self._clock["steps"].values[-1])
        self._rows = rows_of(state["rows"])
        self._ending = [(a, b, c, d, e) for a, b, c, d, e in state["ending"].tolist()]
        self._of_epochs = {int(epoch): logs for epoch, logs in state["of_epochs"].items()}
        lengths = {len(column.values) for column in self._columns.values()}
        hands = {len(column.values) for column in self._clock.values()}
        if lengths - {self._steps} or len(hands) != 1 or (lengths and "loss" not in self.names):
            raise ValueError("a history must have as many values in each column, and a loss")

    def _epochs_to_come(self) -> list[int]:
        """Those that have values already, and no row yet."""
        made = self._rows[-1]["epoch"] if self._rows else 0
        return [epoch for epoch in self._of_epochs if epoch > made]

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """The epochs' rows as CSV, also written to a file if one is named."""
        names = list(dict.fromkeys(name for row in self.epochs for name in row))
        out = io.StringIO()
        writer = csv.DictWriter(out, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.epochs)
        return _written(out.getvalue(), path)

    def plot(self, ax: Any = None) -> Any:
        """Draws every step's loss, the epochs' means and the validation's; returns the axes.

        **Raises:**

        - `ImportError` without matplotlib, which the extra `neuron-equinox[plot]` brings.
        """
        ax = axes_for("History.plot()", ax)
        loss = self["loss"]
        ax.plot(np.arange(1, len(loss) + 1), loss, lw=0.6, alpha=0.5, label="loss of each step")
        for name, label in (("loss", "mean of each epoch"), ("val_loss", "validation")):
            points = [(row["step"], row[name]) for row in self.epochs if name in row]
            if points:
                ax.plot(*zip(*points, strict=True), lw=1.6, label=label)
        if (loss > 0).all() and np.isfinite(loss).all():
            ax.set_yscale("log")
        ax.set(xlabel="step", ylabel="loss", xlim=(0, max(1, len(loss))))
        ax.legend(frameon=False)
        return ax


def _written(text: str, path: str | os.PathLike[str] | None) -> str:
    if path is not None:
        pathlib.Path(path).write_text(text)
    return text
