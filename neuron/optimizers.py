"""Optimizers. Gradients in, updates out; every number is a leaf that may change at any time."""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

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

    def logs(self, grads: Params, state: PyTree, params: Params) -> dict[str, Scalar]:
        """Scalars worth recording at each step, from the same arguments as `update`."""
        del grads, state, params
        return {}

    def with_numbers(self, **numbers: Number) -> "Optimizer":
        """The same optimizer with other numbers: same structure, so no recompile.

        **Raises:**

        - `ValueError` for a name that is no number of this optimizer, or a value out of its range;
            `TypeError` for what is no number.
        """
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        known = [name for name, value in fields.items() if isinstance(value, np.ndarray | Array)]
        for name in numbers:
            if name not in known:
                raise ValueError(
                    f"`set({name}=...)` must name a number of {self!r}; there are {known}."
                )
            numbers[name] = hyperparameter(
                f"set({name}=...)", numbers[name], "finite", math.isfinite
            )
        return type(self)(**fields | numbers)


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted (Polyak, 1964; Sutskever et al., 2013).

    With `g = grads + weight_decay * params` and `v = momentum * v + g`, the update is
    `-learning_rate * v`; with Nesterov's momentum it is `-learning_rate * (g + momentum * v)`.
    """

    learning_rate: Rate
    momentum: Number | None
    weight_decay: Number
    nesterov: bool = eqx.field(static=True)

    class State(eqx.Module):
        """How many updates there were, and the velocity where there is momentum."""

        count: Int[Array, ""]
        velocity: Params | None

    def __init__(
        self,
        learning_rate: Rate = 0.01,
        *,
        momentum: Number | None = None,
        nesterov: bool = False,
        weight_decay: Number = 0.0,
    ):
        """**Arguments:**

        - `learning_rate`: a number of at least 0, or a function of the number of updates so far.
        - `momentum`: in [0, 1); `None` keeps no velocity.
        - `nesterov`: whether to look ahead; needs momentum.
        - `weight_decay`: at least 0; added to the gradient (coupled, as `torch.optim.SGD` has it).

        **Raises:**

        - `TypeError` or `ValueError` for a number out of its range.
        """
        self.learning_rate = _rate("SGD", learning_rate)
        self.momentum = None if momentum is None else _fraction("SGD(momentum=...)", momentum)
        self.nesterov = nesterov
        self.weight_decay = _not_negative("SGD(weight_decay=...)", weight_decay)
        if nesterov and momentum is None:
            raise ValueError("`SGD(nesterov=True)` needs a momentum; got momentum=None.")

    def init(self, params: Params) -> "SGD.State":
        velocity = None if self.momentum is None else _zeros_like(params)
        return SGD.State(_no_updates(), velocity)

    def update(self, grads: Params, state: "SGD.State", params: Params):
        grads = jax.tree.map(lambda g, p: g + _as(g, self.weight_decay) * p, grads, params)
        velocity, direction = None, grads
        if self.momentum is not None:
            blend = lambda g, v: g + _as(g, self.momentum) * v
            velocity = jax.tree.map(blend, grads, state.velocity)
            direction = jax.tree.map(blend, grads, velocity) if self.nesterov else velocity
        updates = _scaled(direction, _rate_at(self.learning_rate, state.count))
        return updates, SGD.State(_one_more(state.count), velocity)

    def logs(self, grads: Params, state: "SGD.State", params: Params) -> dict[str, Scalar]:
        return {"learning_rate": _rate_at(self.learning_rate, state.count)}


class Moments(eqx.Module):
    """The state of `Adam` and `AdamW`: how many updates there were, and the running means of
    the gradient and of its square."""

    count: Int[Array, ""]
    first: Params
    second: Params


class Adam(Optimizer):
    """Kingma & Ba, 2015, algorithm 1."""

    learning_rate: Rate
    b1: Number
    b2: Number
    eps: Number

    def __init__(
        self,
        learning_rate: Rate = 1e-3,
        *,
        b1: Number = 0.9,
        b2: Number = 0.999,
        eps: Number = 1e-8,
    ):
        """**Arguments:**

        - `learning_rate`: a number of at least 0, or a function of the number of updates so far.
        - `b1`, `b2`: how much of the first and second moment is kept at each update, in [0, 1).
        - `eps`: added to the root of the second moment, at least 0.

        **Raises:**

        - `TypeError` or `ValueError` for a number out of its range.
        """
        self.learning_rate = _rate("Adam", learning_rate)
        self.b1 = _fraction("Adam(b1=...)", b1)
        self.b2 = _fraction("Adam(b2=...)", b2)
        self.eps = _not_negative("Adam(eps=...)", eps)

    def init(self, params: Params) -> Moments:
        return _no_moments(params)

    def update(self, grads: Params, state: Moments, params: Params):
        del params
        direction, state = _adaptive(self, grads, state)
        return _scaled(direction, _rate_at(self.learning_rate, state.count - 1)), state

    def logs(self, grads: Params, state: Moments, params: Params) -> dict[str, Scalar]:
        return {"learning_rate": _rate_at(self.learning_rate, state.count)}


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019, algorithm 2).

    The decay is multiplied by the learning rate, as optax and PyTorch have it.
    """

    learning_rate: Rate
    b1: Number
    b2: Number
    eps: Number
    weight_decay: Number

    def __init__(
        self,
        learning_rate: Rate = 1e-3,
        *,
        b1: Number = 0.9,
        b2: Number = 0.999,
        eps: Number = 1e-8,
        weight_decay: Number = 1e-4,
    ):
        """**Arguments:**

        - `learning_rate`, `b1`, `b2`, `eps`: as for `Adam`.
        - `weight_decay`: the share of each parameter that is taken off, times the rate; at least 0.

        **Raises:**

        - `TypeError` or `ValueError` for a number out of its range.
        """
        self.learning_rate = _rate("AdamW", learning_rate)
        self.b1 = _fraction("AdamW(b1=...)", b1)
        self.b2 = _fraction("AdamW(b2=...)", b2)
        self.eps = _not_negative("AdamW(eps=...)", eps)
        self.weight_decay = _not_negative("AdamW(weight_decay=...)", weight_decay)

    def init(self, params: Params) -> Moments:
        return _no_moments(params)

    def update(self, grads: Params, state: Moments, params: Params):
        direction, state = _adaptive(self, grads, state)
        direction = jax.tree.map(lambda d, p: d + _as(d, self.weight_decay) * p, direction, params)
        return _scaled(direction, _rate_at(self.learning_rate, state.count - 1)), state

    def logs(self, grads: Params, state: Moments, params: Params) -> dict[str, Scalar]:
        return {"learning_rate": _rate_at(self.learning_rate, state.count)}


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


def _adaptive(optimizer: Adam | AdamW, grads: Params, state: Moments) -> tuple[Params, Moments]:
    count = _one_more(state.count)
    b1, b2 = optimizer.b1, optimizer.b2
    first = jax.tree.map(lambda m, g: _as(g, b1) * m + _as(g, 1 - b1) * g, state.first, grads)
    second = jax.tree.map(lambda v, g: _as(g, b2) * v + _as(g, 1 - b2) * g**2, state.second, grads)

    def direction(m: Array, v: Array) -> Array:
        # Each mean began at zero; what it still lacks of a whole one is divided out.
        m_hat = m / _as(m, 1 - jnp.power(b1, count))
        v_hat = v / _as(v, 1 - jnp.power(b2, count))
        return m_hat / (jnp.sqrt(v_hat) + _as(v, optimizer.eps))

    return jax.tree.map(direction, first, second), Moments(count, first, second)


def _scaled(direction: Params, rate: Scalar) -> Params:
    return jax.tree.map(lambda d: _as(d, -rate) * d, direction)


def _rate_at(rate: Rate, count: Int[Array, ""]) -> Scalar:
    return jnp.asarray(rate(count) if callable(rate) else rate)


def _one_more(count: Int[Array, ""]) -> Int[Array, ""]:
    # Stays at the largest int32, where every bias correction has long been one.
    return jnp.where(count < jnp.iinfo(jnp.int32).max, count + 1, count)


def _no_updates() -> Int[Array, ""]:
    return jnp.zeros((), jnp.int32)


def _zeros_like(params: Params) -> Params:
    return jax.tree.map(jnp.zeros_like, params)


def _no_moments(params: Params) -> Moments:
    return Moments(_no_updates(), _zeros_like(params), _zeros_like(params))


def _as(like: Array, value: Any) -> Array:
    return jnp.asarray(value, like.dtype)


def _rate(call: str, rate: Rate) -> Any:
    if callable(rate):
        return rate
    return _not_negative(f"{call}(learning_rate=...)", rate)


def _not_negative(call: str, value: Number) -> Any:
    return hyperparameter(call, value, "at least 0", lambda v: v >= 0)


def _fraction(call: str, value: Number) -> Any:
    return hyperparameter(call, value, "in [0, 1)", lambda v: 0 <= v < 1)
