"""The gradient of one step: what a step reads, and the loss and gradients that it takes of that."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from neuron.counters import as_count
from neuron.objectives import Objective, Parts
from neuron.optimizers import Optimizer
from neuron.rows import Cut, Data, batch_of, rows_at
from neuron.samplers import Sampler
from neuron.state import TrainState
from neuron.step.accumulation import Chunk, sums_alone, sums_and_pullback
from neuron.step.sums import Scoring, Sums, example_keys, sums_of
from neuron.types import Batch, Indices, Model, ModelState, Number, Params, Scalar


Record = dict[str, Scalar]


class Task(eqx.Module):
    """What a step reads and leaves as it is: the model's other part, and how to train it.

    A step takes its rows in microbatches of `microbatch`. Of many runs at once, what differs has
    the members first.
    """

    frozen: Model
    scoring: Scoring
    optimizer: Optimizer
    average: Number | None
    sampler: Sampler
    seed: UInt32[Array | np.ndarray, "..."]
    cut: Cut = eqx.field(static=True)
    microbatch: int = eqx.field(static=True)
    skip_nonfinite: bool = eqx.field(static=True)


@dataclasses.dataclass(frozen=True)
class Graded:
    """What a step knows before its update: the loss with its gradient, and what is behind it."""

    objective: Objective
    sums: Sums
    mean: Parts
    model_state: ModelState
    loss: Scalar
    grads: Params
    penalty: Scalar
    penalties: Record
    value_at: Callable[[Params], Scalar]


def loss_and_gradients(
    state: TrainState, task: Task, data: Data, indices: Indices
) -> tuple[Scalar, Params]:
    """The loss of a step and its gradients, of which the step is refused where they are not finite:
    for whoever wants to know why."""
    graded = graded_step(state, task, batch_of(data, state.step, task.seed), indices)
    return graded.loss, graded.grads


def graded_step(state: TrainState, task: Task, data: Batch, indices: Indices) -> Graded:
    """The loss and the gradient of one batch."""
    objective = task.scoring.objective.at(as_count(state.step))
    scoring = dataclasses.replace(task.scoring, objective=objective)
    chunk = chunk_of(state, task, indices)
    options = (state.model_state, chunk, task.microbatch, scoring.metrics)

    def sums_at(params: Params, model_state: ModelState, chunk: Chunk) -> tuple[Sums, ModelState]:
        model, batch = eqx.combine(params, task.frozen), rows_at(data, chunk.places)
        return sums_of(scoring, model, model_state, batch, chunk.present, chunk.keys)

    def penalty_at(params: Params) -> tuple[Scalar, Record]:
        penalties = objective.penalties(eqx.combine(params, task.frozen))
        return sum(penalties.values(), start=jnp.zeros(())), penalties

    def value_at(params: Params) -> Scalar:
        value = objective.finish(sums_alone(sums_at, params, *options).mean())
        return value + penalty_at(params)[0].astype(value.dtype)

    sums, model_state, pullback = sums_and_pullback(sums_at, state.params, *options)
    # The gradient of finish(sum / weight): its slope at the mean, spread over the examples.
    mean = sums.mean()
    loss, slope = jax.value_and_grad(objective.finish)(mean)
    spread = lambda s, w: s / jnp.where(w > 0, w, 1).astype(s.dtype)
    grads = pullback(jax.tree.map(spread, slope, sums.weight))
    (penalty, penalties), steeper = jax.value_and_grad(penalty_at, has_aux=True)(state.params)
    if penalties:
        loss = loss + penalty.astype(loss.dtype)
        grads = jax.tree.map(jnp.add, grads, steeper)
    return Graded(objective, sums, mean, model_state, loss, grads, penalty, penalties, value_at)


def chunk_of(state: TrainState, task: Task, indices: Indices) -> Chunk:
    """The rows of a step: where they are, and a key for each."""
    present = indices >= 0
    # Padding repeats the batch's own first row, so that it is as finite as the data.
    places = jnp.where(present, indices, indices[0])
    return Chunk(places, present, example_keys(task.seed, state.step, len(indices)))
