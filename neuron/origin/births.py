"""Births. The operation that first gave a value that is not finite, and where it stands."""

import dataclasses
import linecache
import pathlib
import re
from typing import Any

import equinox
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
from jax.extend.core import JaxprEqn


# Scopes of this kind are layers' paths.
_LAYER = "neuron-layer:"
_LAYERS = re.compile(_LAYER + r"([^/()]+)")
_folder = lambda module: str(pathlib.Path(module.__file__).parent)
_HERE = str(pathlib.Path(__file__).parent)
_WRAPPERS = (_folder(jax), _folder(jaxtyping))
_LIBRARIES = (str(pathlib.Path(_HERE).parent), _folder(equinox))


def layer_scope(path: str) -> Any:
    """The operations within belong to that layer."""
    return jax.named_scope(_LAYER + path)


@dataclasses.dataclass(frozen=True)
class Birth:
    """A value that is not finite where everything before it was.

    `order` says which came first. One that `wanted` is true of is a constant of the program or an
    infinity of its data, such as a mask has: it is to blame only where nothing else is. `equations`
    are the operation and the calls around it, outermost first; of what came from outside there are
    none, and `source` says what it is.
    """

    order: int
    equations: tuple[JaxprEqn, ...] = ()
    source: tuple[str, str] | None = None
    wanted: bool = False
    detail: str = ""

    @property
    def operation(self) -> str | None:
        """The name of the operation."""
        return self.equations[-1].primitive.name if self.equations else None

    @property
    def layer(self) -> str | None:
        """The path of the innermost layer around it."""
        scopes = "/".join(str(equation.source_info.name_stack) for equation in self.equations)
        found = _LAYERS.findall(scopes)
        return found[-1] if found else None

    @property
    def line(self) -> str | None:
        """The line of the user's code, or of a library where there is none, and what it says."""
        frames = [frame for equation in reversed(self.equations) for frame in _frames(equation)]
        own = [frame for frame in frames if not frame.file_name.startswith(_LIBRARIES)]
        for frame in (own or frames)[:1]:
            code = linecache.getline(frame.file_name, frame.line_num).strip()
            name = frame.function_name.rpartition(".")[2]
            place = f"{frame.file_name}:{frame.line_num} ({name})"
            return f"{place}: {code}" if code else place
        return None


def _frames(equation: JaxprEqn) -> list[Any]:
    """Where an operation was written, innermost first, as far out as the model's own code goes."""
    traceback = equation.source_info.traceback
    frames = []
    for frame in traceback.frames if traceback else []:
        if frame.file_name.startswith(_HERE):
            break
        if not frame.file_name.startswith((*_WRAPPERS, "<@beartype")):
            frames.append(frame)
    return frames


def kinds(value: Any) -> tuple[bool, bool]:
    """Whether an array holds NaN, and whether it holds infinities."""
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        return False, False
    array = np.asarray(value)
    return bool(np.isnan(array).any()), bool(np.isinf(array).any())


def told(values: list[Any]) -> str:
    """The ranges of some arrays of numbers."""
    parts = []
    for value in values:
        if not jnp.issubdtype(value.dtype, jnp.inexact) or not value.size:
            continue
        array = np.asarray(value)
        if np.iscomplexobj(array):
            array = np.abs(array)
        array = array.astype(np.float64)
        finite = array[~np.isnan(array)]
        nan = "NaN" if finite.size < array.size else ""
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
        span = f"{low:.4g}" if low == high else f"[{low:.4g}, {high:.4g}]"
        parts.append(" with ".join(part for part in (span if finite.size else "", nan) if part))
    return " and ".join(parts)
