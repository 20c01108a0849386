"""The history of many runs at once, and why members of it stopped."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from neuron.evaluation import finisher
from neuron.history import History
from neuron.members import members_of, stacked
from neuron.objectives import Objective
from neuron.place import Place
from neuron.plotting import axes_for
from neuron.step import Scoring
from neuron.trees import Static, arrays_of


@dataclasses.dataclass(frozen=True)
class Stop:
    """At which step of the run a member stopped, the place in its epochs, and why."""

    step: int
    reason: str
    epoch: int = 0
    position: int = 0


def stop_at(place: Place, reason: str) -> Stop:
    """A stop where a run stands."""
    return Stop(place.step, reason, place.epoch, place.position)


class Histories(History):
    """What was recorded of many runs: `history["loss"]` is (members, steps), and a value in a row
    of `history.epochs` is (members,).

    A member that has stopped records NaN from there on; `history.stops` says where and why, by the
    member's place.
    """

    def __init__(self, members: int, one: Objective, many: Objective, scoring: Scoring):
        """**Arguments:**

        - `members`: how many they are.
        - `one`: what one of them minimizes.
        - `many`: what all do, members first; what they have in common has no such axis.
        - `scoring`: how one of them is scored.
        """
        super().__init__(functools.partial(_finished, members, one, many), scoring.metrics)
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

    def best(self, monitor: str | None, mode: str, without: Sequence[int]) -> int:
        """The member with the best value in its last epoch; see `Population.best`."""
        return best_of("Population.best", self.ended_with(without), monitor, mode)

    def ended_with(self, without: Sequence[int]) -> dict[str, np.ndarray]:
        """The numbers of each member's last epoch by name, (members,): those of the last row, and
        of one that has stopped those of the last epoch that it ended. NaN for members `without`."""
        *earlier, last = self.epochs or [{}]
        stopped = np.isin(np.arange(self.members), list(self.stops))
        found = {n: np.array(v, float) for n, v in last.items() if np.shape(v) == (self.members,)}
        for name, values in found.items():
            for row in reversed(earlier):
                lacking = stopped & np.isnan(values)
                if not lacking.any():
                    break
                if name in row:
                    values[lacking] = np.asarray(row[name])[lacking]
            values[list(without)] = np.nan
        return found

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


def best_of(call: str, values: dict[str, np.ndarray], monitor: str | None, mode: str) -> int:
    """The place of the best value of that name; `val_loss` or else `loss` if it is `None`.

    **Raises:**

    - `ValueError` for another mode, for a name that is none, and where no value is finite.
    """
    if mode not in ("min", "max"):
        raise ValueError(f"`{call}(mode=...)` must be 'min' or 'max'; got {mode!r}.")
    name = monitored(call, values, monitor)
    finite = np.isfinite(values[name])
    if not finite.any():
        raise ValueError(f"`{call}({name!r})`: no member has a finite value.")
    worst = np.inf if mode == "min" else -np.inf
    known = np.where(finite, values[name], worst)
    return int(np.argmin(known) if mode == "min" else np.argmax(known))


def monitored(call: str, values: dict[str, np.ndarray], monitor: str | None) -> str:
    """The name of what is compared."""
    name = monitor or ("val_loss" if "val_loss" in values else "loss")
    if name not in values:
        raise ValueError(
            f"`{call}(monitor)` must name a value of the members; got {name!r}, there are "
            f"{sorted(values)}."
        )
    return name


def _finished(
    members: int, one: Objective, many: Objective, means: Any, steps: np.ndarray
) -> dict[str, np.ndarray]:
    """The values of losses, of means that are (epochs, members)."""
    flags = stacked(arrays_of(one), arrays_of(many))
    if not any(flags):
        values = finisher(one)(jax.tree.map(np.ravel, means), np.repeat(steps, members))
        return {name: value.reshape(len(steps), -1) for name, value in values.items()}
    columns = []
    for member, arrays in enumerate(members_of(arrays_of(many), flags)):
        own = jax.tree.map(lambda leaf: leaf[:, member], means)  # noqa: B023
        columns.append(finisher(Static(one).combine(arrays))(own, steps))
    return {name: np.stack([c[name] for c in columns], axis=1) for name in columns[0]}


def _one(value: Any, member: int, members: int) -> Any:
    """A member's part of what a row holds."""
    if np.shape(value)[:1] != (members,):
        return value
    part = value[member]
    return part if np.ndim(part) else part.item()
