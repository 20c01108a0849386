"""Values, of weighted means and of totals over all rows."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PyTree

from neuron.metrics import Metric
from neuron.objectives import Objective
from neuron.run import Leaves
from neuron.step import Scoring, Sums
from neuron.trees import Static, arrays_of
from neuron.types import Model


# The last step that a schedule can tell from the one before.
_LAST = (1 << 31) - 1


def finished(model: Model, scoring: Scoring, every: Sums, step: int) -> dict[str, Any]:
    """The values of all batches: numbers by name, and arrays for metrics that are no single number.
    Sums are added up in double precision.

    **Arguments:**

    - `every`: the sums of each batch, on the host, batches first.
    - `step`: of the run, for an objective with schedules.
    """
    double = lambda batches: np.sum(batches, axis=0, dtype=np.float64)
    totals = {name: _merged(scoring.metrics[name], t) for name, t in every.metrics.items()}
    kept = (model, scoring)
    mean = jax.tree.map(lambda v, w: double(v) / double(w), every.value, every.weight)
    values = _values(Static(kept), arrays_of(kept), mean, totals, as_step(step))
    examples = double(every.examples)
    logs = {name: double(log) / examples for name, log in every.logs.items()}
    return _on_host(values | logs) | computed(scoring.metrics, every.rows)


def as_step(step: int) -> np.int32:
    """A number of steps as schedules take it; it stays at the largest."""
    return np.int32(min(step, _LAST))


def computed(metrics: dict[str, Metric], totals: dict[str, PyTree]) -> dict[str, Any]:
    """Values on the host, of totals or, for metrics of all rows, of the rows of batches."""
    values = {}
    for name, total in totals.items():
        metric, total = metrics[name], jax.device_get(total)
        if metric.keeps_rows:
            total = present(total)
        values[name] = metric.compute(total)
    return _on_host(values)


def _on_host(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers as Python's, everything else as NumPy arrays."""
    found = {name: np.asarray(value) for name, value in values.items()}
    return {name: value if value.ndim else value.item() for name, value in found.items()}


def _merged(metric: Metric, batches: PyTree) -> PyTree:
    """One total of many, each as wide as NumPy has it."""
    leaves, treedef = jax.tree.flatten(batches)
    wide = [leaf.astype(np.result_type(leaf, np.float64)) for leaf in leaves]
    one_by_one = (jax.tree.unflatten(treedef, batch) for batch in zip(*wide, strict=True))
    return functools.reduce(metric.merge, one_by_one)


def present(rows: tuple[PyTree, np.ndarray]) -> tuple[PyTree, np.ndarray]:
    """The rows of batches one behind the other, without those that are not there."""
    there = rows[1].ravel() >= 0
    return jax.tree.map(lambda leaf: leaf.reshape(there.size, *leaf.shape[2:])[there], rows)


@functools.partial(jax.jit, static_argnums=0)
def _values(
    static: Static, arrays: Leaves, mean: PyTree, totals: PyTree, step: Array
) -> dict[str, Array]:
    model, scoring = static.combine(arrays)
    return values_of(model, scoring, mean, totals, step)


def values_of(
    model: Model, scoring: Scoring, mean: PyTree, totals: PyTree, step: Array
) -> dict[str, Any]:
    """The loss with its penalties, what is logged beside it and the metrics, of means and totals
    over all rows, as they are after that many steps."""
    objective = scoring.objective.at(step)
    penalties = objective.penalties(model)
    loss = objective.finish(mean)
    loss = sum(penalties.values(), start=loss)
    metrics = {name: scoring.metrics[name].compute(total) for name, total in totals.items()}
    return {"loss": loss} | objective.parts(mean) | penalties | metrics


def finisher(objective: Objective) -> Callable[..., dict[str, np.ndarray]]:
    """A function that turns weighted means, any number of them, into values of the loss and of what
    is logged beside it: of the means, and of the step at which each was taken."""
    static, arrays = Static(objective), arrays_of(objective)

    def finish(means: PyTree, steps: np.ndarray) -> dict[str, np.ndarray]:
        # Padded to a power of two: a program for each, and not one for each number of means.
        number = len(steps)
        size = 1 << (number - 1).bit_length()
        padded = jax.tree.map(lambda values: np.resize(values, size), means)
        counts = np.resize(np.minimum(steps, _LAST), size).astype(np.int32)
        values = _finish(static, arrays, padded, counts)
        return {name: np.asarray(value)[:number] for name, value in values.items()}

    return finish


@functools.partial(jax.jit, static_argnums=0)
def _finish(static: Static, arrays: Leaves, means: PyTree, steps: Array) -> dict[str, Array]:
    def one(mean: PyTree, step: Array) -> dict[str, Array]:
        objective = static.combine(arrays).at(step)
        return {"loss": objective.finish(mean)} | objective.parts(mean)

    return jax.vmap(one)(means, steps)
