"""Logs for Weights & Biases."""

from typing import Any

from neuron.callbacks.callback import Logs
from neuron.callbacks.curves import curves
from neuron.callbacks.logger import period
from neuron.callbacks.service import Service


class WandB(Service):
    """Logs to Weights & Biases.

    Where you have called `wandb.init` yourself and give no options, your run is used, and left
    open. Otherwise a run begins with the fit and ends with it. A trainer that goes on, in a second
    fit or from a checkpoint, goes on with its run, as far as the service can (offline it can not):
    steps that the run has already are left out.
    """

    module = "wandb"

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

    def begin(self, id: str | None) -> tuple[Any, str]:
        self._own = bool(self.options) or self._tool.run is None
        again = {} if id is None else {"id": id, "resume": "allow"}
        run: Any = self._tool.init(**(again | self.options)) if self._own else self._tool.run
        return run, run.id

    def write(self, run: Any, values: Logs, step: int) -> None:
        # The service drops what lies behind its last step, with a warning each time. An epoch is
        # the last that a step has; without being told so, it would wait for the next one.
        if step >= run.step:
            run.log(dict(curves("WandB", values)), step=step, commit="epoch" in values)

    def end(self, run: Any, error: BaseException | None) -> None:
        if self._own:
            run.finish(exit_code=int(error is not None))
