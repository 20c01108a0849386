"""The container: named arrays and a JSON object in one file, under a SHA-256.

A magic word, the digest of everything behind it, the length of the JSON object, the object, and the
arrays' bytes. The object lists the arrays in their order. No code but the program is in a file.
"""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import stat
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from neuron.errors import CheckpointError


_VERSION = 1
_MAGIC = b"neuron\x00\x01"
_HEAD = len(_MAGIC) + hashlib.sha256().digest_size


def encode(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> bytes:
    """A file's bytes; the same for the same content."""
    whole = {name: np.array(array, order="C") for name, array in arrays.items()}
    listed = [[name, array.dtype.name, array.shape] for name, array in whole.items()]
    facts = {"format": _VERSION, "arrays": listed, **facts}
    text = json.dumps(facts, allow_nan=False, separators=(",", ":")).encode()
    body = b"".join(
        (len(text).to_bytes(8, "little"), text, *(array.tobytes() for array in whole.values()))
    )
    return b"".join((_MAGIC, hashlib.sha256(body).digest(), body))


def decode(content: bytes, shown: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and facts of a file's bytes; the arrays can not be written to.

    **Arguments:**

    - `shown`: what the file is called in errors.

    **Raises:**

    - `CheckpointError` for anything else than what `encode` has made.
    """
    if not content.startswith(_MAGIC) or len(content) < _HEAD:
        raise CheckpointError(f"{shown} is no exported model of neuron, or cut off.")
    body = memoryview(content)[_HEAD:]
    if hashlib.sha256(body).digest() != content[len(_MAGIC) : _HEAD]:
        raise CheckpointError(f"{shown} is damaged: its content does not match its SHA-256.")
    try:
        end = 8 + int.from_bytes(body[:8], "little")
        facts = json.loads(bytes(body[8:end]))
        if facts["format"] != _VERSION:
            raise CheckpointError(
                f"{shown} must have format {_VERSION}; it has {facts['format']!r}, of another "
                "version of neuron."
            )
        return _arrays(body[end:], facts["arrays"]), facts
    # What the parsers raise for content of somebody who can compute a digest.
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, MemoryError) as error:
        raise CheckpointError(f"{shown} is no exported model of neuron: {error!r}.") from error


def _arrays(data: memoryview, listed: list[Any]) -> dict[str, np.ndarray]:
    arrays, start = {}, 0
    for name, kind, shape in listed:
        dtype = jnp.dtype(kind)
        size = dtype.itemsize * math.prod(shape)
        arrays[name] = np.frombuffer(data[start : start + size], dtype).reshape(shape)
        start += size
    if start != len(data):
        raise ValueError(f"its arrays take {start} bytes, and there are {len(data)}")
    return arrays


def write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file, whole or not at all; once this returns, it is on the disk.

    **Raises:**

    - `CheckpointError` where the system refuses; a file from before is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CheckpointError(f"{path} could not be written: {error.strerror}.") from error


def read(path: pathlib.Path) -> bytes:
    """What is in a file.

    **Raises:**

    - `CheckpointError` for what is no regular file or can not be read.
    """
    try:
        # A pipe that nobody writes into would be waited for.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(file, "rb") as content:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise CheckpointError(f"{path} must be a regular file.")
            return content.read()
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {error.strerror}.") from error
