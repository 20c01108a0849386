"""Metrics by name, and metrics of one part of predictions and targets that are dicts."""

from typing import Any

import numpy as np
from jaxtyping import Array, Float, PyTree

from neuron.metrics.adapters import as_metric
from neuron.metrics.metric import Metric
from neuron.objectives import entry


# What each row of a history says beside what is measured.
TAKEN = ("loss", "epoch", "step", "seconds")


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


def by_name(metrics: dict[str, Any] | None, *, part: bool = False) -> dict[str, Metric]:
    """Metrics by the names they are logged under. Those of one part come as a dict in its place,
    and have its name before theirs: `digit_accuracy`.

    **Arguments:**

    - `metrics`: metrics, losses and functions by name, or dicts of them.
    - `part`: whether they are of one part, whose name will come before theirs.

    **Raises:**

    - `TypeError` for what is no metric; `ValueError` for a name that is taken.
    """
    if not isinstance(metrics, dict | None):
        raise TypeError(
            f"`Trainer(metrics=...)` must be a dict of metrics by name; got {metrics!r}."
        )
    named: dict[str, Metric] = {}
    for name, metric in (metrics or {}).items():
        if not isinstance(name, str):
            raise TypeError(f"`Trainer(metrics=...)` must have strings as names; got {name!r}.")
        if isinstance(metric, dict):
            more = {f"{name}_{n}": OfPart(name, m) for n, m in by_name(metric, part=True).items()}
        else:
            more = {name: as_metric(name, metric)}
        for taken in more:
            if taken in named or (taken in TAKEN and not part):
                raise ValueError(
                    f"`Trainer(metrics=...)` must log each value under a name of its own; got "
                    f"{taken!r} twice: there are {[*TAKEN, *named]}."
                )
        named |= more
    return named
