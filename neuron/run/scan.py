"""The loop of a differentiable run: of a length that is known, so that derivatives go both ways."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from neuron.run.program import Leaves, Program


# What is computed again stands in a scan, where nothing could be shared with the first time.
_again = functools.partial(jax.checkpoint, prevent_cse=False)


def unroll(
    program: Program, state: Leaves, task: Leaves, data: Leaves, steps: int
) -> tuple[Leaves, Bool[Array, ""]]:
    """The state after that many steps, and whether one of them refused its update.

    On the way back, only the states between blocks of about the root of `steps` are there; each
    block is taken again, which leaves the states between its steps, and then each step of it. So
    the memory grows as the root of the steps, for three times the steps forward (Griewank, 1992).
    """
    block = _length(steps)
    whole, rest = divmod(steps, block)
    carry = (list(state), jnp.zeros((), bool))
    for blocks, length in ((whole, block), (1, rest)):
        if blocks and length:
            one = _block(program, task, data, length)
            carry, _ = jax.lax.scan(one, carry, length=blocks)
    return carry


def _length(steps: int) -> int:
    """How many steps a block has: the root of all, rounded up, or up to twice that where all blocks
    are then whole. A shorter last one is a second program to compile."""
    least = math.isqrt(max(0, steps - 1)) + 1
    return next((n for n in range(least, 2 * least) if steps % n == 0), least)


def _block(program: Program, task: Leaves, data: Leaves, length: int) -> Any:
    """Some steps, as the body of a scan."""

    @_again
    def step(carry: Any, place: Any) -> Any:
        (state, refused), (now, rows) = carry, place
        after, _ = program.step(program.ahead(state, now), task, data, rows)
        refused = refused | program.stopped(after)
        # Counters that no update decides about draw the same rows for all members of a `vmap`.
        return (program.with_counters_of(state, after), refused), None

    @_again
    def block(carry: Any, _: None) -> Any:
        indices = program.draw(carry[0], task, length)
        (state, refused), _ = jax.lax.scan(step, carry, (jnp.arange(length), indices))
        return (program.ahead(state, jnp.asarray(length)), refused), None

    return block
