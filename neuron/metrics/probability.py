"""Metrics of how probable the targets were said to be."""

from typing import Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from neuron.metrics.kinds import (
    Kind,
    Like,
    check_targets,
    class_numbers,
    is_binary,
    kind_of,
    one_of,
    single,
    without_rows,
)
from neuron.metrics.metric import Metric, ratio
from neuron.types import whole_number


Norm: TypeAlias = Literal["l1", "l2", "max"]


class Perplexity(Metric):
    """`exp(mean(-log(softmax(prediction)[target])))` (Jelinek et al., 1977): among how many
    classes, all alike, one would be as unsure.

    The prediction is a logit a class, of shape (classes,), or (length, classes) for a sequence
    with targets of shape (length,); the mean is over all positions. NaN where no example has
    weight.
    """

    def observe(self, prediction: Array, target: Array) -> PyTree:
        self._numbers_only(prediction, target)
        scores = jax.nn.log_softmax(single(prediction))
        number = class_numbers(prediction, target)[..., None]
        return -jnp.mean(jnp.take_along_axis(scores, number, axis=-1)), 1

    def compute(self, total: PyTree) -> Array:
        return jnp.exp(ratio(*total))

    def check(self, prediction: PyTree, targets: PyTree) -> None:
        self._numbers_only(prediction, without_rows(targets))
        check_targets(self, "categorical", prediction, targets)

    def _numbers_only(self, prediction: Like, target: Like) -> None:
        if is_binary(self, "auto", prediction, target):
            raise ValueError(
                f"`{self!r}` takes a logit a class, of shape (..., classes), and class numbers of "
                f"shape (...); got one example's prediction and target of shape {target.shape}. Of "
                "one-hot targets use `targets.argmax(-1)`."
            )


class CalibrationError(Metric):
    """How far the probability of what is predicted is from how often that is true (Guo et al.,
    2017, equation 3).

    The confidence of a prediction is the probability of its class, or of its side for a binary
    one, so at least one half there. Bins share (0, 1] evenly and hold their upper edge; in each,
    the weighted mean of the confidence is compared with the share that is right. NaN where no
    example has weight.
    """

    bins: int = eqx.field(static=True)
    norm: Norm = eqx.field(static=True)
    kind: Kind = eqx.field(static=True)

    def __init__(self, bins: int = 15, *, norm: Norm = "l1", kind: Kind = "auto"):
        """**Arguments:**

        - `bins`: how many there are, at least 1.
        - `norm`: `"l1"`, the mean of the bins' differences by weight, which is the expected
          calibration error; `"l2"`, the root of the mean of their squares; `"max"`, the largest.
        - `kind`: `"binary"`, `"categorical"`, or `"auto"`, by the shapes: see `Accuracy`.
        """
        self.bins = whole_number("CalibrationError(bins=...)", bins, least=1)
        self.norm = one_of("CalibrationError(norm=...)", norm, ("l1", "l2", "max"))
        self.kind = kind_of("CalibrationError(kind=...)", kind)

    def observe(self, prediction: Array, target: Array) -> PyTree:
        if is_binary(self, self.kind, prediction, target):
            hit = (prediction > 0) == (target > 0)
            confidence = jax.nn.sigmoid(jnp.abs(single(prediction)))
        else:
            hit = jnp.argmax(prediction, axis=-1) == class_numbers(prediction, target)
            confidence = jnp.max(jax.nn.softmax(single(prediction)), axis=-1)
        place = jnp.clip(jnp.ceil(self.bins * confidence) - 1, 0, self.bins - 1)
        inside = jnp.arange(self.bins).reshape(1, -1) == place.reshape(-1, 1)
        excess = (confidence - hit).reshape(-1, 1)
        return jnp.mean(excess * inside, axis=0), jnp.mean(inside, axis=0)

    def compute(self, total: PyTree) -> Array:
        excess, weight = total
        gap = abs(ratio(excess, weight, empty=0.0))
        share = ratio(weight, weight.sum())
        if self.norm == "max":
            return jnp.max(jnp.where(share > 0, gap, share))
        return jnp.sum(share * gap) if self.norm == "l1" else jnp.sqrt(jnp.sum(share * gap**2))

    def check(self, prediction: PyTree, targets: PyTree) -> None:
        check_targets(self, self.kind, prediction, targets)
