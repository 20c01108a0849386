"""What a trainer is told beside model and optimizer: checked once, and the same in every fit."""

import dataclasses
from typing import Any

import equinox as eqx
import jax

from neuron.average import decay
from neuron.counters import seed_words
from neuron.data import DataLoader
from neuron.evaluation import finisher
from neuron.history import History
from neuron.metrics import by_name
from neuron.models import batch_axis, check_state
from neuron.objectives import as_objective
from neuron.selection import parameters
from neuron.step import Scoring, checked_precision
from neuron.trees import as_device, on_entry, refuse_ties, refuse_unhashable
from neuron.types import Device, Model, ModelState, Number, Words, whole_number


_NONFINITE = ("raise", "locate", "skip")


@dataclasses.dataclass(frozen=True)
class Parts:
    """See `Trainer`."""

    device: Device
    scoring: Scoring
    accumulate: int
    average: Number | None
    seed: Words
    nonfinite: str

    @classmethod
    def of(
        cls,
        loss: Any,
        *,
        metrics: dict[str, Any] | None,
        accumulate: int,
        average: Number | None,
        precision: str | None,
        seed: int,
        device: Device | str | None,
        nonfinite: str,
    ) -> "Parts":
        """What was given, if it can be meant.

        **Raises:**

        - `TypeError` or `ValueError` for what can not.
        """
        if nonfinite not in _NONFINITE:
            raise ValueError(
                f"`Trainer(nonfinite=...)` must be 'raise', 'locate' or 'skip'; got {nonfinite!r}."
            )
        device = as_device("Trainer(device=...)", device)
        objective = on_entry(as_objective(loss), device)
        measured = on_entry(by_name(metrics), device)
        precision = checked_precision("Trainer(precision=...)", precision)
        accumulate = whole_number("Trainer(accumulate=...)", accumulate, least=1)
        if objective.coupled and accumulate > 1:
            raise ValueError(
                "`Trainer(accumulate=...)` must be 1 for an objective that couples the examples of "
                f"a batch, as {type(objective).__name__} does; got {accumulate}."
            )
        return cls(
            device=device,
            scoring=Scoring(objective, measured, precision),
            accumulate=accumulate,
            average=None if average is None else decay("Trainer(average=...)", average),
            seed=on_entry(seed_words("Trainer(seed=...)", seed), device),
            nonfinite=nonfinite,
        )

    def scored(self, loader: DataLoader) -> Scoring:
        """How batches of that data are scored."""
        return dataclasses.replace(self.scoring, transform=loader.transform)

    def history(self) -> History:
        """A history of such losses and metrics."""
        return History(finisher(self.scoring.objective), self.scoring.metrics)


def check_model(model: Model, model_state: ModelState) -> None:
    """Refuses a model that can not be trained.

    **Raises:**

    - `TypeError` or `ValueError`.
    """
    if not callable(model):
        raise TypeError(f"`Trainer(model)` must be callable on one example; got {model!r}.")
    # What is never trained can not drift apart: one scaling may serve inputs and targets.
    refuse_ties("Trainer(model)", parameters(model, eqx.is_array_like))
    refuse_unhashable("Trainer(model)", model)
    check_state(model, model_state)
    batch_axis(model)
    if not jax.tree.leaves(parameters(model)):
        raise ValueError(
            "`Trainer(model)` must have floating-point arrays to train; got none in "
            f"{type(model).__name__}."
        )
