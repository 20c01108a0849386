"""What each row of held-out data shows, in one pass: enough to score any resample of the rows."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuron.counters import advance, words
from neuron.evaluation.batches import over_batches
from neuron.evaluation.finishing import finished
from neuron.run import Leaves
from neuron.step import Shown, Sums, observation_step, summed
from neuron.trees import Static, arrays_of
from neuron.types import Batch, Model


class Observed(NamedTuple):
    """Rows as a model has seen them.

    `sums` are those of each batch, and hold the rows of metrics that keep rows; `shown` has all
    else of each row, without padding. Both are on the host.
    """

    model: Model
    scoring: Any
    step: int
    sums: Sums
    shown: Shown

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.shown.examples)

    def values(self) -> dict[str, Any]:
        """The same as of `evaluate`."""
        return finished(self.model, self.scoring, self.sums, self.step)


class Observer:
    """Takes one block of rows after the other; the model sees each row once."""

    def __init__(self, parts: Any, batch_size: int, step: int):
        """**Arguments:**

        - `parts`, `batch_size`, `step`: as for `evaluate`.
        """
        self._parts, self._batch_size, self._step = parts, batch_size, step
        self._static, self._arrays = Static(parts), arrays_of(parts)
        self._taken: list[tuple[Sums, Shown]] = []
        self._before = 0

    def take(self, block: Batch, count: int) -> None:
        """A block's rows, of which that many count."""
        number, start = np.array(count, np.int32), words(self._before)
        both = _observe(self._static, self._batch_size, self._arrays, block, number, start)
        sums, shown = jax.device_get(both)
        batches = -(-count // self._batch_size)
        # A view would keep the whole block.
        sums = jax.tree.map(lambda leaf: np.array(leaf[:batches]), sums)
        flat = lambda leaf: np.array(leaf.reshape(-1, *leaf.shape[2:])[:count])
        self._taken.append((sums, jax.tree.map(flat, shown)))
        self._before += batches

    def observed(self) -> Observed:
        """All that was taken."""
        model, _, scoring, _ = self._parts
        joined = lambda *leaves: np.concatenate(leaves)
        return Observed(model, scoring, self._step, *jax.tree.map(joined, *self._taken))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _observe(
    static: Static, batch_size: int, arrays: Leaves, block: Batch, count: Array, start: Array
) -> tuple[Sums, Shown]:
    def both(arrays: Leaves, batch: Batch, place: Array) -> tuple[Sums, Shown]:
        model, model_state, scoring, seed = static.combine(arrays)
        present = place * batch_size + jnp.arange(batch_size, dtype=jnp.int32) < count
        position = advance(start, place.astype(jnp.uint32))
        shown = observation_step(model, model_state, scoring, batch, seed, position)
        sums = summed(scoring.metrics, shown, present)
        # What is kept of each row already is not kept twice.
        seen = {name: shown.seen[name] for name in sums.metrics}
        return sums, Shown(shown.value, shown.weight, shown.logs, seen, shown.examples)

    used = (count + batch_size - 1) // batch_size
    return over_batches(both, arrays, block, batch_size, (jnp.zeros_like(used), used))
