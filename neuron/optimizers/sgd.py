"""Stochastic gradient descent."""

import equinox as eqx
import jax
from jaxtyping import Array, Int

from neuron.optimizers.optimizer import (
    Optimizer,
    Rate,
    as_like,
    fraction,
    no_updates,
    not_negative,
    one_more,
    rate_at,
    rate_field,
    scaled,
    zeros_like,
)
from neuron.types import Number, Params, Scalar


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
        self.learning_rate = rate_field("SGD", learning_rate)
        self.momentum = None if momentum is None else fraction("SGD(momentum=...)", momentum)
        self.nesterov = nesterov
        self.weight_decay = not_negative("SGD(weight_decay=...)", weight_decay)
        if nesterov and momentum is None:
            raise ValueError("`SGD(nesterov=True)` needs a momentum; got momentum=None.")

    def init(self, params: Params) -> "SGD.State":
        velocity = None if self.momentum is None else zeros_like(params)
        return SGD.State(no_updates(), velocity)

    def update(self, grads: Params, state: "SGD.State", params: Params):
        grads = jax.tree.map(lambda g, p: g + as_like(g, self.weight_decay) * p, grads, params)
        velocity, direction = None, grads
        if self.momentum is not None:
            blend = lambda g, v: g + as_like(g, self.momentum) * v
            velocity = jax.tree.map(blend, grads, state.velocity)
            direction = jax.tree.map(blend, grads, velocity) if self.nesterov else velocity
        updates = scaled(direction, rate_at(self.learning_rate, state.count))
        return updates, SGD.State(one_more(state.count), velocity)

    def logs(self, grads: Params, state: "SGD.State", params: Params) -> dict[str, Scalar]:
        return {"learning_rate": rate_at(self.learning_rate, state.count)}
