"""Rows that are scored and never trained on, and the check of any rows against the parts."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from neuron.callbacks import Logs
from neuron.data import DataLoader, accepted, as_loader
from neuron.demands import check_held_out, check_separable, whole_blocks
from neuron.evaluation import BATCH_SIZE, Observed, Observer, at_once, evaluate
from neuron.scores import Plan
from neuron.slices import Pace
from neuron.types import Batch


if TYPE_CHECKING:
    from neuron.trainer.driven import Driven


class HeldOut(NamedTuple):
    """Data to score, and how many rows are computed together."""

    loader: DataLoader
    batch_size: int


def held_out(trainer: "Driven", call: str, data: Any) -> HeldOut:
    """Data as it may be scored.

    **Raises:**

    - `ValueError` or `TypeError` for what can not be meant, in words of `call`.
    """
    loader = as_loader(call, data, trainer._columns)
    loader.refuse_spent(call)
    check(trainer, loader)
    batch_size = loader.batch_size if loader is data else BATCH_SIZE
    check_held_out(call, trainer._parts.scoring, loader, batch_size)
    return HeldOut(loader, batch_size)


def validation(
    trainer: "Driven", call: str, data: Any, stack: contextlib.ExitStack
) -> Callable[[Pace], Logs]:
    """Scores the same rows again and again; those that live on the device stay there until the
    stack is left."""
    held = held_out(trainer, call, data)
    held.loader.refuse_spent(call, again=True)
    if not held.loader.on_device:
        return lambda pace: scores(trainer, held, pace)
    stack.enter_context(contextlib.closing(held.loader))
    placed = [
        (jax.device_put(block, trainer._parts.device), count)
        for block, count in held.loader.blocks(held.batch_size, check_of(trainer, held.loader))
    ]
    return lambda pace: _scores(trainer, held, placed, pace)


def scores(trainer: "Driven", held: HeldOut, pace: Pace | None = None) -> Logs:
    """The loss and the metrics over all rows, which are read for it."""
    meanwhile = (lambda: None) if pace is None else pace.look
    checked = check_of(trainer, held.loader)
    with held.loader.read(held.batch_size, checked, meanwhile) as blocks:
        return _scores(trainer, held, blocks, pace)


def _scores(
    trainer: "Driven", held: HeldOut, blocks: Iterable[tuple[Batch, int]], pace: Pace | None
) -> Logs:
    scored, like = trainer._scored(held.loader)
    blocks = whole_blocks(scored.scoring, blocks, held.batch_size)
    pieces = at_once if pace is None else pace
    return evaluate(scored, held.batch_size, blocks, trainer.step, pieces, like)


def observed(plan: Plan, trainers: Sequence["Driven"], data: Any) -> list[Observed]:
    """What each row of the data shows to each trainer's model. The rows are read once for all of
    them; of a table, which each trainer takes by columns of its own, once for each.

    **Raises:**

    - `ValueError` or `TypeError` for what can not be meant.
    """
    call = f"{plan.call}(loader)"
    every = [(trainer, held_out(trainer, call, data)) for trainer in trainers]
    for trainer, held in every:
        check_separable(plan.call, trainer._parts.scoring)
        plan.check(held.loader.rows)
    if isinstance(data, DataLoader | tuple):
        return _together(every)
    return [found for one in every for found in _together([one])]


def _together(every: list[tuple["Driven", HeldOut]]) -> list[Observed]:
    """What rows show that are read once, by the first of loaders that give the same ones."""
    loader, batch_size = every[0][1]
    checks = [check_of(trainer, loader) for trainer, _ in every]
    observers = []
    for trainer, held in every:
        scored, _ = trainer._scored(held.loader)
        observers.append(Observer(scored, batch_size, trainer.step))

    def checked(rows: Batch) -> None:
        for check in checks:
            check(rows)

    with loader.read(batch_size, checked) as blocks:
        for block, count in blocks:
            for observer in observers:
                observer.take(block, count)
    return [observer.observed() for observer in observers]


def check(trainer: "Driven", loader: DataLoader) -> None:
    """Refuses data that the model, the loss or the metrics can not take; looks once at each."""
    if loader not in trainer._checked:
        first = trainer._first
        trainer._parts.scored(loader).check(first.model, first.model_state, loader.sample())
        trainer._checked.add(loader)


def check_of(trainer: "Driven", loader: DataLoader) -> Callable[[Batch], None]:
    """What refuses rows that come later. What a transform makes of them is known to the program
    alone: of that, `check` has looked at some."""
    if loader.transform is not None:
        return accepted
    model, model_state = trainer._first.model, trainer._first.model_state
    scoring = trainer._parts.scoring
    return lambda rows: scoring.check(model, model_state, rows)
