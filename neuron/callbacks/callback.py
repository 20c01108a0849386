"""Hooks that look at a run, and who is called when."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neuron.types import whole_number


if TYPE_CHECKING:
    from neuron.trainer import Trainer

# Numbers by name; of an epoch also arrays, for metrics that are no single number.
Logs = dict[str, int | float | np.ndarray]


class Callback:
    """Looks at a run. Override the hooks that you want; one that nobody overrides costs nothing.

    A hook may read the trainer, call `trainer.stop(reason)` and `trainer.set(...)`. What
    `trainer.model` gives is valid until the hook returns; `trainer.snapshot()` is a copy to keep.

    ```python
    class Watch(neuron.Callback):
        every = 100

        def on_step_end(self, trainer, logs):
            print(trainer.step, logs["loss"])
    ```
    """

    # How many steps lie between two calls of `on_step_end`, and at which `on_look_end` is called at
    # the least; `None` takes what comes: a call whenever the host looks anyway, a few times a
    # second.
    every: int | None = 1
    # Whether it can look at a population, where logs and weights have a first axis for the members.
    for_members: bool = True

    def on_fit_begin(self, trainer: "Trainer") -> None:
        """Before the first step of a fit."""

    def on_epoch_begin(self, trainer: "Trainer") -> None:
        """Before the first step of an epoch."""

    def on_step_end(self, trainer: "Trainer", logs: Logs) -> None:
        """After each step whose number is a multiple of `every`, with that step's logs."""

    def on_validation_end(self, trainer: "Trainer", logs: Logs) -> None:
        """After a validation, with its `val_*`."""

    def on_epoch_end(self, trainer: "Trainer", logs: Logs) -> None:
        """After an epoch and its validation, with the epoch's row of the history."""

    def on_look_end(self, trainer: "Trainer") -> None:
        """Whenever the host has looked, after all other hooks of all callbacks there: what
        `trainer.save` writes now goes on exactly."""

    def on_fit_end(self, trainer: "Trainer") -> None:
        """At the end of a fit, however it ended."""

    def on_exception(self, trainer: "Trainer", error: BaseException) -> None:
        """When a fit is ended by an error, before `on_fit_end`."""

    def state_dict(self) -> dict[str, Any]:
        """What the callback remembers, for a checkpoint: numbers, strings, arrays, lists and dicts
        of them. Nothing, unless it is overridden."""
        return {}

    def load_state_dict(self, trainer: "Trainer", state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave, after `on_fit_begin`, when a fit resumes."""


class Hooks:
    """A trainer's callbacks, called by name, and when the next one wants to look."""

    def __init__(self, callbacks: Sequence[Callback]):
        self.callbacks = tuple(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(
                    f"`Trainer(callbacks=...)` must hold neuron.Callback objects; got {callback!r}."
                )
            if callback.every is not None:
                whole_number(f"{type(callback).__name__}.every", callback.every, least=1)

    def on(self, hook: str) -> list[Callback]:
        """The callbacks that override a hook."""
        empty = getattr(Callback, hook)
        own = lambda callback: getattr(getattr(callback, hook), "__func__", None)
        return [callback for callback in self.callbacks if own(callback) is not empty]

    def next_look(self, step: int, last: int | None) -> int:
        """The first step after this one at which a callback wants to look, or the last one."""
        looking = (*self.on("on_step_end"), *self.on("on_look_end"))
        every = [c.every for c in looking if c.every is not None]
        far = step + (1 << 62) if last is None else last
        return min([far, *(step - step % n + n for n in every)])

    def call(self, hook: str, trainer: Any, *arguments: Any) -> None:
        """Calls a hook of those who override it."""
        with trainer.clock("callbacks"):
            for callback in self.on(hook):
                getattr(callback, hook)(trainer, *arguments)

    def end_step(self, trainer: Any) -> None:
        """Calls `on_step_end` of those for whom it is due now."""
        with trainer.clock("callbacks"):
            for callback in self.on("on_step_end"):
                if callback.every is None or trainer.step % callback.every == 0:
                    callback.on_step_end(trainer, trainer.history.last())

    def state_dicts(self) -> dict[str, dict[str, Any]]:
        """What the callbacks remember, by their kinds."""
        states = {name: callback.state_dict() for name, callback in self._named().items()}
        return {name: state for name, state in states.items() if state}

    def load_state_dicts(self, trainer: Any, states: dict[str, dict[str, Any]]) -> None:
        """Hands back what they remembered. One of a kind that was not there begins anew, and what
        nobody takes is warned about."""
        named = self._named()
        for name, state in states.items():
            if name in named:
                with trainer.clock("callbacks"):
                    named[name].load_state_dict(trainer, state)
            else:
                warnings.warn(
                    f"The checkpoint holds what a {name} remembered; there is none in "
                    "`Trainer(callbacks=...)`.",
                    stacklevel=2,
                )

    def _named(self) -> dict[str, Callback]:
        """The callbacks by their kinds; of several of one kind, the later ones are numbered."""
        named: dict[str, Callback] = {}
        for callback in self.callbacks:
            kind = type(callback).__qualname__
            before = sum(type(other) is type(callback) for other in named.values())
            named[f"{kind} {before + 1}" if before else kind] = callback
        return named

    def close(self, trainer: Any, error: BaseException | None) -> None:
        """Tells every callback that the fit is over. The first error reaches the user, the fit's
        own before all others, and carries the later ones as notes."""
        first = error
        # All hear of an error before anybody ends the fit, and may put other weights into it.
        if error is not None:
            for callback in self.callbacks:
                try:
                    callback.on_exception(trainer, error)
                except Exception as later:
                    first = _noted(first, later)
        for callback in self.callbacks:
            try:
                callback.on_fit_end(trainer)
            except Exception as later:
                first = _noted(first, later)
        if first is not None and first is not error:
            raise first


def _noted(first: BaseException | None, later: Exception) -> BaseException:
    if first is None:
        return later
    first.add_note(f"Later a callback raised {later!r}.")
    return first
