"""Curves of what is logged, for loggers of services."""

import warnings
from collections.abc import Iterator

import numpy as np

from neuron.callbacks.callback import Logs


# A metric that is an array has a curve for each element, as long as somebody may look at them.
_MOST = 256


def curves(call: str, values: Logs) -> Iterator[tuple[str, float]]:
    """Numbers by name; an array's elements as `name/0`, or `name/0/1`."""
    for name, value in values.items():
        if np.size(value) > _MOST:
            warnings.warn(
                f"`{call}()` leaves out {name!r}, an array of {np.size(value)} elements: it has "
                f"curves for {_MOST} at most.",
                stacklevel=2,
            )
            continue
        for place, element in np.ndenumerate(value):
            yield "/".join([name, *map(str, place)]), float(element)
