"""Plotting. The one place that knows matplotlib, which is an extra."""

from typing import Any


def axes_for(call: str, ax: Any) -> Any:
    """The axes that were given, or new ones.

    **Raises:**

    - `ImportError` without matplotlib, which the extra `neuron-equinox[plot]` brings.
    """
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"`{call}` draws with matplotlib; install `neuron-equinox[plot]`."
        ) from error
    _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    return ax
