"""Callbacks. Hooks that look at a run, and the ones that everybody needs."""

import logging
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from neuron.state import TrainState
from neuron.types import whole_number


if TYPE_CHECKING:
    from neuron.trainer import Trainer

Logs = dict[str, int | float]
logger = logging.getLogger("neuron")


class Callback:
    """Looks at a run. Override the hooks that you want; one that nobody overrides costs nothing.

    A hook may read the trainer, call `trainer.stop(reason)` and `trainer.set(...)`. What
    `trainer.model` gives is valid until the hook returns; `trainer.snapshot()` is a copy to keep.

    ```python
    class Watch(neuron.Callback):
        every = 100

        def on_step_end(self, trainer, logs):
            print(trainer.step, logs["loss"])
    ```
    """

    # How many steps lie between two calls of `on_step_end`; `None` takes what comes: a call
    # whenever the host looks anyway, a few times a second.
    every: int | None = 1

    def on_fit_begin(self, trainer: "Trainer") -> None:
        """Before the first step of a fit."""

    def on_epoch_begin(self, trainer: "Trainer") -> None:
        """Before the first step of an epoch."""

    def on_step_end(self, trainer: "Trainer", logs: Logs) -> None:
        """After each step whose number is a multiple of `every`, with that step's logs."""

    def on_validation_end(self, trainer: "Trainer", logs: Logs) -> None:
        """After a validation, with its `val_*`."""

    def on_epoch_end(self, trainer: "Trainer", logs: Logs) -> None:
        """After an epoch and its validation, with the epoch's row of the history."""

    def on_fit_end(self, trainer: "Trainer") -> None:
        """At the end of a fit, however it ended."""

    def on_exception(self, trainer: "Trainer", error: BaseException) -> None:
        """When a fit is ended by an error, before `on_fit_end`."""


class Hooks:
    """A trainer's callbacks, called by name, and when the next one wants to look."""

    def __init__(self, callbacks: Sequence[Callback]):
        self.callbacks = tuple(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(
                    f"`Trainer(callbacks=...)` must hold neuron.Callback objects; got {callback!r}."
                )
            if callback.every is not None:
                whole_number(f"{type(callback).__name__}.every", callback.every, least=1)

    def on(self, hook: str) -> list[Callback]:
        """The callbacks that override a hook."""
        empty = getattr(Callback, hook)
        return [c for c in self.callbacks if getattr(type(c), hook) is not empty]

    def next_look(self, step: int, last: int) -> int:
        """The first step after this one at which an `on_step_end` is due, or the last one."""
        every = [c.every for c in self.on("on_step_end") if c.every is not None]
        return min([last, *(step - step % n + n for n in every)])

    def due(self, step: int) -> list[Callback]:
        """The callbacks whose `on_step_end` is due now."""
        return [c for c in self.on("on_step_end") if c.every is None or step % c.every == 0]

    def close(self, trainer: "Trainer", error: BaseException | None) -> None:
        """Tells every callback that the fit is over. The first error reaches the user, the fit's
        own before all others, and carries the later ones as notes."""
        first = error
        for callback in self.callbacks:
            try:
                if error is not None:
                    callback.on_exception(trainer, error)
            except Exception as later:
                first = _noted(first, later)
            try:
                callback.on_fit_end(trainer)
            except Exception as later:
                first = _noted(first, later)
        if first is not None and first is not error:
            raise first


def _noted(first: BaseException | None, later: Exception) -> BaseException:
    if first is None:
        return later
    first.add_note(f"Later a callback raised {later!r}.")
    return first


class ProgressBar(Callback):
    """A bar with the loss and the steps a second, in the terminal or the notebook."""

    every = None
    _bar: Any = None

    def on_fit_begin(self, trainer: "Trainer") -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=trainer.final_step - trainer.step,
            unit=" steps",
            unit_scale=True,
            dynamic_ncols=True,
            file=sys.stderr,
        )
        self._first = trainer.step

    def on_step_end(self, trainer: "Trainer", logs: Logs) -> None:
        self._bar.set_postfix_str(f"loss {logs['loss']:.4g}", refresh=False)
        self._bar.update(trainer.step - self._first - self._bar.n)

    def on_fit_end(self, trainer: "Trainer") -> None:
        if self._bar is not None:
            self._bar.update(trainer.step - self._first - self._bar.n)
            self._bar.close()
            self._bar = None


def terminal_attached() -> bool:
    """Whether a progress bar would be seen: on a terminal, or in a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class PrintLog(Callback):
    """Lines of logs, through the logger named `neuron`; ten a fit unless told otherwise.

    Where nobody has set logging up, the lines go to standard output.
    """

    def __init__(self, lines: int = 10):
        """**Arguments:**

        - `lines`: about how many lines a fit writes.
        """
        self.lines = whole_number("PrintLog(lines=...)", lines, least=1)
        self._handler: logging.Handler | None = None

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self.every = max(1, (trainer.final_step - trainer.step) // self.lines)
        if not logger.hasHandlers():
            self._handler = logging.StreamHandler(sys.stdout)
            logger.addHandler(self._handler)
        if logger.getEffectiveLevel() > logging.INFO:
            logger.setLevel(logging.INFO)

    def on_step_end(self, trainer: "Trainer", logs: Logs) -> None:
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in logs.items())
        logger.info("step %d/%d  %s", trainer.step, trainer.final_step, numbers)

    def on_validation_end(self, trainer: "Trainer", logs: Logs) -> None:
        logger.info(
            "epoch %d  %s", trainer.epoch, "  ".join(f"{k} {v:.4g}" for k, v in logs.items())
        )

    def on_fit_end(self, trainer: "Trainer") -> None:
        if self._handler is not None:
            logger.removeHandler(self._handler)
            self._handler = None


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
