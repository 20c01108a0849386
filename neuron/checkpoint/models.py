"""Models in files: saved alone, and loaded into one of the same structure."""

import os
import pathlib
from typing import Any

from jaxtyping import PyTree

from neuron.checkpoint.files import read, write
from neuron.checkpoint.format import decode, encode, of_kind, taken_apart
from neuron.checkpoint.leaves import Leaves, filled
from neuron.checkpoint.plain import packed, unpacked
from neuron.checkpoint.versions import versions


Path = str | os.PathLike[str]


def save(path: Path, model: PyTree) -> None:
    """Writes a model's arrays and numbers into a file, by their paths in it.

    ```python
    neuron.save("model.safetensors", trainer.model)
    model = neuron.load("model.safetensors", like=model)
    ```

    The file is a safetensors file. What is code or structure, such as activation functions, is
    not in it. It is written whole or not at all; when this returns it is on the disk.

    **Arguments:**

    - `path`: where; a file that is there is replaced.
    - `model`: any tree; a model that has a state is saved as `(model, model_state)`.

    **Raises:**

    - `CheckpointError` for a file that can not be written, and leaves that it can not hold.
    """
    leaves = Leaves.of(model)
    numbers = packed(leaves.numbers, "", {})
    facts = {"kind": "model", "versions": versions(), "numbers": numbers, "keys": leaves.keys}
    write(pathlib.Path(path), encode(leaves.arrays, facts))


def load(path: Path, like: PyTree, *, strict: bool = True) -> PyTree:
    """The model in a file.

    **Arguments:**

    - `path`: a file of `neuron.save`, or a checkpoint of a run, of which the model is taken: the
        averaged one where there is an average.
    - `like`: a model of the same structure, whose arrays and numbers are replaced in the result.
    - `strict`: whether everything must fit. If not, what does not stays as it is in `like`, and a
        warning says what.

    **Raises:**

    - `CheckpointError` for what is no such file, is damaged, or does not fit: each leaf that is
        missing, in the file alone, or of another shape or type is named.
    """
    arrays, facts = decode(read(pathlib.Path(path)), str(path))
    leaves = leaves_of(arrays, facts, str(path))
    if facts.get("kind") == "run":
        average, plain = leaves.under("state.average.params"), leaves.under("state.params")
        leaves = leaves.under("frozen") | (average if average.arrays else plain)
    return filled(like, leaves, str(path), strict=strict)


def leaves_of(arrays: dict[str, Any], facts: dict[str, Any], shown: str) -> Leaves:
    """What a file holds by path.

    **Raises:**

    - `CheckpointError` where it is of another kind.
    """
    with taken_apart(shown):
        numbers = of_kind({"numbers": unpacked(facts["numbers"], {})}, "numbers", dict)
        keys = of_kind(facts, "keys", dict)
        for of, kind in ((numbers, bool | int | float), (keys, str)):
            for name in of:
                of_kind(of, name, kind)
        return Leaves(arrays, numbers, keys)
