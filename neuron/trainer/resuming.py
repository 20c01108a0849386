"""What a checkpoint holds of a trainer, and how a trainer takes it back."""

import dataclasses
import weakref
from typing import TYPE_CHECKING

from neuron.checkpoint import Path, Saved, Snapshot, described, newest, taken_apart
from neuron.counters import number
from neuron.data import DataLoader
from neuron.trees import on_entry, paths


if TYPE_CHECKING:
    from neuron.trainer.driven import Driven


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a trainer is fitted on, as long as somebody holds it, and how many steps of it were
    taken beyond the run's own number."""

    loader: weakref.ref[DataLoader]
    beyond: int

    def taken(self, step: int) -> int:
        """How many steps of it the run has taken at a step."""
        return step + self.beyond


def captured(trainer: "Driven") -> Snapshot:
    """The run as a checkpoint holds it."""
    fitted = trainer._fitted
    taken = 0 if fitted is None else fitted.taken(trainer.step)
    loader = None if fitted is None else fitted.loader()
    return Snapshot(
        state=trainer.state,
        frozen=trainer._frozen,
        optimizer=trainer.optimizer,
        seed=number(trainer._parts.seed),
        step=trainer.step,
        steps_per_epoch=trainer._place.steps_per_epoch,
        fits=trainer._fits,
        ending=trainer._place.ending,
        taken=taken,
        position=None if loader is None else loader.position(trainer._place, taken),
        stopped=trainer.stopped,
        history=trainer.history.state_dict(),
        callbacks=trainer._hooks.state_dicts(),
        configuration=_configuration(trainer),
    )


def put_back(trainer: "Driven", saved: Saved) -> None:
    """Takes a trainer to where a checkpoint stands; where that fails, it stays as it is.

    **Raises:**

    - `CheckpointError` for what does not fit.
    """
    history = trainer._new_history()
    with taken_apart(saved.shown):
        history.load_state_dict(saved.history)
    state = on_entry(saved.state(trainer._state), trainer._parts.device)
    frozen = on_entry(saved.tree("frozen", trainer._frozen), trainer._parts.device)
    trainer._optimizer = saved.tree("optimizer", trainer._optimizer_like(saved))
    trainer._state, trainer._frozen, trainer.history = state, frozen, history
    trainer._metrics_of = saved
    trainer._place.move_to(state)
    trainer._place.steps_per_epoch, trainer._place.ending = saved.steps_per_epoch, saved.ending


def resumed_from(
    trainer: "Driven", loader: DataLoader, directory: Path
) -> tuple[Saved | None, bool]:
    """The checkpoint that this fit goes on from, where there is one, and whether the fit was over
    before: then a later one was under way.

    **Raises:**

    - `CheckpointError` for a checkpoint of another run.
    """
    call = "Trainer.fit(resume_from=...)"
    saved = newest(call, directory, trainer.step)
    if saved is None or saved.fits != trainer._fits:
        return None, saved is not None and saved.fits > trainer._fits
    saved.refuse_other(_configuration(trainer))
    loader.go_to(call, saved.position)
    put_back(trainer, saved)
    trainer._taken[loader] = saved.taken
    return saved, False


def _configuration(trainer: "Driven") -> dict[str, str]:
    """The parts as text: where they differ, a run is another one."""
    given, scoring, fitted = trainer._parts, trainer._parts.scoring, trainer._fitted
    parts = {
        "model": described(trainer._first.model, contents=False),
        "choice of trained leaves": ", ".join(path for path, _ in paths(trainer._state.params)),
        "loss": described(scoring.objective),
        "metrics": described(scoring.metrics),
        "optimizer": described(trainer._optimizer_given),
        "accumulate": described(given.accumulate),
        "average": described(given.average),
        "precision": described(scoring.precision),
        "seed": described(given.seed),
        "nonfinite": described(given.nonfinite == "skip"),
    }
    loader = None if fitted is None else fitted.loader()
    data = {} if loader is None else loader.in_groups(trainer._parts.accumulate).parts()
    return trainer._told() | parts | {name: described(part) for name, part in data.items()}
