"""Optax's optimizers in an optimizer's place."""

import inspect
from typing import Any, Protocol, runtime_checkable

from jaxtyping import PyTree

from neuron.optimizers.optimizer import Optimizer
from neuron.types import Params


@runtime_checkable
class GradientTransformation(Protocol):
    """What optax's optimizers look like."""

    def init(self, params: Params) -> PyTree: ...

    def update(self, grads: Params, state: PyTree, params: Params) -> tuple[Params, PyTree]: ...


class Transformation(Optimizer):
    """An optax object in an optimizer's place. Its numbers are its own: it logs none."""

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
