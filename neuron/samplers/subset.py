"""A part of the rows, in whatever way."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, UInt32

from neuron.samplers.sampler import Sampler
from neuron.samplers.tables import whole_numbers
from neuron.samplers.uniform import Shuffle
from neuron.types import Indices, Words


class Subset(Sampler):
    """Some of the rows, drawn as another sampler draws.

    ```python
    neuron.Subset(np.flatnonzero(label == 3), neuron.Bootstrap(seed=1))
    ```

    The other sampler sees as many rows as there are indices, so that an epoch is as long as they
    are, and what it knows of its rows (weights, labels) is one each *index*. A row that is listed
    twice counts as two: the indices of one bootstrap sample train on that sample, epoch by epoch.
    """

    rows: Int32[Array | np.ndarray, " rows"]
    sampler: Sampler

    def __init__(self, indices: Any, sampler: Sampler = Shuffle()):
        """**Arguments:**

        - `indices`: row numbers from 0, in any order.
        - `sampler`: how they are drawn.

        **Raises:**

        - `ValueError` or `TypeError` for indices that are negative, no whole numbers, or none.
        """
        call = "Subset(indices)"
        rows = whole_numbers(call, indices, least=0)
        if rows.max() > np.iinfo(np.int32).max:
            raise ValueError(f"`{call}` must be below 2^31; got {rows.max()}.")
        if not isinstance(sampler, Sampler):
            raise TypeError(
                "`Subset(sampler=...)` must be a neuron.Sampler, such as neuron.Shuffle(); "
                f"got {sampler!r}."
            )
        self.rows = rows.astype(np.int32)
        self.sampler = sampler

    def indices(
        self, epoch: Words, position: UInt32[Array, ""], batch_size: int, size: int
    ) -> Indices:
        del size
        drawn = self.sampler.indices(epoch, position, batch_size, len(self.rows))
        return jnp.where(drawn >= 0, jnp.asarray(self.rows)[jnp.maximum(drawn, 0)], -1)

    def epoch_rows(self, size: int) -> int:
        del size
        return self.sampler.epoch_rows(len(self.rows))

    def covered(self, size: int) -> np.ndarray:
        del size
        return np.asarray(self.rows)[np.asarray(self.sampler.covered(len(self.rows)))]

    def check(self, batch_size: int, size: int) -> None:
        largest = int(np.max(self.rows))
        if largest >= size:
            raise ValueError(
                "`Subset(indices)` must be below the number of rows; "
                f"got {largest} for {size} rows."
            )
        self.sampler.check(batch_size, len(self.rows))

    def __repr__(self) -> str:
        return f"Subset({len(self.rows)} indices, sampler={self.sampler!r})"
