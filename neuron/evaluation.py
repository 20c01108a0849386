"""Evaluation and prediction: held-out rows in blocks of one shape, in inference mode.

One program serves any number of rows, and nothing here changes a run's state.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jaxtyping import Array, PyTree

from neuron.counters import advance, words
from neuron.objectives import Objective
from neuron.run import Leaves, traced
from neuron.step import Sums, evaluation_step, prediction_step, row_keys
from neuron.trees import Static, arrays_of
from neuron.types import Batch


def evaluate(
    parts: Any, batch_size: int, blocks: Iterable[tuple[Batch, int]]
) -> tuple[float, float, dict[str, float]]:
    """Sums over blocks of rows (see `data.blocks`), added up in double precision.

    **Arguments:**

    - `parts`: the model, its state, the objective and the seed of the keys.

    **Returns:**

    The sum of the values, the sum of the weights, and the sums of the logs.
    """
    static, arrays = Static(parts), arrays_of(parts)
    sums, first = [], 0
    for block, count in blocks:
        start = words(first)
        sums.append(_evaluate(static, batch_size, arrays, block, np.int32(count), start))
        first += -(-count // batch_size)
    totals = [
        jax.tree.map(lambda batches: float(np.sum(batches, dtype=np.float64)), np_sums)
        for np_sums in jax.device_get(sums)
    ]
    value, weight = sum(s.value for s in totals), sum(s.weight for s in totals)
    return value, weight, {n: sum(s.logs[n] for s in totals) for n in totals[0].logs}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluate(
    static: Static, batch_size: int, arrays: Leaves, block: Batch, count: Array, start: Array
) -> Sums:
    def sums(arrays: Leaves, batch: Batch, place: Array) -> Sums:
        model, model_state, objective, seed = static.combine(arrays)
        present = place * batch_size + jnp.arange(batch_size, dtype=jnp.int32) < count
        position = advance(start, place.astype(jnp.uint32))
        return evaluation_step(model, model_state, objective, batch, present, seed, position)

    return _over_batches(sums, arrays, block, batch_size, count)


def predict(
    parts: Any, batch_size: int, blocks: Iterable[tuple[PyTree, int]], sample: int | None = None
) -> PyTree:
    """Outputs for blocks of rows, rows first, on the host.

    **Arguments:**

    - `parts`: the model, its state and the seed of the keys.
    - `sample`: which draw to make with dropout on; `None` for inference.
    """
    static, arrays = Static(parts), arrays_of(parts)
    outputs, first = [], 0
    for block, count in blocks:
        numbers = np.array([count, sample or 0, first], np.uint32)
        dropout = sample is not None
        outputs.append(_predict(static, batch_size, dropout, arrays, block, numbers))
        first += count

    def joined(*pieces: Array) -> np.ndarray:
        # Only the last block is filled up, so the rows that count are the first ones of all.
        flat = [np.asarray(piece).reshape(-1, *piece.shape[2:]) for piece in pieces]
        return np.concatenate(flat)[:first]

    return jax.tree.map(joined, *outputs)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _predict(
    static: Static, batch_size: int, dropout: bool, arrays: Leaves, block: PyTree, numbers: Array
) -> PyTree:
    count, sample, first = numbers

    def outputs(
        arrays: Leaves, inputs: PyTree, place: Array, sample: Array, first: Array
    ) -> PyTree:
        model, model_state, seed = static.combine(arrays)
        first_row = first + place.astype(jnp.uint32) * jnp.uint32(batch_size)
        keys = row_keys(seed, sample, first_row, batch_size)
        return prediction_step(model, model_state, inputs, keys, dropout=dropout)

    return _over_batches(outputs, arrays, block, batch_size, count.astype(jnp.int32), sample, first)


def _over_batches(
    function: Callable[..., PyTree],
    arrays: Leaves,
    block: PyTree,
    batch_size: int,
    count: Array,
    *others: Array,
) -> PyTree:
    """Calls a function for each batch of a block that has rows that count; stacks the results."""
    batches = jax.tree.map(lambda rows: rows.reshape(-1, batch_size, *rows.shape[1:]), block)
    number = jax.tree.leaves(batches)[0].shape[0]

    def one(place: Array) -> tuple[Any, ...]:
        return arrays, jax.tree.map(lambda rows: rows[place], batches), place, *others

    # Traced once, for the shapes of the results and for the loop.
    jaxpr, like = traced(function, *one(jnp.zeros((), jnp.int32)))
    flat, treedef = jax.tree.flatten(like)
    call = jaxpr_as_fun(jaxpr)

    def body(place: Array, results: list[Array]) -> list[Array]:
        values = call(*jax.tree.leaves(one(place)))
        return [stack.at[place].set(value) for stack, value in zip(results, values, strict=True)]

    empty = [jnp.zeros((number, *leaf.shape), leaf.dtype) for leaf in flat]
    used = (count + batch_size - 1) // batch_size
    return jax.tree.unflatten(treedef, jax.lax.fori_loop(jnp.zeros_like(used), used, body, empty))


def finisher(objective: Objective) -> Callable[[np.ndarray], np.ndarray]:
    """A function that turns weighted means, any number of them, into values of the loss."""
    static, arrays = Static(objective), arrays_of(objective)

    def finish(means: np.ndarray) -> np.ndarray:
        # Padded to a power of two: a program for each, and not one for each number of means.
        padded = np.resize(means, 1 << (len(means) - 1).bit_length())
        return np.asarray(_finish(static, arrays, padded))[: len(means)]

    return finish


@functools.partial(jax.jit, static_argnums=0)
def _finish(static: Static, arrays: Leaves, means: Array) -> Array:
    return jax.vmap(static.combine(arrays).finish)(means)
