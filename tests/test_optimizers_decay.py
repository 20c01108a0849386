"""Weight decay: which parameters decay, by the usual rule and by selection."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import neuron
from neuron.optimizers.decay import decayed
from neuron.selection import Choice, dotted
from neuron.trees import Static, on_entry


KEY = jr.key(0)


class ScaleNorm(eqx.Module):
    gain: jax.Array


class AdaptiveNorm(eqx.Module):
    gain: jax.Array
    project: list


class Normalizer(eqx.Module):
    gain: jax.Array


class Listed(eqx.Module):
    biases: list
    weights: list


def names(params, decay=None):
    found = jax.tree_util.tree_leaves_with_path(decayed(params, decay))
    assert all(isinstance(leaf, bool) for _, leaf in found)
    return [dotted(path) for path, leaf in found if leaf]


def params_of(model):
    return eqx.filter(model, eqx.is_inexact_array)


def linear():
    return eqx.nn.Linear(2, 3, key=KEY)


one = jnp.ones(3)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (linear(), ["weight"]),
        (neuron.Dense(2, key=KEY), ["weight"]),
        (eqx.nn.Conv1d(1, 1, 1, key=KEY), ["weight"]),
        (eqx.nn.GRUCell(2, 3, key=KEY), ["weight_ih", "weight_hh"]),
        (eqx.nn.Embedding(2, 3, key=KEY), ["weight"]),
        (eqx.nn.LayerNorm(3), []),
        (eqx.nn.RMSNorm(3), []),
        (eqx.nn.GroupNorm(1, 3), []),
        (eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, "batch", mode="batch")[0], []),
        (
            eqx.nn.make_with_state(eqx.nn.SpectralNorm)(linear(), "weight", key=KEY)[0],
            ["layer.weight"],
        ),
        (eqx.nn.WeightNorm(linear()), ["layer.weight", "g"]),
        (ScaleNorm(one), []),
        (AdaptiveNorm(one, [linear()]), ["gain", "project.0.weight"]),
        (Normalizer(one), ["gain"]),
        (eqx.nn.Sequential([linear(), eqx.nn.LayerNorm(3), linear()]), ["0", "2"]),
        (Listed([one, one], [one]), ["weights.0"]),
        ({"w": one, "b": one, "my_bias": one, "bob": one}, ["bob", "w"]),
        ([one, {"b": [one]}, (one,)], ["0", "2.0"]),
        ((one, None, optax.MaskedNode()), ["0"]),
        (one, [""]),
    ],
)
def test_biases_and_normalization_do_not_decay(model, expected):
    if isinstance(model, eqx.nn.Sequential):
        expected = [f"layers.{place}.weight" for place in expected]
    assert names(params_of(model)) == expected


def test_a_wrapper_is_known_where_its_layer_is_frozen():
    model = eqx.nn.WeightNorm(linear())
    frozen = eqx.tree_at(
        lambda m: m.layer, params_of(model), jax.tree.map(lambda _: None, linear())
    )
    assert names(frozen) == ["g"]


NET = {"encoder": {"w": one, "b": one}, "head": {"w": one, "b": None}}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("*", ["encoder.b", "encoder.w", "head.w"]),
        ("encoder.*", ["encoder.b", "encoder.w"]),
        (["head.*", "*.b"], ["encoder.b", "head.w"]),
        (("head.b",), []),  # frozen at the moment
        (lambda path: path.endswith("w"), ["encoder.w", "head.w"]),
        ({"encoder": False, "head": True}, ["head.w"]),
        ({"encoder": {"w": True, "b": False}, "head": {"w": True, "b": True}}, ["encoder.w", "head.w"]),
        (True, ["encoder.b", "encoder.w", "head.w"]),
        (False, []),
        ((), []),
    ],
)  # fmt: skip
def test_a_selection_changes_it(selection, expected):
    assert names(NET, Choice("call", selection)) == expected
    assert names(NET, neuron.SGD(decay=selection).decay) == expected


@pytest.mark.parametrize("kind", [neuron.SGD, neuron.AdamW])
def test_what_decays_is_pulled_and_nothing_else(kind):
    zero = jax.tree.map(jnp.zeros_like, NET)
    for decay, expected in ((None, [0.0, -0.02, -0.02]), ("*.b", [-0.02, 0.0, 0.0])):
        optimizer = kind(0.1, weight_decay=0.2, decay=decay)
        updates, _ = optimizer.update(zero, optimizer.init(NET), NET)
        assert jax.tree.structure(updates) == jax.tree.structure(NET)
        leaves = [float(leaf[0]) for leaf in jax.tree.leaves(updates)]
        np.testing.assert_allclose(leaves, expected, rtol=1e-6)


def test_decays_inside_of_optax():
    mask = {"encoder": {"w": True, "b": True}, "head": {"w": False, "b": None}}
    theirs = optax.chain(
        optax.clip(1.0), optax.masked(neuron.SGD(0.1, weight_decay=0.2, decay="head.*"), mask)
    )
    zero = jax.tree.map(jnp.zeros_like, NET)
    updates, _ = theirs.update(zero, theirs.init(NET), NET)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates))


@pytest.mark.parametrize(
    "selection",
    ["*", ["a", "*"], {"encoder": True}, names, linear, (), True],
    ids=lambda s: getattr(s, "__name__", repr(s)),
)
def test_equal_selections_are_one_program(selection):
    again = list(selection) if isinstance(selection, list) else selection
    chosen = [selection, again, None, "nothing else"]
    one, two, *others = [neuron.AdamW(decay=decay) for decay in chosen]
    program = lambda optimizer: Static(on_entry(optimizer, jax.devices()[0]))
    assert program(one) == program(two)
    assert hash(program(one)) == hash(program(two))
    assert program(one) not in map(program, others)
    shown = getattr(selection, "__name__", repr(selection))
    assert repr(one).endswith(f"decay={shown})")
    assert repr(one.with_numbers(b1=0.5)).endswith(f"decay={shown})")


def test_a_list_that_changes_later_changes_nothing():
    patterns = ["head.*"]
    optimizer = neuron.SGD(decay=patterns)
    patterns.append("*")
    assert names(NET, optimizer.decay) == ["head.w"]


@pytest.mark.parametrize(
    "selection", ["*weight", lambda path: True, jax.tree.map(lambda _: True, params_of(linear()))]
)
def test_the_strength_changes_without_a_trace(selection):
    x = np.ones((8, 2), np.float32)
    optimizer = neuron.AdamW(0.1, weight_decay=0.1, decay=selection)
    trainer = neuron.Trainer(linear(), optimizer=optimizer, progress=False)
    loader = neuron.DataLoader((x, np.ones((8, 3), np.float32)), 4)
    trainer.fit(loader, steps=2)
    traced = neuron.run.loop.loop._cache_size()
    trainer.set(weight_decay=0.5)
    trainer.fit(loader, steps=2)
    assert neuron.run.loop.loop._cache_size() == traced


def test_a_pattern_that_matches_nothing_is_refused_when_the_trainer_is_made():
    for kind in (neuron.SGD, neuron.AdamW):
        with pytest.raises(
            ValueError, match=r"decay=...\)` must match a leaf; 'kernel' is none of"
        ):
            neuron.Trainer(linear(), optimizer=kind(decay="kernel"))
    # What is frozen may be meant.
    neuron.Trainer(linear(), optimizer=neuron.SGD(decay="bias"), trainable="weight")


@pytest.mark.parametrize("selection", [3, 1.5, ["*", 3], {"weight": 1}, [None]])
def test_what_is_no_selection_is_refused_at_once(selection):
    with pytest.raises(TypeError, match=r"`SGD\(decay=...\)` must be patterns, a function"):
        neuron.SGD(decay=selection)
