"""Driving. The host's loop around the program: on to the next step at which somebody must look."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from neuron.callbacks import Hooks, Logs
from neuron.data import Feed
from neuron.interrupts import Interrupts
from neuron.metrics import Metric
from neuron.place import Place
from neuron.run import UnderWay
from neuron.samplers import Sampler
from neuron.slices import Pace, Slices
from neuron.step import Task


if TYPE_CHECKING:
    from neuron.trainer import Driven


def drive(
    trainer: "Driven",
    run: UnderWay,
    feed: Feed,
    place: Place,
    hooks: Hooks,
    interrupts: Interrupts,
    *,
    epochs: int | None,
    metrics: dict[str, Metric],
    task: Callable[[Sampler], Task],
    validate: Callable[[Pace], Logs] | None,
    remembered: dict[str, Any] | None = None,
) -> None:
    """Trains to the trainer's final step, or until it is stopped.

    **Arguments:**

    - `trainer`: whose callbacks look at it.
    - `run`, `feed`, `place`: what is driven, what feeds it, and where it stands.
    - `hooks`: the callbacks.
    - `interrupts`: are handled wherever the run is whole: at a step boundary, all hooks of the last
        one called, or in a validation, which is then made again when the run goes on.
    - `epochs`: the number of epochs to end with, where nobody knows at which step that is.
    - `metrics`: those that the program records no number of: they are read from the state where an
        epoch ends.
    - `task`: makes the run's task anew, after a hyperparameter has changed or for other data.
    - `validate`: evaluates the held-out rows, where there are any.
    - `remembered`: by the callbacks, where the fit goes on from a checkpoint.
    """
    slices, optimizer = Slices(run.work), trainer.optimizer
    pace = Pace(run.work, interrupts.check)
    by_epoch = validate or metrics or hooks.on("on_epoch_begin") or hooks.on("on_epoch_end")
    hooks.call("on_fit_begin", trainer)
    if remembered is not None:
        hooks.load_state_dicts(trainer, remembered)
    if place.ending:
        _end_epoch(trainer, place, hooks, validate, pace)
        _end_look(trainer, hooks)
    while _goes_on(trainer, place, interrupts, epochs):
        if feed.left == 0:
            with trainer.clock("input"):
                renewed = feed.renew(interrupts.check)
            if not renewed:
                trainer.stop(feed.ended(place))
                break
            run.use(task(feed.sampler), feed.data)
        if place.position == 0:
            hooks.call("on_epoch_begin", trainer)
        if trainer.optimizer is not optimizer:
            optimizer = trainer.optimizer
            run.use(task(feed.sampler))
        until = min(hooks.next_look(place.step, trainer.final_step), place.step + feed.left)
        if by_epoch:
            until = min(until, place.epoch_end)
        trainer.at_rest = False
        _advance(trainer, run, feed, place, slices, until - place.step)
        hooks.end_step(trainer)
        if place.position == 0 and by_epoch:
            trainer.history.record_epoch(place.epoch, trainer._measured(metrics))
            _end_epoch(trainer, place, hooks, validate, pace)
        _end_look(trainer, hooks)


def _goes_on(trainer: "Driven", place: Place, interrupts: Interrupts, epochs: int | None) -> bool:
    # Here the run is whole; the user's own function may stop it.
    interrupts.check()
    done = place.step == trainer.final_step or (epochs is not None and place.epoch >= epochs)
    return trainer.stopped is None and not done


def _end_look(trainer: "Driven", hooks: Hooks) -> None:
    trainer.at_rest = True
    hooks.call("on_look_end", trainer)


def _advance(
    trainer: "Driven", run: UnderWay, feed: Feed, place: Place, slices: Slices, most: int
) -> None:
    """Some steps of the program, and what they recorded."""
    steps = min(most, slices.steps(), run.capacity)
    with trainer.clock("steps"):
        taken, records = run.take(steps)
    feed.left -= taken
    ends_epoch = feed.ends_epoch and feed.left == 0
    trainer.history.record(
        {name: values[:taken] for name, values in records.items()},
        slices.took(taken),
        step=place.step,
        epoch=place.epoch,
        position=place.position,
        steps_per_epoch=place.position + taken if ends_epoch else place.steps_per_epoch,
    )
    place.advance(taken)
    if ends_epoch:
        place.end_epoch()
        run.state = place.put_into(run.state)
    if taken < steps:
        trainer._halted(run, records["loss"][taken:])


def _end_epoch(
    trainer: "Driven",
    place: Place,
    hooks: Hooks,
    validate: Callable[[Pace], Logs] | None,
    pace: Pace,
) -> None:
    logs: Logs = {}
    if validate is not None:
        # What is saved meanwhile goes on exactly: with the validation, and then the hooks.
        trainer.at_rest = place.ending = True
        with trainer.clock("validation"):
            logs = {f"val_{name}": value for name, value in validate(pace).items()}
        trainer.history.record_epoch(trainer.epoch, logs)
    trainer.at_rest = place.ending = False
    if validate is not None:
        hooks.call("on_validation_end", trainer, logs)
    if hooks.on("on_epoch_end"):
        hooks.call("on_epoch_end", trainer, trainer.history.epochs[-1])
