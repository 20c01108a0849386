"""Samplers. The rows of a batch are a pure function of (seed, epoch, position)."""

import abc
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from neuron.counters import fold_in, key_of, random_words, seed_words
from neuron.types import Indices, Printable, Words, whole_number


class Sampler(Printable):
    """Says which rows are a batch. Drawn inside the compiled program, many steps at a time.

    A sampler of your own is one method:

    ```python
    class Reversed(neuron.Sampler):
        def indices(self, epoch, position, batch_size, size):
            rows = size - 1 - (position.astype(jnp.int32) * batch_size + jnp.arange(batch_size))
            return jnp.maximum(rows, -1)
    ```
    """

    @abc.abstractmethod
    def indices(
        self, epoch: Words, position: UInt32[Array, ""], batch_size: int, size: int
    ) -> Indices:
        """The rows of one batch. Pure: no state, nothing but the arguments and the fields.

        **Arguments:**

        - `epoch`: the epoch's number, in two words.
        - `position`: the batch's place in its epoch, from 0.
        - `batch_size`: how many rows to give.
        - `size`: how many rows there are.

        **Returns:**

        Row numbers from 0 to `size - 1`; -1 where a last batch has run out of rows.
        """

    def check(self, batch_size: int, size: int) -> None:
        """Refuses, with a `ValueError`, a batch size that the sampler can not serve."""
        del batch_size, size


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
        counts = jnp.arange(batch_size, dtype=jnp.uint32)
        word = random_words(key, counts)
        rows = _scaled(word, size)
        if size > 1 << 16:
            # One word would favor some rows: a second one goes on where it ends, and carries.
            rest = word * jnp.uint32(size)
            more = _scaled(random_words(key, counts + jnp.uint32(batch_size)), size)
            rows += (rest + more < rest).astype(jnp.uint32)
        return rows.astype(jnp.int32)

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
        # The fewer the points, the more rounds it takes to mix them (tests/test_samplers.py).
        rounds = 10 if size >= 1 << 6 else 24
        keys = random_words(fold_in(key_of(self.seed), epoch), jnp.arange(rounds, dtype=jnp.uint32))
        width, height = _grid(size)
        point = jnp.minimum(places, jnp.uint32(size - 1))
        point = _permuted(point, keys, width, height)
        if width * height > size:
            point = jax.lax.while_loop(
                lambda p: jnp.any(p >= size),
                lambda p: jnp.where(p >= size, _permuted(p, keys, width, height), p),
                point,
            )
        return jnp.where(places < size, point.astype(jnp.int32), -1)

    def check(self, batch_size: int, size: int) -> None:
        _without_replacement(self, batch_size, size)


class Sequential(Sampler):
    """Rows in their order."""

    def indices(
        self, epoch: Words, position: UInt32[Array, ""], batch_size: int, size: int
    ) -> Indices:
        del epoch
        places = position * jnp.uint32(batch_size) + jnp.arange(batch_size, dtype=jnp.uint32)
        return jnp.where(places < size, places.astype(jnp.int32), -1)

    def check(self, batch_size: int, size: int) -> None:
        _without_replacement(self, batch_size, size)


def _without_replacement(sampler: Sampler, batch_size: int, size: int) -> None:
    if batch_size > size:
        raise ValueError(
            f"`DataLoader(batch_size=...)` must be at most the number of rows where rows are drawn "
            f"without replacement, as {type(sampler).__name__} does; "
            f"got batch_size={batch_size} for {size} rows."
        )


def _scaled(word: UInt32[Array, "..."], size: int) -> UInt32[Array, "..."]:
    """The high word of `word * size`: a word in [0, 2^32) mapped to [0, size), by 16-bit halves."""
    high, low = word >> 16, word & 0xFFFF
    if size <= 1 << 16:
        return (high * jnp.uint32(size) + (low * jnp.uint32(size) >> 16)) >> 16
    size_high, size_low = jnp.uint32(size >> 16), jnp.uint32(size & 0xFFFF)
    middle, cross = high * size_low, low * size_high
    carry = ((low * size_low >> 16) + (middle & 0xFFFF) + (cross & 0xFFFF)) >> 16
    return high * size_high + (middle >> 16) + (cross >> 16) + carry


def _permuted(
    point: UInt32[Array, " n"], keys: UInt32[Array, " rounds"], width: int, height: int
) -> UInt32[Array, " n"]:
    """A Feistel network on `point = row * width + column`: each round rotates one coordinate by
    a keyed hash of the other, so it can be undone."""
    row, column = point // jnp.uint32(width), point % jnp.uint32(width)
    for turn in range(0, len(keys), 2):
        column = _rotated(column, row, keys[turn], width)
        row = _rotated(row, column, keys[turn + 1], height)
    return row * jnp.uint32(width) + column


def _rotated(
    coordinate: UInt32[Array, " n"], other: UInt32[Array, " n"], key: UInt32[Array, ""], extent: int
) -> UInt32[Array, " n"]:
    hashed = (other + key) * jnp.uint32(0x9E3779B1)
    hashed ^= hashed >> 15
    hashed *= jnp.uint32(0x85EBCA6B)
    moved = coordinate + _scaled(hashed ^ (hashed >> 13), extent)
    return jnp.where(moved >= extent, moved - jnp.uint32(extent), moved)


@functools.lru_cache(maxsize=256)
def _grid(size: int) -> tuple[int, int]:
    """The (width, height) near a square that holds `size` points with the fewest to spare.

    The width is even: rotations of odd rows and columns alone reach only half of all orders.
    """
    if size <= 4:
        return 2, 2
    root = int(size**0.5)
    # No side passes 2^16, so that `_scaled` needs one multiplication.
    widths = np.arange(max(2, root // 2, size >> 16), min(2 * root + 2, 1 << 16) + 1)
    widths = widths[widths % 2 == 0]
    heights = -(-size // widths)
    best = np.argmin(widths * heights)
    return int(widths[best]), int(heights[best])


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
