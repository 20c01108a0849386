"""Loggers for services: TensorBoard, Weights & Biases, MLflow, each of them an extra."""

import importlib
import os
import re
import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from neuron.callbacks.callback import Logs
from neuron.callbacks.logger import Logger, period


if TYPE_CHECKING:
    from neuron.trainer import Trainer

# A metric that is an array has a curve for each element, as long as somebody may look at them.
_MOST_CURVES = 256


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
        tool = _tool("TensorBoard", "tensorboardX", "tensorboard")
        # The name of an event file has its second; two fits within one would share it.
        self._writer = tool.SummaryWriter(
            self.directory, purge_step=trainer.step + 1, filename_suffix=f".{time.time_ns()}"
        )

    def log(self, values: Logs, step: int) -> None:
        for name, value in _curves("TensorBoard", values):
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def on_fit_end(self, trainer: "Trainer") -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class WandB(Logger):
    """Logs to Weights & Biases.

    Where you have called `wandb.init` yourself and give no options, your run is used, and left
    open. Otherwise a run begins with the fit and ends with it. A trainer that goes on, in a second
    fit or from a checkpoint, goes on with its run, as far as the service can (offline it can not):
    steps that the run has already are left out.
    """

    _run: Any = None
    _id: str | None = None
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
        self._wandb = _tool("WandB", "wandb", "wandb")
        self._failed = False
        if trainer.step == 0:
            self._id = None
            self._begin()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: which run it is."""
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
            points = dict(_curves("WandB", values))
            self._run.log(points, step=step, commit="epoch" in values)

    def on_exception(self, trainer: "Trainer", error: BaseException) -> None:
        self._failed = True

    def on_fit_end(self, trainer: "Trainer") -> None:
        if self._run is not None and self._own:
            self._run.finish(exit_code=int(self._failed))
        self._run = None

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


class MLflow(Logger):
    """Logs to MLflow.

    Where you have a run under way (`mlflow.start_run`) and name no experiment, it is used, and left
    open. Otherwise a run begins with the fit and ends with it. A trainer that goes on, in a second
    fit or from a checkpoint, goes on with its run: points that a curve has already are left out.

    Characters that MLflow does not take in a name become `_`: `learning_rate[body]` is
    `learning_rate_body_`.
    """

    _run: str | None = None
    _id: str | None = None
    _status = "FINISHED"

    def __init__(
        self,
        experiment: str | None = None,
        *,
        run_name: str | None = None,
        tracking_uri: str | None = None,
        every: int | None = None,
    ):
        """**Arguments:**

        - `experiment`: its name; it is made where there is none. MLflow's default if `None`.
        - `run_name`: of a new run; MLflow makes one up if `None`.
        - `tracking_uri`: where MLflow keeps its runs; what it is set to if `None`.
        - `every`: how many steps lie between two points of the steps' curves, `step_*`; epochs
            alone if `None`.

        **Raises:**

        - `ImportError` when a fit begins without mlflow, which the extra `neuron-equinox[mlflow]`
            brings.
        """
        self.every = period("MLflow(every=...)", every)
        self.experiment, self.run_name, self.tracking_uri = experiment, run_name, tracking_uri

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self._mlflow = _tool("MLflow", "mlflow", "mlflow")
        self._client = self._mlflow.MlflowClient(self.tracking_uri)
        self._status = "FINISHED"
        if trainer.step == 0:
            self._id = None
            self._begin()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: which run it is."""
        self._begin()
        return {"id": self._id}

    def load_state_dict(self, trainer: "Trainer", state: dict[str, Any]) -> None:
        """Goes on with the checkpoint's run."""
        del trainer
        self._id = state["id"]

    def log(self, values: Logs, step: int) -> None:
        self._begin()
        now = int(1000 * time.time())
        points = {re.sub(r"[^\w\-. :/]", "_", n): v for n, v in _curves("MLflow", values)}
        metric = self._mlflow.entities.Metric
        new = [metric(n, v, now, step) for n, v in points.items() if step > self._last(n)]
        if new:
            self._client.log_batch(self._run, metrics=new)

    def on_exception(self, trainer: "Trainer", error: BaseException) -> None:
        self._status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"

    def on_fit_end(self, trainer: "Trainer") -> None:
        if self._run is not None and self._own:
            self._client.set_terminated(self._run, self._status)
        self._run = None

    def _begin(self) -> None:
        """Not before it is needed after a checkpoint, which knows the run's name."""
        if self._run is not None:
            return
        self._goes_on, self._known = self._id is not None, {}
        active = self._mlflow.active_run() if self.experiment is None else None
        self._own = active is None
        if active is not None:
            self._run = active.info.run_id
        elif self._id is None:
            self._run = self._client.create_run(self._place(), run_name=self.run_name).info.run_id
        else:
            self._client.update_run(self._id, status="RUNNING")
            self._run = self._id
        self._id = self._run

    def _place(self) -> str:
        """The number of the experiment."""
        if self.experiment is None:
            return "0"
        found = self._client.get_experiment_by_name(self.experiment)
        return found.experiment_id if found else self._client.create_experiment(self.experiment)

    def _last(self, name: str) -> int:
        """The last step of a curve that was there before the fit."""
        if not self._goes_on:
            return -1
        if name not in self._known:
            points = self._client.get_metric_history(self._run, name)
            self._known[name] = max((point.step for point in points), default=-1)
        return self._known[name]


def _tool(call: str, module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"`{call}()` logs through {module}; install `neuron-equinox[{extra}]`."
        ) from error


def _curves(call: str, values: Logs) -> Iterator[tuple[str, float]]:
    """Numbers by name; an array's elements as `name/0`, or `name/0/1`."""
    for name, value in values.items():
        if np.size(value) > _MOST_CURVES:
            warnings.warn(
                f"`{call}()` leaves out {name!r}, an array of {np.size(value)} elements: it has "
                f"curves for {_MOST_CURVES} at most.",
                stacklevel=2,
            )
            continue
        for place, element in np.ndenumerate(value):
            yield "/".join([name, *map(str, place)]), float(element)
