"""What data is: rows that can be read in any order, or batches in an order of their own."""

import abc
import contextlib
import itertools
from collections.abc import Generator, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

from neuron.data.checks import numbered
from neuron.samplers import Sampler, Shuffle


@runtime_checkable
class Closable(Protocol):
    """An iterator that lets go of what it has open: a generator."""

    def close(self) -> Any: ...


@contextlib.contextmanager
def closing(iterator: Iterator[Any]) -> Generator[None, None, None]:
    """Closes an iterator at the end, where it can be."""
    try:
        yield
    finally:
        if isinstance(iterator, Closable):
            iterator.close()


class Source(abc.ABC):
    """Rows that can be read in any order. One of your own is two methods:

    ```python
    class Squares(neuron.Source):
        def __len__(self):
            return 1000

        def read(self, rows):
            x = rows[:, None] / 1000
            return np.float32(x), np.float32(x[:, 0] ** 2)
    ```

    `read` is called in a background thread, ahead of the training that it feeds, and never twice
    at the same time.
    """

    @abc.abstractmethod
    def __len__(self) -> int:
        """How many rows there are."""

    @abc.abstractmethod
    def read(self, rows: np.ndarray) -> Any:
        """Some rows, in the order asked for.

        **Arguments:**

        - `rows`: their numbers, of shape `(n,)`, of int64; one may be asked for twice.

        **Returns:**

        What a `DataLoader` takes: `(inputs,)`, `(inputs, targets)` or `(inputs, targets, weight)`
        of arrays or trees of them, the `n` rows along the first axis. It is not written to again.
        """

    def name(self, row: int) -> str:
        """What a row is called in an error."""
        return numbered(row)

    def sampler(self) -> Sampler:
        """Which rows make a batch where nobody says."""
        return Shuffle()

    def close(self) -> None:
        """Lets go of files; a later `read` opens them again. Called when a fit or an evaluation
        that has read from here ends, however it ends."""


class Stream(abc.ABC):
    """Batches in an order of their own, one after the other. One of your own is one method:

    ```python
    class Noise(neuron.Stream):
        def batches(self, epoch):
            rng = np.random.default_rng(epoch)
            for _ in range(100):
                yield rng.random((32, 2), np.float32), np.zeros(32, np.float32)
    ```

    It is iterated over in a background thread, ahead of the training that it feeds.
    """

    @abc.abstractmethod
    def batches(self, epoch: int) -> Iterator[Any]:
        """One pass over the data.

        **Arguments:**

        - `epoch`: which pass this is, from 0, for a stream whose order depends on it.

        **Returns:**

        An iterator over batches, each as `Source.read` returns rows. All have as many rows as the
        first one; the last one may have fewer.
        """

    def batches_from(self, epoch: int, first: int) -> Iterator[Any]:
        """The same pass from its batch `first` on, as a run asks for it that goes on in the middle.

        To be overridden where batches can be left out without being made.
        """
        batches = iter(self.batches(epoch))
        with closing(batches):
            yield from itertools.islice(batches, first, None)

    def position(self, epoch: int, batch: int) -> Any:
        """What a checkpoint is to hold, for `batches_from` to be quick in a new process: numbers,
        strings, bytes, lists and dicts. It may be asked for while batches are being read ahead."""
        del epoch, batch

    def go_to(self, position: Any) -> None:
        """Takes back what `position` gave, before any batch is asked for."""

    def length(self) -> int | None:
        """How many batches a pass has, if that is known before it has been made."""
        return None

    def close(self) -> None:
        """Lets go of what is open. Called when a fit or an evaluation that has read from here
        ends, however it ends."""
