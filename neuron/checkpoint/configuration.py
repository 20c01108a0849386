"""Configuration: the parts of a run as text, by which a run knows its own checkpoints."""

import dataclasses
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


# Longer arrays are told apart by a digest.
_SHOWN = 16


def described(value: Any, *, contents: bool = True) -> str:
    """A part as text: the same in every process, and another one where a setting differs.

    Functions are known by their names, so what a closure holds, as optax's optimizers do, is not
    seen.

    **Arguments:**

    - `contents`: whether arrays are told by what is in them, or by shape and type alone.
    """
    if isinstance(value, Array | np.ndarray | np.generic):
        return _array(value, contents)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
        return _call(_name(type(value)), fields, contents)
    if isinstance(value, dict):
        return _call("dict", {repr(key): part for key, part in value.items()}, contents)
    if isinstance(value, list | tuple):
        parts = ", ".join(described(part, contents=contents) for part in value)
        return f"{_name(type(value))}({parts})"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    return _name(value if callable(value) and hasattr(value, "__name__") else type(value))


def digest(parts: dict[str, str]) -> str:
    """One SHA-256 of all parts."""
    text = "\n".join(f"{name}: {parts[name]}" for name in sorted(parts))
    return hashlib.sha256(text.encode()).hexdigest()


def _call(name: str, fields: dict[str, Any], contents: bool) -> str:
    parts = [f"{field}={described(part, contents=contents)}" for field, part in fields.items()]
    return f"{name}({', '.join(parts)})"


def _name(of: Any) -> str:
    return f"{getattr(of, '__module__', '')}.{getattr(of, '__qualname__', of.__name__)}"


def _array(value: Any, contents: bool) -> str:
    kind = f"{value.dtype}{list(value.shape)}"
    if not contents:
        return kind
    if isinstance(value, Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    held = np.asarray(value)
    if held.size <= _SHOWN:
        return f"{kind} {held.tolist()}"
    return f"{kind} sha256 {hashlib.sha256(np.ascontiguousarray(held).tobytes()).hexdigest()[:16]}"
