"""Callbacks for the learning rate: one lowers it, one tells of it."""

from typing import TYPE_CHECKING, Any

from neuron.callbacks.best import Best
from neuron.callbacks.callback import Callback, Logs
from neuron.callbacks.progress import Lines, numbers
from neuron.optimizers import is_rate
from neuron.types import whole_number


if TYPE_CHECKING:
    from neuron.trainer import Trainer


class ReduceLROnPlateau(Callback):
    """Multiplies the learning rate by a factor where a value has not become better for some epochs.

    No recompile: the learning rate is a number that the program is handed. Learning rates by path
    are all multiplied, and keep their ratios down to `min_learning_rate`.
    """

    for_members = False

    def __init__(
        self,
        monitor: str | None = None,
        *,
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        mode: str = "min",
        cooldown: int = 0,
        min_learning_rate: float = 0.0,
    ):
        """**Arguments:**

        - `monitor`: a name in the epoch's row; `val_loss` where there is a validation, `loss`
            where there is none, if `None`.
        - `factor`: in (0, 1).
        - `patience`: after how many epochs without improvement to multiply.
        - `min_delta`: by how much a value must be better to count.
        - `mode`: `"min"` or `"max"`: which way is better.
        - `cooldown`: for how many epochs after that nothing is counted.
        - `min_learning_rate`: what no rate goes below.

        **Raises:**

        - `ValueError` or `TypeError` for arguments out of their range; when a fit begins, for an
            optimizer whose learning rate is no number; at an epoch's end, for a `monitor` that is
            not in the row.
        """
        if not 0 < factor < 1:
            raise ValueError(f"`ReduceLROnPlateau(factor=...)` must be in (0, 1); got {factor}.")
        if not min_learning_rate >= 0:
            raise ValueError(
                "`ReduceLROnPlateau(min_learning_rate=...)` must be at least 0; "
                f"got {min_learning_rate}."
            )
        self.patience = whole_number("ReduceLROnPlateau(patience=...)", patience, least=0)
        self.cooldown = whole_number("ReduceLROnPlateau(cooldown=...)", cooldown, least=0)
        self.factor = factor
        self.min_learning_rate = min_learning_rate
        self._best = Best("ReduceLROnPlateau", monitor, mode, min_delta)

    def on_fit_begin(self, trainer: "Trainer") -> None:
        _rate(trainer)
        self._best.begin(trainer.epoch)
        self._waited = self._cooling = 0

    def on_epoch_end(self, trainer: "Trainer", logs: Logs) -> None:
        improved = self._best.improved(logs, trainer.epoch)
        cooling, self._cooling = self._cooling > 0, max(0, self._cooling - 1)
        self._waited = 0 if improved or cooling else self._waited + 1
        if self._waited >= max(1, self.patience):
            self._lower(trainer)
            self._cooling, self._waited = self.cooldown, 0

    def state_dict(self) -> dict[str, Any]:
        counts = {"waited": self._waited, "cooling": self._cooling}
        return {"best": self._best.state_dict(), **counts}

    def load_state_dict(self, trainer: "Trainer", state: dict[str, Any]) -> None:
        self._best.load_state_dict(state["best"])
        self._waited, self._cooling = state["waited"], state["cooling"]

    def _lower(self, trainer: "Trainer") -> None:
        def lower(rate: Any) -> float:
            # A rate that is below the least already stays as it is.
            return min(float(rate), max(float(rate) * self.factor, self.min_learning_rate))

        rate = _rate(trainer)
        by_path = isinstance(rate, dict)
        lowered = {path: lower(r) for path, r in rate.items()} if by_path else lower(rate)
        trainer.set(learning_rate=lowered)


class LearningRateLogger(Callback):
    """A line of the learning rate, through the logger named `neuron`, wherever it has changed."""

    for_members = False

    def __init__(self, every: int | None = None):
        """**Arguments:**

        - `every`: how many steps lie between two looks; only the ends of epochs if `None`.
        """
        self._each_epoch = every is None
        self._out = Lines()
        if every is not None:
            self.every = whole_number("LearningRateLogger(every=...)", every, least=1)
        else:
            self.every = None

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self._told: Logs = {}
        self._out.open()

    def on_fit_end(self, trainer: "Trainer") -> None:
        self._out.close()

    def on_step_end(self, trainer: "Trainer", logs: Logs) -> None:
        if not self._each_epoch:
            self._tell(trainer, logs)

    def on_epoch_end(self, trainer: "Trainer", logs: Logs) -> None:
        self._tell(trainer, logs)

    def state_dict(self) -> dict[str, Any]:
        return {"told": self._told}

    def load_state_dict(self, trainer: "Trainer", state: dict[str, Any]) -> None:
        self._told = state["told"]

    def _tell(self, trainer: "Trainer", logs: Logs) -> None:
        rates = {name: value for name, value in logs.items() if is_rate(name)}
        if not rates:
            raise ValueError(
                "`LearningRateLogger()` needs a run that records its learning rate; optax's "
                "optimizers do where they are made by `optax.inject_hyperparams`."
            )
        if rates != self._told:
            self._out.write(f"step {trainer.step}  {numbers(rates)}")
            self._told = rates


def _rate(trainer: "Trainer") -> Any:
    """The learning rate as a number, or as a dict of them by path."""
    known = trainer.optimizer.numbers()
    if "learning_rate" not in known:
        raise ValueError(
            "`ReduceLROnPlateau()` needs an optimizer whose learning rate is a number, such as "
            f"neuron.Adam(1e-3), and no schedule; got {trainer.optimizer!r}."
        )
    return known["learning_rate"]
