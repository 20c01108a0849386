"""Members. Arrays of many models, members first, beside those that all have in common."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from neuron.trees import Static, arrays_of


Flags = tuple[bool, ...]


def stacked(one: Sequence[Any], many: Sequence[Any]) -> Flags:
    """Which arrays have a member axis, beside those of one member."""
    return tuple(a.ndim != b.ndim for a, b in zip(one, many, strict=True))


def over_members(
    function: Callable[[Sequence[Array]], PyTree], arrays: Sequence[Array], many: Flags
) -> PyTree:
    """A function of the arrays of each member, one after the other; results are members first. With
    no flags there is one only, and no such axis."""
    if not any(many):
        return function(arrays)
    return jax.lax.map(lambda own: function(merged(arrays, many, own)), own_of(arrays, many))


def own_of(arrays: Sequence[Any], many: Flags) -> list[Any]:
    """The arrays that have a member axis."""
    return [array for array, flag in zip(arrays, many, strict=True) if flag]


def merged(arrays: Sequence[Any], many: Flags, own: Sequence[Any]) -> list[Any]:
    """The arrays of one member: its own ones in the place of all members'."""
    rest = iter(own)
    return [next(rest) if flag else array for array, flag in zip(arrays, many, strict=True)]


def members_of(arrays: Sequence[Array], many: Flags) -> Iterator[list[Any]]:
    """The arrays of one member after the other."""
    own = [on_host(array) for array in own_of(arrays, many)]
    for place in range(len(own[0]) if own else 0):
        yield merged(arrays, many, [jnp.asarray(array[place]) for array in own])


def picked(one: PyTree, many: PyTree, member: int) -> PyTree:
    """The tree of one member, of the one of all; `one` says what has no member axis."""
    return _part(one, many, member)


def first_members(one: PyTree, many: PyTree, number: int) -> PyTree:
    """The tree of the first ones; `one` says what has no member axis."""
    return _part(one, many, slice(number))


def _part(one: PyTree, many: PyTree, which: int | slice) -> PyTree:
    arrays = arrays_of(many)
    own = [
        jnp.asarray(on_host(array)[which]) if flag else array
        for array, flag in zip(arrays, stacked(arrays_of(one), arrays), strict=True)
    ]
    return Static(one).combine(own)


def on_host(array: Array) -> Any:
    """An array as NumPy's, of which parts are cheap; keys stay what they are."""
    return array if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) else np.asarray(array)


def together(trees: Sequence[PyTree]) -> PyTree:
    """Trees of one structure as one, members first. What is the same for all stays as it is."""
    static = Static(trees[0])
    columns = zip(*map(arrays_of, trees), strict=True)
    return static.combine([_joined(leaves) for leaves in columns])


def alike(leaves: Sequence[Array]) -> bool:
    """Whether they are one array, or small ones of the same numbers."""
    first = leaves[0]
    if all(leaf is first for leaf in leaves):
        return True
    if first.size > 64:
        return False
    held = jax.device_get(list(leaves))
    return all(np.array_equal(held[0], leaf, equal_nan=False) for leaf in held)


def _joined(leaves: Sequence[Array]) -> Array:
    return leaves[0] if alike(leaves) else jnp.stack(leaves)


def repeated(tree: PyTree, number: int) -> PyTree:
    """A tree of one as that of many equal ones, members first."""
    return Static(tree).combine([_wide(array, number) for array in arrays_of(tree)])


def _wide(array: Array, number: int) -> Array:
    wide = (number, *array.shape)
    hosted = on_host(array)
    if hosted is array:
        return jnp.broadcast_to(array, wide)
    # On the host, where it takes no program.
    (device,) = array.devices()
    return jax.device_put(np.ascontiguousarray(np.broadcast_to(hosted, wide)), device)


def chosen(which: np.ndarray, one: PyTree, other: PyTree) -> PyTree:
    """Trees of many members: of each member, the leaves of the one where `which` says so."""

    def choose(a: Any, b: Any) -> Any:
        mask = jnp.asarray(which).reshape(-1, *([1] * (a.ndim - 1)))
        return jnp.where(mask, a, b)

    return jax.tree.map(choose, one, other)
