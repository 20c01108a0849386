"""Counters of two words, and the random keys that are functions of them.

Everything random in a run is a function of a seed and of counters, so a run can stop
anywhere and go on from its counters alone.
"""

from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Int, UInt32

from neuron.types import Key, Words


_WORD = 1 << 32


def words(number: int) -> np.ndarray:
    """A number below 2^64 as its (high, low) words."""
    return np.array(divmod(number, _WORD), np.uint32)


def number(counter: Any) -> int:
    """The inverse of `words`, on the host."""
    high, low = np.asarray(counter).tolist()
    return high * _WORD + low


def seed_words(call: str, seed: Any) -> Any:
    """A seed as the leaf of a module: any whole number from 0 to 2^64 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"`{call}` must be a whole number; got {seed!r}.")
    if not 0 <= seed < _WORD**2:
        raise ValueError(f"`{call}` must be from 0 to 2^64 - 1; got {seed}.")
    return words(int(seed))


def advance(counter: Words, steps: UInt32[Array, ""]) -> UInt32[Array, "2"]:
    """`counter + steps`, carrying into the high word."""
    low = counter[1] + steps
    return jnp.stack([counter[0] + (low < counter[1]), low])


def place_after(
    epoch: Words, position: UInt32[Any, ""], steps: UInt32[Array, ""], steps_per_epoch: int
) -> tuple[UInt32[Array, "2"], UInt32[Array, ""]]:
    """The epoch and the place in it, some steps on."""
    places, per_epoch = position + steps, jnp.uint32(steps_per_epoch)
    return advance(epoch, places // per_epoch), places % per_epoch


def as_count(counter: Words) -> Int[Array, ""]:
    """A counter as schedules take it: one int32, which stays at its largest value."""
    largest = jnp.uint32(jnp.iinfo(jnp.int32).max)
    low = jnp.where(counter[0] > 0, largest, jnp.minimum(counter[1], largest))
    return low.astype(jnp.int32)


def key_of(seed: Words) -> Key:
    """The root key of a seed. The generator is named, so that a user's default changes no run."""
    return jr.fold_in(jr.key(seed[1], impl="threefry2x32"), seed[0])


def fold_in(key: Key, *counters: UInt32[Array, ""] | Words) -> Key:
    """Folds every word of every counter into a key."""
    for counter in counters:
        for word in counter if counter.ndim else (counter,):
            key = jr.fold_in(key, word)
    return key


def random_words(key: Key, counts: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
    """One random word for each count: a hash of the count, keyed by 64 bits.

    The key comes from Threefry, the words from two rounds of a multiply-and-shift mixer
    (constants: C. Wellons, `lowbias32`), a fifth of Threefry's cost per word: the draw was
    half of a small step. Distinct counts give distinct words.
    """
    first, second = jr.key_data(key)
    spread = counts * jnp.uint32(0x9E3779B9)
    return _mix(_mix(spread + first) ^ second)


def _mix(word: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    word ^= word >> 16
    word *= jnp.uint32(0x21F0AAAD)
    word ^= word >> 15
    word *= jnp.uint32(0x735A2D97)
    return word ^ (word >> 15)
