"""Penalties: what the weights alone add to a loss."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from neuron.objectives.objective import Objective, Terms
from neuron.objectives.supervised import as_objective
from neuron.optimizers import decayed
from neuron.selection import Selection, parameters, selected
from neuron.types import Batch, Key, Model, ModelState, Number, Printable, Scalar, hyperparameter


class Penalty(Printable):
    """A number for some weights of a model, to be added to a loss: see `Penalized`."""

    @abc.abstractmethod
    def __call__(self, model: Model) -> Scalar:
        """The penalty at these weights."""


class L1(Penalty):
    """`strength * sum(|w|)` over the chosen weights (Tibshirani, 1996)."""

    strength: Number
    leaves: Selection | None

    def __init__(self, strength: Number, leaves: Selection | None = None):
        """**Arguments:**

        - `strength`: at least 0.
        - `leaves`: which ones, as patterns of paths, a function of the path, or a filter spec; all
            but biases and normalization layers, if `None`.

        **Raises:**

        - `ValueError` or `TypeError` for a strength out of its range; at the first fit, for a
            pattern that matches nothing.
        """
        self.strength = _strength("L1", strength)
        self.leaves = leaves

    def __call__(self, model: Model) -> Scalar:
        return _total(jnp.abs, self, model)


class L2(Penalty):
    """`strength * sum(w^2)` over the chosen weights: no half, as Keras has it."""

    strength: Number
    leaves: Selection | None

    def __init__(self, strength: Number, leaves: Selection | None = None):
        """**Arguments:**

        - `strength`, `leaves`: as for `L1`.

        **Raises:**

        - As for `L1`.
        """
        self.strength = _strength("L2", strength)
        self.leaves = leaves

    def __call__(self, model: Model) -> Scalar:
        return _total(lambda w: jnp.real(w * jnp.conj(w)), self, model)


class Penalized(Objective):
    """A loss or objective and penalties on the model's weights, which are added to the finished
    loss and logged, each under its name: `l1`, `l2`.

    ```python
    neuron.Penalized(neuron.MeanSquaredError(), neuron.L2(1e-3), neuron.L1(1e-4, "layers.0.*"))
    ```
    """

    objective: Objective
    terms: dict[str, Penalty]
    coupled: bool = eqx.field(static=True)  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, loss: Any, *penalties: Penalty, **named: Penalty):
        """**Arguments:**

        - `loss`: a loss, a dict of losses or an objective.
        - `penalties`: logged under the name of their class in lower case.
        - `named`: penalties with names of your own.

        **Raises:**

        - `TypeError` for what is no penalty; `ValueError` for none at all, and for two of one name.
        """
        self.objective = as_objective(loss)
        self.coupled = self.objective.coupled
        terms: dict[str, Penalty] = {}
        for name, penalty in [*((type(p).__name__.lower(), p) for p in penalties), *named.items()]:
            if not isinstance(penalty, Penalty):
                raise TypeError(
                    f"`Penalized(loss, ...)` must hold penalties, such as neuron.L2(1e-3); "
                    f"got {penalty!r}."
                )
            if name in terms:
                raise ValueError(
                    f"`Penalized(loss, ...)` must have one penalty a name; got two named {name!r}. "
                    "Name them: `Penalized(loss, encoder=neuron.L2(...), head=neuron.L2(...))`."
                )
            terms[name] = penalty
        if not terms:
            raise ValueError("`Penalized(loss, ...)` must have at least one penalty; got none.")
        self.terms = terms

    def __call__(
        self, model: Model, model_state: ModelState, example: Batch, *, key: Key
    ) -> tuple[Terms, ModelState]:
        return self.objective(model, model_state, example, key=key)

    def finish(self, mean: Any) -> Scalar:
        return self.objective.finish(mean)

    def parts(self, mean: Any) -> dict[str, Scalar]:
        return self.objective.parts(mean)

    def penalties(self, model: Model) -> dict[str, Scalar]:
        return self.objective.penalties(model) | {n: p(model) for n, p in self.terms.items()}

    def at(self, step: Int[Array, ""]) -> "Penalized":
        return eqx.tree_at(lambda own: own.objective, self, self.objective.at(step))

    def check(self, model: Model, model_state: ModelState, data: Batch) -> None:
        self.objective.check(model, model_state, data)
        jax.eval_shape(lambda: self.penalties(model))


def _total(size: Any, penalty: L1 | L2, model: Model) -> Scalar:
    weights = parameters(model)
    call = f"{type(penalty).__name__}(leaves=...)"
    if penalty.leaves is None:
        meant = decayed(weights, None)
    else:
        meant = selected(call, weights, penalty.leaves)
    chosen = eqx.filter(weights, meant)
    sums = [jnp.sum(size(weight)) for weight in jax.tree.leaves(chosen)]
    if not sums:
        raise ValueError(f"`{call}` must mean at least one leaf; got {penalty.leaves!r}.")
    total = sum(sums[1:], sums[0])
    return jnp.asarray(penalty.strength, total.dtype) * total


def _strength(name: str, value: Number) -> Any:
    return hyperparameter(f"{name}(strength=...)", value, "at least 0", lambda s: s >= 0)
