"""Archives of arrays, `.npz`: those that are stored as they are get mapped into memory where they
lie in the archive, so that they are read as rows are needed; compressed ones are loaded."""

import pathlib
import struct
import zipfile
from typing import Any

import numpy as np

from neuron.data.arrays import Arrays
from neuron.data.columns import Choice, Columns
from neuron.types import Batch


# What comes before a member: 30 bytes, of which the last four say how long its name and what
# follows the name are.
_HEADER = struct.Struct("<26xHH")


def from_archive(call: str, files: dict[pathlib.Path, str], choice: Choice) -> Arrays:
    """The arrays of an archive by their names.

    **Raises:**

    - `ValueError` or `TypeError` for several archives, for names that are not there, and for arrays
        of objects.
    """
    if len(files) > 1:
        raise ValueError(f"`{call}` must be one archive of arrays; got {len(files)}.")
    if choice.like is not None:
        raise ValueError(f"`{call}` of arrays has no columns to be `like=` another's.")
    (path,) = files
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    except zipfile.BadZipFile as error:
        raise ValueError(f"`{call}` must be an archive; {files[path]} is none: {error}") from error
    columns = choice.of(list(members))
    arrays = {name: _array(call, path, members[name]) for name in columns.names}
    return Arrays(call, _batch(columns, arrays, one=len(columns.features) == 1))


def _batch(columns: Columns, arrays: dict[str, np.ndarray], *, one: bool) -> Batch:
    """One array, or several by their names."""

    def of(names: Any) -> Any:
        if isinstance(names, str):
            return arrays[names]
        return {name: arrays[name] for name in names}

    targets, weight = columns.target, columns.weight
    return Batch(
        of(columns.features[0] if one else columns.features),
        None if targets is None else of(targets),
        None if weight is None else of(weight),
    )


def _array(call: str, path: pathlib.Path, info: zipfile.ZipInfo) -> np.ndarray:
    if info.compress_type != zipfile.ZIP_STORED:
        try:
            with np.load(path) as archive:
                return archive[info.filename.removesuffix(".npy")]
        except ValueError as error:
            raise _refused(call, path, info) from error
    with path.open("rb") as file:
        file.seek(info.header_offset)
        file.seek(sum(_HEADER.unpack(file.read(_HEADER.size))), 1)
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in read:
            raise _refused(call, path, info)
        shape, in_columns, dtype = read[version](file)
        if dtype.hasobject:
            raise _refused(call, path, info)
        if not all(shape):
            return np.empty(shape, dtype)
        order = "F" if in_columns else "C"
        return np.memmap(path, dtype, "r", offset=file.tell(), shape=shape, order=order)


def _refused(call: str, path: pathlib.Path, info: zipfile.ZipInfo) -> TypeError:
    name = info.filename.removesuffix(".npy")
    return TypeError(
        f"`{call}` must hold arrays of numbers; {name!r} in {path.name} holds objects."
    )
