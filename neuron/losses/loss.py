"""Losses. A loss scores one example; the step averages over the batch."""

import abc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from neuron.types import Number, Printable, Scalar, hyperparameter


class Loss(Printable):
    """Scores one example; `finish` turns the weighted mean over examples into the value.

    An example's score is a scalar, whatever the shape of its prediction: the losses here
    take the mean over the outputs. A loss of your own is one method:

    ```python
    class Cubic(neuron.Loss):
        def __call__(self, prediction, target):
            return jnp.mean(jnp.abs(prediction - target) ** 3)
    ```
    """

    @abc.abstractmethod
    def __call__(self, prediction: Array, target: Array) -> Scalar:
        """The score of one example.

        **Arguments:**

        - `prediction`: what the model gave for one example.
        - `target`: what it should have given.

        **Returns:**

        A scalar, which the step averages over the batch, by weight.

        **Raises:**

        - `ValueError` where the shapes do not fit; nothing is ever broadcast.
        """

    def finish(self, mean: Scalar) -> Scalar:
        """Maps the weighted mean of the scores to the value of the loss."""
        return mean

    def check(self, prediction: jax.ShapeDtypeStruct, targets: np.ndarray) -> None:
        """Refuses targets (rows first) that can not be meant, before anything is compiled.

        **Raises:**

        - `ValueError`, naming the first row.
        """
        del prediction, targets


class MeanSquaredError(Loss):
    """`mean((prediction - target)^2)`."""

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        return jnp.mean(_residual(self, prediction, target) ** 2)


class RootMeanSquaredError(Loss):
    """`sqrt(mean((prediction - target)^2))`, the root being taken of the mean over the batch.

    Its gradient at an exact fit, where the root has none, is zero.
    """

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        return jnp.mean(_residual(self, prediction, target) ** 2)

    def finish(self, mean: Scalar) -> Scalar:
        # Both branches are differentiated: the inner `where` keeps the root's slope finite.
        exact = mean == 0
        return jnp.where(exact, 0, jnp.sqrt(jnp.where(exact, 1, mean)))


class MeanAbsoluteError(Loss):
    """`mean(|prediction - target|)`."""

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        return jnp.mean(jnp.abs(_residual(self, prediction, target)))


class Huber(Loss):
    """`r^2 / 2` for `|r| <= delta`, `delta (|r| - delta / 2)` beyond (Huber, 1964)."""

    delta: Number

    def __init__(self, delta: Number = 1.0):
        """**Arguments:**

        - `delta`: the residual, in the target's unit, where the parabola becomes a line; above 0.
        """
        self.delta = hyperparameter("Huber(delta=...)", delta, "above 0", lambda d: d > 0)

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        size = jnp.abs(_residual(self, prediction, target))
        delta = jnp.asarray(self.delta, size.dtype)
        # min(r, d) (r - min(r, d) / 2) is both branches in one.
        inner = jnp.minimum(size, delta)
        return jnp.mean(inner * (size - inner / 2))


class BinaryCrossEntropy(Loss):
    """`-t log(p) - (1 - t) log(1 - p)` with `p = sigmoid(prediction)`: the prediction is a logit.

    Targets are 0 or 1, or probabilities in between.
    """

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        _same_shape(self, prediction, target)
        return jnp.mean(jax.nn.softplus(prediction) - prediction * target)

    def check(self, prediction: jax.ShapeDtypeStruct, targets: np.ndarray) -> None:
        _within(self, targets, "from 0 to 1", (targets >= 0) & (targets <= 1))


class CrossEntropy(Loss):
    """`-sum(q log(softmax(prediction)))`: the prediction is one logit a class.

    The target is a class number, or a probability for each class. `label_smoothing` mixes
    it with the uniform distribution (Szegedy et al., 2016, section 7).
    """

    label_smoothing: Number

    def __init__(self, *, label_smoothing: Number = 0.0):
        """**Arguments:**

        - `label_smoothing`: the uniform distribution's share, in [0, 1].
        """
        self.label_smoothing = hyperparameter(
            "CrossEntropy(label_smoothing=...)", label_smoothing, "in [0, 1]", lambda s: 0 <= s <= 1
        )

    def __call__(self, prediction: Shaped[Array, " classes"], target: Array) -> Scalar:
        if prediction.ndim != 1:
            raise ValueError(
                f"`{self!r}` takes one logit a class, of shape (classes,), as one example's "
                f"prediction; got shape {prediction.shape}."
            )
        log_probabilities = jax.nn.log_softmax(prediction)
        if jnp.issubdtype(target.dtype, jnp.floating):
            _same_shape(self, prediction, target)
            # A class that can not be (probability 0, logit -inf) adds nothing.
            likelihood = jnp.sum(jnp.where(target == 0, 0, target * log_probabilities))
        elif target.shape == ():
            likelihood = log_probabilities[target]
        else:
            raise ValueError(
                f"`{self!r}` takes a class number, of shape (), or floating-point probabilities of "
                f"the prediction's shape {prediction.shape} as one example's target; "
                f"got {target.dtype} of shape {target.shape}."
            )
        share = jnp.asarray(self.label_smoothing, likelihood.dtype)
        uniform = jnp.where(share == 0, 0, share * jnp.mean(log_probabilities))
        return -(1 - share) * likelihood - uniform

    def check(self, prediction: jax.ShapeDtypeStruct, targets: np.ndarray) -> None:
        if np.issubdtype(targets.dtype, np.integer):
            classes = prediction.shape[-1]
            rule = f"a class from 0 to {classes - 1}"
            _within(self, targets, rule, (targets >= 0) & (targets < classes))
        else:
            _within(self, targets, "a probability, from 0 to 1", (targets >= 0) & (targets <= 1))


def _residual(loss: Loss, prediction: Array, target: Array) -> Array:
    _same_shape(loss, prediction, target)
    return prediction - target


def _same_shape(loss: Loss, prediction: Array, target: Array) -> None:
    if prediction.shape != target.shape:
        raise ValueError(
            f"`{loss!r}` scores one example's prediction against a target of the same shape; "
            f"got a prediction of shape {prediction.shape} and a target of shape {target.shape}."
        )


def _within(loss: Loss, targets: np.ndarray, rule: str, good: Any) -> None:
    bad = ~np.asarray(good)
    if bad.any():
        row = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
        raise ValueError(
            f"`{loss!r}` takes targets that are {rule}; got {targets[row]} in row {row}."
        )
