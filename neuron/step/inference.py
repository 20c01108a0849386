"""The evaluation and the prediction of one batch, in inference mode."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Bool, PyTree, Shaped

from neuron.models import apply, batch_axis, for_inference, renewed
from neuron.step.precision import in_precision, inputs_in_precision
from neuron.step.sums import Scoring, Shown, Sums, example_keys, prepared, shown_by, summed
from neuron.types import Batch, Key, Model, ModelState, Words


def evaluation_step(
    model: Model,
    model_state: ModelState,
    scoring: Scoring,
    batch: Batch,
    present: Bool[Array, " batch"],
    seed: Words,
    position: Words,
) -> Sums:
    """The sums of one batch, in inference mode. The keys depend on the place of the batch alone."""
    return summed(
        scoring.metrics,
        observation_step(model, model_state, scoring, batch, seed, position),
        present,
    )


def observation_step(
    model: Model,
    model_state: ModelState,
    scoring: Scoring,
    batch: Batch,
    seed: Words,
    position: Words,
) -> Shown:
    """What each row of one batch shows, in inference mode, for `summed`; keys as for
    `evaluation_step`."""
    size = len(jax.tree.leaves(batch)[0])
    keys = example_keys(seed, position, size)
    return shown_by(scoring, for_inference(model), model_state, batch, keys)[0]


def prediction_step(
    model: Model,
    model_state: ModelState,
    precision: str | None,
    transform: Callable[..., Any] | None,
    batch: Batch,
    keys: Shaped[Key, " batch"] | None,
    *,
    dropout: bool,
) -> PyTree:
    """The model's outputs for a batch of rows, in inference mode, dropout apart; without keys for a
    model that then draws nothing."""
    model = in_precision(precision, for_inference(model, dropout=dropout))

    def predict(example: Batch, key: Any) -> PyTree:
        inputs = (example if transform is None else prepared(transform, example, key)).inputs
        inputs = inputs_in_precision(precision, model, inputs)
        return apply(model, renewed(model_state), inputs, key=key)[0]

    outputs = jax.vmap(predict, axis_name=batch_axis(model))(batch, keys)
    return outputs if precision is None else in_precision("float32", outputs)
