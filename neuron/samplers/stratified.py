"""Batches in which each class has its share."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, UInt32

from neuron.counters import fold_in, key_of, random_words, seed_words
from neuron.samplers.drawing import permuted_within
from neuron.samplers.sampler import Sampler, without_replacement
from neuron.samplers.tables import one_a_row, row_numbers_by_class
from neuron.types import Indices, Words, shown


class Stratified(Sampler):
    """Every row exactly once an epoch, and in each batch as much of each class as in the data.

    ```python
    neuron.Stratified(labels, seed=1)
    ```

    Of a class that is a share s of the rows, each full batch of b rows has either b s rounded down
    or b s rounded up, whatever the batch size; a short last batch of r rows is within 2 of r s.

    The n rows lie sorted by class, and a batch takes one from each b-th part of that line: full
    batch q has the places `floor(j n / b) + q`, for j from 0 to b - 1. Even steps hit an interval
    as often as its length says, rounded either way. The short last batch takes what lies between.
    Each epoch the rows of a class are shuffled among themselves, and so are the full batches.
    """

    rows: Int32[Array | np.ndarray, " rows"]
    # Where the class of each row of that line begins, and how many rows it has.
    starts: UInt32[Array | np.ndarray, " rows"]
    counts: UInt32[Array | np.ndarray, " rows"]
    seed: Words

    def __init__(self, labels: Any, seed: int = 0):
        """**Arguments:**

        - `labels`: one a row: numbers, strings, or anything that `np.unique` can tell apart.
        - `seed`: from 0 to 2^64 - 1.

        **Raises:**

        - `ValueError` or `TypeError` for labels that are none, of several axes or can not be
            sorted.
        """
        rows, counts = row_numbers_by_class("Stratified(labels)", labels)
        self.rows = rows.astype(np.int32)
        self.starts = np.repeat(np.cumsum(counts) - counts, counts).astype(np.uint32)
        self.counts = np.repeat(counts, counts).astype(np.uint32)
        self.seed = seed_words("Stratified(seed=...)", seed)

    def indices(
        self, epoch: Words, position: UInt32[Array, ""], batch_size: int, size: int
    ) -> Indices:
        key = fold_in(key_of(self.seed), epoch)
        batch_key, rows_key, salt_key = (fold_in(key, jnp.uint32(part)) for part in range(3))
        full, (whole, short) = size // batch_size, _places(batch_size, size)
        batch = jnp.minimum(position, jnp.uint32(full - 1))[None]
        # `permuted` is written into whatever reads it, and here that was done again for each row.
        batch = permuted_within(batch, batch_key, jnp.uint32([full]), jnp.uint32([0]))
        place = jnp.where(position < full, whole + batch, np.maximum(short, 0).astype(np.uint32))
        start, count = jnp.asarray(self.starts)[place], jnp.asarray(self.counts)[place]
        salt = random_words(salt_key, start)
        place = start + permuted_within(place - start, rows_key, count, salt)
        rows = jnp.asarray(self.rows)[place]
        return jnp.where((position < full) | (short >= 0), rows, -1)

    def check(self, batch_size: int, size: int) -> None:
        one_a_row("Stratified(labels)", "label", len(self.rows), size)
        without_replacement(self, batch_size, size)

    def __repr__(self) -> str:
        return f"Stratified({len(self.rows)} labels, seed={shown(self.seed)})"


def _places(batch_size: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of the line that the first full batch takes, and those that are left for a short
    last batch, -1 behind them.

    Row by row, the full batches take as many places one behind the other; now and then there is
    one more, which is left. Of the left ones number k is `floor(n/b (ceil((k + 1) b/r) - 1))` plus
    the number of full batches: up to that number behind `(k + 1) n/r`, which is less than one
    step. So their count in an interval is off by less than 2.
    """
    full = size // batch_size
    ends = np.arange(batch_size + 1) * size // batch_size
    left = ends[:-1][np.diff(ends) > full] + full
    short = np.full(batch_size, -1)
    # In this order a class lies in one piece. Spread, it comes to each microbatch of the batch.
    short[: len(left)] = left[_spread(len(left))]
    return ends[_spread(batch_size)].astype(np.uint32), short


def _spread(count: int) -> np.ndarray:
    """The numbers below `count` in an order whose pieces are spread evenly: by a stride near the
    golden ratio."""
    stride = max(1, round(count * 0.618))
    while np.gcd(stride, count) > 1:
        stride += 1
    return np.arange(count) * stride % max(count, 1)
