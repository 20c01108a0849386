"""What hands a run's values to one method, for loggers of your own."""

import abc
from typing import TYPE_CHECKING

from neuron.callbacks.callback import Callback, Logs
from neuron.types import whole_number


if TYPE_CHECKING:
    from neuron.trainer import Trainer


class Logger(Callback, abc.ABC):
    """Hands what a run records to `log`, which a subclass writes; `on_fit_begin` and `on_fit_end`
    are there to open and close what it writes to.

    ```python
    class Memory(neuron.Logger):
        def __init__(self):
            self.rows = []

        def log(self, values, step):
            self.rows.append((step, values))
    ```

    Epochs are always logged. Steps are, too, where `every` is a number: each step that is a
    multiple of it, under names with `step_` in front, so that the loss of one step and the mean of
    an epoch are never one column or one curve. Steps cut a run into more pieces, and change no bit
    of it.
    """

    every: int | None = None

    @abc.abstractmethod
    def log(self, values: Logs, step: int) -> None:
        """Writes values down.

        **Arguments:**

        - `values`: numbers by name, and arrays for metrics that are no single number: of an epoch
            its row of the history (`epoch`, `loss`, `val_*`, `learning_rate`, `seconds`), of a
            step `step_loss` and what else a step records.
        - `step`: how many steps the run had taken; it never falls within a fit. The last step of
            an epoch may come twice, for itself and for the epoch.
        """

    def on_step_end(self, trainer: "Trainer", logs: Logs) -> None:
        if self.every is not None:
            self.log({f"step_{name}": value for name, value in logs.items()}, trainer.step)

    def on_epoch_end(self, trainer: "Trainer", logs: Logs) -> None:
        self.log({name: value for name, value in logs.items() if name != "step"}, trainer.step)


def period(call: str, every: int | None) -> int | None:
    """`every` as it may be: a whole number of steps, or `None` for epochs alone."""
    return None if every is None else whole_number(call, every, least=1)
