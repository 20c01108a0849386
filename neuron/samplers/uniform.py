"""Every row as likely as any other: drawn with replacement, shuffled, or in order."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from neuron.counters import fold_in, key_of, seed_words
from neuron.samplers.drawing import permuted, uniform
from neuron.samplers.sampler import Sampler, without_replacement
from neuron.types import Indices, Words, whole_number


class Bootstrap(Sampler):
    """Rows drawn with replacement: every batch is a bootstrap sample of the data.

    Each row's probability is `1 / size` to within one part in 2^16, and in 2^32 from 2^16
    rows on.
    """

    seed: Words

    def __init__(self, seed: int = 0):
        """**Arguments:**

        - `seed`: from 0 to 2^64 - 1.
        """
        self.seed = seed_words("Bootstrap(seed=...)", seed)

    def indices(
        self, epoch: Words, position: UInt32[Array, ""], batch_size: int, size: int
    ) -> Indices:
        key = fold_in(key_of(self.seed), epoch, position)
        return uniform(key, batch_size, size).astype(jnp.int32)

    def groups(self, data: Any, size: int, count: int) -> Iterator[np.ndarray]:
        """Bootstrap groups without a trainer: the batches of one epoch that is as long as wanted.

        ```python
        for rows in neuron.Bootstrap(seed=1).groups(x, size=100, count=50):
            means.append(x[rows].mean())
        ```

        **Arguments:**

        - `data`: an array, or anything with a length; only its length is used.
        - `size`: how many rows a group has.
        - `count`: how many groups to give.

        **Returns:**

        An iterator over `count` index arrays of shape `(size,)`.

        **Raises:**

        - `ValueError` where a group would be larger than the data.
        """
        size = whole_number("Bootstrap.groups(size=...)", size, least=1)
        count = whole_number("Bootstrap.groups(count=...)", count, least=0)
        rows = len(data)
        if size > rows:
            raise ValueError(
                f"`Bootstrap.groups(size=...)` must be at most the number of rows; "
                f"got size={size} for {rows} rows."
            )
        return _groups(self, size, rows, count)


class Shuffle(Sampler):
    """Every row exactly once an epoch, in an order of the epoch's own.

    The order is a keyed permutation that is evaluated point by point: a Feistel network over
    an a x b grid that just holds the rows, walking on from points beyond the last row (Black &
    Rogaway, 2002). Neither its time per row nor its memory grows with the number of rows.
    """

    seed: Words

    def __init__(self, seed: int = 0):
        """**Arguments:**

        - `seed`: from 0 to 2^64 - 1.
        """
        self.seed = seed_words("Shuffle(seed=...)", seed)

    def indices(
        self, epoch: Words, position: UInt32[Array, ""], batch_size: int, size: int
    ) -> Indices:
        places = position * jnp.uint32(batch_size) + jnp.arange(batch_size, dtype=jnp.uint32)
        point = jnp.minimum(places, jnp.uint32(size - 1))
        point = permuted(point, fold_in(key_of(self.seed), epoch), size)
        return jnp.where(places < size, point.astype(jnp.int32), -1)

    def check(self, batch_size: int, size: int) -> None:
        without_replacement(self, batch_size, size)


class Sequential(Sampler):
    """Rows in their order."""

    def indices(
        self, epoch: Words, position: UInt32[Array, ""], batch_size: int, size: int
    ) -> Indices:
        del epoch
        places = position * jnp.uint32(batch_size) + jnp.arange(batch_size, dtype=jnp.uint32)
        return jnp.where(places < size, places.astype(jnp.int32), -1)

    def check(self, batch_size: int, size: int) -> None:
        without_replacement(self, batch_size, size)


def _groups(sampler: Bootstrap, size: int, rows: int, count: int) -> Iterator[np.ndarray]:
    block = max(1, min(256, (1 << 20) // size))
    for start in range(0, count, block):
        drawn = np.asarray(_draw(sampler, np.uint32(start), block, size, rows))
        yield from drawn[: count - start]


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _draw(sampler: Bootstrap, start: UInt32[Array, ""], block: int, size: int, rows: int) -> Array:
    first_epoch = jnp.zeros(2, jnp.uint32)
    positions = start + jnp.arange(block, dtype=jnp.uint32)
    return jax.vmap(lambda p: sampler.indices(first_epoch, p, size, rows))(positions)
