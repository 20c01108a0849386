"""The format: named arrays and one JSON object as a safetensors file, under a SHA-256.

The digest is of the whole file, its own 64 digits taken as zeros, and stands among the JSON
object. Other programs that read safetensors open such a file; its metadata has one key, `neuron`.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from neuron.errors import CheckpointError


VERSION = 1
_KEY = "neuron"
_RESERVED = "__metadata__"
# Types by their names in a file. Those that NumPy has not are of `ml_dtypes`, as in JAX.
_TYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    **{f"{kind}{bits}": f"{word}{bits}" for kind, word in (("I", "int"), ("U", "uint"))
       for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "C64": np.complex64,
}  # fmt: skip
_KNOWN = frozenset(np.dtype(kind) for kind in _TYPES.values())
_ZEROS = "0" * 64
# As the digest stands in the header: a JSON string within a JSON string.
_DIGEST = re.compile(rb'\\"sha256\\":\\"([0-9a-f]{64})\\"')
# A header of more bytes than that is none: safetensors has the same bound.
_HEADER = 100_000_000


def encode(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> bytes:
    """A file's bytes; the same for the same content.

    **Arguments:**

    - `arrays`: by name.
    - `facts`: what else there is, as JSON has it; without `format` and `sha256`, which are added.

    **Raises:**

    - `CheckpointError` for a name or a type that the format can not hold.
    """
    for name, array in arrays.items():
        if name == _RESERVED:
            raise CheckpointError(f"No array may have the name {name!r}, which the format uses.")
        if array.dtype.newbyteorder("=") not in _KNOWN:
            raise CheckpointError(
                f"Arrays must be of a type that the format has; {name!r} is {array.dtype}."
            )
    text = json.dumps(
        {"format": VERSION, "sha256": _ZEROS, **facts}, allow_nan=False, separators=(",", ":")
    )
    # Whatever is not contiguous would be written wrong, and a scalar has no memory to point at.
    whole = {name: np.array(array, order="C") for name, array in arrays.items()}
    try:
        content = safetensors.numpy.save(whole, {_KEY: text})
    except (ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"The format can not hold it: {error}.") from error
    before, _, after = _around_digest(content, "the file")
    return b"".join((before, _digest(before, after).encode(), after))


def decode(content: bytes, shown: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and facts of a file's bytes; the arrays can not be written to.

    **Arguments:**

    - `shown`: what the file is called in errors.

    **Raises:**

    - `CheckpointError` for anything else than what `encode` has made.
    """
    before, digest, after = _around_digest(content, shown)
    if digest != _digest(before, after):
        raise CheckpointError(f"{shown} is damaged: its content does not match its SHA-256.")
    with taken_apart(shown):
        header = _objects(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts = _objects(header.pop(_RESERVED)[_KEY])
        tensors = safetensors.deserialize(content)
        arrays = {name: _array(tensor) for name, tensor in tensors}
        if facts["format"] != VERSION or arrays.keys() != header.keys():
            raise CheckpointError(
                f"{shown} must have format {VERSION}; it has {facts['format']!r}, of another "
                "version of neuron."
            )
    return arrays, facts


@contextlib.contextmanager
def taken_apart(shown: str):
    """What goes wrong with what a file holds is an error of the file: anybody can compute a digest.

    **Raises:**

    - `CheckpointError`.
    """
    try:
        yield
    except (
        *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError),
        *(RecursionError, MemoryError, safetensors.SafetensorError),
    ) as error:
        raise CheckpointError(f"{shown} is no checkpoint of neuron: {error!r:.300}.") from error


def of_kind(facts: Mapping[str, Any], name: str, kind: Any) -> Any:
    """One of the facts, which must be of that kind.

    **Raises:**

    - `KeyError` or `TypeError`.
    """
    if not isinstance(facts[name], kind):
        raise TypeError(f"`{name}` may not be {facts[name]!r:.99}")
    return facts[name]


def _array(tensor: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(tensor["data"], _TYPES[tensor["dtype"]]).reshape(tensor["shape"])


def _around_digest(content: bytes, shown: str) -> tuple[memoryview, str, memoryview]:
    """What stands before the digest, the digest, and what stands after it."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, _HEADER):
        raise CheckpointError(f"{shown} is no checkpoint of neuron, or cut off.")
    found = list(_DIGEST.finditer(content, 8, 8 + length))
    if len(found) != 1:
        raise CheckpointError(
            f"{shown} is no checkpoint of neuron: it must hold one SHA-256, and holds {len(found)}."
        )
    view, (start, end) = memoryview(content), found[0].span(1)
    return view[:start], found[0].group(1).decode(), view[end:]


def _digest(*around: memoryview) -> str:
    before, after = around
    hashed = hashlib.sha256(before)
    hashed.update(_ZEROS.encode())
    hashed.update(after)
    return hashed.hexdigest()


def _objects(text: bytes | str) -> dict[str, Any]:
    found = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    if not isinstance(found, dict):
        raise ValueError("it must be a JSON object")
    return found


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"{name!r} occurs twice")
        made[name] = value
    return made


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")
