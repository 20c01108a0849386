"""Plain values: what a callback remembers, say, as JSON beside named arrays, and back.

JSON has numbers that are finite, strings, lists and dicts. What it has not is a dict with one key
that no other dict may have: arrays, which lie beside it by name, bytes, NaN and infinities.
"""

import base64
import math
from typing import Any

import jax
import numpy as np

from neuron.errors import CheckpointError


_TAG = "$"


def packed(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """A value as JSON; the arrays in it are put among `arrays`, by where they are.

    **Raises:**

    - `CheckpointError` for a value of another kind.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and not isinstance(value, np.generic):
        return value if math.isfinite(value) else {_TAG: "float", "is": repr(value)}
    if isinstance(value, bytes):
        return {_TAG: "bytes", "is": base64.b64encode(value).decode()}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        arrays[name] = np.asarray(value)
        return {_TAG: "array", "is": name}
    if isinstance(value, list | tuple):
        return [packed(part, f"{name}[{place}]", arrays) for place, part in enumerate(value)]
    if isinstance(value, dict) and _TAG not in value and all(isinstance(k, str) for k in value):
        return {key: packed(part, f"{name}.{key}", arrays) for key, part in value.items()}
    raise CheckpointError(
        f"A checkpoint holds numbers, strings, bytes, arrays, lists and dicts of them by string; "
        f"`{name}` is {value!r}."
    )


def unpacked(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inverse of `packed`, but that tuples are lists."""
    if isinstance(value, list):
        return [unpacked(part, arrays) for part in value]
    if not isinstance(value, dict):
        return value
    if _TAG not in value:
        return {key: unpacked(part, arrays) for key, part in value.items()}
    of = {"float": float, "bytes": base64.b64decode, "array": arrays.__getitem__}
    return of[value[_TAG]](value["is"])
