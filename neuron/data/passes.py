"""Passes over a stream, one after the other, from any of its batches on."""

import itertools
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

from neuron.data.iterables import OneShot
from neuron.data.source import Stream, closing


class Raw(NamedTuple):
    """A batch as the stream gives it, and which one it is."""

    rows: Any
    number: int
    epoch: int


class _Begun(NamedTuple):
    """A pass under way: its first batch, and what gives the others."""

    first: Any
    rest: Iterator[Any]
    epoch: int


class Passes:
    """A stream, and the pass that was begun to look at its first batch, if one was."""

    def __init__(self, stream: Stream):
        self._stream = stream
        self._begun: list[_Begun] = []
        # How many batches a pass had, where one was read to its end.
        self._lengths: dict[int, int] = {}

    @property
    def begun(self) -> bool:
        """Whether a pass waits to be gone on with."""
        return bool(self._begun)

    def look(self) -> Iterator[Raw]:
        """The first batch, if there is one; the pass that it began is then gone on with."""
        begun = self._begin(0, 0)
        if begun is not None:
            self._begun.append(begun)
            yield Raw(begun.first, 0, 0)

    def close(self) -> None:
        """Leaves a pass that was begun."""
        while self._begun:
            with closing(self._begun.pop().rest):
                pass

    def one(self, epoch: int, first: int = 0) -> Generator[Raw, None, None]:
        """A pass from one of its batches on. What it iterates over is closed where it is left."""
        begun = self._begun.pop() if self._begun else None
        only = isinstance(self._stream, OneShot) and begun is not None
        if begun is None or not (only or (begun.epoch, 0) == (epoch, first)):
            begun = self._begin(epoch, first)
        if begun is None:
            # Where there are fewer, nobody has counted them yet.
            counted = sum(1 for _ in self._stream.batches(epoch)) if first else 0
            self._lengths.setdefault(epoch, counted)
            return
        length, number = self._stream.length(), first
        with closing(begun.rest):
            batches = itertools.chain([begun.first], begun.rest)
            for rows in itertools.islice(batches, None if length is None else length - first):
                yield Raw(rows, number, epoch)
                number += 1
        self._lengths[epoch] = number

    def running_on(self, first: int) -> Generator[Raw, None, None]:
        """One pass behind the other, from that batch of all of them on, until one has none."""
        for epoch in itertools.count():
            length = self._lengths.get(epoch)
            if length is None or length > first:
                yield from self.one(epoch, first)
                length = self._lengths[epoch]
            if length == 0:
                return
            first = max(0, first - length)

    def place_of(self, number: int) -> tuple[int, int]:
        """In which pass that batch of all of them is, and which one there: as far as it is known
        how long the passes are."""
        for epoch in itertools.count():
            length = self._lengths.get(epoch)
            if length is None or number < length or length == 0:
                return epoch, number
            number -= length
        raise AssertionError("counting has no end")

    def position(self, epoch: int, batch: int) -> Any:
        """What helps to go on from a batch in a new process."""
        lengths = [[pass_, length] for pass_, length in self._lengths.copy().items()]
        return {"lengths": lengths, "stream": self._stream.position(epoch, batch)}

    def go_to(self, position: Any) -> None:
        """Takes it back."""
        self._lengths = dict(position["lengths"])
        if position["stream"] is not None:
            self._stream.go_to(position["stream"])

    def _begin(self, epoch: int, first: int) -> _Begun | None:
        rest = iter(self._stream.batches_from(epoch, first))
        for rows in rest:
            return _Begun(rows, rest, epoch)
        return None
