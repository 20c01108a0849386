"""Counters of two words, and the keys that are functions of them."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neuron.counters import advance, fold_in, key_of, number, random_words, seed_words, words


WORD = 1 << 32
counts = st.integers(0, WORD**2 - 1)
seeds = [0, 1, WORD - 1, WORD, WORD + 1, WORD**2 - 1]


def data(key):
    return tuple(np.asarray(jr.key_data(key)).tolist())


@given(counts)
@example(0)
@example(WORD - 1)
@example(WORD)
@example(WORD**2 - 1)
def test_words_hold_any_number_of_64_bits(n):
    pair = words(n)
    assert pair.dtype == np.uint32
    assert [int(word) for word in pair] == [n >> 32, n & (WORD - 1)]
    assert number(pair) == number(jnp.asarray(pair)) == n


@given(counts, st.integers(0, WORD - 1))
@example(WORD - 1, 1)
@example(WORD - 1, WORD - 1)
@example(5 * WORD, 0)
@example(WORD**2 - 1, 1)
@settings(max_examples=100, deadline=None)
def test_advance_carries(n, steps):
    counter = advance(jnp.asarray(words(n)), jnp.uint32(steps))
    assert counter.dtype == jnp.uint32
    assert number(counter) == (n + steps) % WORD**2


@pytest.mark.parametrize("double", [False, True])
def test_words_stay_words_inside_a_program(request, double):
    if double:
        request.getfixturevalue("x64")
    counter, step = jnp.asarray(words(7 * WORD - 3)), jnp.uint32(5)
    ahead = jax.jit(advance)(counter, step)
    assert ahead.dtype == jnp.uint32
    assert number(ahead) == 7 * WORD + 2
    drawn = jax.jit(random_words)(jr.key(0), jnp.arange(3, dtype=jnp.uint32))
    assert drawn.dtype == jnp.uint32


@pytest.mark.parametrize("seed", seeds)
def test_seeds(seed):
    assert number(seed_words("Some(seed=...)", seed)) == seed


def test_seeds_of_numpy_will_do():
    assert number(seed_words("Some(seed=...)", np.uint64(WORD**2 - 1))) == WORD**2 - 1
    assert number(seed_words("Some(seed=...)", np.int8(3))) == 3


@pytest.mark.parametrize("seed", [-1, WORD**2])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(ValueError, match=rf"`Some\(seed=...\)` must be from 0 to .* got {seed}\."):
        seed_words("Some(seed=...)", seed)


@pytest.mark.parametrize("seed", [1.0, True, None, "1", np.float32(1), np.array([1])])
def test_seeds_that_are_no_whole_numbers_are_refused(seed):
    with pytest.raises(TypeError, match=r"`Some\(seed=...\)` must be a whole number; got"):
        seed_words("Some(seed=...)", seed)


def test_each_seed_has_a_key_of_its_own():
    keys = {data(key_of(words(seed))) for seed in [*range(100), *seeds[2:]]}
    assert len(keys) == 104


def test_keys_do_not_depend_on_the_default_generator():
    before = data(key_of(words(3)))
    with jax.default_prng_impl("rbg"):
        assert data(key_of(words(3))) == before


def test_folds_in_every_word_of_every_counter():
    key = jr.key(5, impl="threefry2x32")
    expected = key
    for word in (1, 2, 3, 4, 5):
        expected = jr.fold_in(expected, jnp.uint32(word))
    folded = fold_in(key, jnp.asarray(words(WORD + 2)), jnp.uint32(3), words(4 * WORD + 5))
    assert data(folded) == data(expected)
    assert data(fold_in(key)) == data(key)


def test_counters_beside_each_other_give_different_keys():
    key = jr.key(0, impl="threefry2x32")
    pairs = [(a + high * WORD, b) for a in range(5) for b in range(5) for high in (0, 1)]
    keys = {data(fold_in(key, words(a), jnp.uint32(b))) for a, b in pairs}
    assert len(keys) == len(pairs)


def mixed(word):
    """`lowbias32` in Python's integers (C. Wellons)."""
    word = ((word ^ (word >> 16)) * 0x21F0AAAD) % WORD
    word = ((word ^ (word >> 15)) * 0x735A2D97) % WORD
    return word ^ (word >> 15)


def test_random_words_are_two_rounds_of_the_mixer(getkey):
    key = getkey()
    first, second = data(key)
    places = [0, 1, 2, 1000, WORD - 1]
    expected = [mixed(mixed((n * 0x9E3779B9 + first) % WORD) ^ second) for n in places]
    assert random_words(key, jnp.array(places, jnp.uint32)).tolist() == expected


def test_distinct_counts_give_distinct_words(getkey):
    drawn = np.asarray(random_words(getkey(), jnp.arange(1 << 18, dtype=jnp.uint32)))
    assert np.unique(drawn).size == 1 << 18


def bits(words):
    """One row of 32 zeros and ones a word."""
    return np.unpackbits(np.asarray(words)[:, None].view(np.uint8), axis=1)


def test_one_bit_of_the_count_or_the_key_turns_half_of_the_word(getkey):
    # 2^15 coins fall within 6 standard deviations of half heads but for one time in 10^9.
    n, bound = 1 << 15, 6 * 0.5 / np.sqrt(1 << 15)
    numbers = np.random.default_rng(0).integers(0, WORD, n, np.uint32)
    key = getkey()
    before = bits(random_words(key, jnp.asarray(numbers)))
    for bit in range(32):
        flip = np.uint32(1 << bit)
        after = bits(random_words(key, jnp.asarray(numbers ^ flip)))
        assert (abs((before != after).mean(axis=0) - 0.5) < bound).all()

    def first_words(keys):
        return jax.vmap(lambda k: random_words(k, jnp.zeros(1, jnp.uint32))[0])(keys)

    keys = np.random.default_rng(1).integers(0, WORD, (n, 2), np.uint32)
    before = bits(first_words(jr.wrap_key_data(jnp.asarray(keys))))
    for half in (0, 1):
        for bit in range(32):
            other = keys.copy()
            other[:, half] ^= np.uint32(1 << bit)
            after = bits(first_words(jr.wrap_key_data(jnp.asarray(other))))
            assert (abs((before != after).mean(axis=0) - 0.5) < bound).all()
