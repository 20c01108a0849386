"""What a loss is, and the checks that its kinds share."""

import abc
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PyTree

from neuron.types import Printable, Scalar


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
    def __call__(self, prediction: Any, target: Array) -> Scalar:
        """The score of one example.

        **Arguments:**

        - `prediction`: what the model gave for one example.
        - `target`: what it should have given.

        **Returns:**

        A scalar, which the step averages over the batch, by weight.

        **Raises:**

        - `ValueError` where the shapes do not fit; nothing is ever broadcast.
        """

    def weight(self, target: Array) -> Scalar | float:
        """How much an example counts in the mean over the batch, beside the weight of its row."""
        del target
        return 1.0

    def finish(self, mean: Scalar) -> Scalar:
        """Maps the weighted mean of the scores to the value of the loss."""
        return mean

    def check(self, prediction: PyTree, targets: np.ndarray) -> None:
        """Refuses targets (rows first) that can not be meant, before anything is compiled.

        **Arguments:**

        - `prediction`: the shape and type of one example's prediction.
        - `targets`: the targets of all rows.

        **Raises:**

        - `ValueError`, naming the first row.
        """
        del prediction, targets


def residual(loss: Loss, prediction: Array, target: Array) -> Array:
    """`prediction - target`, of one shape."""
    same_shape(loss, prediction, target)
    return prediction - target


def same_shape(loss: Loss, prediction: Array, target: Array) -> None:
    """Refuses a prediction and a target of different shapes."""
    if prediction.shape != target.shape:
        raise ValueError(
            f"`{loss!r}` scores one example's prediction against a target of the same shape; "
            f"got a prediction of shape {prediction.shape} and a target of shape {target.shape}."
        )


def one_logit_a_class(loss: Loss, prediction: Array) -> None:
    """Refuses a prediction that is no vector."""
    if prediction.ndim != 1:
        raise ValueError(
            f"`{loss!r}` takes one logit a class, of shape (classes,), as one example's "
            f"prediction; got shape {prediction.shape}."
        )


def within(loss: Loss, targets: np.ndarray, rule: str, good: Any) -> None:
    """Refuses targets that break a rule, naming the first row that does.

    **Arguments:**

    - `rule`: what targets are, in words.
    - `good`: where they are so: a truth value for each number, or for each row.
    """
    bad = ~np.asarray(good)
    if bad.any():
        row = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
        raise ValueError(
            f"`{loss!r}` takes targets that are {rule}; got {targets[row]} in row {row}."
        )


def weights(call: str, value: Any) -> Any:
    """Numbers of at least 0, of any shape, as one leaf: `hyperparameter` for more than one.

    **Raises:**

    - `TypeError` for what are no real numbers, `ValueError` for one that is negative or infinite.
    """
    if isinstance(value, Tracer):
        return value
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iuf":
        raise TypeError(f"`{call}` must be real numbers; got {value!r}.")
    if not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise ValueError(f"`{call}` must be finite and at least 0; got {value!r}.")
    return numbers.astype(np.float64)


def floor(eps: Any, like: Array) -> Array:
    """`eps` in another array's type, in which a small one may be 0, and nothing divides by that."""
    return jnp.maximum(jnp.asarray(eps, like.dtype), jnp.finfo(like.dtype).tiny)
