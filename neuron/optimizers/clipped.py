"""Gradient clipping, around any optimizer."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from neuron.optimizers.fields import as_like, root
from neuron.optimizers.optimizer import Optimizer, refuse_unknown
from neuron.optimizers.transformation import as_optimizer
from neuron.types import Number, Params, Scalar, hyperparameter


class Clipped(Optimizer):
    """Bounds the gradient before another optimizer sees it: each number to [-value, value], then
    the whole to a Euclidean norm of at most `norm` (Pascanu et al., 2013, section 3.2).

    ```python
    neuron.Clipped(neuron.Adam(1e-3), norm=1.0)
    ```

    The norm before clipping is recorded at every step, as `grad_norm`.
    """

    optimizer: Optimizer
    norm: Number | None
    value: Number | None

    def __init__(self, optimizer: Any, *, norm: Number | None = None, value: Number | None = None):
        """**Arguments:**

        - `optimizer`: one of neuron's or of optax's.
        - `norm`: the largest global norm, above 0; `None` does not bound it.
        - `value`: the largest size of a single number, above 0; `None` does not bound it.

        **Raises:**

        - `ValueError` where neither is given or a number is out of its range; `TypeError` for what
            is no optimizer or no number.
        """
        self.optimizer = as_optimizer(optimizer)
        self.norm = None if norm is None else _bound("Clipped(norm=...)", norm)
        self.value = None if value is None else _bound("Clipped(value=...)", value)
        if norm is None and value is None:
            raise ValueError("`Clipped()` needs `norm=` or `value=`; got neither.")

    def init(self, params: Params) -> PyTree:
        return self.optimizer.init(params)

    def update(self, grads: Params, state: PyTree, params: Params) -> tuple[Params, PyTree]:
        return self.optimizer.update(self._clip(grads), state, params)

    def informed_update(
        self, grads: Params, state: PyTree, params: Params, **known: Any
    ) -> tuple[Params, PyTree]:
        return self.optimizer.informed_update(self._clip(grads), state, params, **known)

    def logs(self, grads: Params, state: PyTree, params: Params) -> dict[str, Scalar]:
        inner = self.optimizer.logs(self._clip(grads), state, params)
        return inner | {"grad_norm": _global_norm(grads)}

    def numbers(self) -> dict[str, Any]:
        return self.optimizer.numbers() | super().numbers()

    def with_numbers(self, **numbers: Number | dict[str, Number]) -> "Clipped":
        refuse_unknown(self, numbers)
        bounds: dict[str, Any] = {"norm": self.norm, "value": self.value}
        own: dict[str, Any] = {
            name: numbers.pop(name) for name in super().numbers() if name in numbers
        }
        return Clipped(self.optimizer.with_numbers(**numbers), **bounds | own)

    def _clip(self, grads: Params) -> Params:
        if self.value is not None:
            grads = jax.tree.map(
                lambda g: jnp.clip(g, -as_like(g, self.value), as_like(g, self.value)), grads
            )
        if self.norm is None:
            return grads
        norm = _global_norm(grads)
        scale = jnp.minimum(1, as_like(norm, self.norm) / jnp.where(norm > 0, norm, 1))
        scale = jnp.where(norm > 0, scale, 1)
        return jax.tree.map(lambda g: as_like(g, scale) * g, grads)


def _global_norm(grads: Params) -> Scalar:
    squares = [jnp.sum(jnp.square(jnp.abs(g))) for g in jax.tree.leaves(grads)]
    return root(sum(squares[1:], squares[0]))


def _bound(call: str, value: Number) -> Any:
    return hyperparameter(call, value, "above 0", lambda v: v > 0)
