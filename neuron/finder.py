"""The learning-rate finder: a short fit with each of many rates."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from neuron.data import DataLoader, as_loader
from neuron.errors import NonFiniteLossError
from neuron.plotting import axes_for
from neuron.types import whole_number


if TYPE_CHECKING:
    from neuron.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class RateSearch:
    """What short fits with different learning rates led to.

    `rates` holds one learning rate a fit, `losses` the mean loss over the last tenth of its steps,
    infinite where it broke down, and `curves` its loss at each step, NaN after it did. `groups` is
    there where the trainer has learning rates by path: each one's share of the largest, which is
    what `rates` are of.
    """

    rates: Float[np.ndarray, " fits"]
    losses: Float[np.ndarray, " fits"]
    curves: Float[np.ndarray, "fits steps"]
    groups: dict[str, float] | None = None

    @property
    def suggestion(self) -> float | dict[str, float]:
        """What led to the lowest loss, as `trainer.set(learning_rate=...)` takes it: a rate, or a
        dict of them by path."""
        return _rates(self._best, self.groups)

    @property
    def _best(self) -> float:
        return float(self.rates[np.argmin(self.losses)])

    def plot(self, ax: Any = None) -> Any:
        """Draws the loss that each rate led to, and the suggestion; returns the axes.

        **Raises:**

        - `ImportError` without matplotlib, which the extra `neuron-equinox[plot]` brings.
        """
        ax = axes_for("RateSearch.plot()", ax)
        ended = np.isfinite(self.losses)
        ax.plot(self.rates[ended], self.losses[ended], marker="o", ms=3, lw=1.2)
        broken = self.rates[~ended]
        if broken.size:
            ax.axvspan(broken.min(), broken.max(), color="0.9", label="not finite")
        best = self._best
        ax.axvline(best, color="C1", lw=1, label=f"lowest loss, at {best:.2g}")
        ax.set(
            xscale="log", xlabel="learning rate", ylabel=f"loss after {self.curves.shape[1]} steps"
        )
        if (self.losses[ended] > 0).all():
            ax.set_yscale("log")
        ax.legend(frameon=False)
        return ax


def find_learning_rate(
    trainer: "Trainer",
    loader: DataLoader | tuple[Any, ...],
    rates: Sequence[float] | np.ndarray | None = None,
    *,
    steps: int = 100,
) -> RateSearch:
    """Trains copies of a trainer, each with another learning rate, for some steps from where it
    stands. The trainer itself stays as it is, and all fits share one compiled program.

    ```python
    search = neuron.find_learning_rate(trainer, loader)
    search.plot()
    trainer.set(learning_rate=search.suggestion)
    ```

    A rate that is best for a few steps may be too large for many: a third of it is a common choice
    for a long run without a schedule.

    **Arguments:**

    - `trainer`: with an optimizer whose learning rate is a number, or has groups. All groups that
        are numbers are then multiplied alike, so that the largest one has the rate; what is a
        function of the count stays as it is.
    - `loader`: what to train on.
    - `rates`: above 0; 21 of them, from 1e-5 to 1, if `None`.
    - `steps`: how many steps each takes.

    **Raises:**

    - `ValueError` for rates or steps out of their range, for an optimizer without a learning rate
        to set or with groups that are all 0, and where every fit broke down.
    """
    steps = whole_number("find_learning_rate(steps=...)", steps, least=1)
    given = np.logspace(-5, 0, 21) if rates is None else np.asarray(rates, np.float64)
    if given.ndim != 1 or not given.size or not (np.isfinite(given) & (given > 0)).all():
        raise ValueError(
            f"`find_learning_rate(rates=...)` must be a list of numbers above 0; got {rates!r}."
        )
    loader = as_loader("find_learning_rate(loader)", loader)
    groups = _shares(trainer)
    curves = np.full((given.size, steps), np.nan)
    losses = np.full(given.size, np.inf)
    for place, rate in enumerate(given):
        copy = trainer.copy()
        copy.set(learning_rate=_rates(float(rate), groups))
        try:
            copy.fit(loader, steps=steps)
            losses[place] = copy.history["loss"][-max(1, steps // 10) :].mean()
        except NonFiniteLossError:
            pass
        if len(copy.history):
            curves[place, : len(copy.history)] = copy.history["loss"]
    if not np.isfinite(losses).any():
        raise ValueError(
            f"`find_learning_rate(rates=...)` must have a rate that trains; with all from "
            f"{given.min():.3g} to {given.max():.3g} the loss was not finite."
        )
    return RateSearch(given, losses, curves, groups)


def _shares(trainer: "Trainer") -> dict[str, float] | None:
    """Each group's share of the largest learning rate; `None` where there are no groups."""
    groups = trainer.optimizer.numbers().get("learning_rate")
    if not isinstance(groups, dict):
        return None
    largest = max(groups.values())
    if largest == 0:
        raise ValueError(
            "`find_learning_rate(trainer)` keeps the ratios of learning rates by path, so one must "
            f"be above 0; got {groups}."
        )
    return {pattern: rate / largest for pattern, rate in groups.items()}


def _rates(rate: float, groups: dict[str, float] | None) -> float | dict[str, float]:
    """A rate, or that of each group where the largest has it."""
    return rate if groups is None else {p: rate * share for p, share in groups.items()}
