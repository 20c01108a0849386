"""Archives: the arrays of an `.npz` file, which stay in it where they are not compressed."""

import pathlib
import zipfile
from typing import Any

import numpy as np

from neuron.data.columns import Choice
from neuron.types import Batch


def from_archive(call: str, path: pathlib.Path, choice: Choice) -> Batch:
    """The arrays of an archive by their names: the inputs are one, or a dict of several.

    **Raises:**

    - `ValueError` or `TypeError` for a name that is not there, and for an array of objects.
    """
    with zipfile.ZipFile(path) as archive:
        members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
    columns = choice.of(list(members))
    arrays = {name: _array(call, path, members[name]) for name in columns.names}
    inputs = {name: arrays[name] for name in columns.features}
    targets = {name: arrays[name] for name in columns.targets}
    return Batch(
        inputs if len(inputs) > 1 else inputs[columns.features[0]],
        targets if len(targets) > 1 else next(iter(targets.values()), None),
        None if columns.weight is None else arrays[columns.weight],
    )


def _array(call: str, path: pathlib.Path, member: zipfile.ZipInfo) -> Any:
    if member.compress_type != zipfile.ZIP_STORED:
        with np.load(path) as archive:
            return archive[member.filename.removesuffix(".npy")]
    with open(path, "rb") as file:
        # The header that stands before the member itself may be longer than the directory's.
        file.seek(member.header_offset + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
        file.seek(member.header_offset + 30 + name + extra)
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, in_columns, dtype = header(file)
        if dtype.hasobject:
            raise TypeError(
                f"`{call}` must hold arrays of numbers; {member.filename} in {path.name} holds "
                "objects."
            )
        order = "F" if in_columns else "C"
        return np.memmap(path, dtype, "r", offset=file.tell(), shape=shape, order=order)
