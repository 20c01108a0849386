"""Place. Where a run stands, as the host counts it without asking the device, and how far a fit is
to take it."""

import dataclasses

import numpy as np

from neuron.counters import number, words
from neuron.rows import UNKNOWN
from neuron.state import TrainState
from neuron.types import whole_number


@dataclasses.dataclass
class Place:
    """How many steps and epochs a run has taken, and its place in the epoch under way.

    `steps_per_epoch` is 0 where nobody has said yet how data are cut. `ending` says that the end
    of the last epoch is not over: its validation was interrupted, and is made again by whoever goes
    on from here.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    steps_per_epoch: int = 0
    ending: bool = False

    def move_to(self, state: TrainState) -> None:
        """To where a state's own counters say."""
        # Other weights at the same step change nothing about what is still to come there.
        self.ending = self.ending and self.step == number(state.step)
        self.step, self.epoch = number(state.step), number(state.epoch)
        self.position = int(state.position)

    @property
    def epoch_end(self) -> int:
        """The step at which the epoch under way ends."""
        return self.step - self.position + self.steps_per_epoch

    def cut(self, steps_per_epoch: int, *, anew: bool = False) -> None:
        """Goes on with epochs of that many steps; data that is cut in another way than before, or
        begins anew, starts with an epoch of its own."""
        recut = anew or self.steps_per_epoch not in (0, steps_per_epoch)
        if self.position and (recut or self.position >= steps_per_epoch):
            self.epoch, self.position = self.epoch + 1, 0
        self.steps_per_epoch = steps_per_epoch

    def advance(self, steps: int) -> None:
        """That many steps on."""
        self.step += steps
        epochs, self.position = divmod(self.position + steps, self.steps_per_epoch)
        self.epoch += epochs

    def put_into(self, state: TrainState) -> TrainState:
        """A state that goes on from here."""
        return dataclasses.replace(
            state,
            epoch=words(self.epoch),
            position=np.array(self.position, np.uint32),
            stopped=np.zeros(np.shape(state.stopped), bool),
        )

    @property
    def known(self) -> bool:
        """Whether it is known how many steps an epoch has."""
        return self.steps_per_epoch != UNKNOWN

    def end_epoch(self) -> None:
        """On to the next epoch, wherever this one ends."""
        self.epoch, self.position = self.epoch + 1, 0


@dataclasses.dataclass(frozen=True)
class Goal:
    """How far a fit goes: that many epochs or steps, 10 epochs if neither is given.

    They count from where the run stands, or in `total` from where it began.

    **Raises:**

    - `ValueError` or `TypeError` for both, and for what is no whole number.
    """

    epochs: int | None
    steps: int | None
    total: bool

    def __post_init__(self):
        if self.epochs is not None and self.steps is not None:
            raise ValueError(
                f"`Trainer.fit()` takes epochs or steps, not both; got epochs={self.epochs}, "
                f"steps={self.steps}."
            )
        for name in ("epochs", "steps"):
            if (given := getattr(self, name)) is not None:
                whole_number(f"Trainer.fit({name}=...)", given, least=0)

    def more_from(self, place: Place) -> tuple[int | None, int | None]:
        """How many steps more, and the epoch to end with where nobody knows how many they are."""
        if self.steps is not None:
            return max(0, self.steps - place.step if self.total else self.steps), None
        epochs = 10 if self.epochs is None else self.epochs
        if not place.known:
            return None, epochs if self.total else place.epoch + epochs
        steps = epochs * place.steps_per_epoch
        before = place.epoch * place.steps_per_epoch + place.position
        return max(0, steps - before) if self.total else steps, None
