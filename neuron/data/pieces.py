"""Pieces: rows as they come, joined to chunks of steps, or cut to blocks of one size."""

import dataclasses
import time
from collections.abc import Generator, Iterable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from neuron.data.feed import Chunk, Layout
from neuron.data.memory import aligned
from neuron.place import Place
from neuron.types import Batch


# After that long a chunk is handed over as it is: nobody waits for a slow source to fill it. The
# first one has a single piece, so that there is something to do, and they grow from there.
_SECONDS = 0.1
_GROWTH = 8


@dataclasses.dataclass
class Piece:
    """The rows of some steps: `present` has a row for each of them, and says which are there."""

    rows: Batch
    present: np.ndarray
    ends_epoch: bool = False


def chunks(pieces: Iterable[Piece], layout: Layout, place: Place) -> Generator[Chunk, None, None]:
    """Chunks of the pieces, as full as their time allows."""
    place = dataclasses.replace(place)
    held: list[Piece] = []
    began, most = time.monotonic(), 1

    def full() -> Chunk:
        rows = joined([piece.rows for piece in held])
        present = np.concatenate([piece.present for piece in held])
        chunk = layout.chunk(rows, present, place, ends_epoch=held[-1].ends_epoch)
        place.advance(len(present))
        if chunk.ends_epoch:
            place.end_epoch()
        held.clear()
        return chunk

    for piece in pieces:
        if held and _steps(held) + len(piece.present) > layout.steps:
            yield full()
            began = time.monotonic()
        held.append(piece)
        late = time.monotonic() - began > _SECONDS
        if late or piece.ends_epoch or _steps(held) >= min(most, layout.steps):
            most = 1 if late else min(layout.steps, most * _GROWTH)
            yield full()
            began = time.monotonic()
    if held:
        yield full()


def _steps(pieces: list[Piece]) -> int:
    return sum(len(piece.present) for piece in pieces)


def joined(batches: list[Batch]) -> Batch:
    """Batches behind each other."""
    if len(batches) == 1:
        return batches[0]

    def one(*leaves: np.ndarray) -> np.ndarray:
        shape = (sum(map(len, leaves)), *leaves[0].shape[1:])
        return np.concatenate(leaves, out=aligned(shape, leaves[0].dtype))

    return jax.tree.map(one, *batches)


def length_of(rows: Batch) -> int:
    """How many rows there are."""
    return len(jax.tree.leaves(rows)[0])


def recut(batches: Iterable[Batch], size: int) -> Generator[tuple[Batch, int], None, None]:
    """Blocks of that many rows, from batches of any number of them."""
    held: list[Batch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += length_of(batch)
        while count >= size:
            rows = joined(held)
            yield jax.tree.map(lambda leaf: leaf[:size], rows), size
            count -= size
            held = [jax.tree.map(lambda leaf: leaf[size:], rows)] if count else []
    if count:
        yield padded(joined(held), size), count


def padded(rows: PyTree, size: int) -> PyTree:
    """As many rows as that: what is lacking is filled with the first row."""

    def one(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        if len(leaf) == size:
            return leaf
        return np.concatenate([leaf, np.repeat(leaf[:1], size - len(leaf), axis=0)])

    return jax.tree.map(one, rows)


def block_size(row_bytes: int, batch_size: int) -> int:
    """How many rows a block of an evaluation has: some batches. It depends on the batch and not on
    the number of rows, so that one program serves any number of them."""
    batches = max(1, min(64, (1 << 22) // max(1, row_bytes * batch_size)))
    return batches * batch_size
