"""Selection. Which leaves of a model are meant, by their paths."""

import fnmatch
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.tree_util as jtu
from jaxtyping import PyTree

from neuron.types import Model, Params


# Patterns such as "encoder.*", a predicate on paths, or an Equinox filter spec: a tree of
# booleans with the model's structure, or a part of it.
Selection: TypeAlias = Any


def dotted(path: Any) -> str:
    """A leaf's path as patterns have it: `encoder.layers.0.weight`."""
    return jtu.keystr(path, simple=True, separator=".")


def selected(call: str, tree: PyTree, selection: Selection) -> PyTree:
    """A tree of booleans: which leaves a selection means.

    **Arguments:**

    - `selection`: one or several patterns, in which `*` stands for anything; a function of the
        path; or a filter spec, a tree of booleans whose structure is a prefix of this one's.

    **Raises:**

    - `ValueError` for a pattern that matches nothing, with the paths there are; `TypeError` for
        what is no selection.
    """
    known = [dotted(path) for path, _ in jtu.tree_leaves_with_path(tree)]
    if isinstance(selection, str):
        selection = (selection,)
    if _are_patterns(selection):
        for pattern in selection:
            if not fnmatch.filter(known, pattern):
                raise ValueError(f"`{call}` must match a leaf; {pattern!r} is none of {known}.")
        chosen = lambda path: any(fnmatch.fnmatchcase(path, pattern) for pattern in selection)
        return jtu.tree_map_with_path(lambda path, _: chosen(dotted(path)), tree)
    if callable(selection) and not isinstance(selection, type(tree)):
        return jtu.tree_map_with_path(lambda path, _: bool(selection(dotted(path))), tree)
    try:
        return jax.tree.map(_for_all, selection, tree, is_leaf=lambda node: isinstance(node, bool))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`{call}` must be patterns, a function of a path, or a tree of booleans that fits the "
            f"model; got {selection!r}."
        ) from error


def _are_patterns(selection: Any) -> bool:
    sequence = isinstance(selection, list | tuple)
    return sequence and all(isinstance(pattern, str) for pattern in selection)


def _for_all(chosen: Any, part: PyTree) -> PyTree:
    if not isinstance(chosen, bool):
        raise TypeError(chosen)
    return jax.tree.map(lambda _: chosen, part)


def partitioned(call: str, model: Model, trainable: Selection | None) -> tuple[Params, Model]:
    """The parameters that are trained, and the rest of a model.

    **Raises:**

    - `ValueError` where nothing is left to train.
    """
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    if trainable is not None:
        params, frozen = eqx.partition(params, selected(call, params, trainable))
        rest = eqx.combine(frozen, rest)
    if not jax.tree.leaves(params):
        raise ValueError(f"`{call}` must leave something to train; got {trainable!r}.")
    return params, rest
