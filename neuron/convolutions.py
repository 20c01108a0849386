"""Convolutions. What a loop on the CPU wants of them: images and results with their channels last.

XLA's CPU backend has fast convolutions in that order of axes alone. It brings others into it by
itself, but not in the body of a loop (jax#12868), where a step of a small network then took fifty
times as long; figures are in `benchmarks/README.md`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jaxtyping import Array

from neuron.kernel import equations


def for_loops(program: ClosedJaxpr) -> ClosedJaxpr:
    """The same program, with convolutions that are fast in a loop on the CPU. On other devices they
    are what they were."""
    return _rewritten(program)


def _rewritten(part: Any) -> Any:
    """A part of a program; the same object where there is no convolution in it, since JAX compiles
    an object once."""
    match part:
        case ClosedJaxpr() if any(map(_is_convolution, equations(part.jaxpr))):
            return part.replace(jaxpr=_rewritten(part.jaxpr))
        case Jaxpr() if any(map(_is_convolution, equations(part))):
            return part.replace(eqns=list(map(_equation, part.eqns)))
        case tuple() if any(isinstance(each, ClosedJaxpr) for each in part):
            return tuple(map(_rewritten, part))
    return part


def _is_convolution(equation: JaxprEqn) -> bool:
    return equation.primitive.name == "conv_general_dilated"


def _equation(equation: JaxprEqn) -> JaxprEqn:
    if not _is_convolution(equation):
        params = {name: _rewritten(value) for name, value in equation.params.items()}
        return equation.replace(params=params)

    def as_it_is(images: Array, kernel: Array) -> Array:
        return equation.primitive.bind(images, kernel, **equation.params)

    @jax.jit
    def convolved(images: Array, kernel: Array) -> Array:
        last = lambda images, kernel: _channels_last(equation, images, kernel)
        return jax.lax.platform_dependent(images, kernel, cpu=last, default=as_it_is)

    shapes = [variable.aval for variable in equation.invars]
    (call,) = jax.make_jaxpr(convolved)(*shapes).jaxpr.eqns
    return call.replace(invars=equation.invars, outvars=equation.outvars)


def _channels_last(equation: JaxprEqn, images: Array, kernel: Array) -> Array:
    # Each names its axes so: batch and channels, or outputs and inputs, and then those of space.
    axes = equation.params["dimension_numbers"]
    batch, channels, *space = axes.lhs_spec
    images = jnp.transpose(images, (batch, *space, channels))
    outputs, inputs, *space = axes.rhs_spec
    kernel = jnp.transpose(kernel, (*space, inputs, outputs))
    rank, middle = images.ndim, range(1, images.ndim - 1)
    spec = (0, rank - 1, *middle)
    order = jax.lax.ConvDimensionNumbers(spec, (rank - 1, rank - 2, *range(rank - 2)), spec)
    options = {**equation.params, "dimension_numbers": order}
    results = equation.primitive.bind(images, kernel, **options)
    batch, channels, *space = axes.out_spec
    there = (batch, *space, channels)
    return jnp.transpose(results, [there.index(axis) for axis in range(rank)])
