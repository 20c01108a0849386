"""What a bootstrap knows: intervals and errors of anything that a model says."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from neuron.bootstrapping.optimization import OptimizationError
from neuron.bootstrapping.out_of_bag import predictions, scores
from neuron.bootstrapping.plots import plot_fit, plot_numbers
from neuron.bootstrapping.replicas import Fitting
from neuron.intervals import Interval, interval, standard_error
from neuron.population import Population
from neuron.resampling import Resampling, generator
from neuron.trainer import Trainer
from neuron.types import Model


class Bootstrapped:
    """Replicas of a trained model, each trained to the end on a resample of the rows, and the
    estimate, trained on all of them alike.

    - `population`: all members; the first one is the estimate.
    - `counts`: how often each row is in each replica's resample, (replicas, rows); `None` where it
        is residuals that were drawn.
    - `optimization_error`: what other batches would have changed; `None` where it was not looked
        at.
    - `failed`: how many replicas broke down; they count nowhere.
    """

    def __init__(
        self,
        fitting: Fitting,
        population: Population,
        counts: np.ndarray | None,
        resampling: Resampling | None,
        level: float,
        optimization_error: OptimizationError | None,
    ):
        """`neuron.bootstrap` makes it.

        **Arguments:**

        - `fitting`: how the members were trained.
        - `population`: them.
        - `counts`: as above.
        - `resampling`: what was drawn; `None` where it is residuals.
        - `level`: of the intervals that are not told another one.
        - `optimization_error`: as above.
        """
        self._fitting, self.population, self.counts = fitting, population, counts
        self._resampling, self.level = resampling, level
        self.optimization_error = optimization_error
        replicas = np.arange(1, len(population))
        self._there = np.setdiff1d(replicas, population.faulty)
        self.failed = len(replicas) - len(self._there)

    def __len__(self) -> int:
        """How many replicas there are, without those that broke down."""
        return len(self._there)

    @property
    def estimate(self) -> Trainer:
        """The model that is trained on the data themselves, as an ordinary trainer."""
        return self.population[0]

    def statistic(self, statistic: Callable[[Model], Any]) -> tuple[np.ndarray, np.ndarray]:
        """A function of the model, of the estimate, and of each replica: (replicas, ...).

        **Arguments:**

        - `statistic`: from a model to a number or an array.
        """
        values = self.population.each(statistic)
        return np.asarray(values[0]), values[self._there]

    def interval(
        self, statistic: Callable[[Model], Any], *, kind: str = "percentile", level: Any = None
    ) -> Interval:
        """Lower and upper ends of an interval for a function of the model.

        ```python
        lower, upper = result.interval(lambda model: model.weight)
        ```

        **Arguments:**

        - `statistic`: from a model to a number or an array, of which each number gets one.
        - `kind`: `"percentile"`, `"basic"` or `"bca"`, see `neuron.intervals`. The last one trains
            a model for each row that is left out, up to 1,000, when it is first asked for.
        - `level`: in (0, 1); that of the bootstrap if `None`.

        **Raises:**

        - `ValueError` for another kind or level, and for `"bca"` where residuals were drawn.
        """
        estimate, replicates = self.statistic(statistic)
        jackknife = self._jackknife.each(statistic) if kind == "bca" else None
        level = self.level if level is None else level
        return interval(kind, replicates, estimate, level, jackknife)

    def standard_error(self, statistic: Callable[[Model], Any]) -> np.ndarray:
        """The standard deviation over the replicas of a function of the model.

        **Arguments:**

        - `statistic`: as for `interval`.
        """
        return standard_error(self.statistic(statistic)[1])

    def predict_interval(
        self, inputs: Any, *, kind: str = "percentile", level: Any = None, outcome: bool = False
    ) -> Interval:
        """Lower and upper ends of the prediction for each row of inputs: a band.

        **Arguments:**

        - `inputs`: as for `Trainer.predict`.
        - `kind`, `level`: as for `interval`.
        - `outcome`: whether the band is for what is observed, and not for its mean: then each
            replica's prediction has a residual added, drawn from those of rows that replicas have
            not seen. Residuals are taken to be alike everywhere.

        **Raises:**

        - `ValueError` as `interval`, and for `outcome` where targets are no numbers like the
            predictions.
        """
        predicted = np.asarray(self.population.predict(inputs), np.float64)
        level = self.level if level is None else level
        if outcome:
            return self._outcomes(predicted, kind, level)
        jackknife = None
        if kind == "bca":
            jackknife = np.asarray(self._jackknife.predict(inputs), np.float64)
        replicates = predicted[self._there]
        return interval(kind, replicates, predicted[0], level, jackknife)

    def _outcomes(self, predicted: np.ndarray, kind: str, level: float) -> Interval:
        call = "Bootstrapped.predict_interval(outcome=True)"
        targets = np.asarray(self._fitting.rows.targets)
        if kind != "percentile" or targets.dtype.kind != "f":
            raise ValueError(
                f"`{call}` is of kind 'percentile', for targets that are floats; got {kind!r} and "
                f"{targets.dtype}."
            )
        known = self.out_of_bag_predictions
        # A row's residuals of several outputs stay together.
        seen = np.isfinite(known.reshape(len(known), -1)).all(axis=1)
        residuals = (targets - known)[seen]
        shown = predicted[self._there]
        drawn = generator(self._fitting.seed, len(self)).integers(
            len(residuals), size=shown.shape[:2]
        )
        shown = shown + residuals[drawn]
        return interval(kind, shown, predicted[0], level)

    @functools.cached_property
    def out_of_bag(self) -> dict[str, Any]:
        """The loss and the metrics over all pairs of a replica and a row that it was not trained
        on: an honest error without a held-out set (Efron & Tibshirani, 1997: a little too high,
        since a resample has 63 % of the rows).

        **Raises:**

        - `ValueError` where residuals were drawn, which leaves no row out.
        """
        return scores(self._fitting, self.population, self._out)

    @functools.cached_property
    def out_of_bag_predictions(self) -> Any:
        """Each row's mean prediction by the replicas that were not trained on it (Breiman, 1996),
        rows first; NaN for a row that is in every resample."""
        return predictions(self._fitting, self.population, self._out)

    @property
    def _out(self) -> np.ndarray:
        if self.counts is None:
            raise ValueError(
                "`Bootstrapped.out_of_bag` needs rows that are left out; where residuals are drawn "
                "there are none."
            )
        out = np.zeros((len(self.population), self.counts.shape[1]), bool)
        out[self._there] = self.counts[self._there - 1] == 0
        return out

    @functools.cached_property
    def _jackknife(self) -> Population:
        if self._resampling is None:
            raise ValueError(
                "`Bootstrapped.interval(kind='bca')` needs rows that are left out; where residuals "
                "are drawn take 'percentile' or 'basic'."
            )
        return self._fitting.trained(self._resampling.without_one(self._fitting.number).T)

    def plot(
        self,
        statistic: Callable[[Model], Any] | None = None,
        ax: Any = None,
        *,
        names: Sequence[str] | None = None,
        kind: str = "percentile",
        reference: Any = None,
    ) -> Any:
        """Draws numbers of the model with their intervals; returns the axes.

        **Arguments:**

        - `statistic`: as for `interval`; all weights if `None`.
        - `ax`: where to draw.
        - `names`: what the numbers are called.
        - `kind`: as for `interval`.
        - `reference`: other values of the same numbers, drawn beside them.

        **Raises:**

        - `ImportError` without matplotlib, which the extra `neuron-equinox[plot]` brings.
        """
        return plot_numbers(self, statistic, ax, names, kind, reference)

    def plot_fit(self, inputs: Any, ax: Any = None, *, outcome: bool = False) -> Any:
        """Draws the prediction over a single input, with its band; returns the axes.

        **Arguments:**

        - `inputs`: rows of one number.
        - `ax`: where to draw.
        - `outcome`: whether with the band of outcomes as well, as `predict_interval` has it.

        **Raises:**

        - `ImportError` without matplotlib, which the extra `neuron-equinox[plot]` brings.
        """
        return plot_fit(self, inputs, ax, outcome)

    def __repr__(self) -> str:
        text = f"Bootstrapped({len(self)} replicas, {self.population.step} steps"
        text += f", {self.failed} failed" if self.failed else ""
        return text + (f", {self.optimization_error})" if self.optimization_error else ")")
