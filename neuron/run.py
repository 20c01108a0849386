"""Many steps in one program: the compiled loop over `step.py`.

A program holds two nested loops. The outer one draws the indices of a block of steps in one
vectorized call; the inner one takes the steps, as many as it was asked for.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jaxtyping import Array, Int, PyTree

from neuron.convolutions import for_loops
from neuron.kernel import as_one_kernel, fits_one_kernel, work
from neuron.rows import Data, draw_ahead, indices_ahead
from neuron.state import TrainState
from neuron.step import Sums, Task, first_sums, training_step
from neuron.trees import Shapes, Static, arrays_of, kept, on_entry, structure
from neuron.types import Device, Indices


# How many steps one call can record: 16 ms of the fastest, and half a megabyte of records.
CAPACITY = 1 << 15
_BLOCK = 128

Leaves = Sequence[Array]
Record = dict[str, Array]
Records = dict[Any, Array]


class Program:
    """One training step of a given structure, traced once; equal structures share it.

    `work` estimates the step's cost in scalar operations.
    """

    def __init__(self, statics: tuple[Static, ...], shapes: tuple[Shapes, ...], device: Device):
        self.statics = statics
        task = statics[1].combine(shapes[1])
        self.cut = task.cut
        indices = jax.ShapeDtypeStruct((self.cut.batch_size,), jnp.int32)
        step, (_, record) = traced(self._on_leaves, *shapes, indices)
        self._step = for_loops(step)
        self.record = dict(sorted(record.items()))
        # One buffer a type, a column a name: each write into a buffer is a kernel of its own.
        self.columns: dict[Any, list[str]] = {}
        for name, like in self.record.items():
            self.columns.setdefault(like.dtype, []).append(name)
        self._counts_skips = task.skip_nonfinite
        self.work = work(step.jaxpr)
        self.one_kernel = fits_one_kernel(step.jaxpr, device)

    def trees(self, leaves: Sequence[Leaves]) -> list[Any]:
        """State, task and data around such arrays."""
        return [static.combine(arrays) for static, arrays in zip(self.statics, leaves, strict=True)]

    def _on_leaves(self, state: Leaves, task: Leaves, data: Leaves, indices: Indices) -> Any:
        before, parts, rows = self.trees((state, task, data))
        new_state, record = training_step(before, parts, rows, indices)
        return arrays_of(new_state), record

    def step(self, state: Leaves, task: Leaves, data: Leaves, indices: Indices):
        """The traced step on flat arrays: the user's code is not traced again."""
        flat = jaxpr_as_fun(self._step)(*state, *task, *data, indices)
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


class Run:
    """A run under way: a program, and the arrays that it is handed again and again.

    Its buffers are donated at each call, so what it is given must be its own: see `copied`.
    """

    def __init__(self, state: TrainState, task: Task, data: Data):
        self.program = program_for(state, task, data)
        self._state, self._task, self._data = map(arrays_of, (state, task, data))
        (self._device,) = self._state[0].devices()
        # The same buffers in all calls: to clear new ones took longer than a hundred small steps.
        # The last block may begin at the last place.
        columns = self.program.columns.items()
        empty = {
            dtype: np.zeros((CAPACITY + _BLOCK, len(names)), dtype) for dtype, names in columns
        }
        self._records = jax.device_put(empty, self._device, may_alias=False)

    @property
    def state(self) -> TrainState:
        """The state, in buffers that are valid until the next `take`."""
        return self.program.statics[0].combine(self._state)

    @state.setter
    def state(self, state: TrainState) -> None:
        self._state = arrays_of(on_entry(state, self._device))

    def use(self, task: Task, data: Data | None = None) -> None:
        """Goes on with another task of the same structure: other numbers, and other rows if any."""
        self._task = arrays_of(task)
        if data is not None:
            self._data = arrays_of(data)

    def next_step(self) -> tuple[TrainState, Task, Data, Indices]:
        """What the next step starts from and reads, and its rows."""
        state, task, data = self.program.trees((self._state, self._task, self._data))
        place = (state.epoch, state.position, self.program.cut, 1)
        return state, task, data, draw_ahead(task.sampler, *place)[0]

    def take(self, steps: int) -> tuple[int, dict[str, np.ndarray]]:
        """Takes up to `steps` steps, at most `CAPACITY`, and waits for them.

        **Returns:**

        How many were taken, fewer where one refused its update, and the record of each; that of
        a refused one comes last.
        """
        count = np.int32(min(steps, CAPACITY))
        try:
            taken = self._call(self.program.one_kernel, count)
        except jax.errors.JaxRuntimeError:
            if not self.program.one_kernel or self._state[0].is_deleted():
                raise
            # The compiler met something that one kernel can not hold; nothing was donated yet.
            self.program.one_kernel = False
            taken = self._call(False, count)
        noted = min(taken + 1, int(count))
        return taken, {name: np.array(column[:noted]) for name, column in self._on_host()}

    def _call(self, one_kernel: bool, count: np.int32) -> int:
        self._state, self._records, taken = _run(
            self.program, one_kernel, self._state, self._records, self._task, self._data, count
        )
        return int(taken)

    def _on_host(self) -> Iterator[tuple[str, np.ndarray]]:
        for dtype, names in self.program.columns.items():
            yield from zip(names, np.asarray(self._records[dtype]).T, strict=True)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def _run(
    program: Program,
    one_kernel: bool,
    state: Leaves,
    records: Records,
    task: Leaves,
    data: Leaves,
    count: Array,
) -> tuple[Leaves, Records, Int[Array, ""]]:
    block = max(1, min(_BLOCK, (1 << 15) // program.cut.batch_size))
    inner = _take_steps(program)
    if one_kernel:
        inner = as_one_kernel(inner)

    def unfinished(carry: Any) -> Array:
        taken, state, _ = carry
        return (taken < count) & ~program.stopped(state)

    def body(carry: Any) -> Any:
        taken, state, records = carry
        indices = program.draw(state, task, block)
        # The block has records of its own: the whole buffer, handed through, was copied each time.
        now, state, written = inner(state, task, data, indices, count - taken)
        records = {
            dtype: jax.lax.dynamic_update_slice_in_dim(records[dtype], rows, taken, 0)
            for dtype, rows in written.items()
        }
        return taken + now, state, records

    start = (jnp.zeros((), jnp.int32), state, records)
    taken, state, records = jax.lax.while_loop(unfinished, body, start)
    return state, records, taken


def _take_steps(program: Program) -> Callable[..., Any]:
    def take_steps(state, task, data, indices, limit):
        end = jnp.minimum(limit, len(indices))
        records = {
            dtype: jnp.zeros((len(indices), len(names)), dtype)
            for dtype, names in program.columns.items()
        }

        def unfinished(carry: Any) -> Array:
            now, state, _ = carry
            return (now < end) & ~program.stopped(state)

        def body(carry: Any) -> Any:
            now, state, records = carry
            rows = jax.lax.dynamic_index_in_dim(indices, now, keepdims=False)
            before = program.ahead(state, now)
            after, record = program.step(before, task, data, rows)
            state = program.with_counters_of(state, after)
            records = program.written(records, now, record)
            # A step that refused its update does not count: `now` stays, its record is next.
            return now + (~program.stopped(state)).astype(jnp.int32), state, records

        start = (jnp.zeros((), jnp.int32), state, records)
        now, state, records = jax.lax.while_loop(unfinished, body, start)
        return now, program.ahead(state, now), records

    return take_steps


def copied(tree: PyTree) -> PyTree:
    """The same tree in new buffers."""
    static = Static(tree)
    return static.combine(_copy(arrays_of(tree)))


@jax.jit
def _copy(arrays: Leaves) -> Leaves:
    return [jnp.copy(array) for array in arrays]
