"""Plotting. The one place that knows matplotlib, which is an extra."""

from typing import Any

from neuron.extras import extra


def axes_for(call: str, ax: Any) -> Any:
    """The axes that were given, or new ones.

    **Raises:**

    - `ImportError` without matplotlib, which the extra `neuron-equinox[plot]` brings.
    """
    if ax is not None:
        return ax
    plt = extra(f"`{call}` draws with matplotlib", "plot", "matplotlib.pyplot")
    _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    return ax
