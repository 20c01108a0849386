"""The loss and the metrics over rows."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from neuron.counters import advance, words
from neuron.evaluation.batches import over_batches
from neuron.evaluation.finishing import finished
from neuron.members import members_of, over_members, stacked
from neuron.run import Leaves
from neuron.step import Scoring, Sums, evaluation_step
from neuron.trees import Static, arrays_of
from neuron.types import Batch, Model, ModelState


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
        return finished(parts.model, parts.scoring, every, step)
    values = []
    for place, member in enumerate(members_of(arrays, many)):
        own, its = static.combine(member), jax.tree.map(lambda leaf: leaf[:, place], every)  # noqa: B023
        values.append(finished(own.model, own.scoring, its, step))
    return {name: np.stack([np.asarray(one[name]) for one in values]) for name in values[0]}


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

    return over_batches(sums, arrays, block, batch_size, (first, last))
