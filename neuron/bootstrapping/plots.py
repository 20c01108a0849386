"""Pictures of what a bootstrap knows."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from neuron.plotting import axes_for
from neuron.types import Model


if TYPE_CHECKING:
    from neuron.bootstrapping.result import Bootstrapped


def plot_numbers(
    result: "Bootstrapped",
    statistic: Callable[[Model], Any] | None,
    ax: Any,
    names: Sequence[str] | None,
    kind: str,
    reference: Any,
) -> Any:
    """See `Bootstrapped.plot`."""
    ax = axes_for("Bootstrapped.plot()", ax)
    statistic = _weights if statistic is None else statistic
    center = np.ravel(result.statistic(statistic)[0])
    lower, upper = map(np.ravel, result.interval(statistic, kind=kind))
    places = np.arange(len(center))
    ends = np.maximum(0, [center - lower, upper - center])
    label = f"estimate, {100 * result.level:g} % {kind}"
    ax.errorbar(center, places, xerr=ends, fmt="o", ms=4, capsize=3, label=label)
    if reference is not None:
        ax.plot(np.ravel(reference), places, "x", color="C3", label="reference")
    ax.set_yticks(places, names or [str(place) for place in places])
    ax.invert_yaxis()
    least, most = lower.min(), upper.max()
    # Whether something may be nothing is worth a line, unless all is far from it.
    if least - (most - least) < 0 < most + (most - least):
        ax.axvline(0, lw=0.8, color="gray", zorder=0)
    ax.set(xlabel="value")
    ax.legend(frameon=False)
    return ax


def plot_fit(result: "Bootstrapped", inputs: Any, ax: Any, outcome: bool) -> Any:
    """See `Bootstrapped.plot_fit`."""
    ax = axes_for("Bootstrapped.plot_fit()", ax)
    over = np.ravel(inputs)
    order = np.argsort(over)
    shown, over = np.asarray(inputs)[order], over[order]
    for of_outcomes in (True, False) if outcome else (False,):
        lower, upper = map(np.ravel, result.predict_interval(shown, outcome=of_outcomes))
        label = f"{100 * result.level:g} % of {'outcomes' if of_outcomes else 'fits'}"
        alpha = 0.12 if of_outcomes else 0.35
        ax.fill_between(over, lower, upper, alpha=alpha, lw=0, color="C0", label=label)
    ax.plot(over, np.ravel(result.population.predict(shown)[0]), lw=1.4, label="estimate")
    ax.set(xlabel="input", ylabel="prediction")
    ax.legend(frameon=False)
    return ax


def _weights(model: Model) -> Any:
    leaves = [leaf for leaf in jax.tree.leaves(model) if isinstance(leaf, jax.Array)]
    return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])
