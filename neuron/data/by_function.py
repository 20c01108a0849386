"""Data that a function of the step makes, inside the program."""

import dataclasses
from collections.abc import Generator, Iterator

import jax
import numpy as np

from neuron.counters import words
from neuron.data.checks import checked
from neuron.data.feed import Feed, Resident, row_bytes
from neuron.data.pieces import block_size, length_of, recut
from neuron.data.supply import Check, Supply, Wanted, accepted
from neuron.rows import Cut, Generated, Whole
from neuron.trees import on_entry, refuse_unhashable
from neuron.types import Batch


class ByFunction(Supply):
    """A function of the step, whose batches all look like its first one."""

    def __init__(self, made: Generated, *, steps_per_epoch: int | None):
        if steps_per_epoch is None:
            raise ValueError(
                "`DataLoader(function)` must come with `steps_per_epoch=`, since a function of the "
                "step has no end; got None."
            )
        self._call = "DataLoader(function)"
        refuse_unhashable(self._call, made)
        self._made, self._steps_per_epoch = made, steps_per_epoch
        self._sample: list[Batch] = []

    @property
    def cut(self) -> Cut:
        rows = self._made.batches * length_of(self.sample())
        return Cut(rows, rows, self._steps_per_epoch)

    def smallest_batch(self) -> int:
        return self.cut.batch_size

    @property
    def rows(self) -> int:
        return self.cut.rows * self._steps_per_epoch

    def __repr__(self) -> str:
        return f"{self._made.function!r}, {self._steps_per_epoch} steps an epoch"

    def in_groups(self, batches: int) -> "ByFunction":
        grouped = ByFunction(
            dataclasses.replace(self._made, batches=batches * self._made.batches),
            steps_per_epoch=self._steps_per_epoch,
        )
        grouped._sample = self._sample
        return grouped

    def sample(self) -> Batch:
        if not self._sample:
            self._sample.append(self._batch(0))
        return self._sample[0]

    def blocks(
        self, batch_size: int, check: Check = accepted
    ) -> Generator[tuple[Batch, int], None, None]:
        size = block_size(row_bytes(self.sample()), batch_size)
        for block, count in recut(self._batches(), size):
            check(block)
            yield block, count

    def feed(self, wanted: Wanted) -> Feed:
        return Resident(on_entry(self._made, wanted.device), Whole())

    def close(self) -> None:
        """Nothing is open."""

    def _batches(self) -> Iterator[Batch]:
        for step in range(self._steps_per_epoch):
            yield self._batch(step)

    def _batch(self, step: int) -> Batch:
        one = dataclasses.replace(self._made, batches=1)
        batch = one.at(words(step), words(0))
        name = lambda row: f"row {row} of step {step}"
        return jax.tree.map(np.asarray, checked(self._call, batch, name))
