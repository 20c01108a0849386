"""How far a fit is: a bar, and lines of logs."""

import logging
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from neuron.callbacks.callback import Callback, Logs
from neuron.types import whole_number


if TYPE_CHECKING:
    from neuron.trainer import Trainer

logger = logging.getLogger("neuron")


class ProgressBar(Callback):
    """A bar with the loss and the steps a second, in the terminal or the notebook."""

    every = None
    _bar: Any = None

    def on_fit_begin(self, trainer: "Trainer") -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=None if trainer.final_step is None else trainer.final_step - trainer.step,
            unit=" steps",
            unit_scale=True,
            dynamic_ncols=True,
            file=sys.stderr,
        )
        self._first = trainer.step

    def on_step_end(self, trainer: "Trainer", logs: Logs) -> None:
        self._bar.set_postfix_str(numbers({"loss": logs["loss"]}), refresh=False)
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
        self._out = Lines()

    def on_fit_begin(self, trainer: "Trainer") -> None:
        last = trainer.final_step
        # Where nobody knows how long it takes, a line each hundred steps.
        self.every = 100 if last is None else max(1, (last - trainer.step) // self.lines)
        self._out.open()

    def on_step_end(self, trainer: "Trainer", logs: Logs) -> None:
        self._out.write(f"step {trainer.step}/{trainer.final_step or '?'}  {numbers(logs)}")

    def on_validation_end(self, trainer: "Trainer", logs: Logs) -> None:
        self._out.write(f"epoch {trainer.epoch}  {numbers(logs)}")

    def on_fit_end(self, trainer: "Trainer") -> None:
        self._out.close()


class Lines:
    """The logger named `neuron`, which while it is open writes to standard output where nobody has
    set logging up."""

    _handler: logging.Handler | None = None

    def open(self) -> None:
        """Begins."""
        if not logger.hasHandlers():
            self._handler = logging.StreamHandler(sys.stdout)
            logger.addHandler(self._handler)
        if logger.getEffectiveLevel() > logging.INFO:
            logger.setLevel(logging.INFO)

    def write(self, line: str) -> None:
        """One line."""
        logger.info(line)

    def close(self) -> None:
        """Leaves the logger as it was."""
        if self._handler is not None:
            logger.removeHandler(self._handler)
            self._handler = None


def numbers(logs: Logs) -> str:
    """One line of what is a number."""
    values = {name: value for name, value in logs.items() if np.ndim(value) <= 1}
    return "  ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: Any) -> str:
    """A number; of many, from the least to the largest."""
    if not np.ndim(value):
        return f"{value:.4g}"
    there = value[np.isfinite(value)]
    return f"{there.min():.4g} to {there.max():.4g}" if there.size else "nan"
