"""Logs for MLflow."""

import re
import time
from typing import Any

from neuron.callbacks.callback import Logs
from neuron.callbacks.curves import curves
from neuron.callbacks.logger import period
from neuron.callbacks.service import Service


class MLflow(Service):
    """Logs to MLflow.

    Where you have a run under way (`mlflow.start_run`) and name no experiment, it is used, and left
    open. Otherwise a run begins with the fit and ends with it. A trainer that goes on, in a second
    fit or from a checkpoint, goes on with its run: points that a curve has already are left out.

    Characters that MLflow does not take in a name become `_`: `learning_rate[body]` is
    `learning_rate_body_`.
    """

    module = "mlflow"

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

    def begin(self, id: str | None) -> tuple[Any, str]:
        self._client = self._tool.MlflowClient(self.tracking_uri)
        self._goes_on, self._known = id is not None, {}
        active = self._tool.active_run() if self.experiment is None else None
        self._own = active is None
        if active is not None:
            run = active.info.run_id
        elif id is None:
            run = self._client.create_run(self._place(), run_name=self.run_name).info.run_id
        else:
            self._client.update_run(id, status="RUNNING")
            run = id
        return run, run

    def write(self, run: Any, values: Logs, step: int) -> None:
        now = int(1000 * time.time())
        points = {re.sub(r"[^\w\-. :/]", "_", n): v for n, v in curves("MLflow", values)}
        metric = self._tool.entities.Metric
        new = [metric(n, v, now, step) for n, v in points.items() if step > self._last(run, n)]
        if new:
            self._client.log_batch(run, metrics=new)

    def end(self, run: Any, error: BaseException | None) -> None:
        if self._own:
            # What ends a fit and is no `Exception` is somebody who wants it to end.
            failed = "FAILED" if isinstance(error, Exception) else "KILLED"
            self._client.set_terminated(run, "FINISHED" if error is None else failed)

    def _place(self) -> str:
        """The number of the experiment."""
        if self.experiment is None:
            return "0"
        found = self._client.get_experiment_by_name(self.experiment)
        return found.experiment_id if found else self._client.create_experiment(self.experiment)

    def _last(self, run: str, name: str) -> int:
        """The last step of a curve that was there before the fit."""
        if not self._goes_on:
            return -1
        if name not in self._known:
            points = self._client.get_metric_history(run, name)
            self._known[name] = max((point.step for point in points), default=-1)
        return self._known[name]
