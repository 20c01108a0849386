"""Exporting: a model as StableHLO, its arrays beside it, in one file."""

import contextlib
import importlib.metadata
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.export
import numpy as np
from jaxtyping import Array, PyTree

from neuron.checkpoint import Path, encode, write
from neuron.evaluation import BATCH_SIZE
from neuron.exports.forward import (
    any_keys,
    any_number,
    forward,
    refuse_draws,
    refuse_nodes,
    shown,
)
from neuron.extras import extra
from neuron.types import Model, ModelState


_LIMIT = "jax_traceback_in_locations_limit"
_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export(
    model: Model,
    example: PyTree,
    path: Path,
    *,
    model_state: ModelState = None,
    precision: str | None = None,
    platforms: Sequence[str] | None = None,
) -> None:
    """Writes a model into a file that `load_exported` runs without the model's class.

    ```python
    neuron.export(trainer.model, x[0], "model.neuron", model_state=trainer.model_state)
    exported = neuron.load_exported("model.neuron")
    exported(x)  # as trainer.predict(x)
    ```

    The file is a safetensors file: the model in inference mode as a StableHLO program for any
    number of rows, and its arrays by path. What is part of the model, such as the scaling of a
    `Preprocessed`, travels along. The file is written whole or not at all.

    **Arguments:**

    - `model`: any callable tree, for one example, as for `Trainer`; a trained one is
        `trainer.model`.
    - `example`: one example's inputs, without the batch axis: arrays, or `jax.ShapeDtypeStruct`,
        in tuples, lists and dicts. Their numbers play no part.
    - `path`: where; a file that is there is replaced.
    - `model_state`: the `equinox.nn.State` of a model with state, `trainer.model_state`.
    - `precision`: what the model computes in, as for `Trainer`.
    - `platforms`: where it may run: some of `"cpu"`, `"cuda"`, `"rocm"`, `"tpu"`; where JAX runs
        here, if `None`.

    **Raises:**

    - `TypeError` or `ValueError` for what can not be meant, for a model that draws at random even
        in inference, and for one that JAX can not export.
    - `CheckpointError` for a file that can not be written.
    - `ImportError` without flatbuffers, which the extra `neuron-equinox[export]` brings.
    """
    extra("`export` writes programs with flatbuffers", "export", "flatbuffers")
    platforms = _checked_platforms(platforms)
    call = forward("export", model, example, model_state, precision)
    refuse_draws("export", model, call)

    def outputs(arrays: list[Array], rows: PyTree) -> PyTree:
        return call.function(arrays, rows, any_keys(jax.tree.leaves(rows)[0].shape[0]))

    arrays = list(call.arrays.values())
    programs = {
        "program": _exported(model, outputs, platforms, arrays, call.rows(any_number())),
        # XLA rounds otherwise where the number of rows comes last. This one has `predict`'s bits.
        "exact": _exported(model, outputs, platforms, arrays, call.rows(BATCH_SIZE)),
    }
    refuse_nodes("export(model)(example)", programs["exact"].out_tree)
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib")}
    content = {name: np.frombuffer(one.serialize(), np.uint8) for name, one in programs.items()}
    content |= {name: np.asarray(array) for name, array in call.arrays.items()}
    facts = {"kind": "exported", "versions": versions, "order": list(call.arrays)}
    write(pathlib.Path(path), encode(content, facts))


def _checked_platforms(platforms: Sequence[str] | None) -> Sequence[str] | None:
    if platforms is None:
        return None
    names = [platforms] if isinstance(platforms, str) else list(platforms)
    if not names or not set(names) <= set(_PLATFORMS):
        raise ValueError(
            f"`export(platforms=...)` must be some of {list(_PLATFORMS)}; got {platforms!r}."
        )
    return names


def _exported(
    model: Model, function: Any, platforms: Sequence[str] | None, *arguments: Any
) -> jax.export.Exported:
    try:
        with _without_tracebacks():
            return jax.export.export(jax.jit(function), platforms=platforms)(*arguments)
    except Exception as error:
        raise ValueError(
            "`export(model, example)` must have a model that JAX can export for any number of rows;"
            f" of {type(model).__name__} and {shown(arguments[1])} it says: {error}"
        ) from error


@contextlib.contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Leaves out of programs which lines of which files of this machine they came from."""
    before = jax.config.values[_LIMIT]
    jax.config.update(_LIMIT, 0)
    try:
        yield
    finally:
        jax.config.update(_LIMIT, before)
