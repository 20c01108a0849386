"""What loggers for services share: the tool that they log through, and curves of what is logged."""

import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from neuron.callbacks.callback import Logs


# A metric that is an array has a curve for each element, as long as somebody may look at them.
_MOST = 256


def tool(call: str, module: str, extra: str) -> Any:
    """The module of a tool.

    **Raises:**

    - `ImportError` that names the extra which brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"`{call}()` logs through {module}; install `neuron-equinox[{extra}]`."
        ) from error


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
