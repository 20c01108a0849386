"""The program of a step: traced once for each structure, and run again and again."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jaxtyping import Array, PyTree

from neuron.convolutions import for_loops
from neuron.kernel import fits_one_kernel, work
from neuron.rows import Data, indices_ahead
from neuron.state import TrainState
from neuron.step import Sums, Task, first_sums, training_step
from neuron.trees import Shapes, Static, arrays_of, kept, structure
from neuron.types import Device, Indices


try:
    from jax.interpreters.partial_eval import dce_jaxpr
except ImportError:
    # JAX does not promise it. Without, programs compute and compile more, to the same end.
    dce_jaxpr = None

Leaves = Sequence[Array]
Record = dict[str, Array]
Records = dict[Any, Array]


class Program:
    """One training step of a given structure, traced once; equal structures share it.

    `work` estimates the step's cost in scalar operations; `compiled` are the loops of many runs by
    it, by how they are run.
    """

    def __init__(self, statics: tuple[Static, ...], shapes: tuple[Shapes, ...], device: Device):
        self.statics = statics
        task = statics[1].combine(shapes[1])
        self.cut = task.cut
        indices = jax.ShapeDtypeStruct((self.cut.batch_size,), jnp.int32)
        step, (_, record) = traced(self._on_leaves, *shapes, indices)
        step = _without_what_nobody_reads(step)
        self.traced = for_loops(step)
        self.record = dict(sorted(record.items()))
        # One buffer a type, a column a name: each write into a buffer is a kernel of its own.
        self.columns: dict[Any, list[str]] = {}
        for name, like in self.record.items():
            self.columns.setdefault(like.dtype, []).append(name)
        self._counts_skips = task.skip_nonfinite
        self.work = work(step.jaxpr)
        self.one_kernel = fits_one_kernel(step.jaxpr, device)
        self.compiled: dict[Hashable, Callable[..., tuple[Any, ...]]] = {}

    def trees(self, leaves: Sequence[Leaves]) -> list[Any]:
        """State, task and data around such arrays."""
        return [static.combine(arrays) for static, arrays in zip(self.statics, leaves, strict=True)]

    def _on_leaves(self, state: Leaves, task: Leaves, data: Leaves, indices: Indices) -> Any:
        before, parts, rows = self.trees((state, task, data))
        new_state, record = training_step(before, parts, rows, indices)
        return arrays_of(new_state), record

    def step(self, state: Leaves, task: Leaves, data: Leaves, indices: Indices):
        """The traced step on flat arrays: the user's code is not traced again."""
        flat = jaxpr_as_fun(self.traced)(*state, *task, *data, indices)
        return flat[: len(state)], dict(zip(self.record, flat[len(state) :], strict=True))

    def draw(self, state: Leaves, task: Leaves, count: int) -> Array:
        """The indices of the next `count` steps, in one vectorized call."""
        now, parts = self.statics[0].combine(state), self.statics[1].combine(task)
        return indices_ahead(parts.sampler, now.epoch, now.position, self.cut, count)

    def ahead(self, state: Leaves, steps: Array) -> Leaves:
        """The state with its counters some steps on."""
        now = self.statics[0].combine(state)
        return arrays_of(now.ahead(steps.astype(jnp.uint32), self.cut.steps_per_epoch))

    def with_counters_of(self, before: Leaves, after: Leaves) -> Leaves:
        """The later state with the earlier one's counters, which then cost a loop nothing."""
        old, new = map(self.statics[0].combine, (before, after))
        skipped = new.skipped if self._counts_skips else old.skipped
        counters = {"step": old.step, "epoch": old.epoch, "position": old.position}
        return arrays_of(dataclasses.replace(new, **counters, skipped=skipped))

    def written(self, records: Records, place: Array, record: Record) -> Records:
        """The records with one step's own in its place."""
        rows = {
            dtype: jnp.stack([record[n] for n in names]) for dtype, names in self.columns.items()
        }
        return {dtype: records[dtype].at[place].set(row) for dtype, row in rows.items()}

    def stopped(self, state: Leaves) -> Array:
        """Whether a step has refused its update."""
        return self.statics[0].combine(state).stopped


def traced(function: Callable[..., Any], *arguments: Any) -> Any:
    """A function as its jaxpr, and the shapes of what it returns."""
    return jax.make_jaxpr(function, return_shape=True)(*arguments)


def _without_what_nobody_reads(step: ClosedJaxpr) -> ClosedJaxpr:
    """The same step without dead code. XLA keeps what a loop is handed: a key for each example,
    say, where the model takes none."""
    if dce_jaxpr is None:
        return step
    live, _ = dce_jaxpr(step.jaxpr, True, instantiate=True)
    return step.replace(jaxpr=live)


def program_for(state: TrainState, task: Task, data: Data) -> Program:
    """The program of these parts: traced once for each structure, set of shapes and device kind."""
    (device,) = arrays_of(state)[0].devices()
    return _program(*_structure(state, task, data), device)


_program = functools.lru_cache(maxsize=256)(Program)


def ready(state: TrainState, task: Task, data: Data) -> TrainState:
    """A state with room for what the task's metrics hold of an epoch, and with what they do hold.
    Zeros are a total of no rows, and a row of weight -1 is none."""
    if not task.scoring.metrics:
        return dataclasses.replace(state, metrics={})
    sums = _first_sums(*_structure(dataclasses.replace(state, metrics={}), task, data))
    zeros = lambda leaf, *more: np.zeros((*more, *leaf.shape), leaf.dtype)
    totals = jax.tree.map(zeros, sums.metrics)
    for name, rows in sums.rows.items():
        an_epoch = lambda leaf: zeros(leaf, task.cut.steps_per_epoch)
        observations, weight = jax.tree.map(an_epoch, rows)
        totals[name] = observations, weight - 1
    return dataclasses.replace(state, metrics=kept(state.metrics, totals))


@functools.lru_cache(maxsize=256)
def _first_sums(statics: tuple[Static, ...], shapes: tuple[Shapes, ...]) -> Sums:
    trees = lambda leaves: [s.combine(a) for s, a in zip(statics, leaves, strict=True)]
    return jax.eval_shape(lambda leaves: first_sums(*trees(leaves)), shapes)


def _structure(*trees: PyTree) -> tuple[tuple[Static, ...], tuple[Shapes, ...]]:
    statics, shapes = zip(*map(structure, trees), strict=True)
    return statics, shapes
