"""The history of many runs at once, and why members of it stopped."""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from neuron.history import History
from neuron.plotting import axes_for


@dataclasses.dataclass(frozen=True)
class Stop:
    """At which step of the run a member stopped, the place in its epochs, and why."""

    step: int
    reason: str
    epoch: int = 0
    position: int = 0


class Histories(History):
    """What was recorded of many runs: `history["loss"]` is (members, steps), and a value in a row
    of `history.epochs` is (members,).

    A member that has stopped records NaN from there on; `history.stops` says where and why, by the
    member's place.
    """

    def __init__(
        self,
        members: int,
        finish: Callable[..., dict[str, np.ndarray]],
        metrics: Collection[str],
    ):
        super().__init__(finish, metrics)
        self.members = members
        self.stops: dict[int, Stop] = {}

    def of(self, member: int, finish: Callable[..., dict[str, np.ndarray]], step: int) -> History:
        """The history of one of them: its own steps, up to where it stopped.

        **Arguments:**

        - `step`: how many steps the run has taken.
        """
        own, state = History(finish, self._metrics), super().state_dict()
        known = self._taken(member)
        taken = int(np.flatnonzero(known)[-1]) + 1 if known.any() else 0
        state["steps"] = {n: values[:taken, member] for n, values in state["steps"].items()}
        hands = state["clock"]
        seconds = np.interp(taken, hands["steps"], hands["seconds"])
        before = hands["steps"] < taken
        state["clock"] = {
            "steps": np.append(hands["steps"][before], taken),
            "seconds": np.append(hands["seconds"][before], seconds),
        }
        state |= {"rows": {}, "ending": np.zeros((0, 5), np.int64), "of_epochs": {}}
        own.load_state_dict(state)
        rows = [
            {name: _one(value, member, self.members) for name, value in row.items()}
            for row in self.epochs
        ]
        # An epoch in which it stopped has no row.
        before = step - len(self)
        own.epochs.extend(row for row in rows if known[int(row["step"]) - before - 1])
        return own

    def _taken(self, member: int) -> np.ndarray:
        """Which steps a member has taken. A loss may be NaN for other reasons: its update was
        skipped, or there was nothing that counts; the weight behind it then is 0."""
        name = next((n for n in self._columns if n.split(".")[0] == "loss_weight"), None)
        return ~np.isnan(self._columns[name].values[:, member]) if name else np.zeros(0, bool)

    def state_dict(self) -> dict[str, Any]:
        stops = self.stops
        return super().state_dict() | {
            "stops": {
                "members": np.array(list(stops), np.int64),
                "steps": np.array([stop.step for stop in stops.values()], np.int64),
                "epochs": np.array([stop.epoch for stop in stops.values()], np.int64),
                "positions": np.array([stop.position for stop in stops.values()], np.int64),
                "reasons": [stop.reason for stop in stops.values()],
            }
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        stops = state["stops"]
        numbers = [stops[name].tolist() for name in ("members", "steps", "epochs", "positions")]
        super().load_state_dict(state)
        self.stops = {
            member: Stop(step, reason, epoch, position)
            for member, step, epoch, position, reason in zip(
                *numbers, stops["reasons"], strict=True
            )
        }

    def __repr__(self) -> str:
        if not len(self):
            return f"Histories({self.members} members, no steps yet)"
        text = f"Histories({self.members} members, {len(self)} steps, {len(self.epochs)} epochs, "
        last = self["loss"][:, -1]
        there = last[np.isfinite(last)]
        if there.size:
            text += f"loss {there.min():.4g} to {there.max():.4g} at the last"
        return text + (f", {len(self.stops)} stopped" if self.stops else "") + ")"

    def plot(self, ax: Any = None, *, name: str = "loss") -> Any:
        """Draws the median over the members at every step, in bands that hold half and nine tenths
        of them; the validation's median as well. Returns the axes.

        **Arguments:**

        - `name`: what is drawn, of `history.names`.

        **Raises:**

        - `ImportError` without matplotlib, which the extra `neuron-equinox[plot]` brings.
        """
        ax = axes_for("Histories.plot()", ax)
        values = self[name]
        steps = np.arange(1, values.shape[1] + 1)
        known = np.isfinite(values).any(axis=0)
        steps, values = steps[known], values[:, known]
        quantiles = np.nanquantile(values, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
        ax.fill_between(
            steps, quantiles[0], quantiles[4], alpha=0.15, lw=0, label="90 % of members"
        )
        ax.fill_between(
            steps, quantiles[1], quantiles[3], alpha=0.3, lw=0, color="C0", label="50 %"
        )
        ax.plot(steps, quantiles[2], lw=1.2, label="median")
        points = [
            (r["step"], np.nanmedian(r[f"val_{name}"])) for r in self.epochs if f"val_{name}" in r
        ]
        if points:
            ax.plot(*zip(*points, strict=True), lw=1.4, label="validation, median")
        if (quantiles > 0).all():
            ax.set_yscale("log")
        ax.set(xlabel="step", ylabel=name, xlim=(0, max(1, len(self))))
        ax.legend(frameon=False)
        return ax


def _one(value: Any, member: int, members: int) -> Any:
    """A member's part of what a row holds."""
    if np.shape(value)[:1] != (members,):
        return value
    part = value[member]
    return part if np.ndim(part) else part.item()
