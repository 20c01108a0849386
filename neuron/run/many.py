"""The compiled loop of many runs at once, which share the data, and mostly the batches.

There are three ways. One by one, each member takes the steps of a block as a run of its own would:
the program of a step is the same, and so are its bits. Otherwise all members take one step
together: in lanes, which are the vectors of a CPU, see `lanes`; or by `jax.vmap`, which fills an
accelerator.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from neuron.kernel import as_one_kernel
from neuron.members import Flags, merged, own_of
from neuron.run.lane_rules import spread
from neuron.run.lanes import in_lanes
from neuron.run.loop import BLOCK, take_steps_of
from neuron.run.program import Leaves, Program, Records


Way = Literal["one by one", "lanes", "vmap"]

# How many row numbers are drawn ahead.
_DRAWN = 1 << 20


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a number of members is run.

    - `size`: how many they are.
    - `way`: whether one by one, or all at once and how.
    - `one_kernel`: whether as one kernel.
    - `state`, `task`, `data`: which of the leaves have a member axis.
    - `own_batches`: whether each member draws its own.
    """

    size: int
    way: Way
    one_kernel: bool
    state: Flags
    task: Flags
    data: Flags
    own_batches: bool

    @property
    def axis(self) -> int:
        """Where the members are while they run."""
        return -1 if self.way == "lanes" else 0


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def loop_of_many(
    program: Program,
    plan: Plan,
    state: Leaves,
    records: Records,
    task: Leaves,
    data: Leaves,
    count: Array,
) -> tuple[Leaves, Records, Int[Array, ""], Int[Array, " members"], Bool[Array, " members"]]:
    """Up to `count` steps of all members that have not stopped.

    **Returns:**

    The state after them, what they recorded (NaN for a member that has stopped), how many steps
    were taken, how many by each member, and which have stopped.
    """
    batch = program.cut.batch_size * (plan.size if plan.own_batches else 1)
    block = max(1, min(BLOCK, _DRAWN // batch, (1 << 15) // program.cut.batch_size))
    inner = (_one_by_one if plan.way == "one by one" else _side_by_side)(program, plan)
    trees = zip((state, task, data), (plan.state, plan.task, plan.data), strict=True)
    state, task, data = (_moved(leaves, flags, 0, plan.axis) for leaves, flags in trees)

    def unfinished(carry: Any) -> Array:
        taken, _, state, _ = carry
        return (taken < count) & ~jnp.all(program.stopped(state))

    def body(carry: Any) -> Any:
        taken, each, state, records = carry
        indices = _drawn(program, plan, state, task, block)
        now, more, state, written = inner(state, task, data, indices, count - taken)
        records = {
            dtype: jax.lax.dynamic_update_slice_in_dim(records[dtype], rows, taken, 0)
            for dtype, rows in written.items()
        }
        return taken + now, each + more, state, records

    each = jnp.zeros(plan.size, jnp.int32)
    start = (jnp.zeros((), jnp.int32), each, state, records)
    taken, each, state, records = jax.lax.while_loop(unfinished, body, start)
    stopped = program.stopped(state)
    return _moved(state, plan.state, plan.axis, 0), records, taken, each, stopped


def _moved(leaves: Leaves, flags: Flags, source: int, target: int) -> list[Array]:
    return [
        jnp.moveaxis(leaf, source, target) if flag and source != target else leaf
        for leaf, flag in zip(leaves, flags, strict=True)
    ]


def _drawn(program: Program, plan: Plan, state: Leaves, task: Leaves, block: int) -> Array:
    """The indices of the next steps: (steps, batch), and where each member draws its own an axis
    more: first where they go one by one, else where the members are in one step."""
    if not plan.own_batches:
        return program.draw(state, task, block)
    axes = [plan.axis if flag else None for flag in plan.task]
    draw = lambda task: program.draw(state, task, block)
    place = {"one by one": 0, "lanes": -1, "vmap": 1}[plan.way]
    return jax.vmap(draw, in_axes=(axes,), out_axes=place)(list(task))


def _one_by_one(program: Program, plan: Plan) -> Callable[..., Any]:
    take_steps = take_steps_of(program)
    if plan.one_kernel:
        take_steps = as_one_kernel(take_steps)
    parts = (plan.state, plan.task, plan.data)

    def take(state, task, data, indices, limit):
        shared = (state, task, data)

        def one(own: Any) -> Any:
            *trees, rows = own
            mine = [merged(*part) for part in zip(shared, parts, trees, strict=True)]
            now, after, written = take_steps(*mine, rows if plan.own_batches else indices, limit)
            there = jnp.arange(steps) < now
            written = {d: _where(there[:, None], rows) for d, rows in written.items()}
            return now, own_of(after, plan.state), written

        steps = indices.shape[1] if plan.own_batches else indices.shape[0]
        own = [own_of(leaves, flags) for leaves, flags in zip(shared, parts, strict=True)]
        rows = indices if plan.own_batches else None
        each, mine, written = _mapped(one, (*own, rows), plan.size)
        after = merged(state, plan.state, mine)
        going = ~jnp.all(program.stopped(after))
        now = jnp.where(going, jnp.minimum(limit, steps), jnp.max(each))
        # From (members, steps, names).
        written = {dtype: jnp.transpose(rows, (1, 2, 0)) for dtype, rows in written.items()}
        return now, each, program.ahead(after, now), written

    return take


def _mapped(function: Callable[..., Any], members: Any, size: int) -> Any:
    """A function of each member, one after the other."""
    if size > 1:
        return jax.lax.map(function, members)
    alone = function(jax.tree.map(lambda leaf: leaf[0], members))
    return jax.tree.map(lambda leaf: leaf[None], alone)


def _in_lanes(program: Program, plan: Plan) -> Callable[..., tuple[list[Array], dict[str, Array]]]:
    """A step of all members in lanes."""
    size = plan.size

    def step(state: Leaves, task: Leaves, data: Leaves, rows: Array) -> Any:
        flags = (*plan.state, *plan.task, *plan.data, plan.own_batches)
        inputs = zip((*state, *task, *data, rows), flags, strict=True)
        outputs = in_lanes(program.traced, list(inputs), size)
        after = [
            spread(value, size) if flag else value[0]
            for value, flag in zip(outputs[: len(state)], plan.state, strict=True)
        ]
        record = [spread(value, size) for value in outputs[len(state) :]]
        return after, dict(zip(program.record, record, strict=True))

    return step


def _by_vmap(program: Program, plan: Plan) -> Callable[..., tuple[list[Array], dict[str, Array]]]:
    """A step of all members by `jax.vmap`."""
    axes = [[0 if flag else None for flag in part] for part in (plan.state, plan.task, plan.data)]
    many = jax.vmap(program.step, in_axes=(*axes, 0 if plan.own_batches else None))

    def step(state: Leaves, task: Leaves, data: Leaves, rows: Array) -> Any:
        after, record = many(list(state), list(task), list(data), rows)
        merged = zip(after, plan.state, strict=True)
        return [value if flag else value[0] for value, flag in merged], record

    return step


def _side_by_side(program: Program, plan: Plan) -> Callable[..., Any]:
    size = plan.size
    step = (_in_lanes if plan.way == "lanes" else _by_vmap)(program, plan)

    def kept(stopped: Array, old: Array, new: Array) -> Array:
        if plan.axis == 0:
            stopped = stopped.reshape(-1, *[1] * (old.ndim - 1))
        return jnp.where(stopped, old, new)

    def take_steps(state, task, data, indices, limit):
        end = jnp.minimum(limit, len(indices))
        records = {
            dtype: jnp.zeros((len(indices), len(names), size), dtype)
            for dtype, names in program.columns.items()
        }

        def unfinished(carry: Any) -> Array:
            now, _, state, _ = carry
            return (now < end) & ~jnp.all(program.stopped(state))

        def body(carry: Any) -> Any:
            now, each, state, records = carry
            rows = jax.lax.dynamic_index_in_dim(indices, now, keepdims=False)
            after, record = step(program.ahead(state, now), task, data, rows)
            stopped = program.stopped(state)
            # The counters stay, which then cost the loop nothing.
            after = [
                kept(stopped, old, new) if flag else old
                for old, new, flag in zip(state, after, plan.state, strict=True)
            ]
            going = ~program.stopped(after)
            record = {name: _where(going, values) for name, values in record.items()}
            records = program.written(records, now, record)
            more = going.astype(jnp.int32)
            return now + jnp.max(more), each + more, after, records

        start = (jnp.zeros((), jnp.int32), jnp.zeros(size, jnp.int32), state, records)
        now, each, state, records = jax.lax.while_loop(unfinished, body, start)
        return now, each, program.ahead(state, now), records

    return as_one_kernel(take_steps) if plan.one_kernel else take_steps


def _where(there: Array, values: Array) -> Array:
    """NaN where there is nothing."""
    nothing = jnp.nan if jnp.issubdtype(values.dtype, jnp.floating) else 0
    return jnp.where(there, values, jnp.asarray(nothing, values.dtype))
