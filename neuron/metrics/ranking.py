"""Metrics of order: whether what is positive has the larger logits. They need all rows at once.

A binary prediction is ranked by its logit; of several outputs, the value is the mean over them.
Of a logit a class, each class's probability ranks its own examples against all others, one against
the rest, and the value is the mean over classes. Both are exact, with weights and with ties, and
computed in double precision. Logits and targets are as for `Accuracy`.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from neuron.metrics.kinds import (
    Kind,
    check_targets,
    class_numbers,
    is_binary,
    kind_of,
    without_rows,
)
from neuron.metrics.metric import Gathered


# Scores, whether they are of a positive, and weights, which are above 0.
Column = tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"], Float[np.ndarray, " n"]]


class ROCAUC(Gathered):
    """How likely a positive is to have a larger score than a negative, and half of how likely an
    equal one: the area under the ROC curve (Hanley & McNeil, 1982).

    NaN where a class, or an output, has no positives or no negatives, or a prediction is NaN.
    """

    kind: Kind = eqx.field(static=True)

    def __init__(self, *, kind: Kind = "auto"):
        """**Arguments:**

        - `kind`: `"binary"`, `"categorical"`, or `"auto"`, by the shapes: see `Accuracy`.
        """
        self.kind = kind_of("ROCAUC(kind=...)", kind)

    def observe(self, prediction: Array, target: Array) -> PyTree:
        is_binary(self, self.kind, prediction, target)
        return prediction, target

    def compute(self, total: PyTree) -> np.ndarray:
        return _mean(_area, _columns(self, self.kind, *total))

    def check(self, prediction: PyTree, targets: PyTree) -> None:
        check_targets(self, self.kind, prediction, targets)


class AveragePrecision(Gathered):
    """`sum((recall_n - recall_(n-1)) precision_n)` over the scores as thresholds, the largest
    first: the area under the steps of precision over recall (Manning et al., 2008, section 8.4).

    Equal scores are one threshold, as scikit-learn has it. NaN where a class, or an output, has
    no positives, or a prediction is NaN.
    """

    kind: Kind = eqx.field(static=True)

    def __init__(self, *, kind: Kind = "auto"):
        """**Arguments:**

        - `kind`: `"binary"`, `"categorical"`, or `"auto"`, by the shapes: see `Accuracy`.
        """
        self.kind = kind_of("AveragePrecision(kind=...)", kind)

    def observe(self, prediction: Array, target: Array) -> PyTree:
        is_binary(self, self.kind, prediction, target)
        return prediction, target

    def compute(self, total: PyTree) -> np.ndarray:
        return _mean(_steps, _columns(self, self.kind, *total))

    def check(self, prediction: PyTree, targets: PyTree) -> None:
        check_targets(self, self.kind, prediction, targets)


def _columns(
    metric: Gathered, kind: Kind, pair: tuple[np.ndarray, np.ndarray], weight: np.ndarray
) -> list[Column]:
    """What is ranked for each output, or for each class."""
    prediction, target = pair
    scores = prediction.astype(np.float64)
    if is_binary(metric, kind, without_rows(prediction), without_rows(target)):
        outputs = math.prod(prediction.shape[1:])
        positive = target.reshape(-1, outputs) > 0
    else:
        outputs = prediction.shape[-1]
        # In double precision, in which fewer probabilities are equal.
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores = powers / powers.sum(axis=-1, keepdims=True)
        positive = class_numbers(prediction, target).reshape(-1, 1) == np.arange(outputs)
        weight = np.repeat(weight, math.prod(prediction.shape[1:-1]))
    scores, weight = scores.reshape(-1, outputs), weight.astype(np.float64)
    kept = weight > 0
    return [(scores[kept, n], positive[kept, n], weight[kept]) for n in range(outputs)]


def _mean(curve: Callable[..., Any], columns: list[Column]) -> np.ndarray:
    values = [
        np.nan if np.isnan(scores).any() else curve(*_by_score(scores, positive, weight))
        for scores, positive, weight in columns
    ]
    return np.asarray(np.mean(values))


def _by_score(scores: Any, positive: Any, weight: Any) -> tuple[np.ndarray, np.ndarray]:
    """The weight of positives and of negatives at each distinct score, in rising order."""
    distinct, place = np.unique(scores, return_inverse=True)
    return (
        np.bincount(place, weight * positive, len(distinct)),
        np.bincount(place, weight * ~positive, len(distinct)),
    )


def _area(positives: np.ndarray, negatives: np.ndarray) -> float:
    pairs = positives.sum() * negatives.sum()
    beaten = np.cumsum(negatives) - negatives / 2
    return float(positives @ beaten / pairs) if pairs > 0 else np.nan


def _steps(positives: np.ndarray, negatives: np.ndarray) -> float:
    falling, found = positives[::-1], np.cumsum(positives[::-1])
    precision = found / (found + np.cumsum(negatives[::-1]))
    return float(falling @ precision / found[-1]) if positives.sum() > 0 else np.nan
