"""Batches as a stream gives them, one after the other."""

import contextlib
import copy
import itertools
from collections.abc import Callable, Generator, Iterator
from typing import Any

import jax
import numpy as np

from neuron.data.checks import checked
from neuron.data.feed import Chunked, Feed, Layout, grouped, row_bytes
from neuron.data.iterables import OneShot
from neuron.data.passes import Passes, Raw
from neuron.data.pieces import Piece, block_size, chunks, joined, length_of, padded, recut
from neuron.data.source import Stream
from neuron.data.supply import Check, Host, Supply, Wanted, accepted
from neuron.place import Place
from neuron.rows import UNKNOWN, Cut
from neuron.types import Batch


class ByStream(Supply):
    """A stream: the first batch that it gives says how large they are and what a row is."""

    streamed = True

    def __init__(
        self,
        stream: Stream,
        *,
        drop_last: bool,
        steps_per_epoch: int | None,
        host_transform: Callable[..., Any] | None,
    ):
        self.stream = stream
        self._drop_last, self._given = drop_last, steps_per_epoch
        self._group = 1
        self._call = "DataLoader(data)"
        self._host = Host(self._call, host_transform)
        self._passes = Passes(stream)
        self._sample: list[Batch] = []

    @property
    def cut(self) -> Cut:
        rows = self._group * length_of(self.sample())
        if self._given is not None:
            return Cut(rows, rows, self._given)
        length = self.stream.length()
        # Nobody knows beforehand whether the last batch is a short one, to be left out.
        if length is None or self._drop_last:
            return Cut(rows, rows, UNKNOWN)
        return Cut(rows, rows, -(-length // self._group))

    def smallest_batch(self) -> int:
        return self.cut.batch_size

    @property
    def rows(self) -> None:
        return None

    def in_groups(self, batches: int) -> "ByStream":
        of_many = copy.copy(self)
        of_many._group *= batches
        return of_many

    def sample(self) -> Batch:
        if not self._sample:
            for raw in self._passes.look():
                self._sample.append(self._checked(raw))
        if not self._sample:
            raise ValueError(f"`{self._call}` must have at least one batch; got none.")
        return self._sample[0]

    def blocks(
        self, batch_size: int, check: Check = accepted
    ) -> Generator[tuple[Batch, int], None, None]:
        size = block_size(row_bytes(self.sample()), batch_size)
        with contextlib.closing(self._passes.one(0)) as batches:
            # Of a stream that runs on, as many as an epoch has.
            some = self._all_checked(itertools.islice(batches, self._given))
            for block, count in recut(some, size):
                check(block)
                yield block, count

    def feed(self, wanted: Wanted) -> Feed:
        layout = Layout.of(wanted.device, self.cut.batch_size, row_bytes(self.sample()))
        pieces = self._pieces(wanted)
        return Chunked(chunks(pieces, layout, wanted.place), self.close)

    def close(self) -> None:
        self._passes.close()
        self.stream.close()

    def __repr__(self) -> str:
        length = self.stream.length()
        known = "as many as there are" if length is None else f"{length} an epoch"
        return f"batches of {type(self.stream).__name__}, {known}"

    def refuse_spent(self, call: str, *, again: bool) -> None:
        if not isinstance(self.stream, OneShot):
            return
        if not self._passes.begun:
            self.stream.refuse_spent(call)
        if again:
            raise ValueError(
                f"`{call}` is read at the end of each epoch; got a generator, which can be read "
                "once only. Hand over what can be iterated over again, a neuron.Stream."
            )

    def position(self, place: Place, taken: int) -> Any:
        if self._given is None:
            return self._passes.position(place.epoch, place.position * self._group)
        return self._passes.position(*self._passes.place_of(taken * self._group))

    def go_to(self, call: str, position: Any) -> None:
        if isinstance(self.stream, OneShot):
            raise ValueError(
                f"`{call}` goes on in the middle of the data; got a generator, which can only be "
                "read from its beginning. Hand over what can be iterated over again, a "
                "neuron.Stream."
            )
        self._passes.go_to(position)

    def _pieces(self, wanted: Wanted) -> Generator[Piece, None, None]:
        size = self.cut.batch_size
        with contextlib.closing(self._steps(wanted)) as steps:
            for rows, ends_epoch in itertools.islice(steps, wanted.steps):
                present = np.arange(size)[None] < length_of(rows)
                yield Piece(padded(rows, size), present, ends_epoch)

    def _steps(self, wanted: Wanted) -> Generator[tuple[Batch, bool], None, None]:
        """The rows of one step after the other, and whether the epoch ends with it where that was
        not known before."""
        if self._given is not None:
            with contextlib.closing(self._passes.running_on(wanted.taken * self._group)) as raw:
                for rows in self._grouped(raw, wanted, wanted.taken):
                    yield rows, False
            return
        length, before = self.cut.steps_per_epoch, wanted.place.position
        for epoch in itertools.count(wanted.place.epoch):
            taken = before
            with contextlib.closing(self._passes.one(epoch, before * self._group)) as raw:
                steps = self._grouped(raw, wanted, before)
                # To look ahead for the end of an epoch makes a step wait for the next one's batch.
                told = (
                    _told_apart(steps) if length == UNKNOWN else zip(steps, itertools.repeat(False))
                )
                for rows, is_last in told:
                    taken += 1
                    yield rows, is_last
            if taken == before or (length != UNKNOWN and taken < length):
                return
            before = 0

    def _grouped(self, raw: Iterator[Raw], wanted: Wanted, first: int) -> Iterator[Batch]:
        size = self.cut.batch_size
        batches = grouped(self._all_checked(raw), self._group)
        for number, group in enumerate(batches, first):
            rows = joined(group)
            count = length_of(rows)
            if count < size and self._drop_last:
                continue
            if count < size and wanted.whole is not None:
                raise ValueError(
                    f"`{self._call}` must have batches of one size where {wanted.whole}; batch "
                    f"{number} has {count} rows, the first has {size}. Use "
                    "`DataLoader(drop_last=True)`."
                )
            wanted.check(rows)
            yield rows

    def _all_checked(self, batches: Iterator[Raw]) -> Iterator[Batch]:
        # No `map`: a transform that raises StopIteration by mistake would pass for the data's end.
        for raw in batches:
            yield self._checked(raw)

    def _checked(self, raw: Raw) -> Batch:
        what = lambda: f"batch {raw.number} of epoch {raw.epoch + 1}"
        name = lambda row: f"row {row} of {what()}"
        try:
            batch = checked(self._call, self._host.transformed(raw.rows), name)
        except (ValueError, TypeError) as error:
            if what() not in str(error):
                error.add_note(f"It is {what()}.")
            raise
        # A copy: the stream may write its next batch into the same memory.
        batch = self._host.conforming(jax.tree.map(np.array, batch), what)
        if self._sample and length_of(batch) > length_of(self._sample[0]):
            raise ValueError(
                f"`{self._call}` must have batches of one size; {what()} has {length_of(batch)} "
                f"rows, the first has {length_of(self._sample[0])}."
            )
        return batch


def _told_apart(items: Iterator[Batch]) -> Iterator[tuple[Batch, bool]]:
    """Each item, and whether it is the last one."""
    for item in items:
        before = item
        for item in items:
            yield before, False
            before = item
        yield before, True
