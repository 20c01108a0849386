"""Stopping early."""

from typing import TYPE_CHECKING, Any

from jaxtyping import PyTree

from neuron.callbacks.best import Best
from neuron.callbacks.callback import Callback, Logs
from neuron.checkpoint import by_path, from_paths
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
        self.patience = whole_number("EarlyStopping(patience=...)", patience, least=0)
        self._best = Best("EarlyStopping", monitor, mode, min_delta)
        self.restore_best = restore_best
        self._best_state: TrainState | None = None

    @property
    def best(self) -> float:
        """The best value of this fit, or of the last one."""
        return self._best.value

    @property
    def best_epoch(self) -> int:
        """The epoch that it came from."""
        return self._best.epoch

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self._best.begin(trainer.epoch)
        self._best_state = None

    def on_epoch_end(self, trainer: "Trainer", logs: Logs) -> None:
        if self._best.improved(logs, trainer.epoch):
            self._best_state = trainer.snapshot() if self.restore_best else None
        elif trainer.epoch - self.best_epoch >= max(1, self.patience):
            trainer.stop(
                f"{self._best.name(logs)} has not improved on {self.best:.6g} since epoch "
                f"{self.best_epoch}"
            )

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
            trainer.state = trainer.state.with_weights_of(self._best_state)
            self._best_state = None


def _weights(state: TrainState) -> tuple[PyTree, PyTree, PyTree]:
    return state.params, state.model_state, state.average
