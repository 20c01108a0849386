"""The best value so far of what is monitored: shared by what stops and what slows down."""

import dataclasses
import math
from typing import Any

from neuron.callbacks.callback import Logs


@dataclasses.dataclass
class Best:
    """The best value so far of one name in the epochs' rows, and the epoch that it came from.

    `monitor` is `None` for `val_loss` where there is a validation, and `loss` where there is none.
    """

    call: str
    monitor: str | None
    mode: str
    min_delta: float
    value: float = math.nan
    epoch: int = 0

    def __post_init__(self) -> None:
        if not self.min_delta >= 0:
            raise ValueError(
                f"`{self.call}(min_delta=...)` must be at least 0; got {self.min_delta}."
            )
        if self.mode not in ("min", "max"):
            raise ValueError(f"`{self.call}(mode=...)` must be 'min' or 'max'; got {self.mode!r}.")

    def begin(self, epoch: int) -> None:
        """Nothing has been seen yet."""
        self.value = math.inf if self.mode == "min" else -math.inf
        self.epoch = epoch

    def state_dict(self) -> dict[str, float | int]:
        """What a checkpoint holds."""
        return {"value": self.value, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it back."""
        self.value, self.epoch = state["value"], state["epoch"]

    def name(self, logs: Logs) -> str:
        """What is monitored.

        **Raises:**

        - `ValueError` for a name that the epoch does not have, or that is no single number.
        """
        name = self.monitor or ("val_loss" if "val_loss" in logs else "loss")
        numbers = sorted(n for n, value in logs.items() if isinstance(value, int | float))
        if name not in numbers:
            raise ValueError(
                f"`{self.call}(monitor=...)` must name a value of the epoch that is one number; "
                f"got {name!r}, there are {numbers}."
            )
        return name

    def improved(self, logs: Logs, epoch: int) -> bool:
        """Whether an epoch's value is better than all before, by more than `min_delta`."""
        value = float(logs[self.name(logs)])
        gain = self.value - value if self.mode == "min" else value - self.value
        if not gain > self.min_delta:
            return False
        self.value, self.epoch = value, epoch
        return True
