"""The words that several rooms use."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, UInt32


Device: TypeAlias = jax.Device  # pyright: ignore[reportInvalidTypeForm]
Key: TypeAlias = PRNGKeyArray
Model: TypeAlias = PyTree
Params: TypeAlias = PyTree
ModelState: TypeAlias = PyTree
Scalar: TypeAlias = Float[Array, ""]
Number: TypeAlias = int | float | np.number | np.ndarray | Array
Indices: TypeAlias = Int[Array, " batch"]
# A number of 64 bits as (high, low): JAX has no uint64 unless asked, and a step counter
# of 32 bits is full within the hour.
Words: TypeAlias = UInt32[Array | np.ndarray, "2"]


class Batch(eqx.Module):
    """Rows of data: each leaf has the rows along its first axis. One row of it, without
    that axis, is an *example*.

    `targets` is `None` where an objective needs none; `weight` is `None` where every row
    counts the same.
    """

    inputs: PyTree
    targets: PyTree = None
    weight: PyTree = None


class Fixed(eqx.Module):
    """A part of a model whose arrays are fitted or given, and never trained.

    Whatever `Trainer(trainable=...)` selects, they get no gradient, no weight decay, no penalty and
    no optimizer state. They keep their own precision, and a model that holds such a part gets its
    inputs in theirs: `Trainer(precision="bfloat16")` would round away what a scaling is there for.

    ```python
    class Fourier(neuron.Fixed):
        frequencies: jax.Array

        def __call__(self, x):
            return jnp.sin(self.frequencies @ x)
    ```
    """


def is_fixed(node: Any) -> bool:
    """Whether a node of a model is a `Fixed` part of it."""
    return isinstance(node, Fixed)


class Printable(eqx.Module):
    """A module that prints its numbers: `SGD(learning_rate=0.01)` and not `f64[]`."""

    def __repr__(self) -> str:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        parts = (f"{name}={shown(value)}" for name, value in fields.items() if value is not None)
        return f"{type(self).__name__}({', '.join(parts)})"


def shown(value: Any) -> str:
    """A field as a module prints it."""
    if isinstance(value, Tracer):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, np.ndarray | Array) and value.ndim == 0:
        return f"{value:g}"
    if isinstance(value, np.ndarray | Array) and (value.shape, value.dtype) == ((2,), np.uint32):
        return str((int(value[0]) << 32) + int(value[1]))
    return getattr(value, "__name__", None) or repr(value)


def hyperparameter(call: str, value: Number, rule: str, holds: Callable[[float], bool]) -> Any:
    """A number as the leaf of a module: refused unless the rule holds, and changed without
    a recompile.

    It is kept in double precision on the host and takes JAX's default float when a run
    begins. So making an optimizer touches no device, and `jax_enable_x64` may come later.

    **Raises:**

    - `TypeError` for what is no real number, `ValueError` for one that breaks the rule.
    """
    if isinstance(value, Tracer):
        return value
    numeric = isinstance(value, int | float | np.number | np.ndarray | Array)
    if not numeric or isinstance(value, bool) or np.shape(value) != () or np.iscomplexobj(value):
        raise TypeError(f"`{call}` must be one real number; got {value!r}.")
    if not (math.isfinite(value) and holds(float(value))):
        raise ValueError(f"`{call}` must be {rule}; got {float(value):g}.")
    return np.asarray(value, np.float64)


def whole_number(call: str, value: Any, *, least: int) -> int:
    """An `int` of at least `least`; `TypeError` or `ValueError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"`{call}` must be a whole number; got {value!r}.")
    if value < least:
        raise ValueError(f"`{call}` must be at least {least}; got {value}.")
    return int(value)
