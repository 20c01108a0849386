"""Supervised training: losses between what the model predicts and the targets."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from neuron.losses import Loss
from neuron.models import apply, prediction_like, without_rows
from neuron.objectives.objective import Objective, Terms
from neuron.objectives.parts import compared, entry
from neuron.trees import Shapes, Static, structure
from neuron.types import Batch, Key, Model, ModelState, Number, Scalar, hyperparameter


# A number, or a function of the number of steps so far.
Schedule = Number | Callable[[Int[Array, ""]], Scalar]


class Supervised(Objective):
    """A loss between what the model makes of an example's inputs and the example's targets.

    Several losses come as a dict. Each takes the entry of its name from predictions and targets
    that are dicts (one that is no dict is handed over whole), is logged under its name, and counts
    times its weight:

    ```python
    neuron.Supervised(
        {"digit": neuron.CrossEntropy(), "parity": neuron.BinaryCrossEntropy()},
        weights={"parity": 0.5},
    )
    ```
    """

    loss: Loss | dict[str, Loss]
    weights: dict[str, Schedule]

    def __init__(self, loss: Loss | dict[str, Loss], *, weights: dict[str, Schedule] | None = None):
        """**Arguments:**

        - `loss`: one loss, or a dict of them.
        - `weights`: for a dict of losses, by what each is multiplied: a number of at least 0 or a
            function of the number of steps so far; 1 where none is given.

        **Raises:**

        - `ValueError` for a weight of no loss or out of its range; `TypeError` for what is no loss.
        """
        named = loss if isinstance(loss, dict) else {"": loss}
        if not named or not all(isinstance(one, Loss) for one in named.values()):
            raise TypeError(
                f"`Supervised(loss)` must be a neuron.Loss or a dict of them; got {loss!r}."
            )
        weights = weights or {}
        unknown = [name for name in weights if name not in named or not isinstance(loss, dict)]
        if unknown:
            raise ValueError(
                f"`Supervised(weights=...)` must be named as the losses are; got {unknown}, there "
                f"are {list(loss) if isinstance(loss, dict) else 'none: one loss has no name'}."
            )
        self.loss = loss
        self.weights = {name: _weight(name, weight) for name, weight in weights.items()}

    def __call__(
        self, model: Model, model_state: ModelState, example: Batch, *, key: Key
    ) -> tuple[Terms, ModelState]:
        prediction, model_state = apply(model, model_state, example.inputs, key=key)
        # A loss in half precision would round away what the gradient is made of.
        prediction = jax.tree.map(_at_least_single, prediction)
        scores = self._map(lambda loss, p, t: loss(p, t), prediction, example.targets)
        weights = self._map(lambda loss, p, t: loss.weight(t), prediction, example.targets)
        return Terms(scores, weights, prediction=prediction), model_state

    def finish(self, mean: Any) -> Scalar:
        if isinstance(self.loss, Loss):
            return self.loss.finish(mean)
        parts = self.parts(mean)
        weighted = [jnp.asarray(self.weights.get(n, 1.0), p.dtype) * p for n, p in parts.items()]
        return functools.reduce(jnp.add, weighted)

    def parts(self, mean: Any) -> dict[str, Scalar]:
        if isinstance(self.loss, Loss):
            return {}
        return {name: loss.finish(mean[name]) for name, loss in self.loss.items()}

    def at(self, step: Int[Array, ""]) -> "Supervised":
        now = {n: w(step) if callable(w) else w for n, w in self.weights.items()}
        return dataclasses.replace(self, weights=now)

    def check(self, model: Model, model_state: ModelState, data: Batch) -> None:
        shown = next(iter(self.loss.values())) if isinstance(self.loss, dict) else self.loss
        if data.targets is None:
            raise ValueError(
                f"`{shown!r}` compares predictions with targets; got data without targets. "
                "Use `DataLoader((inputs, targets))`."
            )
        prediction = prediction_like(model, model_state, data.inputs)
        self._map(_check, prediction, data.targets)

    def _map(self, function: Callable[..., Any], prediction: PyTree, target: PyTree) -> Any:
        """A function of loss, prediction and target, for the one loss or for each of them."""
        if isinstance(self.loss, Loss):
            return function(self.loss, prediction, target)
        own = functools.partial(entry, "loss")
        return {
            name: function(loss, own(name, prediction), own(name, target))
            for name, loss in self.loss.items()
        }


def _check(loss: Loss, prediction: PyTree, targets: PyTree) -> None:
    target = jax.tree.map(without_rows, targets)
    # Numbers that no run has taken yet are NumPy's, which can not be a part of a key.
    numbers = lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf
    own = structure(jax.tree.map(numbers, loss))
    shape = _score_shape(*own, Static((prediction, target)))
    if shape != ():
        raise ValueError(
            f"`{loss!r}` must score one example by a scalar; got shape {shape}. Take the "
            "mean over the outputs."
        )
    loss.check(prediction, targets)


@functools.lru_cache(maxsize=256)
def _score_shape(static: Static, arrays: Shapes, sides: Static) -> PyTree:
    """The shape of what a loss makes of one example's prediction and target."""
    loss = static.combine(arrays)
    score = functools.partial(jax.eval_shape, lambda own, p, t: static.combine(own)(p, t), arrays)
    like = compared(f"{loss!r}", "loss={'part': ...}", score, *sides.combine([]))
    return jax.tree.map(jnp.shape, like)


def _at_least_single(leaf: Any) -> Any:
    if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype.itemsize < 4:
        return leaf.astype(jnp.float32)
    return leaf


def _weight(name: str, weight: Schedule) -> Any:
    if callable(weight):
        return weight
    call = f"Supervised(weights={{{name!r}: ...}})"
    return hyperparameter(call, weight, "at least 0", lambda w: w >= 0)


def as_objective(loss: Any) -> Objective:
    """An `Objective` as it is; a `Loss` or a dict of them as supervised training; `TypeError` for
    anything else."""
    if isinstance(loss, Objective):
        return loss
    if isinstance(loss, Loss) or (
        isinstance(loss, dict) and loss and all(isinstance(one, Loss) for one in loss.values())
    ):
        return Supervised(loss)
    raise TypeError(
        "`Trainer(loss=...)` must be a neuron.Loss, such as neuron.MeanSquaredError(), a dict of "
        f"them, or a neuron.Objective; got {loss!r}."
    )
