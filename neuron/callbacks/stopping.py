"""Stopping early."""

import math
from typing import TYPE_CHECKING

from neuron.callbacks.callback import Callback, Logs
from neuron.state import TrainState
from neuron.types import whole_number


if TYPE_CHECKING:
    from neuron.trainer import Trainer


class EarlyStopping(Callback):
    """Stops when a value has not become better for some epochs, and puts the best model back."""

    def __init__(
        self,
        monitor: str | None = None,
        *,
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str = "min",
        restore_best: bool = True,
    ):
        """**Arguments:**

        - `monitor`: a name in the epoch's row; `val_loss` where there is a validation, `loss`
            where there is none, if `None`.
        - `patience`: after how many epochs without improvement to stop.
        - `min_delta`: by how much a value must be better to count.
        - `mode`: `"min"` or `"max"`: which way is better.
        - `restore_best`: whether the trainer ends with the best epoch's weights.

        **Raises:**

        - `ValueError` or `TypeError` for arguments out of their range; at the first epoch's end
            for a `monitor` that is not in the row.
        """
        self.monitor = monitor
        self.patience = whole_number("EarlyStopping(patience=...)", patience, least=0)
        if not min_delta >= 0:
            raise ValueError(f"`EarlyStopping(min_delta=...)` must be at least 0; got {min_delta}.")
        if mode not in ("min", "max"):
            raise ValueError(f"`EarlyStopping(mode=...)` must be 'min' or 'max'; got {mode!r}.")
        self.min_delta = min_delta
        self.mode = mode
        self.restore_best = restore_best

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self.best = math.inf if self.mode == "min" else -math.inf
        self.best_epoch = trainer.epoch
        self._best_state: TrainState | None = None

    def on_epoch_end(self, trainer: "Trainer", logs: Logs) -> None:
        name = self.monitor or ("val_loss" if "val_loss" in logs else "loss")
        if name not in logs:
            raise ValueError(
                f"`EarlyStopping(monitor=...)` must name a value of the epoch; got {name!r}, "
                f"there are {sorted(logs)}."
            )
        gain = self.best - logs[name] if self.mode == "min" else logs[name] - self.best
        if gain > self.min_delta:
            self.best, self.best_epoch = logs[name], trainer.epoch
            self._best_state = trainer.snapshot() if self.restore_best else None
        elif trainer.epoch - self.best_epoch >= max(1, self.patience):
            trainer.stop(
                f"{name} has not improved on {self.best:.6g} since epoch {self.best_epoch}"
            )

    def on_fit_end(self, trainer: "Trainer") -> None:
        if self._best_state is not None:
            trainer.state = trainer.state.with_weights_of(self._best_state)
            self._best_state = None
