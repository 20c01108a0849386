"""Evaluation and prediction: held-out rows in blocks of one shape, in inference mode.

One program serves any number of rows, and nothing here changes a run's state.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jaxtyping import Array, PyTree, UInt32

from neuron.convolutions import for_loops
from neuron.counters import advance, words
from neuron.members import members_of, over_members, stacked
from neuron.metrics import Metric
from neuron.objectives import Objective
from neuron.run import Leaves, traced
from neuron.step import Scoring, Sums, evaluation_step, example_keys, prediction_step
from neuron.trees import Static, arrays_of
from neuron.types import Batch, Model, ModelState


# How many rows are computed together where nobody says.
BATCH_SIZE = 256
# The last step that a schedule can tell from the one before.
_LAST = (1 << 31) - 1

# Cuts a number of batches in pieces; before the next one, it may wait for the last, if any.
Pieces = Callable[[int, Callable[[], bool]], Iterable[tuple[int, int]]]


def at_once(number: int, wait: Callable[[], bool]) -> Iterable[tuple[int, int]]:
    """All batches in one piece."""
    del wait
    return [(0, number)]


class Scored(NamedTuple):
    """What is scored, and by what: a model, its state, the scoring and the seed of the keys."""

    model: Model
    model_state: ModelState
    scoring: Scoring
    seed: UInt32[Array | np.ndarray, "..."]


def evaluate(
    parts: Scored,
    batch_size: int,
    blocks: Iterable[tuple[Batch, int]],
    step: int,
    pieces: Pieces = at_once,
    like: Scored | None = None,
) -> dict[str, Any]:
    """The loss, what is logged beside it and the metrics, over blocks of rows (see `data.blocks`).
    Sums are added up in double precision.

    **Arguments:**

    - `step`: of the run, for an objective with schedules.
    - `pieces`: cuts the batches of a block, for whoever must look in between; the results are the
        same.
    - `like`: the parts of one member, where the arrays of `parts` are those of many, members first;
        what all have in common has no such axis.

    **Returns:**

    Numbers by name; arrays for metrics that are no single number, and of many members.
    """
    static, arrays = Static(parts if like is None else like), arrays_of(parts)
    many = () if like is None else stacked(arrays_of(like), arrays)
    sums, places, before = [], [], 0

    def wait() -> bool:
        """Whether there is a last piece, of which only its own batches are kept."""
        if sums:
            own, places[-1] = places[-1], slice(None)
            sums[-1] = jax.tree.map(lambda leaf: np.array(np.asarray(leaf)[own]), sums[-1])
        return bool(sums)

    for block, count in blocks:
        batches = -(-count // batch_size)
        for first, last in pieces(batches, wait):
            numbers = np.array([count, first, last], np.int32)
            sums.append(_evaluate(static, batch_size, many, arrays, block, numbers, words(before)))
            places.append(slice(first, last))
        before += batches
    # The batches of all pieces, one behind the other, without the places that a piece left empty.
    joined = lambda *all: np.concatenate([a[part] for a, part in zip(all, places, strict=True)])
    every: Sums = jax.tree.map(joined, *jax.device_get(sums))
    if like is None:
        return _finished(parts, every, step)
    values = [
        _finished(static.combine(member), jax.tree.map(lambda leaf: leaf[:, place], every), step)  # noqa: B023
        for place, member in enumerate(members_of(arrays, many))
    ]
    return {name: np.stack([np.asarray(one[name]) for one in values]) for name in values[0]}


def _finished(parts: Scored, every: Sums, step: int) -> dict[str, Any]:
    """The values of one model, of its batches' sums."""
    model, _, scoring, _ = parts
    double = lambda batches: np.sum(batches, axis=0, dtype=np.float64)
    totals = {name: _merged(scoring.metrics[name], t) for name, t in every.metrics.items()}
    kept = (model, scoring)
    mean = jax.tree.map(lambda v, w: double(v) / double(w), every.value, every.weight)
    values = _values(Static(kept), arrays_of(kept), mean, totals, np.int32(min(step, _LAST)))
    examples = double(every.examples)
    logs = {name: double(log) / examples for name, log in every.logs.items()}
    return _on_host(values | logs) | computed(scoring.metrics, every.rows)


def computed(metrics: dict[str, Metric], totals: dict[str, PyTree]) -> dict[str, Any]:
    """Values on the host, of totals or, for metrics of all rows, of the rows of batches."""
    values = {}
    for name, total in totals.items():
        metric, total = metrics[name], jax.device_get(total)
        if metric.keeps_rows:
            total = jax.tree.map(_present(total), total)
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


def _present(rows: tuple[PyTree, np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """What takes the rows of batches one behind the other, without those that are not there."""
    there = rows[1].ravel() >= 0
    return lambda leaf: leaf.reshape(there.size, *leaf.shape[2:])[there]


@functools.partial(jax.jit, static_argnums=0)
def _values(
    static: Static, arrays: Leaves, mean: PyTree, totals: PyTree, step: Array
) -> dict[str, Array]:
    model, scoring = static.combine(arrays)
    objective = scoring.objective.at(step)
    penalties = objective.penalties(model)
    loss = objective.finish(mean)
    loss = sum(penalties.values(), start=loss)
    metrics = {name: scoring.metrics[name].compute(total) for name, total in totals.items()}
    return {"loss": loss} | objective.parts(mean) | penalties | metrics


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _evaluate(
    static: Static,
    batch_size: int,
    many: tuple[bool, ...],
    arrays: Leaves,
    block: Batch,
    numbers: Array,
    start: Array,
) -> Sums:
    count, first, last = numbers

    def sums(arrays: Leaves, batch: Batch, place: Array) -> Sums:
        present = place * batch_size + jnp.arange(batch_size, dtype=jnp.int32) < count
        position = advance(start, place.astype(jnp.uint32))

        def one(arrays: Leaves) -> Sums:
            model, model_state, scoring, seed = static.combine(arrays)
            return evaluation_step(model, model_state, scoring, batch, present, seed, position)

        return over_members(one, arrays, many)

    return _over_batches(sums, arrays, block, batch_size, (first, last))


def predict(
    parts: Any,
    batch_size: int,
    blocks: Iterable[tuple[Batch, int]],
    sample: int | None = None,
    like: Any = None,
) -> PyTree:
    """Outputs for blocks of rows, rows first, on the host.

    **Arguments:**

    - `parts`: the model, its state, the precision to compute in, what the data does to each example
        first, and the seed of the keys.
    - `sample`: which draw to make with dropout on; `None` for inference.
    - `like`: as for `evaluate`: rows first, then members.
    """
    static, arrays = Static(parts if like is None else like), arrays_of(parts)
    many = () if like is None else stacked(arrays_of(like), arrays)
    outputs, first = [], 0
    for block, count in blocks:
        numbers = np.array([count, sample or 0, first], np.uint32)
        dropout = sample is not None
        outputs.append(_predict(static, batch_size, dropout, many, arrays, block, numbers))
        first += count

    def joined(*pieces: Array) -> np.ndarray:
        # Only the last block is filled up, so the rows that count are the first ones of all.
        hosted = map(np.asarray, pieces)
        if many:
            # From (batches, members, rows of a batch, ...).
            hosted = (np.moveaxis(piece, 1, 2) for piece in hosted)
        flat = [piece.reshape(-1, *piece.shape[2:]) for piece in hosted]
        return np.concatenate(flat)[:first]

    return jax.tree.map(joined, *outputs)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _predict(
    static: Static,
    batch_size: int,
    dropout: bool,
    many: tuple[bool, ...],
    arrays: Leaves,
    block: Batch,
    numbers: Array,
) -> PyTree:
    count, sample, first = numbers

    def outputs(arrays: Leaves, batch: Batch, place: Array, sample: Array, first: Array) -> PyTree:
        first_row = first + place.astype(jnp.uint32) * jnp.uint32(batch_size)

        def one(arrays: Leaves) -> PyTree:
            model, model_state, precision, transform, seed = static.combine(arrays)
            keys = example_keys(seed, sample, batch_size, first_row)
            return prediction_step(
                model, model_state, precision, transform, batch, keys, dropout=dropout
            )

        return over_members(one, arrays, many)

    used = (count.astype(jnp.int32) + batch_size - 1) // batch_size
    bounds = jnp.zeros_like(used), used
    return _over_batches(outputs, arrays, block, batch_size, bounds, sample, first)


def _over_batches(
    function: Callable[..., PyTree],
    arrays: Leaves,
    block: PyTree,
    batch_size: int,
    bounds: tuple[Array, Array],
    *others: Array,
) -> PyTree:
    """Calls a function for each batch of a block from a first one on to before a last; stacks the
    results, at the batches' places."""
    batches = jax.tree.map(lambda rows: rows.reshape(-1, batch_size, *rows.shape[1:]), block)
    number = jax.tree.leaves(batches)[0].shape[0]

    def one(place: Array) -> tuple[Any, ...]:
        return arrays, jax.tree.map(lambda rows: rows[place], batches), place, *others

    # Traced once, for the shapes of the results and for the loop.
    jaxpr, like = traced(function, *one(jnp.zeros((), jnp.int32)))
    flat, treedef = jax.tree.flatten(like)
    call = jaxpr_as_fun(for_loops(jaxpr))

    def body(place: Array, results: list[Array]) -> list[Array]:
        values = call(*jax.tree.leaves(one(place)))
        return [stack.at[place].set(value) for stack, value in zip(results, values, strict=True)]

    empty = [jnp.zeros((number, *leaf.shape), leaf.dtype) for leaf in flat]
    return jax.tree.unflatten(treedef, jax.lax.fori_loop(*bounds, body, empty))


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
