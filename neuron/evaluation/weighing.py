"""Sums of many models over the same rows, which count for each in a way of its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuron.evaluation.evaluating import Scored
from neuron.members import over_members, stacked
from neuron.run import Leaves
from neuron.step import Sums, evaluation_step
from neuron.trees import Static, arrays_of
from neuron.types import Batch


def weighed(many: Scored, one: Scored, rows: Batch, weight: np.ndarray) -> Sums:
    """The sums of each member, members first.

    **Arguments:**

    - `many`: the parts of all, members first; what all have in common has no such axis.
    - `one`: those of one member.
    - `rows`: all of them are computed together.
    - `weight`: how much each row counts for each member, (members, rows); one of weight 0 is none,
        whatever its loss is.
    """
    flags = stacked(arrays_of(one), arrays_of(many))
    return _sums(Static(one), flags, arrays_of(many), rows, jnp.asarray(weight))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sums(
    static: Static, flags: tuple[bool, ...], arrays: Leaves, rows: Batch, weight: Array
) -> Sums:
    def one(arrays: Leaves) -> Sums:
        *own, weight = arrays
        model, model_state, scoring, seed = static.combine(own)
        batch = Batch(rows.inputs, rows.targets, weight)
        first = jnp.zeros(2, jnp.uint32)
        return evaluation_step(model, model_state, scoring, batch, weight > 0, seed, first)

    return over_members(one, [*arrays, weight], (*flags, True))
