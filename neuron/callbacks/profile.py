"""A profile of some steps, as JAX makes it."""

import contextlib
import os
import warnings
from typing import TYPE_CHECKING

import jax

from neuron.callbacks.callback import Callback, Logs
from neuron.types import whole_number


if TYPE_CHECKING:
    from neuron.trainer import Trainer


class Profile(Callback):
    """Writes a trace of some steps of each fit, by `jax.profiler.trace`, for TensorBoard, XProf or
    Perfetto.

    A run is one program, so the host looks where the trace begins and where it ends; what the
    program does in between is what it would have done. A fit that ends, or fails, in between ends
    the trace.
    """

    every: int | None = None
    # Whether there is nothing to tell at the end of a fit.
    _traced = True

    def __init__(self, directory: str | os.PathLike[str], *, start: int = 1, steps: int = 100):
        """**Arguments:**

        - `directory`: where the traces go, each fit's in a folder of its time.
        - `start`: how many steps of a fit are left out before. The first one is where the program
            is compiled.
        - `steps`: how many steps are traced.

        **Raises:**

        - `TypeError` or `ValueError` for arguments out of their range.
        - `OSError` when a fit begins, for a directory that can not be made.
        - `RuntimeError` where another trace is under way: JAX takes one at a time.
        """
        self.directory = os.fspath(directory)
        self.start = whole_number("Profile(start=...)", start, least=0)
        self.steps = whole_number("Profile(steps=...)", steps, least=1)
        self._trace = contextlib.ExitStack()

    def on_fit_begin(self, trainer: "Trainer") -> None:
        os.makedirs(self.directory, exist_ok=True)
        self._first, self._last = trainer.step + self.start, trainer.step + self.start + self.steps
        self._traced = False
        # The first multiple of a step's number is itself: nobody has to look before.
        self.every = self._first or None
        if self.start == 0:
            self._begin()

    def on_step_end(self, trainer: "Trainer", logs: Logs) -> None:
        if trainer.step == self._first:
            self._begin()
        elif trainer.step == self._last:
            self._trace.close()
            self.every = None

    def on_exception(self, trainer: "Trainer", error: BaseException) -> None:
        self._traced = True

    def on_fit_end(self, trainer: "Trainer") -> None:
        self._trace.close()
        if not self._traced:
            warnings.warn(
                f"`Profile(start={self.start})` has traced nothing: the fit ended at step "
                f"{trainer.step}, before step {self._first}.",
                stacklevel=2,
            )

    def _begin(self) -> None:
        self._trace.enter_context(jax.profiler.trace(self.directory))
        self._traced = True
        self.every = self._last
