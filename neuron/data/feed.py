"""What the program is fed: all rows at once where they lie on its device, or one chunk of batches
after the other."""

import abc
import dataclasses
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from neuron.counters import words
from neuron.data.memory import aligned
from neuron.data.prefetch import Prefetched, is_interrupt
from neuron.place import Place
from neuron.rows import Data, Delivered
from neuron.samplers import Sampler
from neuron.types import Batch, Device


# A chunk is about this many bytes, so that two ahead are little memory, and no more than so many
# steps, of which the first must be waited for.
_CHUNK_BYTES = 1 << 24
_CHUNK_STEPS = 1 << 12


class Feed(abc.ABC):
    """The data of the steps ahead, and the sampler that says which of its rows make a batch.

    They are good for `left` steps. `ends_epoch` says that the epoch ends with the last of these,
    where nobody knew it before.
    """

    data: Data
    sampler: Sampler
    left: int
    ends_epoch: bool = False

    @abc.abstractmethod
    def renew(self, meanwhile: Callable[[], None]) -> bool:
        """Goes on to the next chunk, and waits for it; whether there is one.

        **Arguments:**

        - `meanwhile`: called now and then while waiting.
        """

    @abc.abstractmethod
    def ended(self, place: Place) -> str:
        """Says why there is no further chunk."""

    def close(self, *, hurry: bool = False) -> None:
        """Ends what runs in the background, and waits for it; with `hurry` it does not."""

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.close(hurry=is_interrupt(kind))


class Resident(Feed):
    """Data that stays where it is."""

    def __init__(self, data: Data, sampler: Sampler):
        self.data, self.sampler, self.left = data, sampler, 1 << 62

    def renew(self, meanwhile: Callable[[], None]) -> bool:
        del meanwhile
        return True

    def ended(self, place: Place) -> str:
        del place
        return ""


@dataclasses.dataclass
class Chunk:
    """The batches of some steps, laid end to end on the device."""

    data: Batch
    sampler: Delivered
    steps: int
    ends_epoch: bool


class Chunked(Feed):
    """Chunks that a background thread reads ahead."""

    def __init__(self, chunks: Generator[Chunk, None, None], close: Callable[[], None]):
        self._chunks = Prefetched(chunks, then=close)
        self.left = 0

    def renew(self, meanwhile: Callable[[], None]) -> bool:
        try:
            chunk: Chunk = self._chunks.next(meanwhile)
        except StopIteration:
            return False
        self.data, self.sampler = chunk.data, chunk.sampler
        self.left, self.ends_epoch = chunk.steps, chunk.ends_epoch
        return True

    def ended(self, place: Place) -> str:
        expected = f" of {place.steps_per_epoch}" if place.position and place.known else ""
        where = f"after batch {place.position}{expected} of epoch {place.epoch + 1}, "
        return f"The data ended {where if place.position else ''}at step {place.step}."

    def close(self, *, hurry: bool = False) -> None:
        self._chunks.close(hurry=hurry)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How batches are laid out in chunks: `steps` of them, `batch_size` rows each, on a device."""

    device: Device
    batch_size: int
    steps: int

    @classmethod
    def of(cls, device: Device, batch_size: int, row_bytes: int) -> "Layout":
        """The layout of rows of that size: it depends on nothing else, so that one program serves
        any number of steps."""
        steps = _CHUNK_BYTES // max(1, row_bytes * batch_size)
        return cls(device, batch_size, max(1, min(_CHUNK_STEPS, steps)))

    def chunk(self, rows: Batch, present: np.ndarray, place: Place, *, ends_epoch: bool) -> Chunk:
        """A chunk of rows, those of each batch behind those of the one before.

        **Arguments:**

        - `present`: which of them are rows, a row of the array for each step.
        - `place`: where the first step stands.
        """
        steps, size = len(present), self.steps * self.batch_size

        def filled(leaf: np.ndarray) -> np.ndarray:
            if len(leaf) == size:
                return leaf
            whole = aligned((size, *leaf.shape[1:]), leaf.dtype, np.zeros)
            whole[: len(leaf)] = leaf
            return whole

        there = np.zeros((self.steps, self.batch_size), bool)
        there[:steps] = present
        sampler = Delivered(
            words(place.epoch),
            np.array(place.position, np.uint32),
            np.array(place.steps_per_epoch, np.uint32),
            there,
        )
        # What is handed over is not written to again: on the CPU it may be used where it lies.
        data, sampler = jax.device_put((jax.tree.map(filled, rows), sampler), self.device)
        return Chunk(data, sampler, steps, ends_epoch)


def row_bytes(rows: Batch) -> int:
    """How many bytes one row has."""
    return sum(leaf.nbytes // len(leaf) for leaf in jax.tree.leaves(rows))


def grouped(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of that many items; the last one may be shorter."""
    items = iter(items)
    while group := list(itertools.islice(items, size)):
        yield group
