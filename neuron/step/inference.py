"""The evaluation and the prediction of one batch, in inference mode."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree, Shaped, UInt32

from neuron.counters import fold_in, key_of
from neuron.models import apply, batch_axis, for_inference, renewed
from neuron.step.precision import in_precision, inputs_in_precision
from neuron.step.sums import Scoring, Sums, example_keys, prepared, sums_of
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
    model = for_inference(model)
    keys = example_keys(seed, position, present.shape[0])
    return sums_of(scoring, model, model_state, batch, present, keys)[0]


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


def row_keys(
    seed: Words, sample: UInt32[Array, ""], first: UInt32[Array, ""], count: int
) -> Shaped[Key, " batch"]:
    """A key for each row of a batch: of the sample and the row, however rows are cut."""
    key = fold_in(key_of(seed), sample)
    rows = first + jnp.arange(count, dtype=jnp.uint32)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
