"""Terms: whether what an objective says of one example can be meant."""

from typing import Any

import jax
import jax.numpy as jnp

from neuron.objectives import Terms
from neuron.types import Batch, ModelState


def as_terms(name: str, answer: Any) -> tuple[Terms, ModelState]:
    """What an objective of that name says of an example, if that can be meant."""
    pair = isinstance(answer, tuple) and len(answer) == 2
    if not pair or not isinstance(answer[0], Terms):
        raise TypeError(
            f"`{name}.__call__` must return `(neuron.Terms(...), model_state)`; got {answer!r}."
        )
    terms: Terms = answer[0]
    for kind in ("value", "weight", "logs"):
        shapes = jax.tree.map(jnp.shape, getattr(terms, kind))
        every = list(shapes.values()) if isinstance(shapes, dict) else [shapes]
        if any(shape != () for shape in every):
            raise ValueError(
                f"`neuron.Terms({kind}=...)` must be scalars of one example; {name} gave shape "
                f"{shapes}. Take the mean over the outputs."
            )
    if isinstance(terms.weight, dict) and (
        not isinstance(terms.value, dict) or terms.weight.keys() != terms.value.keys()
    ):
        raise ValueError(
            f"`neuron.Terms(weight=...)` must be one weight, or be named as the values are; {name} "
            f"gave weights for {list(terms.weight)}."
        )
    return answer


def check_comparable(metric: str, objective: str, terms: Terms, example: Batch) -> None:
    """Refuses to measure where there is no prediction, or nothing to compare it with."""
    compares = f"`Trainer(metrics={{{metric!r}: ...}})` compares predictions with targets"
    if terms.prediction is None:
        raise ValueError(
            f"{compares}; {objective} gives no prediction. Return "
            "`neuron.Terms(..., prediction=...)`."
        )
    if example.targets is None:
        raise ValueError(f"{compares}; got data without targets.")
