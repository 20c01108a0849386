"""Selection. Which leaves of a model are meant, by their paths."""

import fnmatch
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.tree_util as jtu
from jaxtyping import PyTree

from neuron.trees import Static
from neuron.types import Model, Params, is_fixed


# Patterns such as "encoder.*", a predicate on paths, or an Equinox filter spec: a tree of
# booleans with the model's structure, or a part of it.
Selection: TypeAlias = Any


def dotted(path: Any) -> str:
    """A leaf's path as patterns have it: `encoder.layers.0.weight`."""
    return jtu.keystr(path, simple=True, separator=".")


class Choice:
    """A selection as a static field: compared by value, and printed as it was given.

    What it is asked about is what is trained: a pattern may also match frozen leaves alone.
    """

    def __init__(self, call: str, selection: Selection):
        """**Raises:**

        - `TypeError` for what is no selection of any tree.
        """
        if not (_is_spec(selection) or callable(selection) or _patterns(selection) is not None):
            raise _no_selection(call, selection)
        self._call = call
        # Lists and dicts made anew: what the user still holds may change.
        self._selection = jax.tree.map(lambda leaf: leaf, selection)
        self._static = Static(self._selection)

    def of(self, params: PyTree) -> PyTree:
        """A tree of booleans: see `selected`."""
        return selected(self._call, params, self._selection, frozen=True)

    def __hash__(self) -> int:
        return hash(self._static)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Choice) and self._static == other._static

    def __repr__(self) -> str:
        return getattr(self._selection, "__name__", None) or repr(self._selection)


def selected(call: str, tree: PyTree, selection: Selection, *, frozen: bool = False) -> PyTree:
    """A tree of booleans: which leaves a selection means.

    **Arguments:**

    - `selection`: one or several patterns, in which `*` stands for anything; a function of the
        path; or a filter spec, a tree of booleans whose structure is a prefix of this one's.
    - `frozen`: as for `refuse_unmatched`.

    **Raises:**

    - `ValueError` for a pattern that matches nothing, with the paths there are; `TypeError` for
        what is no selection.
    """
    patterns = _patterns(selection)
    if patterns is not None:
        refuse_unmatched(call, tree, patterns, frozen=frozen)
        chosen = lambda path: any(matches(path, pattern) for pattern in patterns)
        return jtu.tree_map_with_path(lambda path, _: chosen(dotted(path)), tree)
    if callable(selection) and not _is_spec(selection):
        return jtu.tree_map_with_path(lambda path, _: bool(selection(dotted(path))), tree)
    try:
        return jax.tree.map(_for_all, selection, tree, is_leaf=lambda node: isinstance(node, bool))
    except (TypeError, ValueError) as error:
        raise _no_selection(call, selection) from error


def refuse_unmatched(call: str, tree: PyTree, patterns: Iterable[str], *, frozen: bool) -> None:
    """Refuses a pattern that matches nothing, with the paths there are.

    **Arguments:**

    - `frozen`: whether a pattern may match an empty place alone. Frozen leaves leave one behind,
        but so does a bias that a layer does without.
    """
    places = leaf_paths(tree, frozen=frozen)
    for pattern in patterns:
        if not any(matches(path, pattern) for path in places):
            raise ValueError(
                f"`{call}` must match a leaf; {pattern!r} is none of {leaf_paths(tree)}."
            )


def leaf_paths(tree: PyTree, *, frozen: bool = False) -> list[str]:
    """The paths of a tree's leaves; with `frozen`, of its empty places as well."""
    found = jtu.tree_leaves_with_path(tree, is_leaf=_is_empty if frozen else None)
    return [dotted(path) for path, _ in found]


def matches(path: str, pattern: str) -> bool:
    """Whether a path is one that a pattern means."""
    return fnmatch.fnmatchcase(path, pattern)


def _patterns(selection: Selection) -> tuple[str, ...] | None:
    """The patterns that a selection is made of; `None` where it is something else."""
    patterns = (selection,) if isinstance(selection, str) else selection
    sequence = isinstance(patterns, list | tuple)
    return tuple(patterns) if sequence and all(isinstance(p, str) for p in patterns) else None


def _is_spec(selection: Selection) -> bool:
    leaves = jax.tree.leaves(selection)
    return bool(leaves) and all(isinstance(leaf, bool) for leaf in leaves)


def _is_empty(node: Any) -> bool:
    """Whether a node has neither leaves nor children: `None`, or what stands for it in optax."""
    structure = jtu.tree_structure(node)
    return structure.num_nodes == 1 and structure.num_leaves == 0


def _no_selection(call: str, selection: Selection) -> TypeError:
    return TypeError(
        f"`{call}` must be patterns, a function of a path, or a tree of booleans that fits the "
        f"model; got {selection!r}."
    )


def _for_all(chosen: Any, part: PyTree) -> PyTree:
    if not isinstance(chosen, bool):
        raise TypeError(chosen)
    return jax.tree.map(lambda _: chosen, part)


def parameters(model: Model, is_float: Callable[[Any], bool] = eqx.is_inexact_array) -> Params:
    """What of a model may be trained: its floating-point arrays, but for those of `Fixed` parts.

    **Arguments:**

    - `is_float`: which leaves are meant, where others are than JAX's own arrays.
    """
    return eqx.filter(model, _may_train(model, is_float))


def _may_train(model: Model, is_float: Callable[[Any], bool]) -> PyTree:
    may = lambda node: not is_fixed(node) and is_float(node)
    return jax.tree.map(may, model, is_leaf=is_fixed)


def partitioned(call: str, model: Model, trainable: Selection | None) -> tuple[Params, Model]:
    """The parameters that are trained, and the rest of a model.

    **Raises:**

    - `ValueError` where nothing is left to train.
    """
    params, rest = eqx.partition(model, _may_train(model, eqx.is_inexact_array))
    if trainable is not None:
        params, frozen = eqx.partition(params, selected(call, params, trainable))
        rest = eqx.combine(frozen, rest)
    if not jax.tree.leaves(params):
        raise ValueError(f"`{call}` must leave something to train; got {trainable!r}.")
    return params, rest
