"""Scalers: numbers in other units, and back."""

import abc
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuron.preprocessing.rows import rows_of
from neuron.types import Fixed, Key, Number, hyperparameter


class Scaler(Fixed):
    """Maps one example's numbers to other units, and back: what `Preprocessed` and `Scaled` take.

    A scaler of your own is two methods:

    ```python
    class Log(neuron.Scaler):
        def __call__(self, x, *, key=None):
            return jnp.log(x)

        def inverse(self, y):
            return jnp.exp(y)
    ```
    """

    @abc.abstractmethod
    def __call__(self, x: Any, *, key: Key | None = None) -> Any:
        """One example in the new units.

        **Arguments:**

        - `x`: one example; nothing is ever broadcast.
        - `key`: not used; `equinox.nn.Sequential` hands it over.
        """

    @abc.abstractmethod
    def inverse(self, y: Any) -> Any:
        """One example back in the old units."""


class Standardize(Scaler):
    """`(x - mean) / scale`: each number of an example has mean 0 and variance 1 over the rows it
    was fitted on, as scikit-learn's `StandardScaler` has it.

    ```python
    scaler = neuron.Standardize.fit(x_train)
    scaler(x_train[0]), scaler.inverse(scaler(x_train[0]))
    ```
    """

    mean: Float[Array, "*shape"]
    scale: Float[Array, "*shape"]

    def __init__(self, mean: Any, scale: Any):
        """For numbers that are known already; `fit` finds them.

        **Arguments:**

        - `mean`, `scale`: of one example's shape; a scale is above 0.

        **Raises:**

        - `ValueError` for what can not be meant.
        """
        mean, scale = np.asarray(mean, np.float64), np.asarray(scale, np.float64)
        if mean.shape != scale.shape:
            raise ValueError(
                f"`Standardize(mean, scale)` must be of one shape; got {mean.shape} and "
                f"{scale.shape}."
            )
        if not (scale > 0).all():
            raise ValueError(f"`Standardize(scale=...)` must be above 0; got {scale}.")
        self.mean, self.scale = _leaves("Standardize(mean, scale)", mean, scale)

    @classmethod
    def fit(cls, data: Any, *, what: str = "inputs") -> "Standardize":
        """Finds mean and standard deviation in one pass, in double precision, whatever fits in
        memory: blocks of rows are merged as Chan, Golub & LeVeque (1983) do.

        The variance is that of the rows, not of what they were drawn from (it divides by the number
        of rows). Numbers that are the same in every row have a scale of 1.

        **Arguments:**

        - `data`: an array whose first axis is the rows; a `DataLoader`, whose rows count by their
            weight, each once; or an iterable of arrays, each some rows.
        - `what`: of a loader, `"inputs"` or `"targets"`.

        **Raises:**

        - `ValueError` or `TypeError` for rows that can not be meant.
        """
        blocks = rows_of("Standardize.fit", data, what)
        rows, weight, mean, squares = functools.reduce(_merged, itertools.starmap(_moments, blocks))
        scale = np.sqrt(squares / weight)
        # What is left of a constant in a mean of that many rows is rounding; and what is less than
        # a leaf can hold would divide by 0.
        least = np.maximum(rows * np.finfo(np.float64).eps * np.abs(mean), np.finfo(_dtype()).tiny)
        return cls(mean, np.where(scale <= least, 1.0, scale))

    def __call__(self, x: Any, *, key: Key | None = None) -> Array:
        del key
        return (_of_shape(self, x, self.mean) - self.mean) / self.scale

    def inverse(self, y: Any) -> Array:
        return _of_shape(self, y, self.mean) * self.scale + self.mean


class MinMax(Scaler):
    """Maps the smallest number that was fitted on to `low` and the largest to `high`, as
    scikit-learn's `MinMaxScaler` has it. Nothing is clipped: other rows may lie outside.

    ```python
    scaler = neuron.MinMax.fit(x_train, low=-1, high=1)
    ```
    """

    minimum: Float[Array, "*shape"]
    maximum: Float[Array, "*shape"]
    low: Float[Array, ""]
    high: Float[Array, ""]

    def __init__(self, minimum: Any, maximum: Any, low: Number = 0, high: Number = 1):
        """For numbers that are known already, 0 and 255 say; `fit` finds them.

        **Arguments:**

        - `minimum`, `maximum`: of one example's shape. Where they are equal, they are mapped to
            `low`, and their distance counts as 1.
        - `low`, `high`: what they become; `low` is the smaller one.

        **Raises:**

        - `ValueError` or `TypeError` for what can not be meant.
        """
        minimum, maximum = np.asarray(minimum, np.float64), np.asarray(maximum, np.float64)
        if minimum.shape != maximum.shape or (minimum > maximum).any():
            raise ValueError(
                "`MinMax(minimum, maximum)` must be of one shape, the minimum nowhere above the "
                f"maximum; got {minimum} and {maximum}."
            )
        low = hyperparameter("MinMax(low=...)", low, "finite", lambda _: True)
        least = float(low)
        above = f"above low={least:g}"
        high = hyperparameter("MinMax(high=...)", high, above, lambda number: number > least)
        self.minimum, self.maximum = _leaves("MinMax(minimum, maximum)", minimum, maximum)
        self.low, self.high = _leaves("MinMax(low=..., high=...)", low, high)

    @classmethod
    def fit(cls, data: Any, low: Number = 0, high: Number = 1, *, what: str = "inputs") -> "MinMax":
        """Finds the smallest and the largest numbers in one pass. A row's weight plays no part.

        **Arguments:**

        - `data`: as for `Standardize.fit`.
        - `low`, `high`: as for `MinMax`.
        - `what`: of a loader, `"inputs"` or `"targets"`.

        **Raises:**

        - `ValueError` or `TypeError` for rows that can not be meant.
        """
        blocks = rows_of("MinMax.fit", data, what)
        limits = ((rows.min(axis=0), rows.max(axis=0)) for rows, _ in blocks)
        wider = lambda one, other: (np.minimum(one[0], other[0]), np.maximum(one[1], other[1]))
        return cls(*functools.reduce(wider, limits), low, high)

    def __call__(self, x: Any, *, key: Key | None = None) -> Array:
        del key
        place = (_of_shape(self, x, self.minimum) - self.minimum) / self._extent
        return place * (self.high - self.low) + self.low

    def inverse(self, y: Any) -> Array:
        place = (_of_shape(self, y, self.minimum) - self.low) / (self.high - self.low)
        return place * self._extent + self.minimum

    @property
    def _extent(self) -> Array:
        extent = self.maximum - self.minimum
        return jnp.where(extent > 0, extent, 1)


class _Moments(NamedTuple):
    """How many rows there are, their weight, mean, and weighted squares about the mean."""

    rows: int
    weight: float
    mean: np.ndarray
    squares: np.ndarray


def _moments(rows: np.ndarray, weight: np.ndarray | None) -> _Moments:
    values = rows.astype(np.float64)
    weights = np.ones(len(rows)) if weight is None else weight.astype(np.float64)
    total = weights.sum()
    # Where all weights are 0 the mean is anything, and counts for nothing.
    shares = weights / total if total else weights
    mean = np.tensordot(shares, values, 1)
    # Too large a number is refused in a sentence of its own, when it is made a leaf.
    with np.errstate(over="ignore"):
        squares = np.tensordot(weights, (values - mean) ** 2, 1)
    return _Moments(len(rows), total, mean, squares)


def _merged(one: _Moments, other: _Moments) -> _Moments:
    weight = one.weight + other.weight
    share = other.weight / weight if weight else 0.0
    apart = other.mean - one.mean
    with np.errstate(over="ignore"):
        between = apart**2 * one.weight * share
    mean = one.mean + apart * share
    return _Moments(one.rows + other.rows, weight, mean, one.squares + other.squares + between)


def _dtype() -> Any:
    """What the leaves are: JAX's own float."""
    return jax.dtypes.canonicalize_dtype(float)


def _leaves(call: str, *numbers: Any) -> tuple[Array, ...]:
    for each in numbers:
        if not (np.abs(each) <= np.finfo(_dtype()).max).all():
            raise ValueError(f"`{call}` must be numbers that {_dtype()} can hold; got {each}.")
    return tuple(jnp.asarray(each, _dtype()) for each in numbers)


def _of_shape(scaler: Scaler, x: Any, like: Array) -> Any:
    """An example as it is, if it has the shape that was fitted on: nothing is ever broadcast."""
    if not isinstance(x, Array | np.ndarray | np.generic):
        raise TypeError(f"`{type(scaler).__name__}(x)` takes one array; got {type(x).__name__}.")
    if x.shape != like.shape:
        raise ValueError(
            f"`{type(scaler).__name__}(x)` takes one example of shape {like.shape}, which it was "
            f"fitted on; got {x.shape}."
        )
    return x
