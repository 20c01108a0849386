"""Rows of unequal chances: as weights say, or so that each class comes as often."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float64, Int32, UInt32

from neuron.counters import fold_in, key_of, random_words, seed_words
from neuron.samplers.drawing import uniform
from neuron.samplers.sampler import Sampler
from neuron.samplers.tables import one_a_row, row_numbers_by_class
from neuron.types import Indices, Key, Words, shown


class Aliases(eqx.Module):
    """A draw of unequal chances as two even ones: a row is drawn evenly, and a second word below
    its threshold keeps it; else another row, named beside it, stands in."""

    threshold: UInt32[Array | np.ndarray, " rows"]
    other: Int32[Array | np.ndarray, " rows"]

    def draw(self, key: Key, count: int) -> Indices:
        """So many rows."""
        rows = uniform(key, count, len(self.other))
        # `uniform` takes the words of the first 2 x count counts.
        counts = jnp.arange(2 * count, 3 * count, dtype=jnp.uint32)
        keep = random_words(key, counts) < jnp.asarray(self.threshold)[rows]
        return jnp.where(keep, rows.astype(jnp.int32), jnp.asarray(self.other)[rows])


class Weighted(Sampler):
    """Rows drawn with replacement, with chances in proportion to their weights.

    ```python
    neuron.Weighted(1 / variance, seed=1)
    ```

    A row of weight 0 never comes. Rows are drawn by a table (the alias method: Walker, 1977, in
    the form of Vose, 1991), so the time of a draw does not grow with their number. A row's chance
    is within 2^-32 of an even row's, beside what `Bootstrap` says of those.

    These weights are chances to be drawn, and those of a `DataLoader` count in the loss.
    """

    table: Aliases
    seed: Words

    def __init__(self, weights: Any, seed: int = 0):
        """**Arguments:**

        - `weights`: one number of at least 0 a row; only their ratios count.
        - `seed`: from 0 to 2^64 - 1.

        **Raises:**

        - `ValueError` or `TypeError` for weights that are negative, not finite, no numbers, or
            all 0.
        """
        self.table = aliases(_checked(weights))
        self.seed = seed_words("Weighted(seed=...)", seed)

    def indices(
        self, epoch: Words, position: UInt32[Array, ""], batch_size: int, size: int
    ) -> Indices:
        del size
        return self.table.draw(fold_in(key_of(self.seed), epoch, position), batch_size)

    def check(self, batch_size: int, size: int) -> None:
        del batch_size
        one_a_row("Weighted(weights)", "weight", len(self.table.other), size)

    def __repr__(self) -> str:
        return f"Weighted({len(self.table.other)} weights, seed={shown(self.seed)})"


class Balanced(Sampler):
    """Rows drawn with replacement: each class is as likely as any other, and so is each row of it.

    ```python
    neuron.Balanced(labels, seed=1)
    ```

    Of k classes, a row whose class has n rows comes with a chance of 1 / (k n). A model that is
    trained so learns of classes as if they were equally frequent; its probabilities are those of
    such a world.
    """

    table: Aliases
    seed: Words

    def __init__(self, labels: Any, seed: int = 0):
        """**Arguments:**

        - `labels`: one a row: numbers, strings, or anything that `np.unique` can tell apart.
        - `seed`: from 0 to 2^64 - 1.

        **Raises:**

        - `ValueError` or `TypeError` for labels that are none, of several axes or can not be
            sorted.
        """
        rows, counts = row_numbers_by_class("Balanced(labels)", labels)
        weights = np.empty(len(rows))
        weights[rows] = np.repeat(1 / counts, counts)
        self.table = aliases(weights)
        self.seed = seed_words("Balanced(seed=...)", seed)

    def indices(
        self, epoch: Words, position: UInt32[Array, ""], batch_size: int, size: int
    ) -> Indices:
        del size
        return self.table.draw(fold_in(key_of(self.seed), epoch, position), batch_size)

    def check(self, batch_size: int, size: int) -> None:
        del batch_size
        one_a_row("Balanced(labels)", "label", len(self.table.other), size)

    def __repr__(self) -> str:
        return f"Balanced({len(self.table.other)} labels, seed={shown(self.seed)})"


def aliases(weights: Float64[np.ndarray, " rows"]) -> Aliases:
    """The table of some weights, in whole numbers: a mean row has 2^32 units, so sums are exact.

    Light rows have fewer units and a deficit, heavy ones a surplus. Both are laid end to end: the
    heavy row over which a light row's deficit begins fills all of it. A heavy row that has given
    too much is filled by the next heavy row in the same way.
    """
    units = _units(weights)
    full = 1 << 32
    light, heavy = np.flatnonzero(units < full), np.flatnonzero(units >= full)
    deficit = np.append(0, np.cumsum(full - units[light]))
    surplus = np.cumsum(units[heavy] - full)
    threshold, other = np.minimum(units, full - 1), np.arange(len(units))
    other[light] = heavy[np.searchsorted(surplus, deficit[:-1], side="right")]
    # The deficit that ends beyond a heavy row's surplus is how much that row lacks in turn.
    lacks = deficit[np.searchsorted(deficit, surplus)] - surplus
    threshold[heavy] = np.where(lacks, full - lacks, 0)
    other[heavy] = np.where(lacks, np.append(heavy[1:], heavy[-1]), heavy)
    return Aliases(threshold.astype(np.uint32), other.astype(np.int32))


def _units(weights: Float64[np.ndarray, " rows"]) -> np.ndarray:
    """Weights as whole numbers that sum to 2^32 a row, by largest remainders; 0 stays 0."""
    # Scaled twice, since the sum of large weights would overflow.
    shares = weights / weights.max()
    exact = shares / shares.sum() * len(weights) * 2.0**32
    units = np.floor(exact).astype(np.int64)
    total = len(weights) << 32
    rest = exact - units
    short = min(max(0, total - int(units.sum())), np.count_nonzero(rest))
    units[np.argsort(-rest, kind="stable")[:short]] += 1
    # What the rounding of `exact` itself has left over.
    units[np.argmax(units)] += total - int(units.sum())
    return units


def _checked(weights: Any) -> Float64[np.ndarray, " rows"]:
    array = np.asarray(weights)
    call = "Weighted(weights)"
    if array.ndim != 1 or not array.size:
        raise ValueError(f"`{call}` must have one number a row; got shape {array.shape}.")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"`{call}` must be real numbers; got dtype {array.dtype}.")
    array = array.astype(np.float64)
    wrong = ~(np.isfinite(array) & (array >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"`{call}` must be finite and at least 0; got {array[row]} in row {row}.")
    if not array.any():
        raise ValueError(f"`{call}` must have one above 0; got only zeros.")
    return array
