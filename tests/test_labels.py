"""Labels: the calls of a model's layers are made by somebody else."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import neuron
from neuron.labels import labeled


class Net(eqx.Module):
    layers: list
    norm: eqx.nn.Shared | None

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.layers = [eqx.nn.MLP(2, 3, 4, 1, key=first), neuron.Dense(3, key=second)]
        self.norm = None

    def __call__(self, x):
        return self.layers[1](self.layers[0](x))


def test_every_call_is_made_around(getkey):
    calls = []

    def around(path, layer, call):
        calls.append((path, layer))
        return call()

    model = Net(getkey())
    watched = labeled(model, around)
    x = jnp.ones(2)
    np.testing.assert_array_equal(watched(x), model(x))
    assert calls == [
        ("layers.0", "MLP"),
        ("layers.0.layers.0", "Linear"),
        ("layers.0.layers.1", "Linear"),
        ("layers.1", "Dense"),
    ]
    assert isinstance(watched.layers[0], eqx.nn.MLP)
    # The plain model is as it was.
    model(x)
    assert len(calls) == 4


def test_what_is_returned_is_what_counts(getkey):
    doubled = labeled(Net(getkey()), lambda path, layer, call: 2 * call())
    plain = labeled(doubled, lambda path, layer, call: call())
    assert doubled(jnp.ones(2)) != 0
    assert jax.tree.leaves(plain) == jax.tree.leaves(doubled)
