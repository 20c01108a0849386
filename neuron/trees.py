"""Trees. What a compiled program is handed, and what is compiled into it."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

from neuron.types import Device


Shapes = tuple[jax.ShapeDtypeStruct, ...]


class Static:
    """A tree without its arrays: structure, functions and static fields, compared by value.

    Two runs whose static parts are equal, and whose arrays have the same shapes and types,
    share one compiled program.
    """

    def __init__(self, tree: PyTree):
        leaves, self._treedef = jtu.tree_flatten(tree)
        self._others = tuple(None if isinstance(leaf, Array) else leaf for leaf in leaves)
        self._hash = hash((self._treedef, self._others))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and (self._treedef, self._others) == (
            other._treedef,
            other._others,
        )

    def combine(self, arrays: Sequence[Any]) -> PyTree:
        """The tree again, around other arrays."""
        rest = iter(arrays)
        leaves = [next(rest) if leaf is None else leaf for leaf in self._others]
        return jtu.tree_unflatten(self._treedef, leaves)


def arrays_of(tree: PyTree) -> list[Array]:
    """The arrays among a tree's leaves, in order."""
    return [leaf for leaf in jtu.tree_leaves(tree) if isinstance(leaf, Array)]


def structure(tree: PyTree) -> tuple[Static, Shapes]:
    """A tree's static part, and the shapes and types of its arrays: what tracing depends on."""
    return Static(tree), tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays_of(tree))


def on_entry(tree: PyTree, device: Device) -> PyTree:
    """A tree as a run takes it: NumPy leaves become JAX arrays of JAX's own width, weak types
    become strong, and every array is bound to the device: a program that is handed bound arrays
    now and others then is compiled twice."""
    leaves, treedef = jtu.tree_flatten(tree)
    foreign = [place for place, leaf in enumerate(leaves) if not _at_home(leaf, device)]
    placed = jax.device_put([_strong(leaves[place]) for place in foreign], device)
    for place, leaf in zip(foreign, placed, strict=True):
        leaves[place] = leaf
    return jtu.tree_unflatten(treedef, leaves)


def as_device(call: str, device: Device | str | None) -> Device:
    """A device as it is, the first one of a platform, or the one JAX would use.

    **Raises:**

    - `ValueError` for a platform that is not there, `TypeError` for what is no device.
    """
    if isinstance(device, str):
        try:
            return jax.devices(device)[0]
        except RuntimeError as error:
            raise ValueError(
                f"`{call}` must name a platform of this machine; got {device!r}, "
                f"there are {sorted({d.platform for d in jax.devices()})}."
            ) from error
    if device is None:
        (device,) = jax.device_put(np.zeros(())).devices()
    if not isinstance(device, Device):
        raise TypeError(f"`{call}` must be a jax.Device or the name of a platform; got {device!r}.")
    return device


def _at_home(leaf: Any, device: Device) -> bool:
    if isinstance(leaf, np.ndarray | np.generic):
        return False
    return not isinstance(leaf, Array) or (
        leaf.committed and not _is_weak(leaf) and leaf.devices() == {device}
    )


def _strong(leaf: Any) -> Any:
    if isinstance(leaf, Array):
        return jax.lax.convert_element_type(leaf, leaf.dtype) if _is_weak(leaf) else leaf
    # A copy: JAX may read NumPy's memory in place.
    return np.array(leaf, jax.dtypes.canonicalize_dtype(leaf.dtype))


def kept(old: PyTree, new: PyTree) -> PyTree:
    """The new tree, with the old one's arrays at the paths and shapes that both have."""
    before = {path: leaf for path, leaf in paths(old) if isinstance(leaf, Array)}

    def choose(path: Any, leaf: Any) -> Any:
        known = before.get(jtu.keystr(path))
        array = isinstance(leaf, Array | np.ndarray)
        fits = known is not None and array and known.shape == leaf.shape
        return known if fits else leaf

    return jtu.tree_map_with_path(choose, new)


def _is_weak(leaf: Array) -> bool:
    return getattr(leaf, "weak_type", False)  # random keys have no such thing


def paths(tree: PyTree) -> Iterator[tuple[str, Any]]:
    """Each leaf with its path as one would type it: `.layers[0].weight`."""
    for path, leaf in jtu.tree_leaves_with_path(tree):
        yield jtu.keystr(path), leaf


def refuse_ties(call: str, tree: PyTree) -> None:
    """Refuses one array at two leaves: as two parameters they would drift apart."""
    seen: dict[int, str] = {}
    for path, leaf in paths(tree):
        first = seen.setdefault(id(leaf), path)
        if isinstance(leaf, Array | np.ndarray) and first != path:
            raise ValueError(
                f"`{call}` must hold each array once; got the same array at `{first}` and "
                f"`{path}`. To tie parameters, use equinox.nn.Shared."
            )


def refuse_unhashable(call: str, tree: PyTree) -> None:
    """Refuses what can not be compiled in: it might change behind the program's back."""
    for path, value in compiled_in(tree):
        try:
            hash(value)
        except TypeError as error:
            raise TypeError(
                f"`{call}` must have hashable static fields and leaves; got "
                f"{type(value).__name__} {value!r} at `{path}`. Make it an array leaf, or a tuple "
                "instead of a list or dict."
            ) from error


def compiled_in(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves that are no arrays and the static fields below a node, with their paths."""
    if isinstance(node, eqx.Module):
        for field in dataclasses.fields(node):
            value = getattr(node, field.name, None)
            static = field.metadata.get("static", False)
            here = f"{path}.{field.name}"
            yield from [(here, value)] if static else compiled_in(value, here)
    elif isinstance(node, list | tuple):
        for place, value in enumerate(node):
            yield from compiled_in(value, f"{path}[{place}]")
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from compiled_in(value, f"{path}[{name!r}]")
    elif not isinstance(node, Array | np.ndarray):
        yield path, node
