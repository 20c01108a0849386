"""Layers."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from helpers import line, tree_allclose

import neuron


def test_one_neuron_gives_one_number(getkey):
    layer = neuron.Dense(3, key=getkey())
    x = jr.normal(getkey(), (3,))
    assert layer.weight.shape == (1, 3)
    assert layer.bias.shape == (1,)
    assert layer(x).shape == ()
    assert neuron.Dense(3, 1, key=getkey())(x).shape == (1,)


@pytest.mark.parametrize("out_features", ["scalar", 1, 4])
@pytest.mark.parametrize("use_bias", [True, False])
def test_is_weight_times_x_plus_bias(x64, getkey, out_features, use_bias):
    layer = neuron.Dense(
        3,
        out_features,
        use_bias=use_bias,
        bias_init=jax.nn.initializers.normal(1.0),
        activation=jnp.tanh,
        key=getkey(),
    )
    x = jr.normal(getkey(), (3,))
    neurons = 1 if out_features == "scalar" else out_features
    bias = np.asarray(layer.bias) if use_bias else np.zeros(neurons)
    expected = np.tanh(
        [sum(w * v for w, v in zip(row, x, strict=True)) for row in np.asarray(layer.weight)] + bias
    )
    if out_features == "scalar":
        expected = expected[0]
    assert (layer.bias is not None) == use_bias
    assert tree_allclose(layer(x), expected, rtol=1e-13)


def test_is_linear_without_an_activation(getkey):
    layer = neuron.Dense(2, 3, key=getkey())
    x = jr.normal(getkey(), (2,))
    assert tree_allclose(layer(-2 * x), -2 * layer(x), atol=1e-6)


def test_takes_a_key_and_does_not_use_it(getkey):
    layer = neuron.Dense(2, 3, key=getkey())
    x = jr.normal(getkey(), (2,))
    assert tree_allclose(layer(x, key=getkey()), layer(x), rtol=0, atol=0)


def test_a_batch_is_a_vmap(getkey):
    x, _ = line(50)
    layer = neuron.Dense(2, 3, key=getkey())
    expected = x @ np.asarray(layer.weight).T + np.asarray(layer.bias)
    assert tree_allclose(jax.vmap(layer)(x), expected, rtol=1e-5, atol=1e-5)


def test_gradient_is_the_input(getkey):
    x = jr.normal(getkey(), (4,))
    grads = eqx.filter_grad(lambda layer: layer(x))(neuron.Dense(4, key=getkey()))
    assert tree_allclose(grads.weight, x[None])
    assert tree_allclose(grads.bias, jnp.ones(1))


def test_weights_begin_as_lecun_has_them(getkey):
    # A normal cut off at two standard deviations, of variance 1 / in. One in ten million draws
    # of 65,536 leaves these bounds.
    layer = neuron.Dense(64, 1024, key=getkey())
    weight = np.asarray(layer.weight, np.float64)
    assert weight.shape == (1024, 64)
    assert abs(weight.var() * 64 - 1) < 0.03
    assert abs(weight.mean()) < 6 / np.sqrt(64 * weight.size)
    assert abs(weight).max() < 2 / 0.87 / np.sqrt(64)
    assert not layer.bias.any()


def test_initializers_see_the_shapes_they_expect(getkey):
    seen = []

    def weight_init(key, shape, dtype):
        seen.append((shape, dtype))
        return jnp.arange(6, dtype=dtype).reshape(shape)

    def bias_init(key, shape, dtype):
        seen.append((shape, dtype))
        return jnp.full(shape, 7, dtype)

    layer = neuron.Dense(3, 2, weight_init=weight_init, bias_init=bias_init, key=getkey())
    assert seen == [((3, 2), jnp.float32), ((2,), jnp.float32)]
    assert layer.weight.tolist() == [[0, 2, 4], [1, 3, 5]]
    assert layer.bias.tolist() == [7, 7]


def test_weight_and_bias_draw_from_keys_of_their_own(getkey):
    normal = jax.nn.initializers.normal(1.0)
    layer = neuron.Dense(1, 50, weight_init=normal, bias_init=normal, key=getkey())
    assert not np.intersect1d(layer.weight, layer.bias).size


def test_the_key_decides(getkey):
    key = getkey()
    first, again, other = (neuron.Dense(2, 5, key=k) for k in (key, key, getkey()))
    assert tree_allclose(first, again, rtol=0, atol=0)
    assert not tree_allclose(first, other)


@pytest.mark.parametrize("dtype", [None, jnp.float16, jnp.bfloat16, jnp.float32])
def test_dtype(getkey, dtype):
    layer = neuron.Dense(2, 3, dtype=dtype, key=getkey())
    assert layer.weight.dtype == layer.bias.dtype == (dtype or jnp.float32)
    assert layer(jnp.ones(2, dtype)).dtype == (dtype or jnp.float32)


def test_dtype_is_double_under_x64(x64, getkey):
    layer = neuron.Dense(2, key=getkey())
    assert layer.weight.dtype == layer.bias.dtype == jnp.float64


@pytest.mark.parametrize("size", [0, -1])
def test_refuses_sizes_below_one(getkey, size):
    with pytest.raises(ValueError, match=rf"`Dense\(in_features=...\)` must be .* got {size}\."):
        neuron.Dense(size, key=getkey())
    with pytest.raises(ValueError, match=rf"`Dense\(out_features=...\)` must be .* got {size}\."):
        neuron.Dense(2, size, key=getkey())


@pytest.mark.parametrize("size", [2.0, True, None, "two"])
def test_refuses_sizes_that_are_no_whole_numbers(unchecked, getkey, size):
    with pytest.raises(TypeError, match=r"`Dense\(in_features=...\)` must be a whole number"):
        neuron.Dense(size, key=getkey())
    with pytest.raises(TypeError, match=r"`Dense\(out_features=...\)` must be a whole number"):
        neuron.Dense(2, size, key=getkey())


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 2)])
def test_refuses_what_is_not_one_example(unchecked, getkey, shape):
    with pytest.raises(TypeError, match=r"dot_general|matmul"):
        neuron.Dense(2, key=getkey())(jnp.ones(shape))


@pytest.mark.parametrize(
    ("sizes", "options", "text"),
    [
        ((2,), {}, "Dense(2)"),
        ((2, 1), {}, "Dense(2, 1)"),
        ((2, 8), {"activation": jax.nn.relu}, "Dense(2, 8, activation=relu)"),
        (
            (2,),
            {"activation": jnp.tanh, "use_bias": False, "dtype": jnp.bfloat16},
            "Dense(2, activation=tanh, use_bias=False, dtype=bfloat16)",
        ),
        (
            (2,),
            {"activation": neuron.Dense(1, 1, key=jr.key(0))},
            "Dense(2, activation=Dense(1, 1))",
        ),
        (
            (2,),
            {"activation": functools.partial(max, 0)},
            "Dense(2, activation=partial(<built-in function max>, 0))",
        ),
    ],
)
def test_reads_like_the_call_that_makes_it(getkey, sizes, options, text):
    layer = neuron.Dense(*sizes, **options, key=getkey())
    assert repr(layer) == str(layer) == text
    assert repr(eqx.filter_eval_shape(lambda: layer)) == text


def test_reads_so_inside_another_module(getkey):
    layers = [
        neuron.Dense(2, 8, activation=jax.nn.relu, key=getkey()),
        neuron.Dense(8, key=getkey()),
    ]
    text = "Sequential(layers=(Dense(2, 8, activation=relu), Dense(8)))"
    assert repr(eqx.nn.Sequential(layers)) == text
    wide = eqx.tree_pformat(layers[0], width=20)
    assert wide == "Dense(\n  2,\n  8,\n  activation=relu\n)"


def test_dtype_is_shown_where_it_is_not_the_default(x64, getkey):
    assert repr(neuron.Dense(2, key=getkey())) == "Dense(2)"
    assert repr(neuron.Dense(2, dtype=jnp.float32, key=getkey())) == "Dense(2, dtype=float32)"


def test_reads_well_in_parts_and_while_traced(getkey):
    layer = neuron.Dense(2, 3, activation=jnp.tanh, key=getkey())
    params, rest = eqx.partition(layer, eqx.is_array)
    assert repr(params) == "Dense(2, 3)"
    assert repr(rest) == "Dense(2, 3, activation=tanh)"
    assert repr(jax.tree.map(lambda _: False, layer)) == "Dense(2, 3, activation=False)"
    seen = []
    eqx.filter_jit(lambda layer: seen.append(repr(layer)))(layer)
    assert seen == ["Dense(2, 3, activation=tanh)"]


def test_shows_its_values_where_somebody_asks(getkey):
    layer = neuron.Dense(1, bias_init=jax.nn.initializers.constant(7), key=getkey())
    assert "bias=Array([7.]" in eqx.tree_pformat(layer, short_arrays=False)


def test_an_error_in_the_constructor_can_show_the_layer():
    unfinished = object.__new__(neuron.Dense)
    assert "weight=<uninitialised>" in repr(unfinished)
