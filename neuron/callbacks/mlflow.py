"""Logs for MLflow."""

import re
import time
from typing import TYPE_CHECKING, Any

from neuron.callbacks.callback import Logs
from neuron.callbacks.curves import curves, tool
from neuron.callbacks.logger import Logger, period


if TYPE_CHECKING:
    from neuron.trainer import Trainer


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
    _fitting = False
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
        self._mlflow = tool("MLflow", "mlflow", "mlflow")
        self._client = self._mlflow.MlflowClient(self.tracking_uri)
        self._status = "FINISHED"
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
        now = int(1000 * time.time())
        points = {re.sub(r"[^\w\-. :/]", "_", n): v for n, v in curves("MLflow", values)}
        metric = self._mlflow.entities.Metric
        new = [metric(n, v, now, step) for n, v in points.items() if step > self._last(n)]
        if new:
            self._client.log_batch(self._run, metrics=new)

    def on_exception(self, trainer: "Trainer", error: BaseException) -> None:
        self._status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"

    def on_fit_end(self, trainer: "Trainer") -> None:
        if self._run is not None and self._own:
            self._client.set_terminated(self._run, self._status)
        self._run, self._fitting = None, False

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
