"""Stochastic gradient descent."""

import equinox as eqx
import jax
from jaxtyping import Array, Int

from neuron.optimizers.decay import decay_field, decayed, with_decay
from neuron.optimizers.fields import as_like, fraction, not_negative
from neuron.optimizers.optimizer import Optimizer, no_updates, one_more, zeros_like
from neuron.optimizers.rates import Rate, check_rate, rate_field, rate_logs, scaled
from neuron.selection import Choice, Selection
from neuron.types import Number, Params, Scalar


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted (Polyak, 1964; Sutskever et al., 2013).

    With `g = grads + weight_decay * params` and `v = momentum * v + g`, the update is
    `-learning_rate * v`; with Nesterov's momentum it is `-learning_rate * (g + momentum * v)`.
    Biases and normalization layers do not decay unless `decay` says so.
    """

    learning_rate: Rate
    momentum: Number | None
    weight_decay: Number
    decay: Choice | None = eqx.field(static=True)
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
        decay: Selection | None = None,
    ):
        """**Arguments:**

        - `learning_rate`: a number of at least 0, a function of the number of updates so far, or
            a dict of these, as `{"encoder.*": 1e-4, "*": 1e-3}`: the first pattern that matches a
            parameter's path counts.
        - `momentum`: in [0, 1); `None` keeps no velocity.
        - `nesterov`: whether to look ahead; needs momentum.
        - `weight_decay`: at least 0; added to the gradient (coupled, as `torch.optim.SGD` has it).
        - `decay`: which parameters decay: patterns of paths, a function of the path, or a filter
            spec; `"*"` is all of them, `None` all but biases and normalization layers.

        **Raises:**

        - `TypeError` or `ValueError` for a number out of its range; in `init`, `ValueError` for
            patterns that do not fit the parameters.
        """
        self.learning_rate = rate_field("SGD", learning_rate)
        self.momentum = None if momentum is None else fraction("SGD(momentum=...)", momentum)
        self.nesterov = nesterov
        self.weight_decay = not_negative("SGD(weight_decay=...)", weight_decay)
        self.decay = decay_field("SGD", decay)
        if nesterov and momentum is None:
            raise ValueError("`SGD(nesterov=True)` needs a momentum; got momentum=None.")

    def init(self, params: Params) -> "SGD.State":
        check_rate("SGD", self.learning_rate, params)
        decayed(params, self.decay)  # refuses what fits no parameter
        velocity = None if self.momentum is None else zeros_like(params)
        return SGD.State(no_updates(), velocity)

    def update(self, grads: Params, state: "SGD.State", params: Params):
        grads = with_decay(grads, params, self.weight_decay, self.decay)
        velocity, direction = None, grads
        if self.momentum is not None:
            blend = lambda g, v: g + as_like(g, self.momentum) * v
            velocity = jax.tree.map(blend, grads, state.velocity)
            direction = jax.tree.map(blend, grads, velocity) if self.nesterov else velocity
        updates = scaled(direction, self.learning_rate, state.count)
        return updates, SGD.State(one_more(state.count), velocity)

    def logs(self, grads: Params, state: "SGD.State", params: Params) -> dict[str, Scalar]:
        return rate_logs(self.learning_rate, state.count)
