"""One fit: the parts are put together, driven, and taken apart again."""

import contextlib
import dataclasses
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from neuron.checkpoint import Path, Saved
from neuron.clock import Clock
from neuron.data import DataLoader, Feed, Wanted, as_loader
from neuron.demands import check_batches, wants_whole
from neuron.driving import drive
from neuron.errors import NonFiniteLossError
from neuron.interrupts import Interrupts
from neuron.place import Goal
from neuron.run import UnderWay
from neuron.trainer.held_out import check, check_of, validation
from neuron.trainer.resuming import Fitted, resumed_from


if TYPE_CHECKING:
    from neuron.trainer.driven import Driven


def fit(
    trainer: "Driven",
    loader: DataLoader | tuple[Any, ...],
    goal: Goal,
    held_out: Any,
    resume_from: Path | None,
) -> None:
    """Trains to a goal; see `Trainer.fit`."""
    with Clock() as trainer.clock:
        loader = as_loader("Trainer.fit(loader)", loader)
        loader.refuse_spent("Trainer.fit(loader)")
        check(trainer, loader)
        trainer._fitted = Fitted(weakref.ref(loader), 0)
        resumed, done = None, False
        if resume_from is not None:
            resumed, done = resumed_from(trainer, loader, resume_from)
        if not done:
            _train(trainer, loader, goal, held_out, resumed)
    trainer._fits += 1


def _train(
    trainer: "Driven", loader: DataLoader, goal: Goal, held_out: Any, resumed: Saved | None
) -> None:
    """Trains from where the trainer stands, or from a checkpoint that it has taken back."""
    trainer._columns = loader.columns
    scoring, clock = trainer._parts.scoring, trainer.clock
    steps_of = loader.in_groups(trainer._parts.accumulate)
    microbatch = steps_of.batch_size // trainer._parts.accumulate
    check_batches(scoring, trainer._first.model, steps_of, microbatch)
    anew = loader.streamed and loader not in trainer._taken
    trainer._place.cut(steps_of.cut.steps_per_epoch, anew=anew)
    more, last_epoch = goal.more_from(trainer._place)
    trainer._fitted = Fitted(weakref.ref(loader), trainer._taken.get(loader, 0) - trainer.step)
    trainer._begins(anew=resumed is None)
    with contextlib.ExitStack() as stack:
        validate = None
        if held_out is not None:
            with clock("validation"):
                validate = validation(trainer, "Trainer.fit(validation=...)", held_out, stack)
        with clock("input"):
            feed = stack.enter_context(_feed(trainer, loader, steps_of, more))
        run = _begun(trainer, steps_of, feed)
        trainer.final_step = None if more is None else trainer.step + more
        trainer.stopped = None if resumed is None else resumed.stopped
        interrupts = stack.enter_context(Interrupts())
        stack.enter_context(_under_way(trainer, loader, run))
        recorded = run.recorded
        drive(
            trainer,
            run,
            feed,
            trainer._place,
            trainer._hooks,
            interrupts,
            epochs=last_epoch,
            metrics={name: m for name, m in scoring.metrics.items() if name not in recorded},
            task=lambda sampler: trainer._task(steps_of, sampler),
            validate=validate,
            remembered=None if resumed is None else resumed.callbacks,
        )


@contextlib.contextmanager
def _under_way(trainer: "Driven", loader: DataLoader, run: UnderWay) -> Iterator[None]:
    """The trainer's state is the run's; however that ends, the state is kept and the callbacks are
    told."""
    assert trainer._fitted is not None
    error: BaseException | None = None
    began = dataclasses.replace(trainer._place)
    trainer._run = run
    try:
        yield
    except BaseException as raised:
        error = raised
        if trainer._parts.nonfinite == "locate" and isinstance(raised, NonFiniteLossError):
            raised.try_to_locate()
        raise
    finally:
        try:
            trainer._state = run.state
        except RuntimeError:
            # An error within a block of members takes its arrays along: back to the fit's start.
            if error is None:
                raise
            trainer._place = began
        finally:
            trainer._run = None
            trainer._taken[loader] = trainer._fitted.taken(trainer.step)
            with trainer.clock("callbacks"):
                trainer._hooks.close(trainer, error)


def _feed(trainer: "Driven", loader: DataLoader, steps_of: DataLoader, more: int | None) -> Feed:
    return steps_of.feed(
        Wanted(
            device=trainer._parts.device,
            place=dataclasses.replace(trainer._place),
            steps=more if more is None else max(1, more),
            check=check_of(trainer, loader),
            taken=trainer._taken.get(loader, 0),
            whole=wants_whole(trainer._parts.scoring, trainer._first.model_state),
        )
    )


def _begun(trainer: "Driven", steps_of: DataLoader, feed: Feed) -> UnderWay:
    """A run from where the trainer stands."""
    with trainer.clock("input"):
        some = feed.left > 0 or feed.renew(lambda: None)
    if not some:
        raise ValueError("`Trainer.fit(loader)` must have at least one batch; got none.")
    saved, trainer._metrics_of = trainer._metrics_of, None
    return trainer._begin(trainer._task(steps_of, feed.sampler), feed.data, saved)
