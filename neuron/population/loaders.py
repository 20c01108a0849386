"""Which rows the members see: all the same, or each in an order of its own."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from neuron.data import DataLoader
from neuron.samplers import Sampler


def samplers_of(loader: Any, members: int) -> tuple[Any, Sampler | None]:
    """The loader of all, and the samplers of a list of them as one, members first; `None` where all
    draw alike.

    **Raises:**

    - `ValueError` for loaders that are not of the same rows, or can not be one program.
    """
    if not (isinstance(loader, list | tuple) and loader and _are_loaders(loader)):
        return loader, None
    call = "Population.fit(loader)"
    if len(loader) != members:
        raise ValueError(
            f"`{call}` must be one loader, or one for each of the {members} members; got "
            f"{len(loader)}."
        )
    first, samplers = loader[0], []
    rows, cut = first.sample() if first.on_device else None, first.cut
    for place, other in enumerate(loader):
        if not other.on_device:
            raise ValueError(
                f"`{call}` of one loader for each member needs rows on the device; loader {place} "
                "has none. Give `DataLoader(..., placement='device')`."
            )
        alike = other.cut == cut and other.transform == first.transform
        if not alike or not _same(rows, other.sample()):
            raise ValueError(
                f"`{call}` must hold the same rows, batch size and transform in all loaders, which "
                f"differ in their samplers alone; loader {place} differs from loader 0."
            )
        samplers.append(other.parts()["sampler"])
    if len({_kind(sampler) for sampler in samplers}) > 1:
        raise ValueError(
            f"`{call}` must have samplers of one kind and shape; got "
            f"{sorted({type(sampler).__name__ for sampler in samplers})}."
        )
    columns = zip(*map(jax.tree.leaves, samplers), strict=True)
    leaves = [_stacked(column) for column in columns]
    return first, jax.tree.unflatten(jax.tree.structure(samplers[0]), leaves)


def _stacked(leaves: Sequence[Any]) -> Any:
    """Leaves as one, members first; one that is the same for all stays as it is."""
    arrays = [np.asarray(leaf) for leaf in leaves]
    same = all(array is arrays[0] or np.array_equal(array, arrays[0]) for array in arrays)
    return leaves[0] if same else np.stack(arrays)


def _kind(sampler: Sampler) -> Any:
    leaves, treedef = jax.tree.flatten(sampler)
    return treedef, tuple((np.shape(leaf), np.asarray(leaf).dtype) for leaf in leaves)


def _are_loaders(items: Sequence[Any]) -> bool:
    return all(isinstance(item, DataLoader) for item in items)


def _same(one: Any, other: Any) -> bool:
    ones, others = jax.tree.leaves(one), jax.tree.leaves(other)
    if len(ones) != len(others):
        return False
    return all(a is b or np.array_equal(a, b) for a, b in zip(ones, others, strict=True))
