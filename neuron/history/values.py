"""Values as JSON has them."""

import math
from typing import Any

import numpy as np


def portable(value: Any) -> Any:
    """Numbers, and arrays or lists of them, as JSON has them; it has no NaN and no infinity, so
    those become strings."""
    if isinstance(value, np.ndarray | list):
        return [portable(part) for part in value]
    value = value.item() if isinstance(value, np.generic) else value
    return value if math.isfinite(value) else str(value)


def from_portable(value: Any) -> Any:
    """The inverse, but that lists are arrays."""
    if isinstance(value, list):
        return np.array([from_portable(part) for part in value])
    return float(value) if isinstance(value, str) else value
