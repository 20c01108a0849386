"""Optax's optimizers in an optimizer's place."""

import inspect
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from neuron.optimizers.optimizer import Optimizer
from neuron.types import Params, Scalar


@runtime_checkable
class GradientTransformation(Protocol):
    """What optax's optimizers look like."""

    def init(self, params: Params) -> PyTree: ...

    def update(self, grads: Params, state: PyTree, params: Params) -> tuple[Params, PyTree]: ...


@runtime_checkable
class Injected(Protocol):
    """The part of a state that `optax.inject_hyperparams` makes, with the numbers last used. Those
    with a schedule have a state of their own."""

    hyperparams: dict[str, Any]
    hyperparams_states: dict[str, Any]


class Transformation(Optimizer):
    """An optax object in an optimizer's place.

    Its numbers are its own. It logs the learning rate that `optax.inject_hyperparams` has put into
    its state, if that is one number or a function of the count.
    """

    transformation: Any

    def init(self, params: Params) -> PyTree:
        return self.transformation.init(params)

    def update(self, grads: Params, state: PyTree, params: Params) -> tuple[Params, PyTree]:
        return self.transformation.update(grads, state, params)

    def informed_update(
        self, grads: Params, state: PyTree, params: Params, **known: Any
    ) -> tuple[Params, PyTree]:
        if not _takes_more(self.transformation.update):
            return self.update(grads, state, params)
        return self.transformation.update(grads, state, params, **known)

    def logs(self, grads: Params, state: PyTree, params: Params) -> dict[str, Scalar]:
        rate, scheduled = _injected_rate(state)
        if scheduled:
            # A schedule is known to the update alone, which leaves the rate that it used behind.
            # Nothing else of this one is used, so the compiler leaves the rest out.
            nothing = jnp.zeros(())
            known = {"value": nothing, "grad": grads, "value_fn": lambda params: nothing}
            _, after = self.informed_update(grads, state, params, **known)
            rate, _ = _injected_rate(after)
        return {} if rate is None else {"learning_rate": jnp.asarray(rate)}


def _injected_rate(state: PyTree) -> tuple[Any, bool]:
    """The only learning rate in an optax state, or `None`, and whether it follows a schedule."""
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, Injected))
    found = [n for n in nodes if isinstance(n, Injected) and "learning_rate" in n.hyperparams]
    if len(found) != 1:
        return None, False
    schedule = found[0].hyperparams_states.get("learning_rate")
    if schedule is not None and getattr(schedule, "_fields", None) != ("count",):
        return None, False  # it may look at the loss, which logs do not know
    return found[0].hyperparams["learning_rate"], schedule is not None


def _takes_more(update: Any) -> bool:
    """Whether an update takes arguments beyond the three, as optax's L-BFGS does."""
    parameters = inspect.signature(update).parameters.values()
    return any(p.kind is p.VAR_KEYWORD for p in parameters)


def as_optimizer(optimizer: Any) -> Optimizer:
    """An `Optimizer` as it is, an optax object wrapped; `TypeError` for anything else."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, GradientTransformation) and not isinstance(optimizer, type):
        return Transformation(optimizer)
    raise TypeError(
        "`Trainer(optimizer=...)` must be a neuron.Optimizer, such as neuron.Adam(), or have "
        f"optax's `init` and `update`; got {optimizer!r}."
    )
