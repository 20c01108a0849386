"""Rows that lie side by side: blocks of storage, and of time."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from neuron.counters import fold_in, key_of, random_words, seed_words
from neuron.samplers.drawing import interval, permuted, permuted_within, uniform
from neuron.samplers.sampler import Sampler, without_replacement
from neuron.samplers.tables import whole_numbers
from neuron.types import Indices, Words, shown, whole_number


class ShuffleBlocks(Sampler):
    """Every row exactly once an epoch, in an order that reads few blocks of a file at a time.

    ```python
    neuron.ShuffleBlocks([50_000] * 20, window=4)  # a file of 20 row groups
    ```

    Each epoch puts the blocks in an order of its own, and takes them in windows of so many. The
    rows of a window are shuffled as one; the windows follow one another. So a batch touches the
    blocks of one window, or of two where it lies across their border (of more only where windows
    are smaller than a batch). One window of all blocks is a full shuffle.

    Rows that are far apart in storage meet in a batch only where their blocks share a window. If
    the data lie sorted, many small blocks and a wide window mix them better than few large blocks.

    A batch costs time in proportion to the number of blocks, besides its rows.
    """

    sizes: UInt32[Array | np.ndarray, " blocks"]
    seed: Words
    window: int = eqx.field(static=True)

    def __init__(self, sizes: Any, seed: int = 0, *, window: int = 4):
        """**Arguments:**

        - `sizes`: how many rows each block has, in the order of storage.
        - `seed`: from 0 to 2^64 - 1.
        - `window`: how many blocks are shuffled together.

        **Raises:**

        - `ValueError` or `TypeError` for sizes that are negative, no whole numbers, or none.
        """
        sizes = whole_numbers("ShuffleBlocks(sizes)", sizes, least=0)
        # In Python's own numbers, since any narrower sum might wrap.
        if (total := int(sizes.sum(dtype=object))) > np.iinfo(np.int32).max:
            raise ValueError(f"`ShuffleBlocks(sizes)` must sum to less than 2^31; got {total}.")
        self.sizes = sizes.astype(np.uint32)
        self.seed = seed_words("ShuffleBlocks(seed=...)", seed)
        self.window = whole_number("ShuffleBlocks(window=...)", window, least=1)

    def indices(
        self, epoch: Words, position: UInt32[Array, ""], batch_size: int, size: int
    ) -> Indices:
        key = fold_in(key_of(self.seed), epoch)
        order_key, rows_key, salt_key = (fold_in(key, jnp.uint32(part)) for part in range(3))
        sizes, blocks = jnp.asarray(self.sizes), len(self.sizes)
        order = permuted(jnp.arange(blocks, dtype=jnp.uint32), order_key, blocks)
        ends = jnp.cumsum(sizes[order], dtype=jnp.uint32)
        # The last window may hold fewer blocks.
        last = np.append(np.arange(self.window, blocks, self.window), blocks) - 1

        places = position * jnp.uint32(batch_size) + jnp.arange(batch_size, dtype=jnp.uint32)
        place = jnp.minimum(places, jnp.uint32(size - 1))
        window, begin, end = interval(ends[last], place)
        salt = random_words(salt_key, window)
        place = begin + permuted_within(place - begin, rows_key, end - begin, salt)
        turn, begin, _ = interval(ends, place)
        starts = jnp.cumsum(sizes, dtype=jnp.uint32) - sizes
        rows = starts[order[turn]] + (place - begin)
        return jnp.where(places < size, rows.astype(jnp.int32), -1)

    def check(self, batch_size: int, size: int) -> None:
        total = int(np.asarray(self.sizes).sum(dtype=np.int64))
        if total != size:
            raise ValueError(
                "`ShuffleBlocks(sizes)` must sum to the number of rows; "
                f"got {total} for {size} rows."
            )
        without_replacement(self, batch_size, size)

    def __repr__(self) -> str:
        parts = f"{len(self.sizes)} blocks, seed={shown(self.seed)}, window={self.window}"
        return f"ShuffleBlocks({parts})"


class BlockBootstrap(Sampler):
    """Pieces of `length` rows in a row, drawn with replacement: the moving blocks bootstrap of a
    time series (Kuensch, 1989).

    ```python
    neuron.BlockBootstrap(length=24, seed=1)  # hours that depend on each other for a day
    ```

    A batch lays such blocks end to end until it is full; the last one is cut there. A block may
    begin at any of the rows from which it does not reach beyond the last, each as likely. So rows
    less than a length from either end of the data come less often: the first of all comes as the
    first of a block alone.
    """

    seed: Words
    length: int = eqx.field(static=True)

    def __init__(self, length: int, seed: int = 0):
        """**Arguments:**

        - `length`: rows of a block, at most those of a batch.
        - `seed`: from 0 to 2^64 - 1.
        """
        self.length = whole_number("BlockBootstrap(length)", length, least=1)
        self.seed = seed_words("BlockBootstrap(seed=...)", seed)

    def indices(
        self, epoch: Words, position: UInt32[Array, ""], batch_size: int, size: int
    ) -> Indices:
        key = fold_in(key_of(self.seed), epoch, position)
        begins = uniform(key, -(-batch_size // self.length), size - self.length + 1)
        rows = begins[:, None] + jnp.arange(self.length, dtype=jnp.uint32)[None, :]
        return rows.ravel()[:batch_size].astype(jnp.int32)

    def check(self, batch_size: int, size: int) -> None:
        # In a smaller batch every block would be cut, and the last rows would never come.
        for most, what in ((size, "number of rows"), (batch_size, "batch size")):
            if self.length > most:
                raise ValueError(
                    f"`BlockBootstrap(length)` must be at most the {what}; "
                    f"got a length of {self.length} for {most}."
                )

    def __repr__(self) -> str:
        return f"BlockBootstrap({self.length}, seed={shown(self.seed)})"
