"""A model with its preprocessing, and a loss in the units of its targets' scaler."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from neuron.losses import Loss
from neuron.models import apply
from neuron.preprocessing.scalers import Scaler
from neuron.selection import parameters
from neuron.types import Key, Model, ModelState, Scalar


class Preprocessed(eqx.Module):
    """A model that takes and gives numbers in the units of the data.

    `inputs` is applied to an example, then the model, then the inverse of `targets`: predictions,
    metrics and a saved model need no one to remember the scaling. Train it with `Scaled` around the
    loss, or the loss and its gradients have the targets' units.

    ```python
    scaler = neuron.Standardize.fit(loader, what="targets")
    model = neuron.Preprocessed(network, inputs=neuron.Standardize.fit(loader), targets=scaler)
    trainer = neuron.Trainer(model, loss=neuron.Scaled(neuron.MeanSquaredError(), scaler))
    ```

    The model takes `key=` and a state as it would alone; the paths of its arrays begin with
    `model.`. What it gets is cast to the type of its own arrays: with
    `Trainer(precision="bfloat16")` a scaling that is `Fixed` comes before the rounding.
    """

    model: Model
    inputs: Callable[[Any], Any] | None
    targets: Scaler | None

    def __init__(
        self,
        model: Model,
        inputs: Callable[[Any], Any] | None = None,
        targets: Scaler | None = None,
    ):
        """**Arguments:**

        - `model`: of one example, in scaled units.
        - `inputs`: a function of one example's inputs: `Standardize`, `MinMax`, `OneHot`, several
            in an `equinox.nn.Sequential`, or your own. Arrays in it are trained unless it is
            `Fixed`, as these are.
        - `targets`: a `Scaler` of one example's targets.

        **Raises:**

        - `TypeError` for what is none of these.
        """
        if not callable(model):
            raise TypeError(
                f"`Preprocessed(model)` must be callable on one example; got {model!r}."
            )
        if not (inputs is None or callable(inputs)):
            raise TypeError(
                "`Preprocessed(inputs=...)` must be a function of one example's inputs, such as "
                f"neuron.Standardize.fit(x); got {inputs!r}."
            )
        if targets is not None:
            _check_scaler("Preprocessed(targets=...)", targets)
        self.model = model
        self.inputs = inputs
        self.targets = targets

    def __call__(self, x: PyTree, state: ModelState = None, *, key: Key | None = None) -> Any:
        """One example, and the model's state where it has one; then also gives the state after."""
        x = x if self.inputs is None else self.inputs(x)
        x = _as_weights_are(self.model, x)
        output, after = apply(self.model, state, x, key=key)
        if self.targets is not None:
            output = self.targets.inverse(output)
        return output if state is None else (output, after)


class Scaled(Loss):
    """A loss in scaled units: `loss(scale(prediction), scale(target))`.

    For a `Preprocessed` model, whose predictions have the data's units: losses and gradients are
    of size 1, whatever the targets are measured in.
    """

    loss: Loss
    targets: Scaler

    def __init__(self, loss: Loss, targets: Scaler):
        """**Arguments:**

        - `loss`: any loss.
        - `targets`: the scaler of one example's targets.

        **Raises:**

        - `TypeError` for what is no loss or no scaler.
        """
        if not isinstance(loss, Loss):
            raise TypeError(f"`Scaled(loss)` must be a neuron.Loss; got {loss!r}.")
        _check_scaler("Scaled(targets=...)", targets)
        self.loss = loss
        self.targets = targets

    def __call__(self, prediction: Any, target: Array) -> Scalar:
        return self.loss(self.targets(prediction), self.targets(target))

    def weight(self, target: Array) -> Scalar | float:
        return self.loss.weight(self.targets(target))

    def finish(self, mean: Scalar) -> Scalar:
        return self.loss.finish(mean)

    def check(self, prediction: PyTree, targets: np.ndarray) -> None:
        scaled = jax.vmap(self.targets)(jnp.asarray(targets))
        self.loss.check(prediction, np.asarray(scaled))


def _check_scaler(call: str, targets: Any) -> None:
    if not isinstance(targets, Scaler):
        raise TypeError(
            f"`{call}` must be a neuron.Scaler, such as neuron.Standardize.fit(y); got {targets!r}."
        )


def _as_weights_are(model: Model, x: PyTree) -> PyTree:
    """Floating-point numbers in the type of the model's own, which they would else promote."""
    leaves = jax.tree.leaves(parameters(model))
    types = {leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)}
    if not types:
        return x
    dtype = jnp.result_type(*types)
    is_float = lambda leaf: jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype) if is_float(leaf) else leaf, x)
