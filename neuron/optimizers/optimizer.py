"""The contract of an optimizer, and what several of them share."""

import abc
import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from neuron.optimizers.fields import is_number, value_of
from neuron.optimizers.rates import Groups
from neuron.types import Number, Params, Printable, Scalar, hyperparameter


class Optimizer(Printable):
    """Turns gradients into updates, in optax's call shape.

    An optimizer of your own is two methods. Its numbers that are arrays can be set:

    ```python
    class SignDescent(neuron.Optimizer):
        learning_rate: jax.Array = eqx.field(converter=jnp.asarray)

        def init(self, params):
            return None

        def update(self, grads, state, params):
            return jax.tree.map(lambda g: -self.learning_rate * jnp.sign(g), grads), state
    ```
    """

    @abc.abstractmethod
    def init(self, params: Params) -> PyTree:
        """The optimizer's state before the first step."""

    @abc.abstractmethod
    def update(self, grads: Params, state: PyTree, params: Params) -> tuple[Params, PyTree]:
        """One step.

        **Arguments:**

        - `grads`: the gradient, one leaf a parameter.
        - `state`: what `init` or the last `update` gave.
        - `params`: the parameters that the gradient was taken at.

        **Returns:**

        What is added to the parameters, and the new state.
        """

    def informed_update(
        self, grads: Params, state: PyTree, params: Params, **known: Any
    ) -> tuple[Params, PyTree]:
        """What the step calls: `update`, for an optimizer that wants to know more.

        **Arguments:**

        - `grads`, `state`, `params`: as for `update`.
        - `known`: `value`, the loss at `params`; `grad`, its gradient; and `value_fn`, a function
            from parameters to the loss of the same batch, with the same keys and model state.
        """
        del known
        return self.update(grads, state, params)

    def logs(self, grads: Params, state: PyTree, params: Params) -> dict[str, Scalar]:
        """Scalars worth recording at each step, from the same arguments as `update`."""
        del grads, state, params
        return {}

    def numbers(self) -> dict[str, Any]:
        """The numbers that `with_numbers` changes, by name, as they are now: floats, and a dict of
        floats where a learning rate has groups."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: _current(field) for name, field in fields.items() if _can_change(field)}

    def with_numbers(self, **numbers: Number | dict[str, Number]) -> "Optimizer":
        """The same optimizer with other numbers: same structure, so no recompile.

        **Raises:**

        - `ValueError` for a name that is no number of this optimizer, or a value out of its range;
            `TypeError` for what is no number.
        """
        refuse_unknown(self, numbers)
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        changed = {name: _changed(name, fields[name], new) for name, new in numbers.items()}
        return type(self)(**fields | changed)


def refuse_unknown(optimizer: Optimizer, names: Iterable[str]) -> None:
    """Refuses to set what is no number of an optimizer."""
    known = list(optimizer.numbers())
    for name in names:
        if name not in known:
            raise ValueError(
                f"`set({name}=...)` must name a number of {optimizer!r}; there are {known}."
            )


def no_updates() -> Int[Array, ""]:
    """The count before the first update."""
    return jnp.zeros((), jnp.int32)


def one_more(count: Int[Array, ""]) -> Int[Array, ""]:
    """The count after another update; it stays at the largest int32, where every bias correction
    has long been one."""
    return jnp.where(count < jnp.iinfo(jnp.int32).max, count + 1, count)


def zeros_like(params: Params) -> Params:
    """A zero for each parameter."""
    return jax.tree.map(jnp.zeros_like, params)


def _can_change(field: Any) -> bool:
    return bool(field.numbers()) if isinstance(field, Groups) else is_number(field)


def _current(field: Any) -> Any:
    return field.numbers() if isinstance(field, Groups) else value_of(field)


def _changed(name: str, field: Any, new: Any) -> Any:
    call = f"set({name}=...)"
    if isinstance(field, Groups):
        return field.with_rates(call, new)
    return hyperparameter(call, new, "finite", math.isfinite)
