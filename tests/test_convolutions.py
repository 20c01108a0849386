"""Convolutions for loops: the same numbers, and in the order of axes that is fast."""

import functools
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tree_allclose
from jax.extend.core import jaxpr_as_fun

import neuron
from neuron.convolutions import for_loops


rng = np.random.default_rng(7)
ORDER = "dim_labels=b01f_01io->b01f"


def array(*shape):
    return rng.normal(size=shape).astype(np.float32)


def rewritten(function, *arguments):
    """The function as it is run in a loop."""
    return jaxpr_as_fun(for_loops(jax.make_jaxpr(function)(*arguments)))


conv = jax.lax.conv_general_dilated
KINDS = {
    "one axis": (functools.partial(conv, window_strides=(1,), padding="SAME"), (2, 3, 9), (4, 3, 3)),
    "two": (functools.partial(conv, window_strides=(1, 1), padding="SAME"), (2, 3, 8, 9), (4, 3, 3, 3)),
    "three": (
        functools.partial(conv, window_strides=(1, 1, 1), padding="VALID"),
        (2, 3, 5, 6, 7),
        (4, 3, 2, 3, 1),
    ),
    "strides": (functools.partial(conv, window_strides=(2, 3), padding="VALID"), (2, 3, 8, 9), (4, 3, 3, 2)),
    "uneven padding": (
        functools.partial(conv, window_strides=(1, 2), padding=[(0, 2), (1, 0)]),
        (2, 3, 8, 9),
        (4, 3, 3, 3),
    ),
    "dilated": (
        functools.partial(
            conv, window_strides=(1, 1), padding=[(1, 0), (0, 0)], lhs_dilation=(2, 1), rhs_dilation=(1, 2)
        ),
        (2, 3, 6, 7),
        (4, 3, 3, 2),
    ),
    "groups": (
        functools.partial(conv, window_strides=(1, 1), padding="SAME", feature_group_count=2),
        (2, 4, 5, 6),
        (6, 2, 3, 3),
    ),
    "axes in another order": (
        functools.partial(
            conv, window_strides=(1, 2), padding="VALID", dimension_numbers=("CWNH", "HOWI", "WNCH")
        ),
        (3, 7, 2, 6),
        (3, 4, 2, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_values_and_both_gradients_are_those_of_the_convolution(name):
    function, images, kernel = KINDS[name]
    images, kernel = array(*images), array(*kernel)
    slope = array(*function(images, kernel).shape)

    def all_three(images, kernel):
        results, pullback = jax.vjp(function, images, kernel)
        return results, *pullback(slope)

    ours = rewritten(all_three, images, kernel)(images, kernel)
    theirs = all_three(images, kernel)
    assert tree_allclose(ours, list(theirs), rtol=1e-5, atol=1e-4)


def test_the_values_are_those_of_a_sum_over_windows():
    images, kernel = array(2, 3, 6, 7), array(4, 3, 2, 3)
    function = functools.partial(conv, window_strides=(1, 1), padding="VALID")
    (ours,) = rewritten(function, images, kernel)(images, kernel)
    windows = np.lib.stride_tricks.sliding_window_view(images, (2, 3), axis=(2, 3))
    exact = np.einsum("nchwij,ocij->nohw", windows.astype(np.float64), kernel)
    np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-5)


def network(kernel, images):
    """Convolutions below calls, branches and loops."""
    convolved = functools.partial(jax.lax.conv, window_strides=(1, 1), padding="SAME")
    images = jax.jit(convolved)(images, kernel)
    images = jax.lax.cond(images[0, 0, 0, 0] > 0, lambda: convolved(images, kernel), lambda: images)
    images, _ = jax.lax.scan(lambda x, _: (jnp.tanh(convolved(x, kernel)), None), images, length=3)
    return jax.checkpoint(jax.vmap(lambda x: convolved(x[None], kernel)[0]))(images).sum()


def test_convolutions_are_found_wherever_they_are():
    kernel, images = array(3, 3, 3, 3), array(2, 3, 8, 9)
    gradient = jax.grad(network)
    (ours,) = rewritten(gradient, kernel, images)(kernel, images)
    np.testing.assert_allclose(ours, gradient(kernel, images), rtol=1e-3, atol=1e-3)


def looped(step):
    return lambda kernel, images: jax.lax.fori_loop(0, 3, lambda _, k: k - step(k, images), kernel)


def orders(function, kernel, images):
    """The orders of axes among the compiled convolutions, and whether a branch is left."""
    text = jax.jit(looped(function)).lower(kernel, images).compile().as_text()
    found = set(re.findall(r"dim_labels=\S+->\w+", text))
    return found, " conditional(" in text


def test_in_a_loop_all_have_the_order_that_is_fast():
    kernel, images = array(3, 3, 3, 3), array(2, 3, 8, 9)
    gradient = jax.grad(lambda k, x: jnp.tanh(jax.lax.conv(x, k, (1, 1), "SAME")).sum())
    found, _ = orders(gradient, kernel, images)
    # Once XLA does it by itself this fails, and the room can go.
    assert found - {ORDER}
    ours = rewritten(gradient, kernel, images)
    assert orders(lambda k, x: ours(k, x)[0], kernel, images) == ({ORDER}, False)


def test_other_devices_get_what_was_written():
    kernel, images = array(3, 3, 3, 3), array(2, 3, 8, 9)
    function = functools.partial(jax.lax.conv, window_strides=(1, 1), padding="SAME")
    traced = jax.jit(rewritten(function, images, kernel)).trace(images, kernel)
    for platform, order in (("cpu", "[b, 0, 1, f]x"), ("tpu", "[b, f, 0, 1]x")):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert order in text
        assert text.count("stablehlo.convolution") == 1


def test_what_does_not_convolve_stays_the_same_object():
    program = jax.make_jaxpr(jax.jit(jnp.tanh))(1.0)
    assert for_loops(program) is program


def test_how_a_run_of_convolutions_is_cut_changes_no_bit():
    x, y = array(60, 1, 8, 8), rng.integers(0, 3, 60).astype(np.int32)

    def trained(*fits):
        keys = jax.random.split(jax.random.key(0))
        layers = [
            eqx.nn.Conv2d(1, 4, 3, padding=1, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(256, 3, key=keys[1]),
        ]
        model = eqx.nn.Sequential(layers)
        trainer = neuron.Trainer(model, neuron.CrossEntropy(), progress=False)
        for steps in fits:
            trainer.fit(neuron.DataLoader((x, y), 16), steps=steps)
        return trainer

    whole, cut = trained(30), trained(1, 9, 20)
    assert eqx.tree_equal(whole.state, cut.state)
    np.testing.assert_allclose(whole.predict(x), jax.vmap(whole.model)(x), rtol=1e-4, atol=1e-5)
