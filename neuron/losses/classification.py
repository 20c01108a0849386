"""Losses for classes: predictions are logits, or margins, and never probabilities."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, Shaped

from neuron.losses.loss import Loss, one_logit_a_class, same_shape, weights, within
from neuron.types import Number, Scalar, hyperparameter


class BinaryCrossEntropy(Loss):
    """`-w t log(p) - (1 - t) log(1 - p)` with `p = sigmoid(prediction)`: the prediction is a logit.

    Targets are 0 or 1, or probabilities in between. `w` is `positive_weight`; it does not
    enter the mean over the batch, which is over the number of examples.
    """

    positive_weight: Any

    def __init__(self, *, positive_weight: Any = 1.0):
        """**Arguments:**

        - `positive_weight`: how much a positive counts against a negative, at least 0; a number,
          or one for each output. Negatives over positives in the data balances the two.
        """
        self.positive_weight = weights("BinaryCrossEntropy(positive_weight=...)", positive_weight)

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        same_shape(self, prediction, target)
        if self.positive_weight.shape not in ((), prediction.shape):
            raise ValueError(
                "`BinaryCrossEntropy(positive_weight=...)` must be one number, or one for each "
                f"output, of shape {prediction.shape} here; got shape {self.positive_weight.shape}."
            )
        target = target.astype(prediction.dtype)
        weight = 1 + (jnp.asarray(self.positive_weight, prediction.dtype) - 1) * target
        # softplus(-x) is -log(sigmoid(x)), and x more is -log(1 - sigmoid(x)).
        scores = weight * jax.nn.softplus(-prediction) + (1 - target) * prediction
        return jnp.mean(scores)

    def check(self, prediction: PyTree, targets: np.ndarray) -> None:
        within(self, targets, "from 0 to 1", (targets >= 0) & (targets <= 1))


class BinaryFocal(Loss):
    """`-a (1 - p)^gamma log(p)` with `p` the probability of the true side, `sigmoid(prediction)`
    of it or of its opposite (Lin et al., 2017, equation 5): the prediction is a logit.

    `a` is `alpha` for a positive and `1 - alpha` for a negative. Targets are 0 or 1.
    """

    gamma: Number
    alpha: Number | None

    def __init__(self, gamma: Number = 2.0, alpha: Number | None = 0.25):
        """**Arguments:**

        - `gamma`: how fast an example that is well classified stops counting; at least 0.
        - `alpha`: the weight of a positive, in [0, 1]; `None` weighs both sides by 1.
        """
        self.gamma = hyperparameter("BinaryFocal(gamma=...)", gamma, "at least 0", lambda g: g >= 0)
        self.alpha = alpha
        if alpha is not None:
            self.alpha = hyperparameter(
                "BinaryFocal(alpha=...)", alpha, "in [0, 1]", lambda a: 0 <= a <= 1
            )

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        same_shape(self, prediction, target)
        target = target.astype(prediction.dtype)
        logit = (2 * target - 1) * prediction
        scores = _focal(jax.nn.log_sigmoid(logit), jax.nn.log_sigmoid(-logit), self.gamma)
        if self.alpha is not None:
            alpha = jnp.asarray(self.alpha, prediction.dtype)
            scores = scores * (alpha * target + (1 - alpha) * (1 - target))
        return jnp.mean(scores)

    def check(self, prediction: PyTree, targets: np.ndarray) -> None:
        within(self, targets, "0 or 1", (targets == 0) | (targets == 1))


class Hinge(Loss):
    """`mean(max(0, 1 - t prediction))`: the prediction is a margin (Cortes & Vapnik, 1995).

    Targets are -1 or 1. Those coded 0 or 1 are meant the same: what is not above 0 is -1.
    """

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        return jnp.mean(_shortfall(self, prediction, target))

    def check(self, prediction: PyTree, targets: np.ndarray) -> None:
        _two_sides(self, targets)


class SquaredHinge(Loss):
    """`mean(max(0, 1 - t prediction)^2)`: the prediction is a margin; targets as for `Hinge`."""

    def __call__(self, prediction: Array, target: Array) -> Scalar:
        return jnp.mean(_shortfall(self, prediction, target) ** 2)

    def check(self, prediction: PyTree, targets: np.ndarray) -> None:
        _two_sides(self, targets)


class CrossEntropy(Loss):
    """`-sum(q log(softmax(prediction)))`: the prediction is one logit a class.

    The target is a class number, or a probability for each class. `label_smoothing` mixes
    it with the uniform distribution (Szegedy et al., 2016, section 7).

    With `class_weight` each term of the sum is multiplied by its class's weight. For class
    numbers the mean over the batch is then a weighted one, `sum(score) / sum(weight)` over the
    weights of the examples' own classes, and an example of a class without weight is left out.
    For probabilities it stays the mean over examples. PyTorch has it so.
    """

    label_smoothing: Number
    class_weight: Any

    def __init__(self, *, label_smoothing: Number = 0.0, class_weight: Any = None):
        """**Arguments:**

        - `label_smoothing`: the uniform distribution's share, in [0, 1].
        - `class_weight`: a number of at least 0 for each class; `None` weighs all alike.
        """
        self.label_smoothing = hyperparameter(
            "CrossEntropy(label_smoothing=...)", label_smoothing, "in [0, 1]", lambda s: 0 <= s <= 1
        )
        self.class_weight = class_weight
        if class_weight is not None:
            self.class_weight = weights("CrossEntropy(class_weight=...)", class_weight)

    def __call__(self, prediction: Shaped[Array, " classes"], target: Array) -> Scalar:
        one_logit_a_class(self, prediction)
        scores = jax.nn.log_softmax(prediction)
        if self.class_weight is not None:
            if self.class_weight.shape != prediction.shape:
                raise ValueError(
                    "`CrossEntropy(class_weight=...)` must be one number for each class, of shape "
                    f"{prediction.shape} here; got shape {self.class_weight.shape}."
                )
            # The step will multiply by the example's own weight.
            own = jnp.asarray(self.weight(target), scores.dtype)
            scores = scores * jnp.asarray(self.class_weight, scores.dtype)
            scores = scores / jnp.where(own == 0, 1, own)
        if jnp.issubdtype(target.dtype, jnp.floating):
            same_shape(self, prediction, target)
            # A class that can not be (probability 0, logit -inf) adds nothing.
            likelihood = jnp.sum(jnp.where(target == 0, 0, target * scores))
        elif target.shape == ():
            likelihood = scores[target.astype(jnp.int32)]
        else:
            raise ValueError(
                f"`{self!r}` takes a class number, of shape (), or floating-point probabilities of "
                f"the prediction's shape {prediction.shape} as one example's target; "
                f"got {target.dtype} of shape {target.shape}."
            )
        share = jnp.asarray(self.label_smoothing, likelihood.dtype)
        uniform = jnp.where(share == 0, 0, share * jnp.mean(scores))
        return -(1 - share) * likelihood - uniform

    def weight(self, target: Array) -> Scalar | float:
        if self.class_weight is None or jnp.issubdtype(target.dtype, jnp.floating):
            return 1.0
        return jnp.asarray(self.class_weight)[target.astype(jnp.int32)]

    def check(self, prediction: PyTree, targets: np.ndarray) -> None:
        if not jnp.issubdtype(targets.dtype, jnp.floating):
            _exists(self, targets, prediction.shape[-1])
        else:
            within(self, targets, "a probability, from 0 to 1", (targets >= 0) & (targets <= 1))


class CategoricalFocal(Loss):
    """`-(1 - p)^gamma log(p)` with `p = softmax(prediction)[target]` (Lin et al., 2017).

    The prediction is one logit a class, of two at least; the target is a class number.
    """

    gamma: Number

    def __init__(self, gamma: Number = 2.0):
        """**Arguments:**

        - `gamma`: how fast an example that is well classified stops counting; at least 0.
        """
        self.gamma = hyperparameter(
            "CategoricalFocal(gamma=...)", gamma, "at least 0", lambda g: g >= 0
        )

    def __call__(self, prediction: Shaped[Array, " classes"], target: Array) -> Scalar:
        one_logit_a_class(self, prediction)
        if target.shape != () or not jnp.issubdtype(target.dtype, jnp.integer):
            raise ValueError(
                f"`{self!r}` takes a class number, of shape (), as one example's target; "
                f"got {target.dtype} of shape {target.shape}. Use `targets.argmax(-1)`."
            )
        own = jnp.arange(len(prediction)) == target
        total = jax.nn.logsumexp(prediction)
        # Of the other logits, and not of 1 - p, which is 0 long before it should be.
        rest = jax.nn.logsumexp(jnp.where(own, -jnp.inf, prediction)) - total
        return _focal(prediction[target] - total, rest, self.gamma)

    def check(self, prediction: PyTree, targets: np.ndarray) -> None:
        _exists(self, targets, prediction.shape[-1])


def _focal(log_p: Array, log_rest: Array, gamma: Number) -> Array:
    """`-(1 - p)^gamma log(p)` from both logarithms: a power of 0 has no slope."""
    return -jnp.exp(jnp.asarray(gamma, log_p.dtype) * log_rest) * log_p


def _shortfall(loss: Loss, prediction: Array, target: Array) -> Array:
    """How much a margin lacks to 1."""
    same_shape(loss, prediction, target)
    return jax.nn.relu(1 - jnp.where(target > 0, prediction, -prediction))


def _two_sides(loss: Loss, targets: np.ndarray) -> None:
    other = -1 if (targets == -1).any() else 0
    rule = "-1 or 1, or else 0 or 1" if other == 0 else "-1 or 1, as the others are"
    within(loss, targets, rule, (targets == other) | (targets == 1))


def _exists(loss: Loss, targets: np.ndarray, classes: int) -> None:
    rule = f"a class from 0 to {classes - 1}"
    within(loss, targets, rule, (targets >= 0) & (targets < classes))
