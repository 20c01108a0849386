"""What samplers make of their arguments on the host: arrays of whole numbers, classes of labels."""

from typing import Any

import numpy as np


def whole_numbers(call: str, values: Any, *, least: int) -> np.ndarray:
    """Whole numbers of at least `least`, along one axis; refused otherwise."""
    array = np.asarray(values)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"`{call}` must have one axis, and not be empty; got shape {array.shape}.")
    if array.dtype.kind not in "iu":
        hint = " Use np.flatnonzero(mask) for a mask." if array.dtype == bool else ""
        raise TypeError(f"`{call}` must be whole numbers; got dtype {array.dtype}.{hint}")
    if array.min() < least:
        place = int(np.argmax(array < least))
        raise ValueError(f"`{call}` must be at least {least}; got {array[place]} in place {place}.")
    return array


def row_numbers_by_class(call: str, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the first class in their order, then those of the next; and how many each has."""
    array = np.asarray(labels)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"`{call}` must have one label a row; got shape {array.shape}.")
    try:
        _, number, counts = np.unique(array, return_inverse=True, return_counts=True)
    except TypeError as error:
        raise TypeError(f"`{call}` must be labels that can be sorted: {error}.") from error
    return np.argsort(number, kind="stable"), counts


def one_a_row(call: str, word: str, given: int, size: int) -> None:
    """Refuses a table of another length than the data."""
    if given != size:
        raise ValueError(f"`{call}` must have one {word} a row; got {given} for {size} rows.")
