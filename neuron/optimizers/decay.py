"""Weight decay. Which parameters are pulled towards zero, and how."""

from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
from jaxtyping import PyTree

from neuron.optimizers.fields import as_like
from neuron.selection import Choice, Selection
from neuron.types import Number, Params


_NORMALIZATION = (eqx.nn.LayerNorm, eqx.nn.RMSNorm, eqx.nn.GroupNorm, eqx.nn.BatchNorm)


def decay_field(kind: str, decay: Selection | Choice | None) -> Choice | None:
    """Which parameters decay, as a field; `None` stands for the usual ones."""
    if decay is None or isinstance(decay, Choice):
        return decay
    return Choice(f"{kind}(decay=...)", decay)


def decayed(params: Params, decay: Choice | None) -> PyTree:
    """A tree of booleans: which parameters decay.

    Usually these are all but biases, whose last name is `b` or contains `bias`, and what belongs to
    a normalization: one of Equinox's, or a module whose class is named `...Norm` and that holds no
    other module. One that does, such as `equinox.nn.WeightNorm`, wraps a layer, and is treated as
    any layer: its own gain sets how large the weights are, so it decays.
    """
    if decay is not None:
        return decay.of(params)

    def usual(path: Any, node: PyTree) -> PyTree:
        return jax.tree.map(lambda _: not (_normalizes(node) or _is_bias(path)), node)

    return jtu.tree_map_with_path(usual, params, is_leaf=_normalizes)


def with_decay(
    direction: Params, params: Params, weight_decay: Number, decay: Choice | None
) -> Params:
    """A direction, and `weight_decay * params` on top where they decay."""

    def pulled(d: jax.Array, p: jax.Array, decays: bool) -> jax.Array:
        return d + as_like(d, weight_decay) * p if decays else d

    return jax.tree.map(pulled, direction, params, decayed(params, decay))


def _is_bias(path: Any) -> bool:
    names = [
        jtu.keystr((key,), simple=True) for key in path if not isinstance(key, jtu.SequenceKey)
    ]
    return bool(names) and (names[-1] == "b" or "bias" in names[-1])


def _normalizes(node: Any) -> bool:
    if isinstance(node, _NORMALIZATION):
        return True
    named = isinstance(node, eqx.Module) and type(node).__name__.endswith("Norm")
    return named and not _holds_a_module(node)


def _holds_a_module(node: eqx.Module) -> bool:
    below = jax.tree.leaves(node, is_leaf=lambda n: n is not node and isinstance(n, eqx.Module))
    # The place of a layer's state is a module by its making only.
    return any(isinstance(n, eqx.Module) and not isinstance(n, eqx.nn.StateIndex) for n in below)
