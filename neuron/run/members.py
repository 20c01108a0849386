"""Many runs under way: their program, their arrays, and the loop over their steps."""

import abc
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from neuron.counters import number
from neuron.kernel import fits_one_kernel
from neuron.members import stacked
from neuron.rows import Data
from neuron.run.blocks import Blocks
from neuron.run.loop import BLOCK, CAPACITY
from neuron.run.many import Plan, Way, loop_of_many
from neuron.run.program import Program, program_for
from neuron.state import TrainState
from neuron.step import Task
from neuron.trees import arrays_of, on_entry
from neuron.types import Device


# A CPU has them in lanes from so many members on: from more on where a step has products of
# matrices, which use whole vectors for one member alone, and where each member draws its own rows,
# which are gathered one by one in either way. Other devices have the work of all at once.
_CPU, _FEW, _MORE, _MANY = "cpu", 10, 64, 128
# How many are in one block: whole vectors, of numbers that stay in the fastest memory, and few
# sizes, so that few programs do for any number. A block takes as long as its members and some.
_SIZES, _SOME = (32, 64, 128, 256, 512), 78
# How many row numbers a step of a block may have, where each member draws its own.
_INDICES = 1 << 16
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
        self.program, way = _program(one, self.members, own_batches, device)
        self._together = together
        widest = None
        if way == "lanes":
            # Larger ones the compiler cuts in tasks for several threads, which no kernel can have.
            widest = _INDICES // self.program.cut.batch_size if own_batches else _SIZES[-1]
        at_once = 1 if way == "vmap" else together.most
        size = _size(self.members, block_size, widest, at_once)
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


def _program(
    one: tuple[TrainState, Task, Data], members: int, own_batches: bool, device: Device
) -> tuple[Program, Way]:
    """The program of a step, and how many are run by it."""
    state, task, data = one
    if device.platform != _CPU:
        return program_for(*one), "vmap"
    coupled = task.scoring.objective.coupled or state.model_state is not None
    least = _MANY if own_batches else _MORE
    if not own_batches and _FEW <= members < _MORE and program_for(*one).one_kernel:
        least = _FEW
    if members >= least and not coupled:
        # Row by row, so that the members are all that there is to vectorize along.
        rowwise = program_for(state, dataclasses.replace(task, microbatch=1), data)
        if fits_one_kernel(rowwise.traced.jaxpr, device, loops=True):
            return rowwise, "lanes"
    return program_for(*one), "one by one"


def _size(members: int, wanted: int | None, widest: int | None, at_once: int) -> int:
    """How many members a block has, for all to end soonest.

    **Arguments:**

    - `wanted`: how many it is asked to have, if it is.
    - `widest`: how many it can have, where they are run side by side.
    - `at_once`: how many blocks run at the same time.
    """
    if widest is None:
        return wanted or -(-members // at_once)
    sizes = [size for size in _SIZES if size <= widest] or _SIZES[:1]
    if wanted is not None:
        return next((size for size in sizes if size >= wanted), sizes[-1])
    rounds = lambda size: -(-members // (size * at_once))
    return min(sizes, key=lambda size: rounds(size) * (size + _SOME))
