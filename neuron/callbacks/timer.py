"""What a fit's time goes into."""

from typing import TYPE_CHECKING

from neuron.callbacks.callback import Callback
from neuron.clock import STRETCHES, Clock


if TYPE_CHECKING:
    from neuron.trainer import Trainer


class Timer(Callback):
    """Tells what a fit's wall time goes into, during the fit and after it.

    ```python
    timer = neuron.Timer()
    trainer = neuron.Trainer(model, callbacks=[timer])
    trainer.fit(loader)
    print(timer)
    timer.seconds["input"]
    ```

    - `compile`: JAX traces and compiles, wherever that happens.
    - `steps`: the program takes steps.
    - `input`: the run waits for data, or puts them on the device.
    - `validation`: the held-out rows are evaluated.
    - `callbacks`: the hooks of all callbacks.
    - `rest`: what is left: checks before the first step, the history, the loop around the program.
    """

    _clock: Clock | None = None

    def on_fit_begin(self, trainer: "Trainer") -> None:
        self._clock = trainer.clock

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of each stretch of the last fit; their sum is all that it took."""
        return dict.fromkeys(STRETCHES, 0.0) if self._clock is None else self._clock.seconds

    def __str__(self) -> str:
        seconds = self.seconds
        whole = sum(seconds.values())
        lines = [f"{'fit':10}  {whole:9.3f} s"]
        lines += [
            f"{name:10}  {value:9.3f} s  {100 * value / whole if whole else 0:5.1f} %"
            for name, value in seconds.items()
        ]
        return "\n".join(lines)
