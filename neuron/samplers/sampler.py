"""The contract of a sampler."""

import abc
from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, UInt32

from neuron.types import Indices, Printable, Words


class Sampler(Printable):
    """Says which rows are a batch. Drawn inside the compiled program, many steps at a time.

    A sampler of your own is one method:

    ```python
    class Reversed(neuron.Sampler):
        def indices(self, epoch, position, batch_size, size):
            rows = size - 1 - (position.astype(jnp.int32) * batch_size + jnp.arange(batch_size))
            return jnp.maximum(rows, -1)
    ```
    """

    @abc.abstractmethod
    def indices(
        self, epoch: Words, position: UInt32[Array, ""], batch_size: int, size: int
    ) -> Indices:
        """The rows of one batch. Pure: no state, nothing but the arguments and the fields.

        **Arguments:**

        - `epoch`: the epoch's number, in two words.
        - `position`: the batch's place in its epoch, from 0.
        - `batch_size`: how many rows to give.
        - `size`: how many rows there are.

        **Returns:**

        Row numbers from 0 to `size - 1`; -1 where a last batch has run out of rows.
        """

    def epoch_rows(self, size: int) -> int:
        """How many rows an epoch draws from so many: as many as there are, unless a sampler says
        otherwise. An epoch has `ceil(epoch_rows / batch_size)` batches."""
        return size

    def covered(self, size: int) -> Sequence[int] | np.ndarray:
        """The rows that an evaluation goes through, in its order: all there are, unless a sampler
        draws from some of them only."""
        return range(size)

    def check(self, batch_size: int, size: int) -> None:
        """Refuses, with a `ValueError`, a batch size that the sampler can not serve."""
        del batch_size, size


def without_replacement(sampler: Sampler, batch_size: int, size: int) -> None:
    """Refuses a batch that is larger than the data."""
    if batch_size > size:
        raise ValueError(
            f"`DataLoader(batch_size=...)` must be at most the number of rows where rows are drawn "
            f"without replacement, as {type(sampler).__name__} does; "
            f"got batch_size={batch_size} for {size} rows."
        )
