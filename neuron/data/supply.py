"""Supplies: how a loader's data gets into the program, for each kind of data in the same form."""

import abc
import dataclasses
from collections.abc import Callable, Generator
from typing import Any

import jax

from neuron.data.feed import Feed
from neuron.place import Place
from neuron.rows import Cut, as_batch
from neuron.samplers import Sampler
from neuron.types import Batch, Device


Check = Callable[[Batch], None]


def accepted(rows: Batch) -> None:
    """Takes rows as they are."""
    del rows


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is to be fed: that many steps from a place on, or as many as there are; one at least.

    `check` refuses rows that the loss and the metrics can not take. `taken` is how many steps of
    this very data the run has taken before. `whole` is why a batch that has fewer rows than the
    others can not be taken, if it can not.
    """

    device: Device
    place: Place
    steps: int | None
    check: Check
    taken: int = 0
    whole: str | None = None


class Supply(abc.ABC):
    """Data of one kind, cut into batches."""

    # Whether the rows live on the device, and whether batches come in an order of their own.
    on_device: bool = False
    streamed: bool = False

    @property
    @abc.abstractmethod
    def cut(self) -> Cut:
        """How many rows there are, in a step, and how many steps in an epoch."""

    @abc.abstractmethod
    def smallest_batch(self) -> int:
        """How many rows the smallest batch has, as far as is known; the others are full."""

    def drawn_by(self) -> Sampler | None:
        """What says which rows make a batch, where they can be read in any order."""
        return None

    @property
    @abc.abstractmethod
    def rows(self) -> int | None:
        """How many rows an evaluation goes through, if that is known."""

    @abc.abstractmethod
    def in_groups(self, batches: int) -> "Supply":
        """The same data, that many batches a step."""

    @abc.abstractmethod
    def sample(self) -> Batch:
        """Some rows, or all of them where they are at hand, to check the other parts against."""

    def whole(self, call: str, device: Device) -> Batch:
        """All rows, which must live on the device and all be drawn from."""
        del device
        raise ValueError(
            f"`{call}` needs rows that live on the device: give "
            "`DataLoader(..., placement='device')`."
        )

    @abc.abstractmethod
    def blocks(
        self, batch_size: int, check: Check = accepted
    ) -> Generator[tuple[Batch, int], None, None]:
        """All rows once, in blocks of one fixed shape, with how many of each count. Only the last
        one lacks any; it is filled with its own first row.

        **Arguments:**

        - `batch_size`: of which a block has some.
        - `check`: refuses rows that nobody has looked at yet.
        """

    def refuse_spent(self, call: str, *, again: bool) -> None:
        """Refuses data that was read before and can not begin anew; with `again`, any data that
        could not be read a second time."""
        del call, again

    def position(self, place: Place, taken: int) -> Any:
        """What is needed beside the number of steps to go on from a place in a new process."""
        del place, taken

    def go_to(self, call: str, position: Any) -> None:
        """Takes it back; `ValueError` where nothing can go on in a new process."""
        del call, position

    @abc.abstractmethod
    def feed(self, wanted: Wanted) -> Feed:
        """Feeds the program."""

    @abc.abstractmethod
    def close(self) -> None:
        """Lets go of files."""


class Host:
    """A transform of batches on the host, and the rule that every batch looks like the first."""

    def __init__(self, call: str, transform: Callable[..., Any] | None):
        self._call, self.transform = call, transform
        self._like: Any = None

    def transformed(self, raw: Any) -> Batch:
        """One batch as a `Batch`."""
        if self.transform is None:
            return as_batch(self._call, raw)
        return as_batch("DataLoader(host_transform=...)", self.transform(raw))

    def conforming(self, batch: Batch, what: Callable[[], str]) -> Batch:
        """A batch whose rows look like those of the first one; `ValueError` for others."""
        like = jax.tree.map(lambda leaf: (leaf.shape[1:], leaf.dtype.name), batch)
        if self._like is None:
            self._like = like
        if like != self._like:
            raise ValueError(
                f"`{self._call}` must give batches that are alike; {what()} has rows of "
                f"{_shown(like)}, the first has {_shown(self._like)}."
            )
        return batch


def _shown(like: Batch) -> str:
    is_leaf = lambda node: isinstance(node, tuple) and len(node) == 2 and isinstance(node[1], str)
    leaves = jax.tree_util.tree_leaves_with_path(like, is_leaf=is_leaf)
    parts = []
    for path, (shape, dtype) in leaves:
        name = jax.tree_util.keystr(path).lstrip(".")
        parts.append(f"{name} {dtype}{list(shape)}")
    return ", ".join(parts)
