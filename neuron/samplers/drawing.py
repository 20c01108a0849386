"""What samplers draw with: numbers below a bound, keyed permutations, and where a number lies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from neuron.counters import random_words
from neuron.types import Key


Extent = int | UInt32[Array, "..."]


def uniform(key: Key, count: int, size: int) -> UInt32[Array, " count"]:
    """Numbers from 0 to `size - 1`, each as likely to within one part in 2^16, and in 2^32 from a
    size of 2^16 on."""
    counts = jnp.arange(count, dtype=jnp.uint32)
    word = random_words(key, counts)
    numbers = _scaled(word, size)
    if size > 1 << 16:
        # One word would favor some numbers: a second one goes on where it ends, and carries.
        rest = word * jnp.uint32(size)
        more = _scaled(random_words(key, counts + jnp.uint32(count)), size)
        numbers += (rest + more < rest).astype(jnp.uint32)
    return numbers


def permuted(point: UInt32[Array, " n"], key: Key, size: int) -> UInt32[Array, " n"]:
    """Where a keyed permutation of `size` points takes each of some points.

    It is evaluated point by point: a Feistel network over an a x b grid that just holds the
    points, walking on from what is beyond the last (Black & Rogaway, 2002).
    """
    # The fewer the points, the more rounds it takes to mix them (tests/test_samplers.py).
    rounds = 10 if size >= 1 << 6 else 24
    keys = random_words(key, jnp.arange(rounds, dtype=jnp.uint32))
    width, height = _grid(size)
    point = _permuted(point, keys, width, height)
    if width * height > size:
        point = jax.lax.while_loop(
            lambda p: jnp.any(p >= size),
            lambda p: jnp.where(p >= size, _permuted(p, keys, width, height), p),
            point,
        )
    return point


def permuted_within(
    point: UInt32[Array, " n"],
    key: Key,
    size: UInt32[Array, " n"],
    salt: UInt32[Array, " n"],
) -> UInt32[Array, " n"]:
    """As `permuted`, with a size for each point that the program knows only when it runs.

    Points of one size and salt are of one permutation; another salt makes another one. The grid's
    width is a power of two near the root of the size, found by counting bits, so that no platform
    rounds it otherwise.
    """
    keys = random_words(key, jnp.arange(24, dtype=jnp.uint32))
    # As many rounds as in `permuted`, two at a time.
    turns = jnp.where(size < 1 << 6, 12, 5)
    bits = 32 - jax.lax.clz(jnp.maximum(size, 1) - 1)
    shift = jnp.maximum(bits >> 1, 1)
    mask = (jnp.uint32(1) << shift) - 1
    height = jnp.maximum((size + mask) >> shift, 2)

    def two_rounds(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        turn, point = carry
        row, column = point >> shift, point & mask
        hashed = _hashed(row + salt + keys[2 * turn])
        column = (column + (hashed >> (32 - shift))) & mask
        row = _rotated(row, column + salt, keys[2 * turn + 1], height)
        return turn + 1, jnp.where(turn < turns, (row << shift) | column, point)

    def walk(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        point, outside = carry
        start = jnp.int32(0), point
        _, moved = jax.lax.while_loop(lambda c: c[0] < jnp.max(turns), two_rounds, start)
        point = jnp.where(outside, moved, point)
        return point, point >= size

    begin = point, jnp.ones(point.shape, bool)
    return jax.lax.while_loop(lambda carry: jnp.any(carry[1]), walk, begin)[0]


def interval(
    ends: UInt32[Array, " intervals"], place: UInt32[Array, " n"]
) -> tuple[UInt32[Array, " n"], UInt32[Array, " n"], UInt32[Array, " n"]]:
    """Which of some adjacent intervals from 0 on each place lies in, where it begins and ends."""
    number = jnp.searchsorted(ends, place, side="right").astype(jnp.uint32)
    begin = jnp.where(number > 0, ends[number - 1], 0)
    return number, begin, ends[number]


def _scaled(word: UInt32[Array, "..."], size: int) -> UInt32[Array, "..."]:
    """The high word of `word * size`: a word in [0, 2^32) mapped to [0, size), by 16-bit halves."""
    high, low = word >> 16, word & 0xFFFF
    if size <= 1 << 16:
        return _scaled_down(word, size)
    size_high, size_low = jnp.uint32(size >> 16), jnp.uint32(size & 0xFFFF)
    middle, cross = high * size_low, low * size_high
    carry = ((low * size_low >> 16) + (middle & 0xFFFF) + (cross & 0xFFFF)) >> 16
    return high * size_high + (middle >> 16) + (cross >> 16) + carry


def _scaled_down(word: UInt32[Array, "..."], size: Extent) -> UInt32[Array, "..."]:
    """`_scaled`, for sizes up to 2^16."""
    size = jnp.asarray(size, jnp.uint32)
    return ((word >> 16) * size + ((word & 0xFFFF) * size >> 16)) >> 16


def _permuted(
    point: UInt32[Array, " n"], keys: UInt32[Array, " rounds"], width: Extent, height: Extent
) -> UInt32[Array, " n"]:
    """A Feistel network on `point = row * width + column`: each round rotates one coordinate by
    a keyed hash of the other, so it can be undone."""
    width, height = jnp.asarray(width, jnp.uint32), jnp.asarray(height, jnp.uint32)
    row, column = point // width, point % width
    for turn in range(0, len(keys), 2):
        column = _rotated(column, row, keys[turn], width)
        row = _rotated(row, column, keys[turn + 1], height)
    return row * width + column


def _rotated(
    coordinate: UInt32[Array, " n"],
    other: UInt32[Array, " n"],
    key: UInt32[Array, "..."],
    extent: UInt32[Array, "..."],
) -> UInt32[Array, " n"]:
    moved = coordinate + _scaled_down(_hashed(other + key), extent)
    return jnp.where(moved >= extent, moved - extent, moved)


def _hashed(word: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
    word *= jnp.uint32(0x9E3779B1)
    word ^= word >> 15
    word *= jnp.uint32(0x85EBCA6B)
    return word ^ (word >> 13)


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
