"""Comparison. Two models over the same held-out rows: which one is better, and how sure that is."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from neuron.evaluation import Observed, resampled
from neuron.intervals import p_value
from neuron.scores import Plan, Score
from neuron.trainer import Trainer, observed


class Compared(NamedTuple):
    """One value of both models, their difference `a - b`, and the p-value of it being 0."""

    a: Score
    b: Score
    difference: Score
    p_value: float | np.ndarray


class Comparison(Mapping[str, Compared]):
    """Two models over the same rows, by the names of what was measured: a mapping.

    `comparison["loss"]` has `a`, `b`, `difference` and `p_value`. `left_out` has the names of what
    both measure, but not alike.
    """

    def __init__(self, values: dict[str, Compared], left_out: tuple[str, ...] = ()):
        """**Arguments:**

        - `values`: by name.
        - `left_out`: names of what could not be compared.
        """
        self._values, self.left_out = values, left_out

    def __getitem__(self, name: str) -> Compared:
        if name not in self._values:
            raise KeyError(f"{name!r} was not compared; there are {list(self._values)}.")
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        head = ("", "a", "b", "a - b", "p")
        rows = [head, *((name, *map(_shown, one)) for name, one in self._values.items())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )
        others = [f"not compared: {', '.join(self.left_out)}"] if self.left_out else []
        return "\n".join([*lines, *others])


def compare(
    trainer_a: Trainer,
    trainer_b: Trainer,
    loader: Any,
    *,
    level: float = 0.95,
    replicas: int = 1000,
    seed: int = 0,
    groups: Any = None,
) -> Comparison:
    """Two trainers' models over the same held-out rows, by the paired bootstrap (Efron &
    Tibshirani, 1993, chapter 8): each resample of the rows is the same one for both, so that what
    makes a row hard for both models is no part of the difference.

    ```python
    print(neuron.compare(trainer, baseline, (x, y)))
    ```

    What is compared is the loss, and what is logged beside it, where both minimize the same one,
    and each metric that both measure alike under one name. A penalty is part of a loss, and is not
    compared by itself: no row has a share in it.

    **Arguments:**

    - `trainer_a`, `trainer_b`: whose models, as they are now.
    - `loader`: as for `Trainer.evaluate`. A loader, and arrays, are read once for both.
    - `level`: of the intervals.
    - `replicas`: how many resamples.
    - `seed`: of the resamples.
    - `groups`: which one each row is of, where rows of one group depend on each other.

    **Returns:**

    A `Comparison`. Its p-values are two-sided, of resamples of the difference (see
    `neuron.intervals.p_value`); the smallest that there can be is `2 / (replicas + 1)`.

    **Raises:**

    - `ValueError` where the two have nothing in common.
    - `ValueError` or `TypeError` for what `Trainer.evaluate` refuses.
    """
    for name, trainer in (("trainer_a", trainer_a), ("trainer_b", trainer_b)):
        if not isinstance(trainer, Trainer):
            raise TypeError(f"`compare({name})` must be a neuron.Trainer; got {trainer!r}.")
    plan = Plan.of("compare", "level", level, replicas, groups, seed)
    _refuse_nothing(trainer_a, trainer_b)
    pair = observed(plan, [trainer_a, trainer_b], loader)
    counts = plan.counts(pair[0].rows)
    values = [found.values() for found in pair]
    replicates = [resampled(found, counts) for found in pair]
    compared = {}
    for name in _alike(pair, values):
        a, b = (v[name] for v in values)
        of_a, of_b = (r[name] for r in replicates)
        apart = plan.score(f"{name} of a - b", np.subtract(a, b)[()], of_a - of_b)
        p = p_value(of_a - of_b)
        scores = plan.score(f"{name} of a", a, of_a), plan.score(f"{name} of b", b, of_b)
        compared[name] = Compared(*scores, apart, p if p.ndim else float(p))
    left_out = [name for name in values[0] if name in values[1] and name not in compared]
    penalties = {name for found in pair for name in _penalties(found)}
    return Comparison(compared, tuple(name for name in left_out if name not in penalties))


def _alike(pair: list[Observed], values: list[dict[str, Any]]) -> list[str]:
    """The names of what can be compared, the loss first."""
    (a, b), (of_a, of_b) = pair, values
    measured = a.scoring.metrics
    alike = _common_metrics(a.scoring.metrics, b.scoring.metrics)
    if _same_loss(a.scoring.objective, a.step, b.scoring.objective, b.step):
        alike |= of_a.keys() - measured.keys() - _penalties(a)
    names = [n for n in of_a if n in alike and np.shape(of_a[n]) == np.shape(of_b[n])]
    return sorted(names, key=lambda name: name != "loss")


def _common_metrics(a: dict[str, Any], b: dict[str, Any]) -> set[str]:
    return {name for name in a if name in b and bool(eqx.tree_equal(a[name], b[name]))}


def _same_loss(a: Any, step_a: int, b: Any, step_b: int) -> bool:
    """Whether two objectives are one, with the numbers that their schedules have come to."""
    then = lambda objective, step: objective.at(jnp.asarray(step, jnp.int32))
    return bool(eqx.tree_equal(then(a, step_a), then(b, step_b)))


def _penalties(found: Observed) -> set[str]:
    return set(found.scoring.objective.penalties(found.model))


def _refuse_nothing(a: Trainer, b: Trainer) -> None:
    """Refuses two trainers that have nothing in common, before any row is read."""
    one, other = a._parts.scoring, b._parts.scoring
    same = _same_loss(one.objective, a.step, other.objective, b.step)
    if not same and not _common_metrics(one.metrics, other.metrics):
        raise ValueError(
            "`compare(trainer_a, trainer_b)` must have one loss, or metrics in common: the "
            f"difference of two kinds of loss means nothing; got {one.objective!r} and "
            f"{other.objective!r}, and metrics {list(one.metrics)} and {list(other.metrics)}. Give "
            "both trainers `metrics={...}` of what is to be compared."
        )


def _shown(part: Any) -> str:
    """A cell of the table; what is many numbers is in `comparison[name]` alone."""
    if isinstance(part, Score):
        many = np.shape(part.value)
        return f"numbers of shape {many}" if many else repr(part)
    return f"{part:.2g}" if np.ndim(part) == 0 else f"{np.min(part):.2g} to {np.max(part):.2g}"
