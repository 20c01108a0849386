"""Sweeps: the same run with many values of its numbers, as one program."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neuron.callbacks import Callback
from neuron.hyperparameters import numbers, refuse_unknown, with_numbers
from neuron.plotting import axes_for
from neuron.population import Population, best_of, monitored
from neuron.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a run led to with each of many settings.

    `settings` has the values by name, one for each member; `values` what the run ended with, NaN
    for a member that broke down; `population` holds the trained members.
    """

    settings: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    population: Population

    @property
    def rows(self) -> list[dict[str, float]]:
        """The same as a table: a row for each member."""
        columns = self.settings | self.values
        return [
            {name: float(column[member]) for name, column in columns.items()}
            for member in range(len(self.population))
        ]

    def best(self, monitor: str | None = None, *, mode: str = "min") -> Trainer:
        """The member with the best value, as an ordinary trainer.

        **Arguments:**

        - `monitor`: a name in `values`; `val_loss` where there is a validation, `loss` where there
            is none, if `None`.
        - `mode`: `"min"` or `"max"`: which way is better.

        **Raises:**

        - `ValueError` for a name that is none, and where no member has a finite value.
        """
        return self.population[best_of("Sweep.best", self.values, monitor, mode)]

    def best_setting(self, monitor: str | None = None, *, mode: str = "min") -> dict[str, float]:
        """The setting of that member."""
        member = best_of("Sweep.best_setting", self.values, monitor, mode)
        return {name: float(values[member]) for name, values in self.settings.items()}

    def plot(self, ax: Any = None, *, name: str | None = None, monitor: str | None = None) -> Any:
        """Draws a value over a number that was swept: a curve, or one for each setting of the
        others. Returns the axes.

        **Arguments:**

        - `ax`: where to draw.
        - `name`: the number; the first one if `None`.
        - `monitor`: the value, as for `best`.

        **Raises:**

        - `ImportError` without matplotlib, which the extra `neuron-equinox[plot]` brings.
        """
        ax = axes_for("Sweep.plot()", ax)
        name = name or next(iter(self.settings))
        if name not in self.settings:
            raise ValueError(
                f"`Sweep.plot(name=...)` must be one of {list(self.settings)}; got {name!r}."
            )
        shown = monitored("Sweep.plot", self.values, monitor)
        values, over = self.values[shown], self.settings[name]
        others = {n: v for n, v in self.settings.items() if n != name}
        rest = list(zip(*others.values(), strict=True)) or [()] * len(over)
        for setting in dict.fromkeys(rest):
            there = np.array([one == setting for one in rest])
            order = np.argsort(over[there], kind="stable")
            label = ", ".join(f"{n} {v:g}" for n, v in zip(others, setting, strict=True))
            ax.plot(over[there][order], values[there][order], "o-", ms=3, lw=1.2, label=label)
        if (over > 0).all() and over.max() > 20 * over.min():
            ax.set_xscale("log")
        finite = values[np.isfinite(values)]
        if finite.size and (finite > 0).all() and finite.max() > 20 * finite.min():
            ax.set_yscale("log")
        ax.set(xlabel=name, ylabel=shown)
        if others:
            ax.legend(frameon=False)
        return ax

    def __repr__(self) -> str:
        text = ", ".join(f"{name} x{len(set(v.tolist()))}" for name, v in self.settings.items())
        return f"Sweep({text}: {len(self.population)} members, {list(self.values)})"


def sweep(
    trainer: Trainer,
    loader: Any,
    settings: Mapping[str, Any],
    *,
    epochs: int | None = None,
    steps: int | None = None,
    validation: Any = None,
    callbacks: Sequence[Callback] = (),
) -> Sweep:
    """Fits the same run with every combination of values, all at once: one program, and no trace
    beyond that of a single fit.

    ```python
    rates = {"optimizer.learning_rate": np.logspace(-4, 0, 32)}
    found = neuron.sweep(trainer, loader, rates, epochs=20, validation=held_out)
    found.best_setting(), found.best(), found.plot()
    ```

    **Arguments:**

    - `trainer`: where all members start from, on the same batches; it is not changed.
    - `loader`: as for `Trainer.fit`.
    - `settings`: a list of values for each number: `optimizer.learning_rate` and other numbers of
        the optimizer, `loss.delta` and other numbers of the loss, `loss.penalties.l2.strength`,
        `average`. Of several numbers, every combination.
    - `epochs`, `steps`, `validation`: as for `Trainer.fit`.
    - `callbacks`: what looks at the population.

    **Returns:**

    A `Sweep`, with the values of the last epoch, or of the last tenth of the steps where no epoch
    ended; `val_*` are those after the last step.

    **Raises:**

    - `ValueError` for a name that is no number of the run, and for a value out of its range.
    """
    call = "sweep(settings)"
    if not settings:
        raise ValueError(f"`{call}` must name at least one number; got none.")
    lists = {name: _values(call, name, given) for name, given in settings.items()}
    refuse_unknown(call, lists, numbers(trainer))
    parts = (trainer.optimizer, trainer._parts.scoring.objective, trainer._parts.average)
    for name, values in lists.items():
        for value in values.tolist():
            with_numbers(*parts, {name: value})
    table = np.array(list(itertools.product(*lists.values())))
    columns = dict(zip(lists, table.T, strict=True))
    population = Population.repeated(trainer, len(table), columns, callbacks=callbacks)
    population.fit(loader, epochs=epochs, steps=steps, validation=validation)
    return Sweep(columns, _ended_with(population, validation), population)


def _values(call: str, name: str, given: Any) -> np.ndarray:
    values = np.asarray(given)
    if values.ndim != 1 or not values.size or values.dtype.kind not in "fiu":
        raise ValueError(f"`{call}` must be a list of numbers for {name!r}; got {given!r}.")
    return values.astype(float)


def _ended_with(population: Population, validation: Any) -> dict[str, np.ndarray]:
    rows, members = population.history.epochs, (len(population),)
    if rows:
        found = population.history.ended_with(population.faulty)
    else:
        loss = population.history["loss"]
        found = {"loss": loss[:, -max(1, loss.shape[1] // 10) :].mean(axis=1).astype(float)}
    if validation is not None and (not rows or rows[-1]["step"] != population.step):
        scores = population.evaluate(validation)
        found |= {
            f"val_{n}": np.array(v, float) for n, v in scores.items() if np.shape(v) == members
        }
    for values in found.values():
        values[population.faulty] = np.nan
    return found
