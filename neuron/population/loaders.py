"""Which rows the members see: all the same, or each in an order of its own."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from neuron.data import DataLoader
from neuron.members import together
from neuron.samplers import Sampler
from neuron.trees import on_entry


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
    first = loader[0]
    rows = first.sample() if first.on_device else None
    for place, other in enumerate(loader):
        if not other.on_device:
            raise ValueError(
                f"`{call}` of one loader for each member needs rows on the device; loader {place} "
                "has none. Give `DataLoader(..., placement='device')`."
            )
        alike = other.cut == first.cut and other.transform == first.transform
        if not alike or not _same(rows, other.sample()):
            raise ValueError(
                f"`{call}` must hold the same rows, batch size and transform in all loaders, which "
                f"differ in their samplers alone; loader {place} differs from loader 0."
            )
    (device,) = jax.device_put(np.zeros(())).devices()
    samplers = [on_entry(one.parts()["sampler"], device) for one in loader]
    if len({jax.tree.structure(sampler) for sampler in samplers}) > 1 or not _alike(samplers):
        raise ValueError(
            f"`{call}` must have samplers of one kind and shape; got "
            f"{sorted({repr(type(sampler).__name__) for sampler in samplers})}."
        )
    return first, together(samplers)


def _are_loaders(items: Sequence[Any]) -> bool:
    return all(isinstance(item, DataLoader) for item in items)


def _alike(samplers: Sequence[Sampler]) -> bool:
    shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(sampler)] for sampler in samplers]
    return all(shape == shapes[0] for shape in shapes)


def _same(one: Any, other: Any) -> bool:
    ones, others = jax.tree.leaves(one), jax.tree.leaves(other)
    if len(ones) != len(others):
        return False
    return all(a is b or np.array_equal(a, b) for a, b in zip(ones, others, strict=True))
