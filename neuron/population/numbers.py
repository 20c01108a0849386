"""Numbers of members: those of the optimizer, one for all or one for each."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from neuron.checkpoint import Saved
from neuron.hyperparameters import with_numbers
from neuron.objectives import Objective
from neuron.optimizers import Optimizer


def changed(
    first: Optimizer,
    now: Optimizer,
    objective: Objective,
    members: int,
    hyperparameters: dict[str, Any],
) -> Optimizer:
    """The optimizer of many with other numbers.

    **Arguments:**

    - `first`: that of one of them, which says what there is.
    - `now`: that of all, as it is.
    - `objective`: of one of them.
    - `members`: how many they are.
    - `hyperparameters`: as for `Population.set`.

    **Raises:**

    - As `Population.set`.
    """
    values: dict[str, Any] = {}
    for name, given in hyperparameters.items():
        groups = given if isinstance(given, dict) else {None: given}
        for group, value in groups.items():
            path = f"optimizer.{name}" + ("" if group is None else f"[{group}]")
            values[path] = _checked(first, name, group, value, members)
    new, *_ = with_numbers(first, objective, None, values)

    def placed(before: Any, changed: Any, now: Any) -> Any:
        if changed is before:
            return now
        return changed if changed.ndim >= now.ndim else jnp.broadcast_to(changed, now.shape)

    return jax.tree.map(placed, first, new, now)


def _checked(first: Optimizer, name: str, group: str | None, value: Any, members: int) -> Any:
    """One number, or one for each member, of which the extremes are in their range."""
    value = np.asarray(value)
    if value.shape not in ((), (members,)):
        raise ValueError(
            f"`Population.set({name}=...)` must be one number, or one for each of the {members} "
            f"members; got shape {value.shape}."
        )
    for extreme in (value.min(), value.max()):
        one: Any = float(extreme)
        first.with_numbers(**{name: one if group is None else {group: one}})
    return value.astype(float) if value.ndim else float(value)


def like_saved(first: Optimizer, saved: Saved, members: int) -> Optimizer:
    """An optimizer with room for the numbers of a checkpoint: which of them have a member axis is
    as it was there, since `set` may have given them one."""
    there = saved.shapes("optimizer")

    def one(path: Any, leaf: Any) -> Any:
        wide = (members, *np.shape(leaf))
        fits = there.get(jtu.keystr(path).removeprefix(".")) == wide
        return jnp.broadcast_to(leaf, wide) if fits else leaf

    return jtu.tree_map_with_path(one, first)
