"""A run under way: a program, its arrays, and the loop over its steps."""

from collections.abc import Collection, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from neuron.rows import Data, draw_ahead
from neuron.run.loop import BLOCK, CAPACITY, loop
from neuron.run.program import Leaves, program_for
from neuron.state import TrainState
from neuron.step import Task
from neuron.trees import Static, arrays_of, on_entry
from neuron.types import Indices


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
        empty = {dtype: np.zeros((CAPACITY + BLOCK, len(names)), dtype) for dtype, names in columns}
        self._records = jax.device_put(empty, self._device, may_alias=False)

    @property
    def work(self) -> int:
        """What a step costs, in scalar operations, roughly."""
        return self.program.work

    @property
    def capacity(self) -> int:
        """How many steps one call can record."""
        return CAPACITY

    @property
    def recorded(self) -> Collection[str]:
        """The names of what each step records."""
        return self.program.record

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
        self._state, self._records, taken = loop(
            self.program, one_kernel, self._state, self._records, self._task, self._data, count
        )
        return int(taken)

    def _on_host(self) -> Iterator[tuple[str, np.ndarray]]:
        for dtype, names in self.program.columns.items():
            yield from zip(names, np.asarray(self._records[dtype]).T, strict=True)


def copied(tree: PyTree) -> PyTree:
    """The same tree in new buffers."""
    static = Static(tree)
    return static.combine(_copy(arrays_of(tree)))


@jax.jit
def _copy(arrays: Leaves) -> Leaves:
    return [jnp.copy(array) for array in arrays]
