"""Layers. `Dense` is one neuron, or a layer of them; any other Equinox layer serves as well."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import wadler_lindig as wl
from jaxtyping import Array, Float, Shaped

from neuron.types import Key, whole_number


class Dense(eqx.Module):
    """One neuron, or a layer of them: `activation(weight @ x + bias)`.

    ```python
    neuron.Dense(2, key=jax.random.key(0))(jnp.ones(2)).shape                       # ()
    neuron.Dense(2, 8, activation=jax.nn.relu, key=jax.random.key(0))(jnp.ones(2)).shape  # (8,)
    ```
    """

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"] | None
    activation: Callable[[Array], Array] | None
    in_features: int = eqx.field(static=True)
    out_features: int | Literal["scalar"] = eqx.field(static=True)

    def __init__(
        self,
        in_features: int,
        out_features: int | Literal["scalar"] = "scalar",
        *,
        activation: Callable[[Array], Array] | None = None,
        use_bias: bool = True,
        weight_init: Callable[..., Array] = jax.nn.initializers.lecun_normal(),
        bias_init: Callable[..., Array] = jax.nn.initializers.zeros,
        dtype: Any = None,
        key: Key,
    ):
        """**Arguments:**

        - `in_features`: how many numbers one example has.
        - `out_features`: how many neurons; `"scalar"` is one neuron whose output has shape `()`.
        - `activation`: a function of the output; `None` leaves the neuron linear.
        - `use_bias`: whether to add a bias.
        - `weight_init`: any of `jax.nn.initializers`; it sees the shape `(in, out)` that those
            functions expect, and the weight is its transpose.
        - `bias_init`: likewise, for the shape `(out,)`.
        - `dtype`: of weight and bias; JAX's default float if `None`.
        - `key`: a `jax.random.key` for the initial values.

        **Raises:**

        - `TypeError` or `ValueError` where a size is no whole number of at least 1.
        """
        rows = whole_number("Dense(in_features=...)", in_features, least=1)
        neurons = out_features
        if neurons != "scalar":
            neurons = whole_number("Dense(out_features=...)", neurons, least=1)
        columns = 1 if neurons == "scalar" else neurons
        dtype = jax.dtypes.canonicalize_dtype(float) if dtype is None else dtype
        weight_key, bias_key = jr.split(key)
        self.weight = weight_init(weight_key, (rows, columns), dtype).T
        self.bias = bias_init(bias_key, (columns,), dtype) if use_bias else None
        self.activation = activation
        self.in_features = rows
        self.out_features = neurons

    def __call__(self, x: Shaped[Array, " in"], *, key: Key | None = None) -> Float[Array, "*out"]:
        """One example: `(in,)` to `(out,)`, or to `()` for `"scalar"`. `key` is not used."""
        del key
        y = self.weight @ x
        if self.bias is not None:
            y = y + self.bias
        if self.out_features == "scalar":
            y = jnp.squeeze(y, 0)
        return y if self.activation is None else self.activation(y)

    def __pdoc__(self, **kwargs: Any) -> wl.AbstractDoc | None:
        """The call that makes it, for the `repr` of this and of every module around it; all
        fields where somebody asks for values, or while `__init__` has not set them."""
        if not kwargs["short_arrays"] or "out_features" not in vars(self):
            return None
        words: list[wl.AbstractDoc] = [wl.TextDoc(str(self.in_features))]
        if self.out_features != "scalar":
            words.append(wl.TextDoc(str(self.out_features)))
        if self.activation is not None:
            name = getattr(self.activation, "__name__", None)
            shown = wl.pdoc(self.activation, **kwargs) if name is None else wl.TextDoc(name)
            words.append(wl.TextDoc("activation=") + shown)
        # A part of a model has `None` in an array's place, a filter spec a boolean.
        if self.bias is None and self.weight is not None:
            words.append(wl.TextDoc("use_bias=False"))
        dtype = getattr(self.weight, "dtype", None)
        if dtype not in (None, jax.dtypes.canonicalize_dtype(float)):
            words.append(wl.TextDoc(f"dtype={dtype}"))
        begin, end = wl.TextDoc(f"{type(self).__name__}("), wl.TextDoc(")")
        return wl.bracketed(begin, words, wl.comma, end, kwargs["indent"])
