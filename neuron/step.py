"""One training step and one evaluation step: the only file that knows the batch axis."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree, Shaped, UInt32

from neuron.counters import fold_in, key_of
from neuron.models import apply, batch_axis, for_inference, renewed
from neuron.objectives import Objective
from neuron.optimizers import Optimizer
from neuron.samplers import Sampler
from neuron.state import TrainState
from neuron.types import Batch, Indices, Key, Model, ModelState, Params, Scalar, Words


Record = dict[str, Scalar]


class Task(eqx.Module):
    """What a step reads and leaves as it is: the model's other part, and how to train it."""

    frozen: Model
    objective: Objective
    optimizer: Optimizer
    sampler: Sampler
    seed: Words
    batch_size: int = eqx.field(static=True)
    steps_per_epoch: int = eqx.field(static=True)
    skip_nonfinite: bool = eqx.field(static=True)


class Sums(eqx.Module):
    """Weighted sums over examples, not yet means: they add up over batches without error."""

    value: Scalar
    weight: Scalar
    logs: dict[str, Scalar]

    def mean(self) -> Scalar:
        """The weighted mean of the values; 0 where all weights are 0."""
        return self.value / jnp.where(self.weight > 0, self.weight, 1)


def training_step(
    state: TrainState, task: Task, data: Batch, indices: Indices
) -> tuple[TrainState, Record]:
    """Gathers the rows, takes one step, and commits it if loss and gradients are finite.

    **Returns:**

    The new state, and the step's record: `loss`, the sum and weight behind it, and the logs.
    """
    rows = jax.tree.leaves(data)[0].shape[0]
    rest = rows % task.batch_size
    if state.model_state is None or rest == 0:
        return _step(state, task, data, indices)
    # Padding must not enter the statistics of a model with state: a batch that has run out of
    # rows is computed at its true size, in a branch of its own.
    return jax.lax.cond(
        indices[rest] < 0,
        lambda: _step(state, task, data, indices[:rest]),
        lambda: _step(state, task, data, indices),
    )


def _step(
    state: TrainState, task: Task, data: Batch, indices: Indices
) -> tuple[TrainState, Record]:
    present = indices >= 0
    # Padding repeats the batch's own first row, so that it is as finite as the data.
    batch = _rows(data, jnp.where(present, indices, indices[0]))
    keys = _example_keys(task.seed, state.step, indices.shape[0])

    def sums_at(params: Params) -> tuple[Scalar, Any]:
        model = eqx.combine(params, task.frozen)
        before = renewed(state.model_state)
        sums, model_state = _sums(task.objective, model, before, batch, present, keys)
        return sums.value, (sums, model_state)

    def value_at(params: Params) -> Scalar:
        return task.objective.finish(sums_at(params)[1][0].mean())

    _, pullback, (sums, model_state) = jax.vjp(sums_at, state.params, has_aux=True)
    # The gradient of finish(sum / weight): its slope at the mean, spread over the examples.
    loss, slope = jax.value_and_grad(task.objective.finish)(sums.mean())
    (grads,) = pullback(
        (slope / jnp.where(sums.weight > 0, sums.weight, 1)).astype(sums.value.dtype)
    )

    logs = task.optimizer.logs(grads, state.opt_state, state.params)
    updates, opt_state = task.optimizer.informed_update(
        grads, state.opt_state, state.params, value=loss, grad=grads, value_fn=value_at
    )
    params = eqx.apply_updates(state.params, updates)

    empty = sums.weight == 0
    finite = _all_finite((loss, grads))
    fault = ~finite & ~empty
    state = _where(finite & ~empty, state.changed(params, model_state, opt_state), state)
    taken = ~fault | task.skip_nonfinite
    state = state.counted(task.steps_per_epoch, taken=taken, dropped=fault)
    nothing = empty | fault
    record = {
        "loss": jnp.where(empty, jnp.nan, loss),
        "loss_sum": jnp.where(nothing, 0, sums.value),
        "loss_weight": jnp.where(nothing, 0, sums.weight),
        **{name: total / sums.weight for name, total in sums.logs.items()},
        **logs,
    }
    return state, record


def evaluation_step(
    model: Model,
    model_state: ModelState,
    objective: Objective,
    batch: Batch,
    present: Bool[Array, " batch"],
    seed: Words,
    position: Words,
) -> Sums:
    """The sums of one batch, in inference mode. The keys depend on the place of the batch alone."""
    model = for_inference(model)
    keys = _example_keys(seed, position, present.shape[0])
    return _sums(objective, model, model_state, batch, present, keys)[0]


def prediction_step(
    model: Model,
    model_state: ModelState,
    inputs: PyTree,
    keys: Shaped[Key, " batch"],
    *,
    dropout: bool,
) -> PyTree:
    """The model's outputs for a batch of inputs, in inference mode, dropout apart."""
    model = for_inference(model, dropout=dropout)
    predict = lambda x, key: apply(model, renewed(model_state), x, key=key)[0]
    return jax.vmap(predict, axis_name=batch_axis(model))(inputs, keys)


def row_keys(
    seed: Words, sample: UInt32[Array, ""], first: UInt32[Array, ""], count: int
) -> Shaped[Key, " batch"]:
    """A key for each row of a batch: of the sample and the row, however rows are cut."""
    key = fold_in(key_of(seed), sample)
    rows = first + jnp.arange(count, dtype=jnp.uint32)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def _sums(
    objective: Objective,
    model: Model,
    model_state: ModelState,
    batch: Batch,
    present: Bool[Array, " batch"],
    keys: Shaped[Key, " batch"],
) -> tuple[Sums, ModelState]:
    score = lambda example, key: objective(model, model_state, example, key=key)
    examples = Batch(batch.inputs, batch.targets)
    over_batch = jax.vmap(score, out_axes=(0, None), axis_name=batch_axis(model))
    try:
        terms, model_state = over_batch(examples, keys)
    except ValueError as error:
        if "out_axes is None" not in str(error):
            raise
        raise ValueError(
            "`model(x, state)` must give the same state for every example of a batch; a layer "
            "here keeps one example's own. Reduce it first: `jax.lax.pmean(..., axis_name)`."
        ) from error
    value = terms.value
    weight = jnp.broadcast_to(jnp.asarray(terms.weight, value.dtype), value.shape)
    if batch.weight is not None:
        weight = weight * batch.weight.astype(value.dtype)
    weight = jnp.where(present, weight, 0)

    def total(values: Float[Array, " batch"]) -> Scalar:
        # Padding is removed, not multiplied by zero: 0 * inf is NaN.
        return jnp.sum(jnp.where(present, weight * values, 0))

    return Sums(total(value), jnp.sum(weight), jax.tree.map(total, terms.logs)), model_state


def _rows(data: Batch, indices: Indices) -> Batch:
    # Unsigned, since a signed index would first be tested for counting from the end.
    places = indices.astype(jnp.uint32)
    return jax.tree.map(lambda rows: rows.at[places].get(mode="promise_in_bounds"), data)


def _example_keys(seed: Words, counter: Words, count: int) -> Shaped[Key, " batch"]:
    key = fold_in(key_of(seed), counter)
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(
        jnp.arange(count, dtype=jnp.uint32)
    )


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    # 0 x is 0 where x is finite and NaN elsewhere; to sum that is twice as fast as `isfinite`
    # and `all` on the CPU, which do not vectorize.
    return jnp.stack([jnp.sum(0 * leaf) == 0 for leaf in jax.tree.leaves(tree)]).all()


def _where(condition: Bool[Array, ""], chosen: PyTree, otherwise: PyTree) -> PyTree:
    """One tree or the other, in the other's types."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a.astype(b.dtype), b), chosen, otherwise)
