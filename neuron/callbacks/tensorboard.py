"""Logs for TensorBoard."""

import os
import time
from typing import TYPE_CHECKING, Any

from neuron.callbacks.callback import Logs
from neuron.callbacks.curves import curves
from neuron.callbacks.logger import Logger, period
from neuron.extras import extra


if TYPE_CHECKING:
    from neuron.trainer import Trainer


class TensorBoard(Logger):
    """Writes event files, which TensorBoard shows, through tensorboardX.

    A run hides what the folder has of steps behind the one where it begins: after a resume those
    that were lost, and at step 0 an earlier run. Give runs that you want to compare a folder each.
    """

    _writer: Any = None

    def __init__(self, directory: str | os.PathLike[str], *, every: int | None = None):
        """**Arguments:**

        - `directory`: where the event files are.
        - `every`: how many steps lie between two points of the steps' curves, `step_*`; epochs
            alone if `None`.

        **Raises:**

        - `ImportError` when a fit begins without tensorboardX, which the extra
            `neuron-equinox[tensorboard]` brings.
        """
        self.every = period("TensorBoard(every=...)", every)
        self.directory = os.fspath(directory)

    def on_fit_begin(self, trainer: "Trainer") -> None:
        does = "`TensorBoard()` logs through tensorboardX"
        tensorboard = extra(does, "tensorboard", "tensorboardX")
        # The name of an event file has its second; two fits within one would share it.
        self._writer = tensorboard.SummaryWriter(
            self.directory, purge_step=trainer.step + 1, filename_suffix=f".{time.time_ns()}"
        )

    def log(self, values: Logs, step: int) -> None:
        for name, value in curves("TensorBoard", values):
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def on_fit_end(self, trainer: "Trainer") -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
