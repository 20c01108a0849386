"""The compiled loop. Two nested ones: the outer draws the indices of a block of steps in one
vectorized call; the inner takes the steps, as many as it was asked for."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from neuron.kernel import as_one_kernel
from neuron.run.program import Leaves, Program, Records


# How many steps one call can record: 16 ms of the fastest, and half a megabyte of records.
CAPACITY = 1 << 15
BLOCK = 128


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def loop(
    program: Program,
    one_kernel: bool,
    state: Leaves,
    records: Records,
    task: Leaves,
    data: Leaves,
    count: Array,
) -> tuple[Leaves, Records, Int[Array, ""]]:
    """Up to `count` steps: the state after them, what they recorded, and how many were taken."""
    block = max(1, min(BLOCK, (1 << 15) // program.cut.batch_size))
    inner = take_steps_of(program)
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


def take_steps_of(program: Program) -> Callable[..., Any]:
    """A function of the leaves of state, task and data, of the indices of some steps, and of how
    many of these to take: how many were taken, the state after them, and their records."""

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
