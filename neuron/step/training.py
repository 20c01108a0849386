"""One training step: rows, sums, gradient, update, commit."""

import dataclasses
import functools
import math
import operator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from neuron.metrics import Metric
from neuron.models import renewed
from neuron.objectives import Parts
from neuron.optimizers import is_rate
from neuron.rows import Data, batch_of, rows_at
from neuron.state import TrainState
from neuron.step.gradient import Record, Task, chunk_of, graded_step
from neuron.step.sums import Sums, sums_of
from neuron.types import Batch, Indices, ModelState, Params, Scalar


def training_step(
    state: TrainState, task: Task, data: Data, indices: Indices
) -> tuple[TrainState, Record]:
    """Gathers the rows, takes one step, and commits it if loss and gradients are finite.

    **Returns:**

    The new state, and the step's record: `loss`, the sums and weights behind it, and the logs.
    """
    batch, short = batch_of(data, state.step, task.seed), short_size(state, task)
    if not short:
        return _step(state, task, batch, indices)
    return jax.lax.cond(
        indices[short] < 0,
        lambda: _step(state, task, batch, indices[:short]),
        lambda: _step(state, task, batch, indices),
    )


def short_size(state: TrainState, task: Task) -> int:
    """How many rows a batch has that has run out of them, where it is computed at that size; 0
    where it is padded. Padding must not enter the statistics of a model with state."""
    return 0 if state.model_state is None else task.cut.short


def _step(
    state: TrainState, task: Task, data: Batch, indices: Indices
) -> tuple[TrainState, Record]:
    graded = graded_step(state, task, data, indices)
    sums, loss, grads, penalties = graded.sums, graded.loss, graded.grads, graded.penalties
    logs = task.optimizer.logs(grads, state.opt_state, state.params)
    empty = functools.reduce(operator.and_, [w == 0 for w in jax.tree.leaves(sums.weight)])
    finite = _all_finite((loss, grads))
    fault, counts = ~finite & ~empty, finite & ~empty
    metrics = _observed(task, state, sums, counts)

    def committed() -> TrainState:
        known = {"value": loss, "grad": grads, "value_fn": graded.value_at}
        return _updated(task, state, graded.model_state, grads, known)

    # A branch, since a select would have the moments copied first, and read all numbers again.
    new = jax.lax.cond(counts, committed, lambda: state)
    taken = ~fault | task.skip_nonfinite
    new = dataclasses.replace(new, metrics=metrics)
    new = new.counted(task.cut.steps_per_epoch, taken=taken, dropped=fault)

    parts = {"loss": loss}, graded.objective.parts(graded.mean)
    behind = _behind_loss(sums, penalties, logs, graded.penalty.astype(loss.dtype))
    where_there_are_rows = lambda values: {
        name: jnp.where(empty, jnp.nan, value) for name, value in values.items()
    }
    record = _without_doubles(
        task.scoring.metrics,
        *map(where_there_are_rows, parts),
        {name: jnp.where(empty | fault, 0, value) for name, value in behind.items()},
        {name: total / sums.examples for name, total in sums.logs.items()},
        penalties,
        logs,
        {"skipped": fault.astype(loss.dtype)} if task.skip_nonfinite else {},
        _values(task, metrics),
    )
    return new, record


def _behind_loss(sums: Sums, penalties: Record, logs: Record, penalty: Scalar) -> Record:
    """What an epoch's exact means are made of."""
    behind = _named("loss_sum", sums.value) | _named("loss_weight", sums.weight)
    if penalties:
        behind["loss_penalty"] = penalty
    if sums.logs or penalties or any(not is_rate(name) for name in logs):
        behind["loss_examples"] = sums.examples
    return behind


def _updated(
    task: Task, state: TrainState, model_state: ModelState, grads: Params, known: dict[str, Any]
) -> TrainState:
    """The state with the update in it that these gradients make, in the types that it had."""
    updates, opt_state = task.optimizer.informed_update(
        grads, state.opt_state, state.params, **known
    )
    params = eqx.apply_updates(state.params, updates)
    average = state.average
    if average is not None and task.average is not None:
        average = average.moved(task.average, params)
    new = state.changed(params, model_state, opt_state, average)
    return jax.tree.map(lambda new, old: new.astype(old.dtype), new, state)


def _observed(
    task: Task, state: TrainState, sums: Sums, counts: Bool[Array, ""]
) -> dict[str, PyTree]:
    """What metrics hold of the epoch, with this step's rows."""
    metrics = {}
    for name, metric in task.scoring.metrics.items():
        before = state.metrics[name]
        if metric.keeps_rows:
            observations, weight = sums.rows[name]
            rows = observations, jnp.where(counts, weight, -1)
            put = lambda kept, new: kept.at[state.position, : len(new)].set(new.astype(kept.dtype))
            nobody = before[1].at[state.position].set(-1)
            metrics[name] = jax.tree.map(put, (before[0], nobody), rows)
        else:
            begun = jax.tree.map(lambda t: jnp.where(state.position == 0, 0, t), before)
            metrics[name] = _where(counts, metric.merge(begun, sums.metrics[name]), begun)
    return metrics


def _values(task: Task, totals: dict[str, PyTree]) -> dict[str, Any]:
    """The metrics that are one number, over the epoch so far."""
    numbers = {
        name: metric.compute(totals[name])
        for name, metric in task.scoring.metrics.items()
        if not metric.keeps_rows
    }
    return {name: value for name, value in numbers.items() if jnp.shape(value) == ()}


def first_sums(state: TrainState, task: Task, data: Data) -> Sums:
    """The sums of a batch at the state's weights: by their shapes one knows what metrics hold."""
    model, rows = eqx.combine(state.params, task.frozen), task.cut.batch_size
    chunk = chunk_of(state, task, jnp.zeros(rows, jnp.int32))
    batch = rows_at(batch_of(data, state.step, task.seed), chunk.places)
    before = renewed(state.model_state)
    return sums_of(task.scoring, model, before, batch, chunk.present, chunk.keys)[0]


def _named(kind: str, parts: Parts) -> Record:
    if not isinstance(parts, dict):
        return {kind: parts}
    return {f"{kind}.{name}": value for name, value in parts.items()}


def _without_doubles(metrics: dict[str, Metric], *records: Record) -> Record:
    """All of them as one. A metric has its name to itself, recorded at each step or not."""
    merged: Record = {}
    metric_values = records[-1]
    taken = {"epoch", "step", "seconds", *(metrics.keys() - metric_values.keys())}
    for record in records:
        for name, value in record.items():
            if name in merged or name in taken:
                raise ValueError(
                    f"`Trainer(...)` must log each value under a name of its own; got {name!r} "
                    "twice, among losses, penalties, logs, metrics and what a row says of itself."
                )
            merged[name] = value
    return merged


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.stack([_is_finite(leaf) for leaf in jax.tree.leaves(tree)]).all()


def _is_finite(leaf: Array) -> Bool[Array, ""]:
    # 0 x is 0 where x is finite and NaN elsewhere. As a product of a matrix with zeros that takes
    # the CPU half the time of a sum, and a tenth for convolutions; `isfinite` and `all` do not
    # even vectorize. In full precision, since the largest numbers would round to infinity.
    leaf = jnp.atleast_1d(leaf)
    columns = math.prod(leaf.shape[1:])
    zeros = jnp.zeros(columns, leaf.dtype)
    return jnp.sum(jnp.dot(leaf.reshape(len(leaf), columns), zeros, precision="highest")) == 0


def _where(condition: Bool[Array, ""], chosen: PyTree, otherwise: PyTree) -> PyTree:
    """One tree or the other, in the other's types."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a.astype(b.dtype), b), chosen, otherwise)
