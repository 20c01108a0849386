"""Memory that the CPU device uses where it lies, without a copy: it begins at a multiple of 64."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np


_ALIGNMENT = 64


def aligned(
    shape: tuple[int, ...], dtype: Any, make: Callable[..., np.ndarray] = np.empty
) -> np.ndarray:
    """A new array, made by `np.empty` or `np.zeros`."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = make(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
