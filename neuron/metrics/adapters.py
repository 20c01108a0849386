"""Other things that measure, as metrics: a loss, and a function of all targets and predictions."""

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from neuron.losses import Loss
from neuron.metrics.metric import Gathered, Metric, ratio


class LossMetric(Metric):
    """The value of a loss over all examples: the mean of its scores, finished."""

    loss: Loss

    def observe(self, prediction: Any, target: Any) -> PyTree:
        score, weight = self.loss(prediction, target), self.loss.weight(target)
        if jnp.shape(score) != ():
            raise ValueError(
                f"`{self.loss!r}` must score one example by a scalar; got shape "
                f"{jnp.shape(score)}. Take the mean over the outputs."
            )
        return jnp.where(weight == 0, 0, weight * score), weight

    def compute(self, total: PyTree) -> Array:
        return self.loss.finish(ratio(*total))

    def check(self, prediction: PyTree, targets: PyTree) -> None:
        self.loss.check(prediction, targets)


class FunctionMetric(Gathered):
    """The value of `function(targets, predictions)`, called once with NumPy arrays of all rows, or
    with trees of them as the model and the data have them.

    Rows of weight 0 are left out. Where others weigh something else than 1, the function is
    called with `sample_weight=` as well. NaN where there are no rows.
    """

    name: str = eqx.field(static=True)
    function: Callable[..., Any] = eqx.field(static=True)

    def observe(self, prediction: Any, target: Any) -> PyTree:
        return prediction, target

    def compute(self, total: PyTree) -> np.ndarray:
        rows, weight = total
        kept = weight > 0
        if not kept.any():
            return np.full((), np.nan)
        predictions, targets = jax.tree.map(lambda row: np.asarray(row)[kept], rows)
        self.check_weight(weight)
        extra = {} if _plain(weight) else {"sample_weight": weight[kept]}
        value = np.asarray(self.function(targets, predictions, **extra))
        if value.dtype.kind not in "biuf":
            raise TypeError(
                f"`metrics={{{self.name!r}: ...}}` must give a number, or an array of numbers; "
                f"{_named(self.function)} gave {value!r}."
            )
        return value

    def check_weight(self, weight: np.ndarray) -> None:
        if not _plain(weight) and not _takes_weights(self.function):
            raise ValueError(
                f"`metrics={{{self.name!r}: ...}}` measures weighted data, so its function must "
                f"take `sample_weight=`; {_named(self.function)} does not."
            )


def as_metric(name: str, thing: Any) -> Metric:
    """What measures as a metric: a `Metric` as it is, a `Loss`, or a function of all rows.

    **Arguments:**

    - `name`: what the value is called.
    - `thing`: a `Metric`; a `Loss`, for its value over all examples; or a function
      `f(targets, predictions)` of NumPy arrays, rows first, as scikit-learn's are.

    **Raises:**

    - `TypeError` for anything else, and for a class of which no object was made.
    """
    if isinstance(thing, Metric):
        return thing
    if isinstance(thing, Loss):
        return LossMetric(thing)
    if callable(thing) and not isinstance(thing, type) and _takes_two(thing):
        return FunctionMetric(name, thing)
    raise TypeError(
        f"`metrics={{{name!r}: ...}}` must be a neuron.Metric, such as neuron.Accuracy(), a "
        "neuron.Loss, such as neuron.MeanAbsoluteError(), or a function f(targets, predictions), "
        f"such as sklearn.metrics.roc_auc_score; got {thing!r}."
    )


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:
        # Some that are written in C say nothing.
        return True
    return True


def _takes_weights(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None, None, sample_weight=None)
    except (TypeError, ValueError):
        return False
    return True


def _plain(weight: np.ndarray) -> bool:
    """Whether rows count alike, or not at all."""
    return bool(((weight == 1) | (weight == 0)).all())


def _named(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))
