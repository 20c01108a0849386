"""A function over the batches of a block, one after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun
from jaxtyping import Array, PyTree

from neuron.convolutions import for_loops
from neuron.run import Leaves, traced


# How many rows are computed together where nobody says.
BATCH_SIZE = 256


def over_batches(
    function: Callable[..., PyTree],
    arrays: Leaves,
    block: PyTree,
    batch_size: int,
    bounds: tuple[Array, Array],
    *others: Array,
) -> PyTree:
    """Calls a function for each batch of a block from a first one on to before a last; stacks the
    results, at the batches' places."""
    batches = jax.tree.map(lambda rows: rows.reshape(-1, batch_size, *rows.shape[1:]), block)
    number = jax.tree.leaves(batches)[0].shape[0]

    def one(place: Array) -> tuple[Any, ...]:
        return arrays, jax.tree.map(lambda rows: rows[place], batches), place, *others

    # Traced once, for the shapes of the results and for the loop.
    jaxpr, like = traced(function, *one(jnp.zeros((), jnp.int32)))
    flat, treedef = jax.tree.flatten(like)
    call = jaxpr_as_fun(for_loops(jaxpr))

    def body(place: Array, results: list[Array]) -> list[Array]:
        values = call(*jax.tree.leaves(one(place)))
        return [stack.at[place].set(value) for stack, value in zip(results, values, strict=True)]

    empty = [jnp.zeros((number, *leaf.shape), leaf.dtype) for leaf in flat]
    return jax.tree.unflatten(treedef, jax.lax.fori_loop(*bounds, body, empty))
