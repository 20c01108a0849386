"""Metrics of what was decided: for one logit a side, and for many the class of the largest.

A binary prediction has one logit for each target, which is 0 or 1, and is positive where the
logit is above the threshold. A categorical one has a logit a class, of shape (..., classes), and
takes the class of the largest logit, and of equal ones the first. `kind="auto"` tells the two by
their shapes; one-hot targets look binary, so say `kind="categorical"`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

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
from neuron.types import Number, whole_number


NORMALIZATIONS = (None, "true", "pred", "all")


class Accuracy(Metric):
    """The share of targets that were predicted right; of several in an example, each counts.

    With `top_k` it is the share whose class is among the `top_k` of largest logit. Of equal
    logits the lower class comes first, as for `argmax`. What is NaN is wrong. NaN where no
    example has weight.
    """

    top_k: int = eqx.field(static=True)
    threshold: Number
    kind: Kind = eqx.field(static=True)

    def __init__(self, top_k: int = 1, *, threshold: Number = 0.0, kind: Kind = "auto"):
        """**Arguments:**

        - `top_k`: among how many classes the true one is looked for, at least 1.
        - `threshold`: the logit above which a binary prediction is positive.
        - `kind`: `"binary"`, `"categorical"`, or `"auto"`, by the shapes.
        """
        self.top_k = whole_number("Accuracy(top_k=...)", top_k, least=1)
        self.threshold = threshold_of("Accuracy(threshold=...)", threshold)
        self.kind = kind_of("Accuracy(kind=...)", kind)

    def observe(self, prediction: Array, target: Array) -> PyTree:
        binary = is_binary(self, self.kind, prediction, target)
        classes = 1 if binary else prediction.shape[-1]
        if self.top_k > classes:
            raise ValueError(
                f"`Accuracy(top_k=...)` must be at most the number of logits for one target, "
                f"{classes} here; got {self.top_k}."
            )
        if binary:
            threshold = jnp.asarray(self.threshold, prediction.dtype)
            hit = jnp.where(target > 0, prediction > threshold, prediction <= threshold)
        else:
            number = class_numbers(prediction, target)[..., None]
            own = jnp.take_along_axis(prediction, number, axis=-1)
            classes = jnp.arange(classes).reshape(*[1] * (number.ndim - 1), -1)
            # Not what is ahead is counted but what is not behind: a NaN is behind nothing.
            behind = (prediction < own) | ((prediction == own) & (classes >= number))
            hit = jnp.sum(~behind, axis=-1) < self.top_k
        return jnp.mean(hit), 1

    def compute(self, total: PyTree) -> Array:
        return ratio(*total)

    def check(self, prediction: PyTree, targets: PyTree) -> None:
        check_targets(self, self.kind, prediction, targets)


class ConfusionMatrix(Metric):
    """How much weight each true class, by row, has in each predicted one, by column.

    A binary target, of shape (), has the rows 0 and 1.
    """

    normalize: str | None = eqx.field(static=True)
    threshold: Number
    kind: Kind = eqx.field(static=True)

    def __init__(
        self,
        normalize: str | None = None,
        *,
        threshold: Number = 0.0,
        kind: Kind = "auto",
    ):
        """**Arguments:**

        - `normalize`: what adds up to 1: each row (`"true"`), each column (`"pred"`) or the
          matrix (`"all"`), or 0 where there is no weight; `None` gives the weights themselves.
        - `threshold`, `kind`: as for `Precision`.
        """
        self.normalize = one_of("ConfusionMatrix(normalize=...)", normalize, NORMALIZATIONS)
        self.threshold = threshold_of("ConfusionMatrix(threshold=...)", threshold)
        self.kind = kind_of("ConfusionMatrix(kind=...)", kind)

    def observe(self, prediction: Array, target: Array) -> PyTree:
        if not is_binary(self, self.kind, prediction, target):
            return class_numbers(prediction, target), largest(prediction)
        if target.shape != ():
            raise ValueError(
                f"`{self!r}` has no matrix for several binary outputs; got a prediction and a "
                f'target of shape {target.shape}. One-hot targets need `kind="categorical"`.'
            )
        positive = prediction > jnp.asarray(self.threshold, prediction.dtype)
        return (target > 0).astype(jnp.int32), jnp.stack([~positive, positive])

    def total(self, observations: PyTree, weight: Float[Array, " batch"]) -> PyTree:
        # An outer product for each example would be a matrix for each.
        truth, predicted = observations
        classes = predicted.shape[-1]
        rows = weight.reshape(-1, 1, 1) * predicted.reshape(len(weight), -1, classes)
        return jax.ops.segment_sum(rows.reshape(-1, classes), truth.reshape(-1), classes)

    def compute(self, total: PyTree) -> Number:
        if self.normalize is None:
            return total
        axis = {"true": 1, "pred": 0, "all": None}[self.normalize]
        return ratio(total, total.sum(axis, keepdims=True), empty=0.0)

    def check(self, prediction: PyTree, targets: PyTree) -> None:
        check_targets(self, self.kind, prediction, targets)
