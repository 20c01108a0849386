"""Scores. A value over held-out rows, and how sure one can be of it: from resamples of the rows."""

import dataclasses
import math
import warnings
from typing import Any

import numpy as np

from neuron.counters import seed_words
from neuron.evaluation import Observed, resampled
from neuron.intervals import interval, standard_error
from neuron.resampling import Cases, Clusters, Resampling
from neuron.types import whole_number


@dataclasses.dataclass(frozen=True)
class Score:
    """A value over held-out rows, the ends of its interval, and its standard error.

    `float(score)` is the value. All four are arrays for a metric that is no single number.
    """

    value: float | np.ndarray
    lower: float | np.ndarray
    upper: float | np.ndarray
    standard_error: float | np.ndarray

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        if np.ndim(self.value):
            value, lower, upper = (
                " ".join(np.array2string(np.asarray(part), precision=3, separator=", ").split())
                for part in (self.value, self.lower, self.upper)
            )
            return f"{value} ({lower} to {upper})"
        places = _places(float(self.standard_error))
        value, lower, upper = (
            f"{part:.4g}" if places is None else f"{part:.{places}f}"
            for part in (self.value, self.lower, self.upper)
        )
        return f"{value} ({lower} to {upper})"


def _places(error: float) -> int | None:
    """How many decimals a number has that is known to within an error: as many as the first digit
    of it. `None` where they say nothing."""
    if not math.isfinite(error) or error == 0:
        return None
    places = -math.floor(math.log10(error))
    return None if places > 6 else max(0, places)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How rows are resampled, and what is said of it: see `Trainer.evaluate`."""

    call: str
    level: float
    replicas: int
    resampling: Resampling
    seed: int

    @classmethod
    def of(cls, call: str, word: str, level: Any, replicas: Any, groups: Any, seed: Any) -> "Plan":
        """A plan, if it can be meant.

        **Arguments:**

        - `call`, `word`: who was asked, and by what name for the level, for errors.

        **Raises:**

        - `TypeError` or `ValueError`.
        """
        number = isinstance(level, int | float | np.number) and not isinstance(level, bool)
        if not number or not 0 < level < 1:
            kind = ValueError if number else TypeError
            raise kind(f"`{call}({word}=...)` must be a number between 0 and 1; got {level!r}.")
        replicas = whole_number(f"{call}(replicas=...)", replicas, least=2)
        # Rounded, since 1 - 0.95 is a little less than 0.05.
        least = math.ceil(round(2 / (1 - level), 6))
        if replicas < least:
            raise ValueError(
                f"`{call}(replicas=...)` must be at least {least} for an interval of {level:g}, so "
                f"that a resample lies beyond each of its ends; got {replicas}."
            )
        seed_words(f"{call}(seed=...)", seed)
        return cls(
            call=call,
            level=float(level),
            replicas=replicas,
            resampling=Cases() if groups is None else Clusters(groups),
            seed=int(seed),
        )

    def check(self, rows: int | None) -> None:
        """Refuses rows that can not be resampled so, as soon as their number is known.

        **Raises:**

        - `ValueError`.
        """
        if rows is not None and rows < 2:
            raise ValueError(f"`{self.call}` must have at least 2 rows to resample; got {rows}.")
        groups = self.resampling.groups if isinstance(self.resampling, Clusters) else None
        if rows is not None and groups is not None and len(groups) != rows:
            raise ValueError(
                f"`{self.call}(groups=...)` must have one group a row; got {len(groups)} for "
                f"{rows} rows."
            )

    def counts(self, rows: int) -> np.ndarray:
        """How often each of that many rows is in each resample."""
        self.check(rows)
        return self.resampling.counts(rows, self.replicas, self.seed)

    def score(self, name: str, value: Any, replicates: np.ndarray) -> Score:
        """One value with its interval. What is not finite in a resample is left out, and said so.

        **Arguments:**

        - `name`: what it is called.
        - `value`: over the rows as they are.
        - `replicates`: over each resample.
        """
        finite = np.isfinite(replicates).reshape(self.replicas, -1)
        lost = int(self.replicas - finite.sum(axis=0).min(initial=self.replicas))
        if lost and np.isfinite(value).any():
            warnings.warn(
                f"`{self.call}`: {name!r} is not finite in {lost} of {self.replicas} resamples, "
                "which are left out of its interval.",
                stacklevel=2,
            )
        ends = interval("percentile", replicates, value, self.level)
        error = np.where(np.isfinite(value), standard_error(replicates), np.nan)
        parts = (value, *ends, error)
        return Score(*(np.asarray(p) if np.ndim(p) else float(p) for p in parts))


def scored(plan: Plan, observed: Observed) -> dict[str, Score]:
    """The values of `evaluate` with their intervals."""
    counts = plan.counts(observed.rows)
    values, replicates = observed.values(), resampled(observed, counts)
    return {name: plan.score(name, value, replicates[name]) for name, value in values.items()}
