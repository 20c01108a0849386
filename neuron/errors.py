"""Errors of a run. Bad arguments are plain `ValueError` and `TypeError`."""

from collections.abc import Callable
from typing import Any


class Terminated(SystemExit):
    """SIGTERM came while a fit ran: it ends at a point where the run is whole.

    As a `SystemExit` it passes `except Exception`, lets every `finally` run, and ends the process
    with the exit code 143, which is what SIGTERM makes.
    """

    def __init__(self):
        super().__init__(128 + 15)


class NonFiniteLossError(ArithmeticError):
    """Loss or gradients were NaN or infinite, so the step was not taken.

    `step` is the number of steps taken before it: the trainer stands there, unharmed. `where` says
    where the first value arose that was not finite, once `locate` has found it.
    """

    def __init__(self, step: int, loss: float, find: Callable[[], Any] | None = None):
        self.step = step
        self.loss = loss
        self.where: Any = None
        self._find = find
        super().__init__(
            f"Step {step} (from 0) has a loss of {loss:g} or gradients that are not finite, "
            "and was not taken. Try a smaller learning rate, or `Trainer(nonfinite='skip')` to go "
            "on without such steps."
        )

    def locate(self) -> Any:
        """Takes the step again, one operation after the other on the same rows and keys, and finds
        where the first value arose that was not finite: a `neuron.Origin`, kept as `where`.

        That takes some seconds, or minutes for a large model. `Trainer(nonfinite="locate")` does it
        before the error is raised.
        """
        if self.where is None and self._find is not None:
            self.where = self._find()
            # What it holds of the step is needed no more.
            self._find = None
        return self.where

    def try_to_locate(self) -> None:
        """As `locate`, but what goes wrong with that is a note, and does not hide this error."""
        try:
            self.locate()
        except Exception as failed:
            self.add_note(f"Where it arose could not be found: {failed!r}.")

    def __str__(self) -> str:
        if self.where is not None:
            return f"{super().__str__()}\n{self.where}"
        if self._find is not None:
            return f"{super().__str__()} `error.locate()` says where the first such value arose."
        return super().__str__()

    def __reduce__(self) -> tuple[Any, ...]:
        # Other processes get the words, without the arrays of the step.
        return type(self), (self.step, self.loss), {"where": self.where}


class CheckpointError(Exception):
    """A file of a model or of a run could not be written, or is not what was asked for.

    Damaged files, files of another kind, and files that do not fit the model or the trainer are
    refused with it, whatever is wrong with them.
    """
