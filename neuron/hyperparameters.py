"""Hyperparameters. The numbers of a run by their names: of optimizer, loss and average."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PyTree

from neuron.average import decay
from neuron.losses import Loss
from neuron.objectives import Objective, Penalized, Penalty, Supervised
from neuron.optimizers import Clipped, Groups, Optimizer, is_number
from neuron.selection import dotted
from neuron.types import Number, hyperparameter


if TYPE_CHECKING:
    from neuron.trainer import Trainer


def numbers(trainer: "Trainer") -> dict[str, float]:
    """The numbers of a trainer's run, by the names that `with_numbers` takes:

    - `optimizer.learning_rate` and each other number of the optimizer, by the name that
        `trainer.set` has for it; `optimizer.learning_rate[encoder.*]` where rates have groups;
    - `loss.delta` and each other number of the loss; `loss.digit.delta` where losses are a dict,
        and `loss.weights.digit` for the weight of one; `loss.penalties.l2.strength`;
    - `average`, the decay of the weights' average.
    """
    parts = (trainer.optimizer, trainer._parts.scoring.objective, trainer._parts.average)
    return {name: float(leaf) for name, leaf in _named(*parts)}


def with_numbers(
    optimizer: Optimizer, objective: Objective, average: Number | None, values: Mapping[str, Any]
) -> tuple[Optimizer, Objective, Number | None]:
    """The parts of a run with other numbers in them, in the types that they had.

    **Arguments:**

    - `optimizer`, `objective`, `average`: as a run has them.
    - `values`: by name, as `numbers` has them. One that is a number must be in its range. One that
        is traced, or an array with an axis of its own, a number for each member of a population,
        is taken as it is.

    **Raises:**

    - `ValueError` for a name that is none of these, and for a number out of its range; `TypeError`
        for what is no number.
    """
    refuse_unknown("with_numbers(values)", values, _names(optimizer, objective, average))
    checked = {name: _number(name, new) for name, new in values.items() if not _is_free(new)}
    _check_optimizer(optimizer, checked)
    if "average" in checked:
        decay("Trainer(average=...)", checked["average"])
    _check_objective(objective, _put(objective, _name_in_objective, checked))
    values = {**values, **checked}
    if average is not None and "average" in values:
        average = _as_leaf(average, values["average"])
    return (
        _put(optimizer, _name_in_optimizer, values),
        _put(objective, _name_in_objective, values),
        average,
    )


def refuse_unknown(call: str, names: Any, known: Any) -> None:
    """Refuses a name that is none of a run's numbers.

    **Raises:**

    - `ValueError` with those that there are.
    """
    for name in names:
        if name not in known:
            raise ValueError(
                f"`{call}` must name numbers of the run; got {name!r}, there are {list(known)}."
            )


def _names(*parts: Any) -> list[str]:
    return [name for name, _ in _named(*parts)]


def _named(optimizer: Optimizer, objective: Objective, average: Number | None) -> list[Any]:
    """Each number with its name."""
    found: list[Any] = []
    parts: Any = ((optimizer, _name_in_optimizer), (objective, _name_in_objective))
    for part, name in parts:
        leaves = jtu.tree_leaves_with_path(part)
        found += [(name(part, dotted(path)), leaf) for path, leaf in leaves if is_number(leaf)]
    return found if average is None else [*found, ("average", average)]


def _name_in_optimizer(optimizer: Optimizer, path: str) -> str:
    """The name of the number at a path of an optimizer: what clips it does not count."""
    while isinstance(optimizer, Clipped) and path.startswith("optimizer."):
        optimizer, path = optimizer.optimizer, path.removeprefix("optimizer.")
    field, _, place = path.partition(".rates.")
    groups = getattr(optimizer, field, None)
    if place and isinstance(groups, Groups):
        return f"optimizer.{field}[{groups.patterns[int(place)]}]"
    return f"optimizer.{path}"


def _name_in_objective(objective: Objective, path: str) -> str:
    """The name of the number at a path of an objective: what is around a loss does not count."""
    field, _, rest = path.partition(".")
    if isinstance(objective, Penalized):
        inside = field == "objective"
        return _name_in_objective(objective.objective, rest) if inside else f"loss.penalties.{rest}"
    return path if isinstance(objective, Supervised) and field == "loss" else f"loss.{path}"


def _put(part: Any, name_of: Callable[[Any, str], str], values: Mapping[str, Any]) -> Any:
    """An optimizer or an objective with other numbers at their places."""

    def one(path: Any, leaf: Any) -> Any:
        name = name_of(part, dotted(path)) if is_number(leaf) else ""
        return _as_leaf(leaf, values[name]) if name in values else leaf

    return jtu.tree_map_with_path(one, part)


def _as_leaf(leaf: Any, value: Any) -> Array:
    return jnp.asarray(value, jax.dtypes.canonicalize_dtype(leaf.dtype))


def _is_free(value: Any) -> bool:
    """Whether nobody can say what the number is, or whether it is one."""
    return isinstance(value, Tracer) or (isinstance(value, np.ndarray | Array) and value.ndim > 0)


def _number(name: str, value: Any) -> float:
    return float(hyperparameter(f"{{{name!r}: ...}}", value, "finite", math.isfinite))


def _check_optimizer(optimizer: Optimizer, values: Mapping[str, float]) -> None:
    """Refuses numbers that the optimizer does."""
    new: dict[str, Any] = {}
    for name, now in optimizer.numbers().items():
        whole = f"optimizer.{name}"
        if isinstance(now, dict):
            groups = {p: values[f"{whole}[{p}]"] for p in now if f"{whole}[{p}]" in values}
            new |= {name: groups} if groups else {}
        elif whole in values:
            new[name] = values[whole]
    optimizer.with_numbers(**new)


def _check_objective(old: PyTree, new: PyTree) -> None:
    """Refuses numbers that a loss, a penalty or an objective does: where it is made of its fields,
    it is made anew."""
    for before, after in zip(_parts_of(old), _parts_of(new), strict=True):
        pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
        if all(one is other for one, other in pairs):
            continue
        fields = {f.name: getattr(after, f.name) for f in dataclasses.fields(after)}
        if inspect.signature(type(after)).parameters.keys() == fields.keys():
            type(after)(**fields)


def _parts_of(node: PyTree) -> list[Any]:
    """The losses, penalties and objectives of a tree, itself if it is one."""
    kinds = (Loss, Penalty, Objective)
    below = jax.tree.leaves(node, is_leaf=lambda n: n is not node and isinstance(n, kinds))
    inner = [part for n in below if n is not node and isinstance(n, kinds) for part in _parts_of(n)]
    return [node, *inner] if isinstance(node, kinds) else inner
