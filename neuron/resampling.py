"""Resampling. How often each row counts in a data set that is drawn anew from the data."""

import abc
import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8, UInt16

from neuron.counters import seed_words
from neuron.samplers import row_numbers_by_class
from neuron.types import whole_number


def generator(seed: int, replica: int) -> np.random.Generator:
    """The random numbers of one replica: a function of both numbers alone."""
    child = np.random.SeedSequence(int(seed), spawn_key=(replica,))
    return np.random.Generator(np.random.PCG64(child))


class Resampling(abc.ABC):
    """What is drawn with replacement: the units that depend on nothing but themselves.

    A resample is told by a whole number for each row, how often the row is in it: a weight that
    stays as it is for as long as one trains on that resample. A class supplies the units that the
    rows lie in, and one draw of them.
    """

    @abc.abstractmethod
    def units(self, rows: int) -> Int[np.ndarray, " rows"]:
        """The unit that each row is of, as numbers from 0.

        **Arguments:**

        - `rows`: how many rows the data have.

        **Raises:**

        - `ValueError` for data that can not be resampled so.
        """

    @abc.abstractmethod
    def resample(
        self, units: Int[np.ndarray, " rows"], generator: np.random.Generator
    ) -> Int[np.ndarray, " rows"]:
        """How often each row is in one resample.

        **Arguments:**

        - `units`: what `units` gives.
        - `generator`: makes the random numbers.
        """

    def counts(
        self, rows: int, replicas: int, seed: int = 0
    ) -> UInt8[np.ndarray, "rows replicas"] | UInt16[np.ndarray, "rows replicas"]:
        """How often each row is in each of many resamples.

        A column is a function of the seed and its own number: more replicas leave the first ones
        as they were. Its random numbers are those of the child of that number that NumPy's
        `SeedSequence(seed)` spawns, by `PCG64`; they are drawn without bias. (NumPy promises the
        bits of `PCG64` for ever, and what `Generator.integers` makes of them for a release.)

        **Arguments:**

        - `rows`: how many rows the data have.
        - `replicas`: how many resamples.
        - `seed`: from 0 to 2^64 - 1.

        **Returns:**

        Counts, in 8 bits, or in 16 where one of them is above 255. The array is the transpose of
        one that has the rows of a replica side by side.

        **Raises:**

        - `ValueError` or `TypeError` for data that can not be resampled so, and for numbers that
            are none.
        """
        call = f"{type(self).__name__}.counts"
        rows = whole_number(f"{call}(rows)", rows, least=1)
        replicas = whole_number(f"{call}(replicas)", replicas, least=1)
        seed_words(f"{call}(seed)", seed)
        units = self.units(rows)
        counts = np.empty((replicas, rows), np.uint8)
        for replica in range(replicas):
            drawn = self.resample(units, generator(seed, replica))
            if drawn.max() > np.iinfo(counts.dtype).max:
                counts = counts.astype(np.uint16)
            counts[replica] = drawn
        return counts.T

    def without_one(self, rows: int, most: int = 1000) -> UInt8[np.ndarray, "rows parts"]:
        """The jackknife's weights: in each column one unit is left out, and all others count once.

        Where there are more units than `most`, a column leaves out a group of them, drawn at
        random, of sizes that differ by at most one (the delete-a-group jackknife; Kott, 2001).

        **Arguments:**

        - `rows`: how many rows the data have.
        - `most`: how many columns there may be.

        **Returns:**

        Weights of 0 and 1.
        """
        call = f"{type(self).__name__}.without_one"
        rows = whole_number(f"{call}(rows)", rows, least=1)
        most = whole_number(f"{call}(most)", most, least=2)
        part_of = self.units(rows)
        parts = int(part_of.max()) + 1
        if parts > most:
            # No child that `counts` uses has a key of two numbers.
            child = np.random.SeedSequence(0, spawn_key=(0, 0))
            places = np.random.Generator(np.random.PCG64(child)).permutation(parts)
            part_of, parts = (places * most // parts)[part_of], most
        return (part_of[:, None] != np.arange(parts)).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Cases(Resampling):
    """Rows are drawn, each one by itself: for rows that do not depend on each other (Efron, 1979).

    ```python
    counts = neuron.Cases().counts(rows=1000, replicas=200, seed=1)
    ```
    """

    def units(self, rows: int) -> Int[np.ndarray, " rows"]:
        if rows < 2:
            raise ValueError(f"`Cases()` must have at least two rows to draw from; got {rows}.")
        return np.arange(rows)

    def resample(
        self, units: Int[np.ndarray, " rows"], generator: np.random.Generator
    ) -> Int[np.ndarray, " rows"]:
        return _drawn(len(units), generator)


@dataclasses.dataclass(frozen=True, eq=False)
class Clusters(Resampling):
    """Whole groups are drawn: for rows that depend on others of their group, as those of one
    patient do (Davison & Hinkley, 1997, section 3.8; Cameron, Gelbach & Miller, 2008).

    ```python
    neuron.Clusters(patient)
    ```

    As many groups are drawn as there are, each as likely. So a resample has as many rows as the
    data on average, and exactly where all groups are of one size.

    **Arguments:**

    - `groups`: which one each row is of: numbers, strings, or anything that `np.unique` can tell
        apart. At least two different ones.
    """

    groups: Any

    def __post_init__(self):
        # A copy, which stays as it is when the caller's array does not.
        groups = np.array(self.groups)
        missing = np.flatnonzero(groups != groups) if groups.ndim == 1 else []
        if len(missing):
            row = missing[0]
            raise ValueError(
                f"`Clusters(groups)` must have a group for every row; got {groups[row]} in row "
                f"{row}."
            )
        _, sizes = row_numbers_by_class("Clusters(groups)", groups)
        if len(sizes) < 2:
            raise ValueError(
                "`Clusters(groups)` must have at least two groups to draw from; got one, of "
                f"{len(groups)} rows."
            )
        object.__setattr__(self, "groups", groups)

    def units(self, rows: int) -> Int[np.ndarray, " rows"]:
        if rows != len(self.groups):
            raise ValueError(
                f"`Clusters(groups)` must have one group a row; got {len(self.groups)} for {rows} "
                "rows."
            )
        by_group, sizes = row_numbers_by_class("Clusters(groups)", self.groups)
        units = np.empty(rows, np.intp)
        units[by_group] = np.repeat(np.arange(len(sizes)), sizes)
        return units

    def resample(
        self, units: Int[np.ndarray, " rows"], generator: np.random.Generator
    ) -> Int[np.ndarray, " rows"]:
        return _drawn(int(units.max()) + 1, generator)[units]

    def __repr__(self) -> str:
        return f"Clusters({len(np.unique(self.groups))} groups of {len(self.groups)} rows)"


@dataclasses.dataclass(frozen=True)
class Blocks(Resampling):
    """Pieces of `length` rows in a row are drawn: for a series, whose rows depend on their
    neighbors (the circular block bootstrap; Politis & Romano, 1992).

    ```python
    neuron.Blocks(length=24)  # hours that depend on each other for a day
    ```

    A block begins at any row, each as likely, and goes on at the first row where it reaches beyond
    the last. So every row is as likely as any other, and a resample has as many rows as the data:
    its last block is cut where it is full. The jackknife leaves out one of as many pieces, as
    equal as can be, that lie side by side.

    **Arguments:**

    - `length`: rows of a block: longer than what depends on each other, and much less than the
        rows there are.
    """

    length: int

    def __post_init__(self):
        object.__setattr__(self, "length", whole_number("Blocks(length)", self.length, least=1))

    def units(self, rows: int) -> Int[np.ndarray, " rows"]:
        if self.length >= rows:
            raise ValueError(
                "`Blocks(length)` must be less than the number of rows, or every resample would "
                f"be the data; got a length of {self.length} for {rows} rows."
            )
        return np.arange(rows) * -(-rows // self.length) // rows

    def resample(
        self, units: Int[np.ndarray, " rows"], generator: np.random.Generator
    ) -> Int[np.ndarray, " rows"]:
        rows = len(units)
        begins = generator.integers(rows, size=-(-rows // self.length))
        drawn = (begins[:, None] + np.arange(self.length)).ravel()[:rows] % rows
        return np.bincount(drawn, minlength=rows)


def _drawn(units: int, generator: np.random.Generator) -> np.ndarray:
    """How often each of some units comes in as many draws."""
    return np.bincount(generator.integers(units, size=units), minlength=units)
