"""Adam, and Adam with decoupled weight decay."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from neuron.optimizers.decay import decay_field, decayed, with_decay
from neuron.optimizers.fields import as_like, fraction, not_negative, root
from neuron.optimizers.optimizer import Optimizer, no_updates, one_more, zeros_like
from neuron.optimizers.rates import Rate, check_rate, rate_field, rate_logs, scaled
from neuron.selection import Choice, Selection
from neuron.types import Number, Params, Scalar


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

        - `learning_rate`: a number of at least 0, a function of the number of updates so far, or
            a dict of these, as `{"encoder.*": 1e-4, "*": 1e-3}`: the first pattern that matches a
            parameter's path counts.
        - `b1`, `b2`: how much of the first and second moment is kept at each update, in [0, 1).
        - `eps`: added to the root of the second moment, at least 0.

        **Raises:**

        - `TypeError` or `ValueError` for a number out of its range; in `init`, `ValueError` for
            patterns that do not fit the parameters.
        """
        self.learning_rate = rate_field("Adam", learning_rate)
        self.b1 = fraction("Adam(b1=...)", b1)
        self.b2 = fraction("Adam(b2=...)", b2)
        self.eps = not_negative("Adam(eps=...)", eps)

    def init(self, params: Params) -> Moments:
        check_rate("Adam", self.learning_rate, params)
        return _no_moments(params)

    def update(self, grads: Params, state: Moments, params: Params):
        del params
        direction, state = _adaptive(self, grads, state)
        return scaled(direction, self.learning_rate, state.count - 1), state

    def logs(self, grads: Params, state: Moments, params: Params) -> dict[str, Scalar]:
        return rate_logs(self.learning_rate, state.count)


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019, algorithm 2).

    The decay is multiplied by the learning rate, as optax and PyTorch have it. Biases and
    normalization layers do not decay unless `decay` says so.
    """

    learning_rate: Rate
    b1: Number
    b2: Number
    eps: Number
    weight_decay: Number
    decay: Choice | None = eqx.field(static=True)

    def __init__(
        self,
        learning_rate: Rate = 1e-3,
        *,
        b1: Number = 0.9,
        b2: Number = 0.999,
        eps: Number = 1e-8,
        weight_decay: Number = 1e-4,
        decay: Selection | None = None,
    ):
        """**Arguments:**

        - `learning_rate`, `b1`, `b2`, `eps`: as for `Adam`.
        - `weight_decay`: the share of each parameter that is taken off, times the rate; at least 0.
        - `decay`: which parameters decay, as for `SGD`.

        **Raises:**

        - `TypeError` or `ValueError` for a number out of its range; in `init`, `ValueError` for
            patterns that do not fit the parameters.
        """
        self.learning_rate = rate_field("AdamW", learning_rate)
        self.b1 = fraction("AdamW(b1=...)", b1)
        self.b2 = fraction("AdamW(b2=...)", b2)
        self.eps = not_negative("AdamW(eps=...)", eps)
        self.weight_decay = not_negative("AdamW(weight_decay=...)", weight_decay)
        self.decay = decay_field("AdamW", decay)

    def init(self, params: Params) -> Moments:
        check_rate("AdamW", self.learning_rate, params)
        decayed(params, self.decay)  # refuses what fits no parameter
        return _no_moments(params)

    def update(self, grads: Params, state: Moments, params: Params):
        direction, state = _adaptive(self, grads, state)
        direction = with_decay(direction, params, self.weight_decay, self.decay)
        return scaled(direction, self.learning_rate, state.count - 1), state

    def logs(self, grads: Params, state: Moments, params: Params) -> dict[str, Scalar]:
        return rate_logs(self.learning_rate, state.count)


def _adaptive(optimizer: Adam | AdamW, grads: Params, state: Moments) -> tuple[Params, Moments]:
    count = one_more(state.count)
    b1, b2 = optimizer.b1, optimizer.b2
    first = jax.tree.map(lambda m, g: _blend(b1, m, g), state.first, grads)
    second = jax.tree.map(lambda v, g: _blend(b2, v, g**2), state.second, grads)

    def direction(m: Array, v: Array) -> Array:
        # Each mean began at zero; what it still lacks of a whole one is divided out.
        m_hat = m / as_like(m, 1 - jnp.power(b1, count))
        v_hat = v / as_like(v, 1 - jnp.power(b2, count))
        return m_hat / (root(v_hat) + as_like(v, optimizer.eps))

    return jax.tree.map(direction, first, second), Moments(count, first, second)


def _blend(keep: Number, old: Array, new: Array) -> Array:
    return as_like(new, keep) * old + as_like(new, 1 - keep) * new


def _no_moments(params: Params) -> Moments:
    return Moments(no_updates(), zeros_like(params), zeros_like(params))
