"""What loggers of services share that keep runs of their own."""

import abc
from typing import TYPE_CHECKING, Any

from neuron.callbacks.callback import Logs
from neuron.callbacks.logger import Logger
from neuron.extras import extra


if TYPE_CHECKING:
    from neuron.trainer import Trainer


class Service(Logger):
    """Logs to a service's run, which begins with the fit and ends with it. A trainer that goes on,
    in a second fit or from a checkpoint, goes on with its run.

    A subclass says how a run is begun, written to and ended. It begins when it is first needed: a
    checkpoint tells which one it is, after `on_fit_begin`.
    """

    # The service's module, which is also the name of the extra that brings it.
    module: str
    _tool: Any = None
    _id: str | None = None
    _run: Any = None
    _fitting = False
    _error: BaseException | None = None

    @abc.abstractmethod
    def begin(self, id: str | None) -> tuple[Any, str]:
        """The run to write to, and its name: that of `id`, or a new one for `None`."""

    @abc.abstractmethod
    def write(self, run: Any, values: Logs, step: int) -> None:
        """Writes values to a run."""

    @abc.abstractmethod
    def end(self, run: Any, error: BaseException | None) -> None:
        """Ends a run; `error` is what ended the fit, if anything did."""

    def on_fit_begin(self, trainer: "Trainer") -> None:
        does = f"`{type(self).__name__}()` logs through {self.module}"
        self._tool = extra(does, self.module, self.module)
        self._error, self._fitting = None, True
        if trainer.step == 0:
            self._id = None
            self._begun()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: which run it is."""
        if self._fitting:
            self._begun()
        return {"id": self._id}

    def load_state_dict(self, trainer: "Trainer", state: dict[str, Any]) -> None:
        """Goes on with the checkpoint's run."""
        self._id = state["id"]

    def log(self, values: Logs, step: int) -> None:
        self.write(self._begun(), values, step)

    def on_exception(self, trainer: "Trainer", error: BaseException) -> None:
        self._error = error

    def on_fit_end(self, trainer: "Trainer") -> None:
        run, self._run, self._fitting = self._run, None, False
        if run is not None:
            self.end(run, self._error)

    def _begun(self) -> Any:
        if self._run is None:
            self._run, self._id = self.begin(self._id)
        return self._run
