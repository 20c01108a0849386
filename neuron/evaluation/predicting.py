"""Outputs for rows, in inference mode or as draws with dropout on."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, UInt32

from neuron.evaluation.batches import over_batches
from neuron.members import over_members, stacked
from neuron.run import Leaves
from neuron.step import example_keys, prediction_step
from neuron.trees import Static, arrays_of
from neuron.types import Batch, Model, ModelState


class Predicting(NamedTuple):
    """What predicts: a model, its state, the precision to compute in, what the data does to each
    example first, and the seed of the keys."""

    model: Model
    model_state: ModelState
    precision: str | None
    transform: Callable[..., Any] | None
    seed: UInt32[Array | np.ndarray, "..."]


def predict(
    parts: Predicting,
    batch_size: int,
    blocks: Iterable[tuple[Batch, int]],
    sample: int | None = None,
    like: Predicting | None = None,
) -> PyTree:
    """Outputs for blocks of rows, rows first, on the host.

    **Arguments:**

    - `sample`: which draw to make with dropout on; `None` for inference.
    - `like`: as for `evaluate`; outputs are members first then.
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
            flat = [np.moveaxis(p, 0, 1).reshape(p.shape[1], -1, *p.shape[3:]) for p in hosted]
            return np.concatenate(flat, axis=1)[:, :first]
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
    return over_batches(outputs, arrays, block, batch_size, bounds, sample, first)
