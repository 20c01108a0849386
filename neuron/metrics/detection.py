"""Metrics of what is positive: how much of it is found, and how much of what is found it is.

Logits and targets are as for `Accuracy`; every class counts as positive in its turn.
"""

from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from neuron.metrics.kinds import (
    Kind,
    check_targets,
    class_numbers,
    is_binary,
    kind_of,
    largest,
    one_of,
    threshold_of,
)
from neuron.metrics.metric import Metric, ratio
from neuron.types import Number


Average: TypeAlias = Literal["macro", "micro", "none"]
AVERAGES = ("macro", "micro", "none")


class Precision(Metric):
    """The share of what was predicted positive that is; 0 where nothing was.

    One number for a binary target. For classes, or for several binary outputs, each one's is
    averaged, or pooled. As scikit-learn has it, the average over classes leaves out those that
    neither occur nor are predicted.
    """

    average: Average = eqx.field(static=True)
    threshold: Number
    kind: Kind = eqx.field(static=True)

    def __init__(self, average: Average = "macro", *, threshold: Number = 0.0, kind: Kind = "auto"):
        """**Arguments:**

        - `average`: `"macro"`, the mean over classes or outputs; `"micro"`, of all their counts;
          or `"none"`, one number for each.
        - `threshold`: the logit above which a binary prediction is positive.
        - `kind`: `"binary"`, `"categorical"`, or `"auto"`, by the shapes.
        """
        self.average = one_of("Precision(average=...)", average, AVERAGES)
        self.threshold = threshold_of("Precision(threshold=...)", threshold)
        self.kind = kind_of("Precision(kind=...)", kind)

    def observe(self, prediction: Array, target: Array) -> PyTree:
        return _counts(self, self.kind, self.threshold, prediction, target)

    def compute(self, total: PyTree) -> Array:
        both, predicted, _, counted = total
        return _averaged(self.average, both, predicted, counted)

    def check(self, prediction: PyTree, targets: PyTree) -> None:
        check_targets(self, self.kind, prediction, targets)


class Recall(Metric):
    """The share of what is positive that was predicted so; 0 where nothing is.

    One number for a binary target; averaged for more as `Precision`.
    """

    average: Average = eqx.field(static=True)
    threshold: Number
    kind: Kind = eqx.field(static=True)

    def __init__(self, average: Average = "macro", *, threshold: Number = 0.0, kind: Kind = "auto"):
        """**Arguments:**

        - `average`, `threshold`, `kind`: as for `Precision`.
        """
        self.average = one_of("Recall(average=...)", average, AVERAGES)
        self.threshold = threshold_of("Recall(threshold=...)", threshold)
        self.kind = kind_of("Recall(kind=...)", kind)

    def observe(self, prediction: Array, target: Array) -> PyTree:
        return _counts(self, self.kind, self.threshold, prediction, target)

    def compute(self, total: PyTree) -> Array:
        both, _, actual, counted = total
        return _averaged(self.average, both, actual, counted)

    def check(self, prediction: PyTree, targets: PyTree) -> None:
        check_targets(self, self.kind, prediction, targets)


class F1(Metric):
    """The harmonic mean of precision and recall (van Rijsbergen, 1979): 0 where both are.

    One number for a binary target; averaged for more as `Precision`.
    """

    average: Average = eqx.field(static=True)
    threshold: Number
    kind: Kind = eqx.field(static=True)

    def __init__(self, average: Average = "macro", *, threshold: Number = 0.0, kind: Kind = "auto"):
        """**Arguments:**

        - `average`, `threshold`, `kind`: as for `Precision`.
        """
        self.average = one_of("F1(average=...)", average, AVERAGES)
        self.threshold = threshold_of("F1(threshold=...)", threshold)
        self.kind = kind_of("F1(kind=...)", kind)

    def observe(self, prediction: Array, target: Array) -> PyTree:
        return _counts(self, self.kind, self.threshold, prediction, target)

    def compute(self, total: PyTree) -> Array:
        both, predicted, actual, counted = total
        return _averaged(self.average, 2 * both, predicted + actual, counted)

    def check(self, prediction: PyTree, targets: PyTree) -> None:
        check_targets(self, self.kind, prediction, targets)


def _counts(
    metric: Metric, kind: Kind, threshold: Number, prediction: Array, target: Array
) -> tuple[Array, Array, Array, Array]:
    """How often each class, or output, is positive and predicted, is predicted, and is positive;
    and whether it counts in the average."""
    if is_binary(metric, kind, prediction, target):
        actual = target > 0
        predicted = prediction > jnp.asarray(threshold, prediction.dtype)
        return actual & predicted, predicted, actual, jnp.ones(target.shape)
    classes = prediction.shape[-1]
    predicted = largest(prediction).reshape(-1, classes)
    numbers = class_numbers(prediction, target).reshape(-1, 1)
    actual = jnp.arange(classes).reshape(1, -1) == numbers
    flags = actual & predicted, predicted, actual, actual | predicted
    both, predicted, actual, either = (jnp.sum(flag, axis=0) for flag in flags)
    return both, predicted, actual, either


def _averaged(average: Average, above: Any, below: Any, counted: Any) -> Array:
    if average == "micro":
        return ratio(above.sum(), below.sum(), empty=0.0)
    values = ratio(above, below, empty=0.0)
    if average == "none":
        return values
    return ratio(values.sum(), (counted > 0).sum(), empty=0.0)
