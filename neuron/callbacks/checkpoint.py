"""Checkpoints of a run, at times of one's choice."""

import contextlib
import datetime
import os
import pathlib
import time
import warnings
from typing import TYPE_CHECKING, Any

from neuron.callbacks.best import Best
from neuron.callbacks.callback import Callback, Logs
from neuron.checkpoint import BEST, Directory, load_run
from neuron.errors import CheckpointError
from neuron.types import whole_number


if TYPE_CHECKING:
    from neuron.trainer import Trainer


class Checkpoint(Callback):
    """Writes the run into a directory, from where another process goes on with it.

    ```python
    trainer = neuron.Trainer(model, callbacks=[neuron.Checkpoint("runs/first")])
    trainer.fit(loader, epochs=100, resume_from="runs/first")
    ```

    The same script, started again after whatever ended it, goes on at the newest checkpoint and
    ends with the same bits as a run that was never stopped. Each file is written whole or not at
    all, and is on the disk before the next step is taken; another one is written where the fit
    ends or is interrupted. While a fit runs, the directory is its own.
    """

    every: int | None = None

    def __init__(
        self,
        directory: str | os.PathLike[str],
        every: int | str | datetime.timedelta = "epoch",
        *,
        keep: int = 3,
        monitor: str | None = None,
        mode: str = "min",
        on_save_error: str = "raise",
    ):
        """**Arguments:**

        - `directory`: where; it is made if need be. Files have names such as
            `step-000000005000.safetensors`.
        - `every`: after how many steps to write one, or `"epoch"`, or after how much time, as a
            `datetime.timedelta`.
        - `keep`: how many are kept, the newest ones.
        - `monitor`: a name in the epoch's row, `"val_loss"` say: whenever it is better at an
            epoch's end than at all before, that checkpoint is also written to `best.safetensors`.
            Not for a population, whose members are best at epochs of their own.
        - `mode`: `"min"` or `"max"`: which way is better.
        - `on_save_error`: what a checkpoint that can not be written does: `"raise"` ends the fit
            with a `CheckpointError`, `"warn"` warns, and goes on. The ones before stay.

        **Raises:**

        - `TypeError` or `ValueError` for arguments out of their range.
        - `CheckpointError` when a fit begins, for a directory that is in use or can not be made, or
            that holds checkpoints of later steps than the trainer's, which are of another run.
        """
        if not isinstance(directory, str | os.PathLike):
            raise TypeError(f"`Checkpoint(directory)` must be a path; got {directory!r}.")
        if on_save_error not in ("raise", "warn"):
            raise ValueError(
                f"`Checkpoint(on_save_error=...)` must be 'raise' or 'warn'; got {on_save_error!r}."
            )
        self._directory = Directory(pathlib.Path(directory))
        self._seconds: float | None = None
        if isinstance(every, datetime.timedelta):
            self._seconds = every.total_seconds()
            if not self._seconds > 0:
                raise ValueError(f"`Checkpoint(every=...)` must be some time; got {every}.")
        elif every != "epoch":
            if isinstance(every, str | float):
                raise TypeError(
                    "`Checkpoint(every=...)` must be a number of steps, 'epoch', or a "
                    f"datetime.timedelta; got {every!r}."
                )
            self.every = whole_number("Checkpoint(every=...)", every, least=1)
        self.keep = whole_number("Checkpoint(keep=...)", keep, least=1)
        self._best = Best("Checkpoint", monitor, mode, 0.0)
        self.for_members = monitor is None
        self._each_epoch = every == "epoch"
        self._warns = on_save_error == "warn"
        if self._each_epoch or monitor is not None:
            # A hook that is there cuts the run at each epoch's end: only where it is needed.
            self.on_epoch_end = self._note_epoch

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self._best.begin(trainer.epoch)
        self._row: Logs | None = None
        self._last_time, self._last_step = time.monotonic(), -1
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._directory.locked())
            self._refuse_later(trainer.step)
            self._lock = stack.pop_all()

    def on_look_end(self, trainer: "Trainer") -> None:
        row, self._row = self._row, None
        if row is not None and self._is_best(row, trainer.epoch):
            self._save(trainer, self._directory.path / BEST)
        if self._seconds is not None:
            due = time.monotonic() - self._last_time >= self._seconds
        else:
            due = row is not None if self._each_epoch else trainer.step % (self.every or 1) == 0
        if due:
            self._save_step(trainer)

    def on_exception(self, trainer: "Trainer", error: BaseException) -> None:
        # Now, and not where the fit ends: there, others may have put their weights into it.
        if self._lock is not None:
            self._save_last(trainer)

    def on_fit_end(self, trainer: "Trainer") -> None:
        lock, self._lock = self._lock, None
        if lock is None:
            return
        with lock:
            self._save_last(trainer)

    def state_dict(self) -> dict[str, Any]:
        return self._best.state_dict()

    def load_state_dict(self, trainer: "Trainer", state: dict[str, Any]) -> None:
        self._best.load_state_dict(state)

    _lock: contextlib.ExitStack | None = None

    def _is_best(self, row: Logs, epoch: int) -> bool:
        return self._best.monitor is not None and bool(self._best.improved(row, epoch))

    def _note_epoch(self, trainer: "Trainer", logs: Logs) -> None:
        self._row = logs

    def _save_last(self, trainer: "Trainer") -> None:
        if trainer.at_rest and self._last_step != trainer.step:
            self._save_step(trainer)

    def _save_step(self, trainer: "Trainer") -> None:
        # Not tried again at the fit's end if it fails.
        self._last_time, self._last_step = time.monotonic(), trainer.step
        if self._save(trainer, self._directory.file(trainer.step)):
            with self._warning("Checkpoints of before were not removed"):
                self._directory.prune(self.keep, trainer.step)

    def _save(self, trainer: "Trainer", file: pathlib.Path) -> bool:
        """Whether it was written."""
        with self._warning("A checkpoint was not written"):
            trainer.save(file)
            return True
        return False

    @contextlib.contextmanager
    def _warning(self, what: str):
        """Errors as warnings, where they are to be."""
        try:
            yield
        except CheckpointError as error:
            if not self._warns:
                raise
            warnings.warn(f"{what}: {error}", stacklevel=4)

    def _refuse_later(self, step: int) -> None:
        for later in (there for there in self._directory.steps() if there > step):
            with contextlib.suppress(CheckpointError):
                load_run(self._directory.file(later))
                break
        else:
            return
        raise CheckpointError(
            f"`Checkpoint({str(self._directory.path)!r})` holds a checkpoint of step {later}, and "
            f"this run stands at step {step}. Go on with that one by "
            "`Trainer.fit(..., resume_from=...)`, or give each run a directory of its own."
        )
