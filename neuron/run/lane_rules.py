"""What each operation on arrays is where members lie along the last axis; see `lanes`."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn
from jax.lax import GatherDimensionNumbers
from jaxtyping import Array

from neuron.kernel import shape_of


# A value, and whether it has a lane for each member or is the same for all.
Laned = tuple[Any, bool]
Rule = Callable[[JaxprEqn, list[Laned], int], list[Laned]]

_ELEMENTWISE = frozenset(
    """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bitcast_convert_type cbrt ceil clamp
    convert_element_type copy copy_p cos cosh div eq erf erf_inv exp exp2 expm1 floor ge gt
    integer_pow is_finite le log log1p logistic lt max min mul ne neg not or pow rem round rsqrt
    select_n shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square
    stop_gradient sub tan tanh xor
    """.split()  # noqa: SIM905
)
# The axes that they name keep their places.
_KEEPING = frozenset(
    """
    reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or argmax argmin rev
    """.split()  # noqa: SIM905
)


def bound(equation: JaxprEqn, values: Sequence[Any], **changed: Any) -> list[Any]:
    """An equation's results, of which there may be one, with some of its parameters changed."""
    params = equation.primitive.get_bind_params(equation.params | changed)
    found = equation.primitive.bind(*values, **params)
    return list(found) if equation.primitive.multiple_results else [found]


def spread(value: Laned, size: int) -> Array:
    """A value with a lane for each member."""
    array, laned = value
    if laned:
        return array
    array = jnp.asarray(array)
    return jax.lax.broadcast_in_dim(array, (*array.shape, size), range(array.ndim))


def all_laned(values: Iterable[Any]) -> list[Laned]:
    """Values that all have a lane for each member."""
    return [(value, True) for value in values]


def _elementwise(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    # A single number may stand beside an array.
    shape = (*shape_of(equation.outvars[0]), size)
    arrays = (spread(value, size) for value in inputs)
    return all_laned(bound(equation, [_as_wide(array, shape) for array in arrays]))


def _as_wide(array: Array, shape: Sequence[int]) -> Array:
    return array if array.ndim == len(shape) else jnp.broadcast_to(array, shape)


def _keeping(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    del size
    return all_laned(bound(equation, [inputs[0][0]]))


def _reshape(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    return all_laned([jnp.reshape(inputs[0][0], (*shape_of(equation.outvars[0]), size))])


def _transpose(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    del size
    order = equation.params["permutation"]
    return all_laned([jax.lax.transpose(inputs[0][0], (*order, len(order)))])


def _broadcast(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    shape, dims = equation.params["shape"], equation.params["broadcast_dimensions"]
    return all_laned([jax.lax.broadcast_in_dim(inputs[0][0], (*shape, size), (*dims, len(shape)))])


def _slice(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    start, limit, strides = (
        equation.params[name] for name in ("start_indices", "limit_indices", "strides")
    )
    strides = None if strides is None else (*strides, 1)
    return all_laned([jax.lax.slice(inputs[0][0], (*start, 0), (*limit, size), strides)])


def _concatenate(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    arrays = [spread(value, size) for value in inputs]
    return all_laned([jax.lax.concatenate(arrays, equation.params["dimension"])])


def _product(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    """A product as a sum of products, each a vector of members: nothing here is large, and a
    library's product would be called for each member."""
    (sums, batch), dtype = equation.params["dimension_numbers"], _dtype(equation)
    (left, left_laned), (right, right_laned) = inputs
    shapes = [shape_of(variable) for variable in equation.invars]
    free = [
        [axis for axis in range(len(shape)) if axis not in (*summed, *shared)]
        for shape, summed, shared in zip(shapes, sums, batch, strict=True)
    ]
    # As (batch, free on the left, free on the right, summed, lanes).
    number = [len(batch[0]), len(free[0]), len(free[1]), len(sums[0])]

    def placed(array: Any, side: int, laned: bool) -> Array:
        order = (*batch[side], *free[side], *sums[side])
        array = jax.lax.transpose(array, (*order, len(order)) if laned else order)
        own = array.shape[number[0] : number[0] + number[1 + side]]
        middle = (*own, *([1] * number[2])) if side == 0 else (*([1] * number[1]), *own)
        ends = array.shape[: number[0]], array.shape[number[0] + number[1 + side] :]
        return array.reshape((*ends[0], *middle, *ends[1], *(() if laned else (1,))))

    terms = placed(left, 0, left_laned).astype(dtype) * placed(right, 1, right_laned).astype(dtype)
    axes = range(sum(number[:3]), sum(number))
    # One after the other: few terms, and the same order for any number of members.
    flat = terms.reshape((*terms.shape[: axes.start], -1, size))
    if flat.shape[-2] > 16:
        return all_laned([jnp.sum(flat, axis=-2)])
    return all_laned([functools.reduce(jnp.add, [flat[..., k, :] for k in range(flat.shape[-2])])])


def _dtype(equation: JaxprEqn) -> Any:
    return getattr(equation.outvars[0].aval, "dtype")  # noqa: B009


def _gather(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    (array, array_laned), (places, places_laned) = inputs
    numbers: GatherDimensionNumbers = equation.params["dimension_numbers"]
    if array_laned and places_laned:
        return by_vmap(equation, inputs, size)
    if places_laned:
        # The lanes are one more axis of places; the axis that says where stays last.
        return all_laned(bound(equation, [array, jnp.swapaxes(places, -1, -2)]))
    rank = len(shape_of(equation.outvars[0]))
    numbers = numbers._replace(offset_dims=(*numbers.offset_dims, rank))
    sizes = (*equation.params["slice_sizes"], size)
    return all_laned(bound(equation, [array, places], dimension_numbers=numbers, slice_sizes=sizes))


def by_vmap(equation: JaxprEqn, inputs: list[Laned], size: int) -> list[Laned]:
    """For what has no rule of its own."""
    del size
    axes = [-1 if laned else None for _, laned in inputs]
    call = lambda *values: bound(equation, values)
    return all_laned(jax.vmap(call, in_axes=axes, out_axes=-1)(*(value for value, _ in inputs)))


RULES: dict[str, Rule] = {
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "concatenate": _concatenate,
    "dot_general": _product,
    "gather": _gather,
    **dict.fromkeys(_KEEPING, _keeping),
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
}
