"""Logs for Weights & Biases."""

from typing import TYPE_CHECKING, Any

from neuron.callbacks.callback import Logs
from neuron.callbacks.curves import curves, tool
from neuron.callbacks.logger import Logger, period


if TYPE_CHECKING:
    from neuron.trainer import Trainer


class WandB(Logger):
    """Logs to Weights & Biases.

    Where you have called `wandb.init` yourself and give no options, your run is used, and left
    open. Otherwise a run begins with the fit and ends with it. A trainer that goes on, in a second
    fit or from a checkpoint, goes on with its run, as far as the service can (offline it can not):
    steps that the run has already are left out.
    """

    _run: Any = None
    _id: str | None = None
    _fitting = False
    _failed = False

    def __init__(self, *, every: int | None = None, **options: Any):
        """**Arguments:**

        - `every`: how many steps lie between two points of the steps' curves, `step_*`; epochs
            alone if `None`.
        - `options`: what `wandb.init` takes: `project="digits"`, `name=`, `config=`,
            `mode="offline"`.

        **Raises:**

        - `ImportError` when a fit begins without wandb, which the extra `neuron-equinox[wandb]`
            brings.
        """
        self.every = period("WandB(every=...)", every)
        self.options = options

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self._wandb = tool("WandB", "wandb", "wandb")
        self._failed = False
        self._fitting = True
        if trainer.step == 0:
            self._id = None
            self._begin()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: which run it is."""
        if self._fitting:
            self._begin()
        return {"id": self._id}

    def load_state_dict(self, trainer: "Trainer", state: dict[str, Any]) -> None:
        """Goes on with the checkpoint's run."""
        del trainer
        self._id = state["id"]

    def log(self, values: Logs, step: int) -> None:
        self._begin()
        # The service drops what lies behind its last step, with a warning each time. An epoch is
        # the last that a step has; without being told so, it would wait for the next one.
        if step >= self._run.step:
            points = dict(curves("WandB", values))
            self._run.log(points, step=step, commit="epoch" in values)

    def on_exception(self, trainer: "Trainer", error: BaseException) -> None:
        self._failed = True

    def on_fit_end(self, trainer: "Trainer") -> None:
        if self._run is not None and self._own:
            self._run.finish(exit_code=int(self._failed))
        self._run, self._fitting = None, False

    def _begin(self) -> None:
        """Not before it is needed after a checkpoint, which knows the run's name."""
        if self._run is not None:
            return
        self._own = bool(self.options) or self._wandb.run is None
        if self._own:
            again = {} if self._id is None else {"id": self._id, "resume": "allow"}
            self._run = self._wandb.init(**(again | self.options))
        else:
            self._run = self._wandb.run
        self._id = self._run.id
