"""Selection: leaves by pattern, predicate and spec; and training only those."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron
from neuron.selection import dotted, selected


rng = np.random.default_rng(9)
X = rng.normal(size=(40, 2)).astype(np.float32)
Y = np.sin(X).sum(1).astype(np.float32)


class Network(eqx.Module):
    encoder: eqx.nn.Sequential
    head: neuron.Dense

    def __init__(self):
        first, second, third = jax.random.split(jax.random.key(0), 3)
        layers = [
            eqx.nn.Linear(2, 8, key=first),
            eqx.nn.Lambda(jnp.tanh),
            eqx.nn.Linear(8, 4, key=second),
        ]
        self.encoder = eqx.nn.Sequential(layers)
        self.head = neuron.Dense(4, key=third)

    def __call__(self, x):
        return self.head(self.encoder(x))


NAMES = [
    "encoder.layers.0.weight",
    "encoder.layers.0.bias",
    "encoder.layers.2.weight",
    "encoder.layers.2.bias",
    "head.weight",
    "head.bias",
]


def params():
    return eqx.filter(Network(), eqx.is_inexact_array)


def chosen(selection):
    found = jax.tree_util.tree_leaves_with_path(selected("call", params(), selection))
    return [dotted(path) for path, leaf in found if leaf]


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        ("head.*", NAMES[4:]),
        ("*", NAMES),
        (["head.bias", "*.0.*"], [*NAMES[:2], "head.bias"]),
        (("*.weight",), NAMES[::2]),
        (lambda path: path.endswith("bias"), NAMES[1::2]),
        (True, NAMES),
        (eqx.tree_at(lambda n: n.head, jax.tree.map(lambda _: False, params()), True), NAMES[4:]),
        (jax.tree.map(lambda leaf: leaf.ndim == 2, params()), NAMES[::2]),
    ],
)
def test_selects(selection, names):
    assert chosen(selection) == names


def trainer(trainable, optimizer=None):
    optimizer = optimizer or neuron.AdamW(0.01, weight_decay=0.1)
    return neuron.Trainer(Network(), optimizer=optimizer, trainable=trainable, progress=False)


def leaves_of(tree):
    found = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_inexact_array))
    return {dotted(path): np.asarray(leaf) for path, leaf in found}


@pytest.mark.parametrize("trainable", ["head.*", lambda path: path.startswith("head")])
def test_frozen_leaves_stay_as_they_are_and_have_no_state(trainable):
    one = trainer(trainable)
    before = leaves_of(Network())
    one.fit(neuron.DataLoader((X, Y), 10), epochs=3)
    for name, leaf in leaves_of(one.model).items():
        assert np.array_equal(leaf, before[name]) is name.startswith("encoder")
    moments = leaves_of(one.state.opt_state.first)
    assert list(moments) == ["head.weight", "head.bias"]


def test_training_a_part_is_training_it_alone():
    """The head on what the frozen encoder gives, as a model of its own."""
    network = Network()
    one = trainer("head.*")
    one.fit(neuron.DataLoader((X, Y), 10), epochs=3)
    codes = np.asarray(jax.vmap(network.encoder)(jnp.asarray(X)))
    alone = neuron.Trainer(
        network.head, optimizer=neuron.AdamW(0.01, weight_decay=0.1), progress=False
    )
    alone.fit(neuron.DataLoader((codes, Y), 10), epochs=3)
    np.testing.assert_allclose(one.model.head.weight, alone.model.weight, rtol=1e-5)


def test_unfreezing_keeps_the_state_of_the_rest():
    one = trainer("head.*")
    one.fit(neuron.DataLoader((X, Y), 10), epochs=3)
    before = leaves_of(one.state.opt_state.second)
    weights = leaves_of(one.model)
    one.train_only(None)
    after = leaves_of(one.state.opt_state.second)
    assert list(after) == NAMES
    for name, leaf in after.items():
        np.testing.assert_array_equal(leaf, before.get(name, np.zeros_like(leaf)))
    assert int(one.state.opt_state.count) == 12
    for name, leaf in leaves_of(one.model).items():
        np.testing.assert_array_equal(leaf, weights[name])
    one.fit(neuron.DataLoader((X, Y), 10), epochs=1)
    changed = [
        name
        for name, leaf in leaves_of(one.model).items()
        if not np.array_equal(leaf, weights[name])
    ]
    assert changed == NAMES
    one.train_only("encoder.*")
    assert list(leaves_of(one.state.opt_state.first)) == NAMES[:4]
    assert one.step == 16


class Waves(neuron.Fixed):
    """Random features, given once."""

    frequencies: jax.Array

    def __call__(self, x):
        return jnp.sin(self.frequencies @ x)


class OnWaves(eqx.Module):
    waves: Waves
    head: neuron.Dense

    def __call__(self, x):
        return self.head(self.waves(x))


def on_waves():
    frequencies = jax.random.normal(jax.random.key(1), (8, 2))
    return OnWaves(Waves(frequencies), neuron.Dense(8, key=jax.random.key(0)))


@pytest.mark.parametrize(
    "trainable", [None, "*", lambda path: True, True, jax.tree.map(lambda _: True, on_waves())]
)
def test_no_selection_means_fixed_parts(trainable):
    optimizer = neuron.AdamW(0.1, weight_decay=0.1, decay="*")
    one = neuron.Trainer(on_waves(), optimizer=optimizer, trainable=trainable, progress=False)
    one.fit(neuron.DataLoader((X, Y), 10), epochs=2)
    assert list(leaves_of(one.state.params)) == ["head.weight", "head.bias"]
    np.testing.assert_array_equal(one.model.waves.frequencies, on_waves().waves.frequencies)
    assert not np.array_equal(one.model.head.weight, on_waves().head.weight)


def test_an_array_that_is_never_trained_may_be_held_twice():
    class Chain(eqx.Module):
        layers: list

        def __call__(self, x):
            return sum(layer(x) for layer in self.layers)

    model = on_waves()
    neuron.Trainer(Chain([model.waves, model.waves, model.head]), progress=False)
    with pytest.raises(ValueError, match="must hold each array once"):
        neuron.Trainer(Chain([model.waves, model.head, model.head]), progress=False)


class Inside(neuron.Callback):
    def on_step_end(self, trainer, logs):
        trainer.train_only(None)


@pytest.mark.parametrize(
    ("call", "kind", "point"),
    [
        (
            lambda: trainer("decoder.*"),
            ValueError,
            r"'decoder.\*' is none of \['encoder.layers.0.weight'",
        ),
        (lambda: trainer(["head.*", "tail"]), ValueError, "'tail' is none of"),
        (lambda: trainer(lambda path: False), ValueError, "something to train"),
        (lambda: trainer(False), ValueError, "something to train; got False"),
        (
            lambda: neuron.Trainer(on_waves(), trainable="waves.*"),
            ValueError,
            r"'waves.\*' is none of \['head.weight', 'head.bias'\]",
        ),
        (lambda: neuron.Trainer(on_waves().waves), ValueError, "to train; got none in Waves"),
        (lambda: trainer(3), TypeError, "patterns, a function of a path, or a tree.*got 3"),
        (lambda: trainer({"head": True}), TypeError, "got {'head': True}"),
        (
            lambda: neuron.Trainer(Network(), callbacks=[Inside()], progress=False).fit(
                (X, Y), steps=1
            ),
            RuntimeError,
            "between fits",
        ),
    ],
)
def test_refused(call, kind, point):
    with pytest.raises(kind, match=point) as caught:
        call()
    assert type(caught.value) is kind
