"""Objectives. What a trainer minimizes: sums and weights over examples, finished into a value."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from neuron.losses import Loss
from neuron.models import apply, prediction_like, without_rows
from neuron.types import Batch, Key, Model, ModelState, Scalar


class Terms(eqx.Module):
    """What an objective says of one example.

    `value` is averaged over the batch and then finished, `weight` multiplies the example's own
    weight, and `logs` are averaged beside the value for the records.
    """

    value: Scalar
    weight: Scalar | float = 1.0
    logs: dict[str, Scalar] = eqx.field(default_factory=dict)


class Objective(eqx.Module):
    """What a trainer minimizes, one example at a time.

    ```python
    class Reconstruction(neuron.Objective):
        def __call__(self, model, model_state, example, *, key):
            output, model_state = neuron.apply(model, model_state, example.inputs, key=key)
            return neuron.Terms(jnp.mean((output - example.inputs) ** 2)), model_state
    ```
    """

    @abc.abstractmethod
    def __call__(
        self, model: Model, model_state: ModelState, example: Batch, *, key: Key
    ) -> tuple[Terms, ModelState]:
        """One example's terms, and the model's state after it.

        **Arguments:**

        - `model`, `model_state`: what is trained; the state is `None` for a model without one.
        - `example`: one row of the data, its weight taken off.
        - `key`: this example's own key, for this step.
        """

    def finish(self, mean: Scalar) -> Scalar:
        """Maps the weighted mean of the values to what is minimized and logged as `loss`."""
        return mean

    def check(self, model: Model, model_state: ModelState, data: Batch) -> None:
        """Refuses data (rows first, on the host) that can not be meant, before compiling."""
        del model, model_state, data


class Supervised(Objective):
    """A loss between what the model makes of an example's inputs and the example's targets."""

    loss: Loss

    def __call__(
        self, model: Model, model_state: ModelState, example: Batch, *, key: Key
    ) -> tuple[Terms, ModelState]:
        prediction, model_state = apply(model, model_state, example.inputs, key=key)
        value = self.loss(prediction, example.targets)
        return Terms(value, self.loss.weight(example.targets)), model_state

    def finish(self, mean: Scalar) -> Scalar:
        return self.loss.finish(mean)

    def check(self, model: Model, model_state: ModelState, data: Batch) -> None:
        if data.targets is None:
            raise ValueError(
                f"`{self.loss!r}` compares predictions with targets; got data without targets. "
                "Use `DataLoader((inputs, targets))`."
            )
        prediction = prediction_like(model, model_state, data.inputs)
        target = jax.tree.map(without_rows, data.targets)
        shape = jax.tree.map(jnp.shape, jax.eval_shape(self.loss, prediction, target))
        if shape != ():
            raise ValueError(
                f"`{self.loss!r}` must score one example by a scalar; got shape {shape}. Take the "
                "mean over the outputs."
            )
        self.loss.check(prediction, data.targets)


def as_objective(loss: Any) -> Objective:
    """An `Objective` as it is, a `Loss` as supervised training; `TypeError` for anything else."""
    if isinstance(loss, Objective):
        return loss
    if isinstance(loss, Loss):
        return Supervised(loss)
    raise TypeError(
        "`Trainer(loss=...)` must be a neuron.Loss, such as neuron.MeanSquaredError(), or a "
        f"neuron.Objective; got {loss!r}."
    )
