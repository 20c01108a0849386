"""Other libraries' data, as they have it: examples by number, and iterables of batches.

PyTorch's, Hugging Face's and grain's objects are taken by what they can do, so none of these
libraries is imported here.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from neuron.data.checks import numbered
from neuron.data.source import Source, Stream, closing


@runtime_checkable
class Indexed(Protocol):
    """Examples by number: PyTorch's and Hugging Face's datasets, grain's `MapDataset`, a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int) -> Any: ...


@runtime_checkable
class Fetching(Protocol):
    """Examples by several numbers at once, as PyTorch's own loader asks for them."""

    def __getitems__(self, places: list[int]) -> list[Any]: ...


@runtime_checkable
class Columnar(Protocol):
    """A Hugging Face dataset: rows by several numbers at once are columns by name."""

    column_names: list[str]

    def __len__(self) -> int: ...

    def __getitem__(self, places: list[int]) -> dict[str, Any]: ...

    def with_format(self, type: str) -> Any: ...


@runtime_checkable
class Epochal(Protocol):
    """What is told the number of a pass before it begins, as samplers of PyTorch and streams of
    Hugging Face are."""

    def set_epoch(self, epoch: int) -> None: ...


@runtime_checkable
class Checkpointable(Protocol):
    """An iterator that tells where it is and goes there, as grain's do."""

    def get_state(self) -> Any: ...

    def set_state(self, state: Any) -> Any: ...


# A checkpointable iterator is asked where it is once in so many batches; so many answers are kept.
_MARK_EVERY = 64
_MARKS = 1024


class Examples(Source):
    """One example at a time, by number: its rows are stacked."""

    def __init__(self, examples: Indexed):
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def read(self, rows: np.ndarray) -> Any:
        # Each once: to make an example may be expensive.
        distinct, places = np.unique(rows, return_inverse=True)
        wanted = distinct.tolist()
        if isinstance(self._examples, Fetching):
            made = self._examples.__getitems__(wanted)
        else:
            made = [self._examples[row] for row in wanted]
        if len(made) != len(wanted):
            raise ValueError(
                f"`{type(self._examples).__name__}.__getitems__` must give as many examples as it "
                f"was asked for; got {len(made)} for {len(wanted)}."
            )
        return stacked([made[place] for place in places], lambda place: self.name(int(rows[place])))


class Columns(Source):
    """Columns by name, of several rows at once."""

    def __init__(self, columns: Columnar):
        self._columns = columns.with_format("numpy")

    def __len__(self) -> int:
        return len(self._columns)

    def read(self, rows: np.ndarray) -> Any:
        distinct, places = np.unique(rows, return_inverse=True)
        read = self._columns[distinct.tolist()]
        return {name: np.asarray(column)[places] for name, column in read.items()}


class Batches(Stream):
    """Any iterable of batches that begins anew each time it is iterated over."""

    def __init__(self, batches: Iterable[Any]):
        self._batches = batches
        # Where a checkpointable iterator was, by the epoch and how many batches it had given.
        self._marks: dict[tuple[int, int], Any] = {}

    def batches(self, epoch: int) -> Iterator[Any]:
        return self.batches_from(epoch, 0)

    def batches_from(self, epoch: int, first: int) -> Iterator[Any]:
        if isinstance(self._batches, Epochal):
            self._batches.set_epoch(epoch)
        iterator, given = iter(self._batches), 0
        with closing(iterator):
            marks = isinstance(iterator, Checkpointable)
            if marks and first:
                given = max((n for e, n in self._marks if e == epoch and n <= first), default=0)
                if given:
                    iterator.set_state(self._marks[epoch, given])
            for batch in iterator:
                given += 1
                if marks and given % _MARK_EVERY == 0:
                    self._mark(epoch, given, iterator.get_state())
                if given > first:
                    yield batch

    def position(self, epoch: int, batch: int) -> Any:
        # The last mark before it: the others were made ahead of it, or are of no more use.
        marks = [(n, s) for (e, n), s in self._marks.copy().items() if e == epoch and n <= batch]
        return max(([epoch, *mark] for mark in marks), key=lambda mark: mark[1], default=None)

    def go_to(self, position: Any) -> None:
        epoch, given, state = position
        self._marks[epoch, given] = state

    def _mark(self, epoch: int, given: int, state: Any) -> None:
        self._marks[epoch, given] = state
        if len(self._marks) > _MARKS:
            self._marks.pop(next(iter(self._marks)))

    def length(self) -> int | None:
        try:
            return len(self._batches)  # pyright: ignore[reportArgumentType]
        except TypeError:
            # PyTorch's loader of a dataset without a length has the method, and refuses.
            return None


class OneShot(Stream):
    """An iterator, a generator say: good for one fit."""

    def __init__(self, iterator: Iterator[Any]):
        self._iterator = iterator
        self._spent = False

    def batches(self, epoch: int) -> Iterator[Any]:
        del epoch
        first, self._spent = not self._spent, True
        return self._iterator if first else iter(())

    def close(self) -> None:
        # What was read ahead and not trained on is lost, so nobody goes on from here.
        self._spent = True

    def refuse_spent(self, call: str) -> None:
        """Refuses a second fit, which would find some batches gone."""
        if self._spent:
            raise ValueError(
                f"`{call}` was read before, and a {type(self._iterator).__name__} can be read once "
                "only. Make a new one for each fit, or hand over what can be iterated over again: "
                "an object whose `__iter__` begins anew, or a neuron.Stream."
            )


def stacked(examples: list[Any], name: Callable[[int], str] = numbered) -> Any:
    """Examples of one structure as rows of it; `ValueError` for others, by their names."""
    as_rows = lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves])
    # An example may be a list of its parts; a list within one is an array.
    examples = [tuple(made) if isinstance(made, list) else made for made in examples]
    try:
        return jax.tree.map(as_rows, *examples, is_leaf=lambda node: isinstance(node, list))
    except (ValueError, TypeError) as error:
        looks = [_look_of(example) for example in examples]
        for place, look in enumerate(looks):
            if look != looks[0]:
                raise ValueError(
                    f"`DataLoader(data)` must have examples that are alike; {name(place)} is "
                    f"{look}, {name(0)} is {looks[0]}."
                ) from error
        raise


def _look_of(example: Any) -> str:
    is_leaf = lambda node: isinstance(node, list)
    return str(jax.tree.map(lambda leaf: np.asarray(leaf).shape, example, is_leaf=is_leaf))
