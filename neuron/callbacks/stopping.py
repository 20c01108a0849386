"""Stopping early."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import PyTree

from neuron.callbacks.best import Best
from neuron.callbacks.callback import Callback, Logs
from neuron.checkpoint import by_path, from_paths
from neuron.members import chosen
from neuron.state import TrainState
from neuron.types import whole_number


if TYPE_CHECKING:
    from neuron.trainer import Trainer


class EarlyStopping(Callback):
    """Stops when a value has not become better for some epochs, and puts the best model back.

    Of a population each member is stopped by itself, and has its own best model put back; the fit
    ends with the last. `best` and `best_epoch` are then arrays.
    """

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
        self.patience = whole_number("EarlyStopping(patience=...)", patience, least=0)
        self._best = Best("EarlyStopping", monitor, mode, min_delta)
        self.restore_best = restore_best
        self._best_state: TrainState | None = None

    @property
    def best(self) -> Any:
        """The best value of this fit, or of the last one."""
        return self._best.value

    @property
    def best_epoch(self) -> Any:
        """The epoch that it came from."""
        return self._best.epoch

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self._best.begin(trainer.epoch, trainer.members)
        self._best_state = None

    def on_epoch_end(self, trainer: "Trainer", logs: Logs) -> None:
        running = ~np.asarray(trainer.state.stopped)
        improved = self._best.improved(logs, trainer.epoch, running)
        if self.restore_best and improved.any():
            self._best_state = _mixed(improved, trainer.snapshot(), self._best_state)
        waited = trainer.epoch - self.best_epoch >= max(1, self.patience)
        for place in np.argwhere(waited & running & ~improved):
            best, epoch = (np.asarray(part)[tuple(place)] for part in (self.best, self.best_epoch))
            name = self._best.name(logs)
            trainer.stop(f"{name} has not improved on {best:.6g} since epoch {epoch}", *place)

    def state_dict(self) -> dict[str, Any]:
        kept = self._best_state
        return {
            "best": self._best.state_dict(),
            "weights": None if kept is None else by_path(_weights(kept)),
        }

    def load_state_dict(self, trainer: "Trainer", state: dict[str, Any]) -> None:
        self._best.load_state_dict(state["best"])
        if state["weights"] is not None:
            now = trainer.snapshot()
            params, model_state, average = from_paths(_weights(now), state["weights"])
            self._best_state = now.changed(params, model_state, now.opt_state, average)

    def on_fit_end(self, trainer: "Trainer") -> None:
        if self._best_state is not None:
            trainer.state = _mixed(self._best.found, self._best_state, trainer.state)
            self._best_state = None


def _mixed(which: np.ndarray, one: TrainState, other: TrainState | None) -> TrainState:
    """The other state with the weights of the one, of all members or of some."""
    if other is None:
        return one
    if which.all():
        return other.with_weights_of(one)
    params, model_state, average = chosen(which, _weights(one), _weights(other))
    return other.changed(params, model_state, other.opt_state, average)


def _weights(state: TrainState) -> tuple[PyTree, PyTree, PyTree]:
    return state.params, state.model_state, state.average
