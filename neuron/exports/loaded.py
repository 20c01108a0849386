"""A loaded export: a function of rows."""

import pathlib
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PyTree

from neuron.checkpoint import Path, decode, read
from neuron.data import padded
from neuron.errors import CheckpointError
from neuron.evaluation import BATCH_SIZE
from neuron.exports.forward import is_numeric, shown
from neuron.extras import extra
from neuron.types import whole_number


class Exported:
    """A model in inference mode, as `load_exported` gives it: called with rows of inputs.

    `inputs` and `outputs` are the shapes and types of one row, as trees of `jax.ShapeDtypeStruct`;
    `platforms` says where it may run, `versions` what made the file. `program` is the
    `jax.export.Exported`, a function of `arrays` and any number of rows.
    """

    def __init__(
        self,
        program: jax.export.Exported,
        exact: jax.export.Exported,
        arrays: list[Any],
        versions: dict[str, str],
    ):
        """**Arguments:**

        - `program`: of the arrays and of any number of rows.
        - `exact`: the same for as many rows as are computed together where nobody says.
        - `arrays`: the model's, in the program's order.
        - `versions`: of what made the file.
        """
        (_, rows), _ = jtu.tree_unflatten(program.in_tree, program.in_avals)
        self.inputs = jax.tree.map(_one, rows)
        self.outputs = jax.tree.map(_one, jtu.tree_unflatten(program.out_tree, program.out_avals))
        self.platforms = program.platforms
        self.versions = versions
        self.program = program
        self.arrays = [jnp.asarray(array) for array in arrays]
        self._run, self._run_exact = jax.jit(program.call), jax.jit(exact.call)

    def __repr__(self) -> str:
        return (
            f"Exported(inputs={shown(self.inputs)}, outputs={shown(self.outputs)}, "
            f"platforms={self.platforms})"
        )

    def __call__(self, inputs: PyTree, *, batch_size: int = BATCH_SIZE) -> PyTree:
        """The outputs for rows of inputs, as `Trainer.predict` gives them.

        **Arguments:**

        - `inputs`: arrays, or lists of numbers, in a tree as `inputs` has it, whose first axis is
            the rows. Inside a program of your own (`jax.jit`) all rows are computed at once.
        - `batch_size`: how many rows are computed together; the last ones are filled up. A program
            is compiled for each size. With 256 the outputs have the bits of `Trainer.predict`;
            other sizes may round differently.

        **Returns:**

        The outputs, rows first.

        **Raises:**

        - `TypeError` or `ValueError` for what are no such rows.
        """
        size = whole_number("exported(batch_size=...)", batch_size, least=1)
        rows = self._checked(inputs)
        leaves = jax.tree.leaves(rows)
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return self._run(self.arrays, rows)
        number = len(leaves[0])
        if number == 0:
            empty = lambda like: jnp.zeros((0, *like.shape), like.dtype)
            return jax.tree.map(empty, self.outputs)
        run = self._run_exact if size == BATCH_SIZE else self._run
        some = lambda at: jax.tree.map(lambda leaf: leaf[at : at + size], rows)
        blocks = [run(self.arrays, padded(some(at), size)) for at in range(0, number, size)]
        joined = lambda *parts: jnp.asarray(np.concatenate(jax.device_get(parts))[:number])
        return jax.tree.map(joined, *blocks)

    def _checked(self, inputs: PyTree) -> PyTree:
        """Rows of the types that the program takes."""
        likes, treedef = jtu.tree_flatten(self.inputs)
        try:
            given = treedef.flatten_up_to(inputs)
        except (ValueError, TypeError) as error:
            raise TypeError(
                f"`exported(inputs)` must be rows of {shown(self.inputs)}; got {shown(inputs)}."
            ) from error
        paths = [path for path, _ in jtu.tree_leaves_with_path(self.inputs)]
        names = [f"inputs{jtu.keystr(path)}" for path in paths]
        rows = [_rows(*each) for each in zip(names, given, likes, strict=True)]
        numbers = {len(leaf) for leaf in rows}
        if len(numbers) > 1:
            raise ValueError(
                "`exported(inputs)` must have as many rows in each array; got "
                f"{dict(zip(names, map(len, rows), strict=True))}."
            )
        return jtu.tree_unflatten(treedef, rows)


def load_exported(path: Path) -> Exported:
    """A model from a file of `export`, without its class.

    A file that JAX has written can be read by JAX's releases of the next six months, and by
    those of the three weeks before it. It is a program: run only files of those you trust.

    **Arguments:**

    - `path`: the file.

    **Returns:**

    An `Exported`, a function of rows.

    **Raises:**

    - `CheckpointError` for what is no such file or is damaged, and for a program that this
        version of JAX can not read.
    - `ValueError` for a model of 64-bit numbers where `jax_enable_x64` is not set.
    - `ImportError` without flatbuffers, which the extra `neuron-equinox[export]` brings.
    """
    extra("`load_exported` reads programs with flatbuffers", "export", "flatbuffers")
    arrays, facts = decode(read(pathlib.Path(path)), str(path))
    if facts.get("kind") != "exported":
        raise CheckpointError(
            f"{path} must be a file of `export`; it is one of a {facts.get('kind')}."
        )
    try:
        ordered = [arrays[name] for name in facts["order"]]
        program, exact = (_program(arrays[name], ordered) for name in ("program", "exact"))
        versions = dict(facts["versions"])
    # Whatever the parser, generated code without checks of its own, makes of it.
    except Exception as error:
        made = facts.get("versions")
        raise CheckpointError(
            f"{path} holds no program that JAX {jax.__version__} can read; it was made by {made}: "
            f"{error!r}."
        ) from error
    _refuse_wide(str(path), program)
    return Exported(program, exact, ordered, versions)


def _program(content: np.ndarray, arrays: list[np.ndarray]) -> jax.export.Exported:
    program = jax.export.deserialize(bytearray(content))
    (takes, _), _ = jtu.tree_unflatten(program.in_tree, program.in_avals)
    wanted = [(like.shape, like.dtype) for like in takes]
    if wanted != [(array.shape, array.dtype) for array in arrays]:
        raise ValueError("the program takes other arrays than there are")
    least = jax.export.minimum_supported_calling_convention_version
    most = jax.export.maximum_supported_calling_convention_version
    if not least <= program.calling_convention_version <= most:
        raise ValueError(f"its calling convention is {program.calling_convention_version}")
    return program


def _refuse_wide(shown_path: str, program: jax.export.Exported) -> None:
    """Refuses 64-bit numbers where JAX would take 32 bits of them without a word."""
    types = {str(aval.dtype) for aval in (*program.in_avals, *program.out_avals)}
    wide = sorted(t for t in types if jax.dtypes.canonicalize_dtype(t) != jnp.dtype(t))
    if wide:
        raise ValueError(
            f"`load_exported({shown_path!r})` must come after `jax.config.update('jax_enable_x64', "
            f"True)`: the model has {wide}."
        )


def _one(rows: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(rows.shape[1:], rows.dtype)


def _rows(name: str, given: Any, like: jax.ShapeDtypeStruct) -> Array | np.ndarray:
    """One array of rows, in the type that the program takes."""
    call = f"exported({name})"
    try:
        rows = given if isinstance(given, Array) else np.asarray(given)
    except ValueError as error:
        raise ValueError(f"`{call}` must be rows of one shape; NumPy says: {error}") from error
    wanted = f"{like.dtype}[rows, {', '.join(map(str, like.shape))}]".replace(", ]", "]")
    if rows.ndim == 0 or rows.shape[1:] != like.shape:
        hint = " One example is one row: `inputs[None]`." if rows.shape == like.shape else ""
        raise ValueError(f"`{call}` must be {wanted}; got shape {rows.shape}.{hint}")
    if not is_numeric(rows.dtype) or _rank(rows.dtype) > _rank(like.dtype):
        raise TypeError(f"`{call}` must be {wanted}; got {rows.dtype}.")
    converted = rows.astype(like.dtype)
    whole = jnp.issubdtype(like.dtype, np.integer) and not isinstance(rows, Tracer)
    if whole and not (np.asarray(converted) == np.asarray(rows)).all():
        raise ValueError(f"`{call}` must be numbers that {like.dtype} can hold.")
    return converted


def _rank(dtype: Any) -> int:
    """The place among booleans, whole numbers, floats, complex numbers: upwards nothing is lost."""
    kinds = (np.bool_, np.integer, np.floating, np.complexfloating)
    return next(rank for rank, kind in enumerate(kinds) if jnp.issubdtype(dtype, kind))
