"""Rows that can be read in any order, cut into batches by a sampler."""

import copy
import dataclasses
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import jax
import numpy as np

from neuron.counters import words
from neuron.data.arrays import Arrays
from neuron.data.checks import checked
from neuron.data.feed import Chunked, Feed, Layout, Resident, row_bytes
from neuron.data.pieces import Piece, block_size, chunks, joined, length_of, padded
from neuron.data.source import Source
from neuron.data.supply import Check, Host, Supply, Wanted, accepted
from neuron.rows import Cut, draw_ahead
from neuron.samplers import Sampler
from neuron.types import Batch, Device


# What may lie on the device without being asked for: rows of up to a gibibyte.
BUDGET = 1 << 30
# A piece takes at most about this long to read, so that a slow source is not waited for.
_SECONDS = 0.1


class ByRows(Supply):
    """A source, and the sampler that says which of its rows make a batch."""

    def __init__(
        self,
        source: Source,
        batch_size: int,
        sampler: Sampler,
        *,
        drop_last: bool,
        placement: str,
        host_transform: Callable[..., Any] | None,
    ):
        self.source, self.sampler = source, sampler
        self._batch_size, self._drop_last = batch_size, drop_last
        self._placement = placement
        self._call = "DataLoader(data)"
        self._host = Host(self._call, host_transform)
        self._sample: Batch | None = None
        self._placed: dict[Device, Batch] = {}
        self._check_batches()

    @property
    def cut(self) -> Cut:
        whole, rest = divmod(self._epoch_rows, self._batch_size)
        if self._drop_last or rest == 0:
            return Cut(len(self.source), self._batch_size, whole)
        return Cut(len(self.source), self._batch_size, whole + 1, short=rest)

    def smallest_batch(self) -> int:
        last = np.array(self.cut.steps_per_epoch - 1, np.uint32)
        drawn = draw_ahead(self.sampler, words(0), last, self.cut, 1)
        return int(np.sum(np.asarray(drawn) >= 0))

    def drawn_by(self) -> Sampler:
        return self.sampler

    @property
    def rows(self) -> int:
        return len(self.sampler.covered(len(self.source)))

    def in_groups(self, batches: int) -> "ByRows":
        grouped = copy.copy(self)
        grouped._batch_size *= batches
        grouped._check_batches()
        return grouped

    def _check_batches(self) -> None:
        if not 0 < len(self.source) < 1 << 31:
            raise ValueError(
                f"`{self._call}` must have at least one row and fewer than 2^31; got "
                f"{len(self.source)}."
            )
        rows = self._epoch_rows = self.sampler.epoch_rows(len(self.source))
        self.sampler.check(self._batch_size, len(self.source))
        if self._drop_last and self._batch_size > rows:
            raise ValueError(
                "`DataLoader(drop_last=True)` must leave at least one batch; "
                f"got batch_size={self._batch_size} for {rows} rows."
            )

    @property
    def _in_memory(self) -> Batch | None:
        """All rows, where they are arrays and need nothing done to them."""
        source = self.source
        if isinstance(source, Arrays) and not source.lazy and self._host.transform is None:
            return source.batch
        return None

    def sample(self) -> Batch:
        if self._in_memory is not None:
            return self._in_memory
        if self._sample is None:
            first = np.arange(min(len(self.source), self._batch_size), dtype=np.int64)
            self._sample = self.read(first)
            # Whoever looks may refuse what he sees, and nothing would close it then.
            self.source.close()
        return self._sample

    def whole(self, call: str, device: Device) -> Batch:
        if not self.on_device:
            return super().whole(call, device)
        if len(self.sampler.covered(len(self.source))) != len(self.source):
            raise ValueError(f"`{call}` must draw from all rows; got a `Subset`.")
        return self.on(device) if self._in_memory is None else self._in_memory

    @property
    def on_device(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        if self._placement != "auto" or self._host.transform is not None:
            return self._placement == "device"
        rows = self.sample()
        there = all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(rows))
        return there or row_bytes(rows) * len(self.source) <= BUDGET

    def read(self, rows: np.ndarray) -> Batch:
        """Some rows, as the program takes them."""
        read = self.source.read(rows)
        if self._in_memory is not None:
            return read
        name = lambda place: self.source.name(int(rows[place]))
        what = lambda: f"the batch from {name(0)} on"
        batch = checked(self._call, self._host.transformed(read), name)
        if length_of(batch) != len(rows):
            made_by = f"{type(self.source).__name__}.read(rows)"
            if self._host.transform is not None:
                made_by = "DataLoader(host_transform=...)"
            raise ValueError(
                f"`{made_by}` must return as many rows as are asked for; got {length_of(batch)} "
                f"for {len(rows)}, in {what()}."
            )
        return self._host.conforming(batch, what)

    def on(self, device: Device, check: Check = accepted) -> Batch:
        """All rows on a device, put there once."""
        if device not in self._placed:
            whole = self._in_memory
            if whole is None:
                whole = self._read_and_checked(np.arange(len(self.source), dtype=np.int64), check)
                # All is read.
                self.source.close()
            # A copy: on the CPU JAX may read NumPy's memory in place, `may_alias=False` or not.
            own = jax.tree.map(lambda a: np.array(a) if isinstance(a, np.ndarray) else a, whole)
            self._placed[device] = jax.device_put(own, device)
        return self._placed[device]

    def blocks(
        self, batch_size: int, check: Check = accepted
    ) -> Generator[tuple[Batch, int], None, None]:
        rows = self.sampler.covered(len(self.source))
        size = block_size(row_bytes(self.sample()), batch_size)
        for start in range(0, len(rows), size):
            part = np.asarray(rows[start : start + size], np.int64)
            yield padded(self._read_and_checked(part, check), size), len(part)

    def feed(self, wanted: Wanted) -> Feed:
        if self.on_device:
            return Resident(self.on(wanted.device, wanted.check), self.sampler)
        layout = Layout.of(wanted.device, self._batch_size, row_bytes(self.sample()))
        pieces = self._pieces(wanted, layout.steps)
        return Chunked(chunks(pieces, layout, wanted.place), self.close)

    def close(self) -> None:
        self.source.close()

    def __repr__(self) -> str:
        cut = self.cut
        return (
            f"{len(self.source)} rows, batch_size={cut.batch_size}, sampler={self.sampler!r}, "
            f"{cut.steps_per_epoch} steps an epoch"
        )

    def _pieces(self, wanted: Wanted, most: int) -> Iterator[Piece]:
        """The batches of some steps at a time: one to begin with, so that the first is there soon,
        and then as many as a moment serves."""
        number = 1
        for indices in self._drawn(wanted, most):
            start = 0
            while start < len(indices):
                began = time.monotonic()
                part = indices[start : start + number]
                yield Piece(self._batches(part, wanted.check), part >= 0)
                start += len(part)
                seconds = time.monotonic() - began
                number = min(most, 2 * number) if seconds < _SECONDS / 2 else number
                number = max(1, number // 2) if seconds > _SECONDS else number

    def _drawn(self, wanted: Wanted, count: int) -> Iterator[np.ndarray]:
        """The rows of the steps that are wanted, that many steps at a time."""
        cut, place, left = self.cut, dataclasses.replace(wanted.place), wanted.steps
        sampler = jax.device_put(self.sampler, wanted.device)
        while left is None or left > 0:
            position = np.array(place.position, np.uint32)
            drawn = np.asarray(draw_ahead(sampler, words(place.epoch), position, cut, count))
            drawn = drawn[:left]
            left = None if left is None else left - len(drawn)
            place.advance(len(drawn))
            yield drawn

    def _batches(self, indices: np.ndarray, check: Check) -> Batch:
        """The rows of some steps, those of each behind those of the one before; where one has run
        out of rows, its first one."""
        rows = np.where(indices >= 0, indices, indices[:, :1]).astype(np.int64)
        if self._host.transform is None:
            return self._read_and_checked(rows.ravel(), check)
        return joined([self._read_and_checked(batch, check) for batch in rows])

    def _read_and_checked(self, rows: np.ndarray, check: Check) -> Batch:
        """Some rows; nobody has looked at those before that are not in memory."""
        batch = self.read(rows)
        if self._in_memory is None:
            _check_rows(check, batch, lambda place: self.source.name(int(rows[place])))
        return batch


def _check_rows(check: Check, batch: Batch, name: Callable[[int], str]) -> None:
    """Refuses rows that the loss or the metrics can not take, naming the first one as its source
    does."""
    try:
        check(batch)
    except (ValueError, TypeError) as error:
        for place in range(length_of(batch)):
            try:
                check(jax.tree.map(lambda leaf, at=place: leaf[at : at + 1], batch))
            except (ValueError, TypeError):
                error.add_note(f"It is {name(place)} of the data.")
                raise error from None
        raise
