"""The best value so far of what is monitored: shared by what stops and what slows down."""

import dataclasses
import math
from typing import Any

import numpy as np

from neuron.callbacks.callback import Logs


@dataclasses.dataclass
class Best:
    """The best value so far of one name in the epochs' rows, and the epoch that it came from.

    `monitor` is `None` for `val_loss` where there is a validation, and `loss` where there is none.
    Of many members, `value` and `epoch` are arrays, with one of each for each.
    """

    call: str
    monitor: str | None
    mode: str
    min_delta: float
    value: float | np.ndarray = math.nan
    epoch: int | np.ndarray = 0
    members: int | None = None

    def __post_init__(self) -> None:
        if not self.min_delta >= 0:
            raise ValueError(
                f"`{self.call}(min_delta=...)` must be at least 0; got {self.min_delta}."
            )
        if self.mode not in ("min", "max"):
            raise ValueError(f"`{self.call}(mode=...)` must be 'min' or 'max'; got {self.mode!r}.")

    def begin(self, epoch: int, members: int | None = None) -> None:
        """Nothing has been seen yet, of one run or of that many."""
        self.members = members
        self.value = _plain(np.full(self._shape, self._worst))
        self.epoch = _plain(np.full(self._shape, epoch))

    @property
    def found(self) -> np.ndarray:
        """Whether there is a best value yet."""
        return np.asarray(self.value != self._worst)

    @property
    def _worst(self) -> float:
        return math.inf if self.mode == "min" else -math.inf

    @property
    def _shape(self) -> tuple[int, ...]:
        return () if self.members is None else (self.members,)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"value": self.value, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it back."""
        self.value, self.epoch = state["value"], state["epoch"]

    def name(self, logs: Logs) -> str:
        """What is monitored.

        **Raises:**

        - `ValueError` for a name that the epoch does not have, or that is no single number, of each
            member where there are many.
        """
        name = self.monitor or ("val_loss" if "val_loss" in logs else "loss")
        numbers = sorted(n for n, value in logs.items() if np.shape(value) == self._shape)
        if name not in numbers:
            raise ValueError(
                f"`{self.call}(monitor=...)` must name a value of the epoch that is one number; "
                f"got {name!r}, there are {numbers}."
            )
        return name

    def improved(self, logs: Logs, epoch: int, among: Any = True) -> np.ndarray:
        """Whether an epoch's value is better than all before, by more than `min_delta`.

        **Arguments:**

        - `among`: which members count, where there are many.
        """
        value = np.asarray(logs[self.name(logs)], float)
        # As Python has it: the difference of two infinities is none, and no reason to warn.
        with np.errstate(invalid="ignore", over="ignore"):
            gain = self.value - value if self.mode == "min" else value - self.value
        better = np.asarray((gain > self.min_delta) & among)
        self.value = _plain(np.where(better, value, self.value))
        self.epoch = _plain(np.where(better, epoch, self.epoch))
        return better


def _plain(value: np.ndarray) -> Any:
    """A single number as Python's."""
    return value if value.ndim else value.item()
