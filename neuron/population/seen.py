"""What the members see: all the same rows, in one order or each in its own, and how much each row
counts for each."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from neuron.data import DataLoader
from neuron.rows import Data
from neuron.samplers import Sampler
from neuron.trees import on_entry
from neuron.types import Batch, Device


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the members have of their own of the data that they share, members first.

    `samplers` say which rows make a batch, `weight` how much each row counts, and `targets` what is
    to be predicted; `None` for what is alike for all.
    """

    samplers: Sampler | None = None
    weight: np.ndarray | None = None
    targets: PyTree = None

    def put_into(self, data: Data, device: Device) -> tuple[Data, Data]:
        """The rows of one member, and of all."""
        if self.weight is None and self.targets is None:
            return data, data
        assert isinstance(data, Batch)
        own: dict[str, Any] = {}
        if self.weight is not None:
            weight = self.weight
            own["weight"] = weight if data.weight is None else weight * np.asarray(data.weight)
        if self.targets is not None:
            own["targets"] = jax.tree.map(np.asarray, self.targets)
        one = jax.tree.map(lambda leaf: leaf[0], own)
        one, own = on_entry((one, own), device)
        return dataclasses.replace(data, **one), dataclasses.replace(data, **own)


def seen_by(loader: Any, members: int, weight: Any, targets: Any) -> tuple[Any, Seen]:
    """The data of all, and what each member has of its own.

    **Raises:**

    - `ValueError` or `TypeError` for what can not be meant.
    """
    data, samplers = _samplers_of(loader, members)
    if weight is None and targets is None:
        return data, Seen(samplers)
    data = data if isinstance(data, DataLoader) else DataLoader(data)
    if not data.on_device:
        raise ValueError(
            "`Population.fit(weight=..., targets=...)` needs rows that live on the device: give "
            "`DataLoader(..., placement='device')`."
        )
    if weight is not None:
        weight = _weight(weight, members, data.cut.rows)
    if targets is not None:
        _refuse_other_targets(targets, data.sample().targets, members, data.cut.rows)
    return data, Seen(samplers, weight, targets)


def _samplers_of(loader: Any, members: int) -> tuple[Any, Sampler | None]:
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


def _weight(weight: Any, members: int, rows: int) -> np.ndarray:
    """How much each row counts for each member, (members, rows), as small as it came.

    **Raises:**

    - `ValueError` or `TypeError` for another shape, for negative numbers and for what is none.
    """
    given = np.asarray(weight)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"`Population.fit(weight=...)` must be numbers; got {given.dtype}.")
    if given.shape != (members, rows):
        raise ValueError(
            "`Population.fit(weight=...)` must say for each member how much each row counts: "
            f"({members} members, {rows} rows) here; got shape {given.shape}."
        )
    if given.dtype.kind == "f" and not (np.isfinite(given).all() and (given >= 0).all()):
        raise ValueError("`Population.fit(weight=...)` must be finite and at least 0.")
    if given.dtype.kind == "i" and (given < 0).any():
        raise ValueError("`Population.fit(weight=...)` must be at least 0.")
    return given.astype(np.uint8) if given.dtype == bool else given


def _refuse_other_targets(targets: Any, like: Any, members: int, rows: int) -> None:
    """Refuses targets that are not those of each member.

    **Raises:**

    - `ValueError` for another shape than the loader's with the members first.
    """
    # Some of the rows may be all that is there to see.
    wanted = jax.tree.map(lambda leaf: (rows, *np.shape(leaf)[1:]), like)
    expected = jax.tree.map(lambda leaf: (members, rows, *np.shape(leaf)[1:]), like)
    given = jax.tree.map(np.shape, targets)
    if given != expected:
        raise ValueError(
            "`Population.fit(targets=...)` must be the loader's targets, members first: of shapes "
            f"{expected} here, for {wanted} of one; got {given}."
        )
