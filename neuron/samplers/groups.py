"""Rows that belong together, and come together."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, UInt32

from neuron.counters import fold_in, key_of, seed_words
from neuron.samplers.drawing import interval, uniform
from neuron.samplers.sampler import Sampler
from neuron.samplers.tables import one_a_row, row_numbers_by_class
from neuron.types import Indices, Words, shown


class Grouped(Sampler):
    """Whole groups drawn with replacement: the bootstrap where rows of one group depend on each
    other (Davison & Hinkley, 1997, section 3.8; Cameron, Gelbach & Miller, 2008).

    ```python
    neuron.Grouped(patient, seed=1)
    ```

    Think of an endless line of groups, each one drawn from all of them with equal chances and
    laid down whole, its rows in their order. A batch is a piece of such a line, cut at a random
    place: all its groups are whole but the first, which it enters at some row, and the last. So
    each row has the chance `1 / size` at each place of a batch, and a batch's mean is right on
    average, however unequal the groups are, and even where they are larger than a batch. (If
    batches began with a whole group, later rows of large groups would come too rarely, or never.)

    To train on one resample of whole groups, as an estimate of an error needs many, hand its row
    numbers to `Subset`.
    """

    rows: Int32[Array | np.ndarray, " rows"]
    # Where each group ends in that line of rows, group by group.
    ends: UInt32[Array | np.ndarray, " groups"]
    seed: Words

    def __init__(self, groups: Any, seed: int = 0):
        """**Arguments:**

        - `groups`: which one each row is of: numbers, strings, or anything that `np.unique` can
            tell apart.
        - `seed`: from 0 to 2^64 - 1.

        **Raises:**

        - `ValueError` or `TypeError` for groups that are none, of several axes or can not be
            sorted.
        """
        rows, counts = row_numbers_by_class("Grouped(groups)", groups)
        self.rows = rows.astype(np.int32)
        self.ends = np.cumsum(counts).astype(np.uint32)
        self.seed = seed_words("Grouped(seed=...)", seed)

    def indices(
        self, epoch: Words, position: UInt32[Array, ""], batch_size: int, size: int
    ) -> Indices:
        key = fold_in(key_of(self.seed), epoch, position)
        all_ends = jnp.asarray(self.ends)
        # A row drawn from all of them says in which group a batch begins, and where in it.
        first = uniform(fold_in(key, jnp.uint32(0)), 1, size)
        _, _, first_end = interval(all_ends, first)
        # A group has at least one row, so this many fill a batch.
        group = uniform(fold_in(key, jnp.uint32(1)), batch_size - 1, len(self.ends))
        group_begin = jnp.where(group > 0, all_ends[group - 1], 0)
        begin = jnp.append(first, group_begin)
        length = jnp.append(first_end, all_ends[group]) - begin
        # A sum that stays at the batch's size can not wrap.
        filled = jax.lax.associative_scan(
            lambda a, b: jnp.minimum(a + b, batch_size), jnp.minimum(length, batch_size)
        )
        place = jnp.arange(batch_size, dtype=jnp.uint32)
        turn, turn_begin, _ = interval(filled, place)
        return jnp.asarray(self.rows)[begin[turn] + (place - turn_begin)]

    def check(self, batch_size: int, size: int) -> None:
        del batch_size
        one_a_row("Grouped(groups)", "group", len(self.rows), size)

    def __repr__(self) -> str:
        return f"Grouped({len(self.ends)} groups, seed={shown(self.seed)})"
