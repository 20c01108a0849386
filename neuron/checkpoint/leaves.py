"""Leaves: a tree's arrays and numbers by their paths, and a tree filled with those of a file."""

import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from neuron.errors import CheckpointError
from neuron.trees import paths


Number = bool | int | float


@dataclasses.dataclass(frozen=True)
class Leaves:
    """What is in a tree, by path: arrays, and Python's numbers. Random keys are the words that
    they are made of, and `keys` says of which kind each is."""

    arrays: dict[str, np.ndarray]
    numbers: dict[str, Number] = dataclasses.field(default_factory=dict)
    keys: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, tree: PyTree, under: str = "") -> "Leaves":
        """What is in a tree, whose paths begin with `under`.

        **Raises:**

        - `CheckpointError` for two leaves of one path.
        """
        made = cls({}, {}, {})
        for path, leaf in paths(tree):
            name = (under + path).removeprefix(".")
            if name in made.arrays or name in made.numbers:
                raise CheckpointError(f"Two leaves have the path `{name}`; they must differ.")
            if _is_key(leaf):
                made.keys[name] = str(jax.random.key_impl(leaf))
                made.arrays[name] = np.asarray(jax.random.key_data(leaf))
            elif isinstance(leaf, Array | np.ndarray | np.generic):
                made.arrays[name] = np.asarray(leaf)
            elif isinstance(leaf, Number):
                made.numbers[name] = leaf
        return made

    def under(self, prefix: str) -> "Leaves":
        """Those below a path, with what stands behind it as theirs."""

        def cut(found: dict[str, Any]) -> dict[str, Any]:
            rest = {n.removeprefix(prefix): v for n, v in found.items() if n.startswith(prefix)}
            return {n.removeprefix("."): v for n, v in rest.items() if n[:1] in ("", ".", "[")}

        return Leaves(cut(self.arrays), cut(self.numbers), cut(self.keys))

    def without(self, prefix: str) -> "Leaves":
        """Those that are not below a path."""
        below = tuple(prefix + mark for mark in (".", "["))
        rest = {n: array for n, array in self.arrays.items() if not n.startswith(below)}
        return dataclasses.replace(self, arrays=rest)

    def __or__(self, other: "Leaves") -> "Leaves":
        """Those of both."""
        return Leaves(
            self.arrays | other.arrays, self.numbers | other.numbers, self.keys | other.keys
        )


def filled(like: PyTree, leaves: Leaves, shown: str, under: str = "", *, strict: bool = True):
    """The tree with the leaves of a file in the place of its own.

    **Arguments:**

    - `shown`: what the file is called in errors.
    - `under`: what the paths in the file begin with.
    - `strict`: whether all must fit. If not, what does not stays as it is in `like`, and a warning
        says what that was.

    **Raises:**

    - `CheckpointError` that names each leaf that is missing, left over, or of another shape or
        type.
    """
    held = leaves.under(under) if under else leaves
    shown_path = lambda name: f"{under}.{name}".removeprefix(".").replace(".[", "[")
    wrong: list[str] = []
    seen: set[str] = set()

    def one(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path).removeprefix(".")
        if not isinstance(leaf, Array | np.ndarray | np.generic | Number):
            return leaf
        seen.add(name)
        if why := _why_not(leaf, name, held):
            wrong.append(f"`{shown_path(name)}` {why}")
            return leaf
        if isinstance(leaf, Number):
            return type(leaf)(held.numbers[name])
        if _is_key(leaf):
            return jax.random.wrap_key_data(jnp.asarray(held.arrays[name]), impl=held.keys[name])
        array = np.array(held.arrays[name])
        return jnp.asarray(array) if isinstance(leaf, Array) else array

    tree = jax.tree_util.tree_map_with_path(one, like)
    left = [n for n in (*held.arrays, *held.numbers) if n not in seen]
    wrong += [f"`{shown_path(name)}` is in the file alone" for name in left]
    if wrong and strict:
        raise CheckpointError(f"{shown} does not fit: {_listed(wrong)}.")
    if wrong:
        warnings.warn(f"{shown} was read but for: {_listed(wrong)}.", stacklevel=3)
    return tree


def _why_not(leaf: Any, name: str, held: Leaves) -> str:
    """Why a file's leaf can not take another's place; nothing if it can."""
    if isinstance(leaf, Number):
        if name not in held.numbers:
            return "is missing" if name not in held.arrays else "is a number here, an array there"
        kinds = type(leaf).__name__, type(held.numbers[name]).__name__
        # JSON has 1.0 and 1 apart, as Python has.
        return "" if kinds[0] == kinds[1] else f"is {kinds[0]} here, {kinds[1]} there"
    if name not in held.arrays:
        return "is missing" if name not in held.numbers else "is an array here, a number there"
    kind = str(jax.random.key_impl(leaf)) if _is_key(leaf) else None
    if kind != held.keys.get(name):
        return f"holds {_keys(kind)} here, {_keys(held.keys.get(name))} there"
    here = jax.random.key_data(leaf) if _is_key(leaf) else leaf
    there = held.arrays[name]
    if here.dtype != there.dtype:
        return f"is {here.dtype} here, {there.dtype} there"
    if here.shape != there.shape:
        return f"has shape {tuple(here.shape)} here, {there.shape} there"
    return ""


def _keys(kind: str | None) -> str:
    return "no random keys" if kind is None else f"random keys of {kind}"


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _listed(wrong: list[str]) -> str:
    return "; ".join(wrong[:10]) + (f"; and {len(wrong) - 10} more" if wrong[10:] else "")


def by_path(tree: PyTree) -> dict[str, np.ndarray]:
    """A tree's arrays by path: what a callback may remember of a state."""
    return Leaves.of(tree).arrays


def from_paths(like: PyTree, arrays: dict[str, np.ndarray]) -> PyTree:
    """The inverse of `by_path`, for a tree of the same structure."""
    return filled(like, Leaves(arrays), "What was remembered")
