"""Metrics by name, and metrics of one part of predictions and targets that are dicts."""

from typing import Any

import numpy as np
from jaxtyping import Array, Float, PyTree

from neuron.metrics.adapters import as_metric
from neuron.metrics.metric import Metric
from neuron.objectives import entry


class OfPart(Metric):
    """A metric of the entry of one name of predictions and targets that are dicts."""

    name: str
    metric: Metric

    @property
    def keeps_rows(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.metric.keeps_rows

    def observe(self, prediction: Any, target: Any) -> PyTree:
        return self.metric.observe(self._own(prediction), self._own(target))

    def compute(self, total: PyTree) -> Any:
        return self.metric.compute(total)

    def total(self, observations: PyTree, weight: Float[Array, " batch"]) -> PyTree:
        return self.metric.total(observations, weight)

    def merge(self, one: PyTree, other: PyTree) -> PyTree:
        return self.metric.merge(one, other)

    def check(self, prediction: PyTree, targets: PyTree) -> None:
        self.metric.check(self._own(prediction), self._own(targets))

    def check_weight(self, weight: np.ndarray) -> None:
        self.metric.check_weight(weight)

    def _own(self, tree: PyTree) -> PyTree:
        return entry("metrics", self.name, tree)


def by_name(metrics: dict[str, Any] | None) -> dict[str, Metric]:
    """Metrics by the names they are logged under. Those of one part come as a dict in its place,
    and have its name before theirs: `digit_accuracy`.

    **Raises:**

    - `TypeError` for what is no metric.
    """
    if not isinstance(metrics, dict | None):
        raise TypeError(
            f"`Trainer(metrics=...)` must be a dict of metrics by name; got {metrics!r}."
        )
    named: dict[str, Metric] = {}
    for name, metric in (metrics or {}).items():
        if isinstance(metric, dict):
            named |= {f"{name}_{n}": OfPart(name, m) for n, m in by_name(metric).items()}
        else:
            named[name] = as_metric(name, metric)
    return named
