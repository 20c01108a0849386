"""What a classifier's target is: 0 or 1 for each logit, or one of the classes with a logit each."""

import math
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from neuron.metrics.metric import Metric
from neuron.types import Number, hyperparameter


Kind: TypeAlias = Literal["auto", "binary", "categorical"]
# An array, or the shape and type of one.
Like: TypeAlias = Any

BINARY = "one logit for each target, of the target's shape"
CATEGORICAL = (
    "one logit a class, two at least, of shape (..., classes), for integer class numbers of shape "
    "(...)"
)
RULES = {
    "auto": f'{BINARY}, or {CATEGORICAL}; one-hot targets need `kind="categorical"`',
    "binary": BINARY,
    "categorical": f"{CATEGORICAL}, or for one-hot targets",
}


def one_of(call: str, value: Any, choices: tuple[Any, ...]) -> Any:
    """A word of a few; `ValueError`, listing them, for any other."""
    if value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"`{call}` must be one of {listed}; got {value!r}.")
    return value


def kind_of(call: str, kind: Any) -> Kind:
    """A `Kind`, or `ValueError`."""
    return one_of(call, kind, tuple(RULES))


def is_binary(metric: Metric, kind: Kind, prediction: Like, target: Like) -> bool:
    """Whether each logit has a target of its own; otherwise each class has a logit.

    **Raises:**

    - `ValueError` where the shapes fit neither.
    """
    logits, shape = prediction.shape, target.shape
    if kind != "categorical" and logits == shape:
        return True
    numbers = logits[:-1] == shape and not jnp.issubdtype(target.dtype, jnp.floating)
    one_hot = kind == "categorical" and logits == shape
    if kind == "binary" or logits[-1:] in ((), (0,), (1,)) or not (numbers or one_hot):
        raise ValueError(
            f"`{metric!r}` takes {RULES[kind]}; got one example's prediction of shape {logits} "
            f"and its {target.dtype} target of shape {shape}."
        )
    return False


def threshold_of(call: str, value: Number) -> Any:
    """The logit above which a binary prediction is positive; see `hyperparameter`."""
    return hyperparameter(call, value, "finite", math.isfinite)


def class_numbers(prediction: Like, target: Any) -> Any:
    """The classes that are meant, by their numbers or one-hot; of JAX or of NumPy."""
    one_hot = target.shape == prediction.shape
    return (target.argmax(-1) if one_hot else target).astype(np.int32)


def largest(logits: Array) -> Array:
    """Where the largest logit is, and the first of equal ones."""
    classes = jnp.arange(logits.shape[-1]).reshape(*[1] * (logits.ndim - 1), -1)
    return classes == jnp.argmax(logits, axis=-1, keepdims=True)


def without_rows(rows: np.ndarray) -> jax.ShapeDtypeStruct:
    """The shape and type of one of the rows."""
    return jax.ShapeDtypeStruct(rows.shape[1:], rows.dtype)


def check_targets(metric: Metric, kind: Kind, prediction: PyTree, targets: PyTree) -> None:
    """Refuses sides that are not 0 or 1 and classes that do not exist, naming the first row."""
    target = without_rows(targets)
    if is_binary(metric, kind, prediction, target):
        within(metric, targets, "0 or 1", (targets == 0) | (targets == 1))
    elif target.shape == prediction.shape:
        within(metric, targets, "one-hot, from 0 to 1", (targets >= 0) & (targets <= 1))
    else:
        classes = prediction.shape[-1]
        rule = f"a class from 0 to {classes - 1}"
        within(metric, targets, rule, (targets >= 0) & (targets < classes))


def within(metric: Metric, targets: PyTree, rule: str, good: Any) -> None:
    """Refuses targets that break a rule, naming the first row that does.

    **Arguments:**

    - `rule`: what targets are, in words.
    - `good`: where they are so.
    """
    bad = ~np.asarray(good)
    if bad.any():
        row = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
        raise ValueError(
            f"`{metric!r}` takes targets that are {rule}; got {targets[row]} in row {row}."
        )


def single(numbers: Shaped[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Numbers in single precision at least: what is summed over many rows is not left in half."""
    return numbers.astype(jnp.promote_types(numbers.dtype, jnp.float32))
