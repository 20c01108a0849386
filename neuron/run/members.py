"""Many runs under way: their program, their arrays, and the loop over their steps."""

import abc
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from neuron.counters import number
from neuron.members import stacked
from neuron.rows import Data
from neuron.run.blocks import Blocks
from neuron.run.loop import BLOCK, CAPACITY
from neuron.run.many import Plan, loop_of_many
from neuron.run.ways import size_of, way_of
from neuron.state import TrainState
from neuron.step import Task
from neuron.trees import arrays_of, on_entry


# How many numbers the records of one call hold.
_RECORDED = 1 << 18


class Together(abc.ABC):
    """Calls at the same time, `most` of them."""

    most: int

    @abc.abstractmethod
    def map(self, function: Callable[[int], Any], places: Iterable[int]) -> Iterable[Any]:
        """The results of a function of each place, in their order."""


class Members:
    """Many runs under way, which share data and counters."""

    def __init__(
        self,
        one: tuple[TrainState, Task, Data],
        many: tuple[TrainState, Task, Data],
        block_size: int | None,
        together: Together,
        note: Callable[[int, int], None],
    ):
        """**Arguments:**

        - `one`: state, task and data of one member.
        - `many`: of all, members first; what they have in common has no such axis.
        - `block_size`: how many members are computed together; as suits the machine if `None`.
        - `together`: runs several calls at the same time.
        - `note`: is told of each member whose step refused its update, and at which step.
        """
        (device,) = arrays_of(one[0])[0].devices()
        arrays = [arrays_of(tree) for tree in many]
        flags = [stacked(arrays_of(a), b) for a, b in zip(one, arrays, strict=True)]
        self.members = len(many[0].stopped)
        self._one = one
        own_batches = any(stacked(arrays_of(one[1].sampler), arrays_of(many[1].sampler)))
        self.program, way = way_of(one, self.members, own_batches, device)
        self._together = together
        batch = self.program.cut.batch_size if own_batches else 0
        size = size_of(way, self.members, block_size, together.most, batch)
        self._blocks, self._device = Blocks(self.members, size, device), device
        self._plan = Plan(
            size=size,
            way=way,
            one_kernel=way == "lanes" or (way == "one by one" and self.program.one_kernel),
            state=flags[0],
            task=flags[1],
            data=flags[2],
            own_batches=own_batches,
        )
        self._note = note
        self._stopped_at = [leaf is many[0].stopped for leaf in arrays[0]].index(True)
        self._put(arrays[0], np.array(many[0].stopped), number(many[0].step))
        self._task = self._blocks.cut(arrays[1], flags[1])
        self._data = self._blocks.cut(arrays[2], flags[2])
        self.capacity = max(BLOCK, min(CAPACITY, _RECORDED // size))
        columns = self.program.columns.items()
        rows = self.capacity + BLOCK
        empty = {dtype: np.zeros((rows, len(names), size), dtype) for dtype, names in columns}
        records = [empty for _ in self._blocks.slices]
        self._records = jax.device_put(records, device, may_alias=False)

    @property
    def block_size(self) -> int:
        """How many members are computed together."""
        return self._blocks.size

    @property
    def work(self) -> int:
        """What a step of all costs, in scalar operations, roughly."""
        return self.program.work * self.members

    @property
    def recorded(self) -> Collection[str]:
        """The names of what each step records."""
        return self.program.record

    @property
    def state(self) -> TrainState:
        """The state of all, members first."""
        # A block all of whose members have stopped does not count on.
        furthest = int(np.argmax(self._taken))
        joined = self._blocks.joined(self._state, self._plan.state, furthest)
        return self.program.statics[0].combine(joined)

    @state.setter
    def state(self, state: TrainState) -> None:
        # Other weights or another place do not set going what has stopped.
        stopped = np.array(state.stopped) | self._noted
        state = on_entry(dataclasses.replace(state, stopped=stopped), self._device)
        self._put(arrays_of(state), stopped, number(state.step))

    def _put(self, arrays: Sequence[Any], stopped: np.ndarray, step: int) -> None:
        self._state = self._blocks.cut(arrays, self._plan.state, own=True)
        self._noted, self._step = stopped, step
        if self._blocks.lacking:
            self.halt(np.zeros(self.members, bool))
        # How many steps each block has taken since.
        self._taken = np.zeros(len(self._blocks), np.int64)

    def use(self, task: Task, data: Data | None = None) -> None:
        """Goes on with another task of the same structure: other numbers, and other rows if any."""
        arrays = arrays_of(task)
        self._plan = dataclasses.replace(self._plan, task=stacked(arrays_of(self._one[1]), arrays))
        self._task = self._blocks.cut(arrays, self._plan.task)
        if data is not None:
            self._data = self._blocks.cut(arrays_of(data), self._plan.data)

    def take(self, steps: int) -> tuple[int, dict[str, np.ndarray]]:
        """Takes up to `steps` steps, as many as one call can record at most, and waits for them.

        **Returns:**

        How many were taken, fewer where all members have stopped, and the record of each:
        (steps, members).
        """
        results = self._call(np.int32(min(steps, self.capacity)))
        each_block = [int(steps) for steps, _, _ in results]
        taken, self._taken = max(each_block), self._taken + each_block
        each = np.concatenate([np.asarray(each) for _, each, _ in results])[: self.members]
        stopped = np.concatenate([np.asarray(s) for _, _, s in results])[: self.members]
        for member in np.flatnonzero(stopped & ~self._noted):
            self._note(int(member), self._step + int(each[member]))
        self._noted = stopped
        self._step += taken
        return taken, dict(self._on_host(taken, each_block))

    def halt(self, members: np.ndarray) -> None:
        """Stops those members, by a boolean for each."""
        self._noted = self._noted | members
        for state, block in zip(self._state, self._blocks.slices, strict=True):
            # What a block is filled up with takes no step.
            stopped = np.ones(self._blocks.size, bool)
            stopped[: block.stop - block.start] = self._noted[block]
            state[self._stopped_at] = jax.device_put(stopped, self._device, may_alias=False)

    def _call(self, count: np.int32) -> list[tuple[Any, Any, Any]]:
        compiled = self._compiled(count)

        def call(place: int) -> tuple[Any, Any, Any]:
            arguments = *self._arguments(place), count
            self._state[place], self._records[place], *rest = compiled(*arguments)
            return jax.block_until_ready(tuple(rest))

        return list(self._together.map(call, range(len(self._blocks))))

    def _arguments(self, place: int) -> tuple[Any, ...]:
        return self._state[place], self._records[place], self._task[place], self._data[place]

    def _compiled(self, count: np.int32) -> Callable[..., tuple[Any, ...]]:
        """The loop of a block, compiled here: JAX's settings are those of this thread, and several
        threads would compile it several times."""
        known = self.program.compiled
        if self._plan not in known:
            compiled = lambda plan: loop_of_many.lower(
                self.program, plan, *self._arguments(0), count
            ).compile()
            try:
                known[self._plan] = compiled(self._plan)
            except jax.errors.JaxRuntimeError:
                if not self._plan.one_kernel:
                    raise
                # The compiler met something that one kernel can not hold.
                known[self._plan] = compiled(dataclasses.replace(self._plan, one_kernel=False))
        return known[self._plan]

    def _on_host(self, taken: int, each: list[int]) -> Iterator[tuple[str, np.ndarray]]:
        hosted = [{d: np.asarray(rows) for d, rows in block.items()} for block in self._records]
        for dtype, names in self.program.columns.items():
            for column, name in enumerate(names):
                values = np.empty((taken, self.members), dtype)
                for block, rows, now in zip(self._blocks.slices, hosted, each, strict=True):
                    width = block.stop - block.start
                    values[:now, block] = rows[dtype][:now, column, :width]
                    values[now:, block] = np.nan if np.issubdtype(dtype, np.floating) else 0
                yield name, values
