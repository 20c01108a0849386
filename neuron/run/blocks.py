"""Blocks. Members that are computed together, as many in each, so that one program does for all."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuron.members import Flags, on_host
from neuron.run.run import copied
from neuron.types import Device


class Blocks:
    """Members in blocks of one size. The last one is filled up with copies of the last member."""

    def __init__(self, members: int, size: int, device: Device):
        self.members, self.size, self._device = members, size, device
        self._starts = range(0, members, size)
        self.lacking = len(self._starts) * size - members

    def __len__(self) -> int:
        """How many blocks there are."""
        return len(self._starts)

    @property
    def slices(self) -> list[slice]:
        """Which members each has."""
        return [slice(start, min(start + self.size, self.members)) for start in self._starts]

    def cut(self, arrays: Sequence[Array], flags: Flags, *, own: bool = False) -> list[list[Array]]:
        """The arrays of each block.

        **Arguments:**

        - `flags`: which of them have a member axis; the others are the same for all.
        - `own`: whether in buffers of their own, which can be donated.
        """
        if len(self) == 1 and not self.lacking:
            return [copied(list(arrays)) if own else list(arrays)]
        # On the host, where to cut takes no program.
        hosted = [on_host(a) if flag or own else a for a, flag in zip(arrays, flags, strict=True)]
        blocks = []
        for start in self._starts:
            # A slice is no copy; only the last block is filled up.
            members: Any = slice(start, start + self.size)
            if start + self.size > self.members:
                members = np.minimum(np.arange(start, start + self.size), self.members - 1)
            pairs = zip(hosted, flags, strict=True)
            blocks.append([array[members] if flag else array for array, flag in pairs])
        return jax.device_put(blocks, self._device, may_alias=False if own else None)

    def joined(self, blocks: Sequence[Sequence[Array]], flags: Flags, of_all: int) -> list[Array]:
        """The arrays of all members, in new buffers.

        **Arguments:**

        - `blocks`: the arrays of each.
        - `flags`: which of them have a member axis.
        - `of_all`: the block whose arrays without one are taken.
        """
        if len(self) == 1 and not self.lacking:
            return copied(list(blocks[0]))
        joined = []
        for parts, flag in zip(zip(*blocks, strict=True), flags, strict=True):
            if not flag:
                joined.append(on_host(parts[of_all]))
            elif jnp.issubdtype(parts[0].dtype, jax.dtypes.prng_key):
                joined.append(jnp.concatenate(parts)[: self.members])
            else:
                joined.append(np.concatenate([np.asarray(p) for p in parts])[: self.members])
        return jax.device_put(joined, self._device, may_alias=False)
