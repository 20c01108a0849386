"""What the tests of samplers share: drawing many batches at once, and bounds of chance.

Promises of chance are held by chi-square bounds that a right sampler misses less than once in a
million seeds; the seeds are set, so these tests pass or fail for good.
"""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from neuron.counters import words


def epoch_words(epochs):
    return np.array([words(int(epoch)) for epoch in epochs])


@functools.partial(jax.jit, static_argnums=(3, 4))
def drawn(sampler, epochs, positions, batch_size, size):
    return jax.vmap(lambda e, p: sampler.indices(e, p, batch_size, size))(epochs, positions)


def batches(sampler, positions, batch_size, size, epoch=0):
    """The batches at these places of an epoch, one a row."""
    positions = np.ravel(np.asarray(positions, np.uint32))
    epochs = epoch_words([epoch] * len(positions))
    return np.asarray(drawn(sampler, epochs, positions, batch_size, size))


def orders(sampler, epochs, size):
    """Whole epochs, one a row."""
    size = int(size)
    return np.asarray(
        drawn(sampler, epoch_words(epochs), np.zeros(len(epochs), np.uint32), size, size)
    )


def one_epoch(sampler, batch_size, size, epoch=0):
    return batches(sampler, range(-(-size // batch_size)), batch_size, size, epoch).ravel()


def reseeded(sampler, seeds):
    """A sampler for each seed, to be vmapped over."""
    return eqx.tree_at(lambda s: s.seed, sampler, jnp.asarray(epoch_words(seeds)))


def by_chance(counts, df=None, scale=1.0, chance=5e-7):
    """Whether counts differ as those of equally likely cells do: neither more nor less."""
    counts = np.ravel(counts).astype(float)
    df = counts.size - 1 if df is None else df
    expected = counts.mean()
    assert expected >= 3
    statistic = scale * np.sum((counts - expected) ** 2) / expected
    # A few cells may well be equal; many that are all but equal were not drawn.
    least = stats.chi2.ppf(chance, df) if df > 50 else 0
    return least <= statistic < stats.chi2.isf(chance, df)


def cells(*columns, size):
    """How often each tuple of rows comes together."""
    places = functools.reduce(lambda place, column: place * size + column, columns)
    return np.bincount(places.ravel(), minlength=size ** len(columns))


def order_numbers(rows):
    """Each order as its place among all of them, by the digits of its rows."""
    size = rows.shape[1]
    codes = rows @ size ** np.arange(size)
    every = np.array(list(itertools.permutations(range(size)))) @ size ** np.arange(size)
    numbers = np.searchsorted(np.sort(every), codes)
    assert (np.sort(every)[numbers] == codes).all()
    return numbers


def is_whole_epoch(rows, size):
    """Whether these are all rows, each once, with -1 only behind the last."""
    return (np.sort(rows[:size]) == np.arange(size)).all() and (rows[size:] == -1).all()
