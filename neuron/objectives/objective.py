"""What an objective is: sums and weights over examples, finished into a value."""

import abc
import functools
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from neuron.types import Batch, Key, Model, ModelState, Scalar


# One number, or one for each of several named parts.
Parts = Scalar | dict[str, Scalar]


class Terms(eqx.Module):
    """What an objective says of one example.

    `value` is averaged over the batch and then finished; it may be a dict of several. `weight`
    multiplies the example's own weight, alike for all values or, as a dict, for each. `logs` are
    averaged, by the example's own weight, for the records. `prediction` is what metrics compare
    with the example's targets.
    """

    value: Parts
    weight: Parts | float | dict[str, Scalar | float] = 1.0
    logs: dict[str, Scalar] = eqx.field(default_factory=dict)
    prediction: PyTree = None


class Objective(eqx.Module):
    """What a trainer minimizes, one example at a time.

    ```python
    class Reconstruction(neuron.Objective):
        def __call__(self, model, model_state, example, *, key):
            output, model_state = neuron.apply(model, model_state, example.inputs, key=key)
            return neuron.Terms(jnp.mean((output - example.inputs) ** 2)), model_state
    ```

    Where an example's terms depend on the batch's other examples, as in a contrastive loss, write
    `coupled = True` in the class, and see them by `neuron.whole_batch(model, value)`. Such an
    objective takes whole batches only: no short one, and no microbatches.
    """

    coupled: ClassVar[bool] = False

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

    def finish(self, mean: Any) -> Scalar:
        """Maps the weighted mean of the values to what is minimized and logged as `loss`: for a
        dict of them by default their sum."""
        return functools.reduce(jnp.add, mean.values()) if isinstance(mean, dict) else mean

    def parts(self, mean: Any) -> dict[str, Scalar]:
        """What is logged beside the loss, from the same means: by default those of a dict."""
        return dict(mean) if isinstance(mean, dict) else {}

    def penalties(self, model: Model) -> dict[str, Scalar]:
        """What is added to the loss for the weights alone, by the names to log it under."""
        del model
        return {}

    def at(self, step: Int[Array, ""]) -> "Objective":
        """The objective as it is after that many steps: schedules become numbers."""
        del step
        return self

    def check(self, model: Model, model_state: ModelState, data: Batch) -> None:
        """Refuses data (rows first, on the host) that can not be meant, before compiling."""
        del model, model_state, data
