"""The contract of an optimizer, and what several of them share."""

import abc
import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from neuron.optimizers.fields import as_like, is_number, not_negative, value_of
from neuron.types import Number, Params, Printable, Scalar, hyperparameter


Rate = Number | Callable[[Int[Array, ""]], Scalar]


class Optimizer(Printable):
    """Turns gradients into updates, in optax's call shape.

    An optimizer of your own is two methods:

    ```python
    class SignDescent(neuron.Optimizer):
        learning_rate: jax.Array

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
        """The numbers that `with_numbers` changes, by name, as they are now: floats."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value_of(field) for name, field in fields.items() if is_number(field)}

    def with_numbers(self, **numbers: Number) -> "Optimizer":
        """The same optimizer with other numbers: same structure, so no recompile.

        **Raises:**

        - `ValueError` for a name that is no number of this optimizer, or a value out of its range;
            `TypeError` for what is no number.
        """
        refuse_unknown(self, numbers)
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in numbers:
            numbers[name] = hyperparameter(
                f"set({name}=...)", numbers[name], "finite", math.isfinite
            )
        return type(self)(**fields | numbers)


def refuse_unknown(optimizer: Optimizer, names: Iterable[str]) -> None:
    """Refuses to set what is no number of an optimizer."""
    known = list(optimizer.numbers())
    for name in names:
        if name not in known:
            raise ValueError(
                f"`set({name}=...)` must name a number of {optimizer!r}; there are {known}."
            )


def scaled(direction: Params, rate: Scalar) -> Params:
    """A step against a direction: `-rate * direction`."""
    return jax.tree.map(lambda d: as_like(d, -rate) * d, direction)


def rate_at(rate: Rate, count: Int[Array, ""]) -> Scalar:
    """The learning rate after that many updates."""
    return jnp.asarray(rate(count) if callable(rate) else rate)


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


def rate_field(call: str, rate: Rate) -> Any:
    """A learning rate as a field: a checked number, or a function of the count as it is."""
    return rate if callable(rate) else not_negative(f"{call}(learning_rate=...)", rate)
