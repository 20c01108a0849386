"""Ways. By which program many runs are taken, and how many of them in one block."""

import dataclasses

from neuron.kernel import fits_one_kernel
from neuron.rows import Data
from neuron.run.many import Way
from neuron.run.program import Program, program_for
from neuron.state import TrainState
from neuron.step import Task
from neuron.types import Device


# A CPU has members in lanes from so many on: from more on where a step has products of matrices,
# which use whole vectors for one member alone, and where each member draws its own rows, which are
# gathered one by one in either way. Other devices have the work of all at once.
_CPU, _FEW, _MORE, _MANY = "cpu", 10, 64, 128
# How many are in one block: whole vectors, of numbers that stay in the fastest memory, and few
# sizes, so that few programs do for any number. Larger ones the compiler cuts in tasks for several
# threads, which no kernel can have. A block takes as long as its members and some.
_SIZES, _SOME = (32, 64, 128, 256, 512), 78
# How many row numbers a step of a block may have, where each member draws its own.
_INDICES = 1 << 16


def way_of(
    one: tuple[TrainState, Task, Data], members: int, own_batches: bool, device: Device
) -> tuple[Program, Way]:
    """The program of a step, and how members are run by it.

    **Arguments:**

    - `one`: state, task and data of one member.
    - `members`: how many they are.
    - `own_batches`: whether each draws its own.
    """
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


def size_of(way: Way, members: int, wanted: int | None, most: int, batch: int) -> int:
    """How many members a block has, for all to end soonest.

    **Arguments:**

    - `wanted`: how many it is asked to have, if it is.
    - `most`: how many blocks run at the same time, where one does not fill the device.
    - `batch`: how many rows each member draws for itself in a step.
    """
    if way != "lanes":
        return wanted or -(-members // (1 if way == "vmap" else most))
    sizes = [size for size in _SIZES if size * batch <= _INDICES] or _SIZES[:1]
    if wanted is not None:
        return next((size for size in sizes if size >= wanted), sizes[-1])
    rounds = lambda size: -(-members // (size * most))
    return min(sizes, key=lambda size: rounds(size) * (size + _SOME))
