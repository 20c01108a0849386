"""Summaries: counts against the leaves, output shapes against the layers themselves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import neuron
from neuron.models import prediction_like
from neuron.summaries import Output, Row, Summary


key = jr.key(0)
shape_of = lambda output: jax.ShapeDtypeStruct(output.shape, output.dtype)


class Convolutional(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    head: neuron.Dense

    def __init__(self, key):
        first, second = jr.split(key)
        self.conv = eqx.nn.Conv2d(1, 4, 3, key=first)
        self.norm = eqx.nn.BatchNorm(4, "rows", mode="batch")
        self.drop = eqx.nn.Dropout(0.5)
        self.head = neuron.Dense(4 * 6 * 6, 10, activation=jax.nn.relu, key=second)

    def __call__(self, x, state, *, key):
        x, state = self.norm(self.conv(x), state)
        return {"logits": self.head(self.drop(x.ravel(), key=key)), "mean": x.mean()}, state


class Attending(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    head: neuron.Dense

    def __init__(self):
        self.attention = eqx.nn.MultiheadAttention(2, 6, key=key)
        self.head = neuron.Dense(6, key=key)

    def __call__(self, x):
        return self.head(self.attention(x, x, x).mean(0))


class Inner(eqx.Module):
    """Calls one layer in a way of one's own."""

    layer: eqx.nn.Linear
    how: object = eqx.field(static=True)

    def __init__(self, how):
        self.layer = eqx.nn.Linear(3, 3, key=key)
        self.how = how

    def __call__(self, x):
        return self.how(self.layer, x)


class Stateful(eqx.Module):
    layer: eqx.Module

    def __call__(self, x, state):
        return self.layer(x, state)


class Same(eqx.Module):
    """Calls two layers of one structure, which a cache may take for one."""

    first: eqx.Module
    second: eqx.Module

    def __call__(self, x):
        return self.second(self.first(x))


class Jitted(eqx.Module):
    layer: neuron.Dense

    @eqx.filter_jit
    def __call__(self, x):
        return self.layer(x)


class Stacking(eqx.Module):
    """Puts its layers together when it is called."""

    layers: list

    def __call__(self, x):
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *self.layers)
        arrays, rest = eqx.partition(stacked, eqx.is_array)
        return jax.lax.scan(lambda x, one: (eqx.combine(one, rest)(x), None), x, arrays)[0]


class Particular(eqx.Module):
    """Looks for one class and no other, and has another output otherwise."""

    layer: eqx.nn.Linear

    def __call__(self, x):
        return self.layer(x) if type(self.layer) is eqx.nn.Linear else self.layer(x)[:1]


class Tied(eqx.Module):
    shared: eqx.nn.Shared

    def __init__(self):
        pair = eqx.nn.Embedding(7, 4, key=key), eqx.nn.Linear(4, 7, use_bias=False, key=key)
        self.shared = eqx.nn.Shared(pair, lambda pair: pair[1].weight, lambda pair: pair[0].weight)

    def __call__(self, token):
        embedding, linear = self.shared()
        return linear(embedding(token))


class Assorted(eqx.Module):
    weight: jax.Array
    count: jax.Array
    flag: jax.Array
    key: jax.Array
    host: np.ndarray
    rate: float = 0.5


def assorted():
    return Assorted(
        jnp.ones((2, 3), jnp.bfloat16),
        jnp.ones(4, jnp.int32),
        jnp.ones((), bool),
        jr.split(key, 5),
        np.ones((6, 1)),
    )


def mlp():
    return eqx.nn.MLP(3, 2, 16, 2, key=key)


def convolutional():
    return eqx.nn.make_with_state(Convolutional)(key)


def layers_of(table):
    return [(one.path, one.layer) for one in table.outputs]


@pytest.mark.parametrize(
    "make",
    [mlp, Attending, Tied, assorted, lambda: neuron.Dense(2, key=key), lambda: convolutional()[0]],
)
def test_counts_are_those_of_the_leaves(make):
    model = make()
    leaves = [leaf for leaf in jax.tree.leaves(model) if isinstance(leaf, jax.Array | np.ndarray)]
    floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    table = neuron.summary(model)
    assert table.parameters == sum(leaf.size for leaf in leaves)
    assert table.trainable_parameters == sum(leaf.size for leaf in floats)
    assert table.bytes == sum(leaf.nbytes for leaf in leaves)
    assert [(row.shape, row.dtype) for row in table.rows] == [(a.shape, a.dtype) for a in leaves]
    assert table.outputs == ()


def test_a_row_is_an_array():
    rows = neuron.summary(assorted()).rows
    assert [(row.path, row.parameters, row.bytes, row.trainable) for row in rows] == [
        ("weight", 6, 12, True),
        ("count", 4, 16, False),
        ("flag", 1, 1, False),
        ("key", 5, 40, False),
        ("host", 6, 48, True),
    ]
    assert rows[0] == Row("weight", (2, 3), jnp.bfloat16, 6, 12, True)


@pytest.mark.parametrize(
    "trainable",
    ["layers.0.*", ["*.bias", "layers.2.weight"], lambda path: path.endswith("bias"), False],
)
def test_what_is_trainable_is_what_a_trainer_trains(trainable):
    table = neuron.summary(mlp(), trainable=trainable)
    trained = [row for row in table.rows if row.trainable]
    if trainable is False:
        assert not trained
        return
    trainer = neuron.Trainer(mlp(), trainable=trainable, progress=False)
    params = jax.tree.leaves(trainer.state.params)
    assert [row.shape for row in trained] == [leaf.shape for leaf in params]
    assert table.trainable_parameters == sum(leaf.size for leaf in params)


def test_paths_are_patterns():
    table = neuron.summary(convolutional()[0])
    for row in table.rows:
        alone = neuron.summary(convolutional()[0], trainable=row.path)
        assert [one.path for one in alone.rows if one.trainable] == [row.path]


def test_state_is_listed_where_its_layer_is_and_not_trained():
    model, state = convolutional()
    table = neuron.summary(model, model_state=state)
    rows = table.rows[len(neuron.summary(model).rows) :]
    assert [(row.path, row.shape) for row in rows] == [
        ("norm.batch_counter", ()),
        ("norm.batch_state_index.0", (4,)),
        ("norm.batch_state_index.1", (4,)),
    ]
    assert not any(row.trainable for row in rows)
    assert table.bytes == sum(
        leaf.nbytes for leaf in jax.tree.leaves((model, state)) if eqx.is_array(leaf)
    )


def test_outputs_are_what_the_layers_return():
    model, state = convolutional()
    image = jr.normal(key, (1, 8, 8))
    table = neuron.summary(model, image, model_state=state)
    maps = model.conv(image)
    expected = [
        ("", "Convolutional", {"logits": jnp.ones(10), "mean": jnp.ones(())}),
        ("conv", "Conv2d", maps),
        ("norm", "BatchNorm", maps),
        ("drop", "Dropout", maps.ravel()),
        ("head", "Dense", model.head(maps.ravel())),
    ]
    assert table.outputs == tuple(
        Output(path, layer, jax.tree.map(shape_of, output)) for path, layer, output in expected
    )
    assert table.outputs[0].output == prediction_like(model, state, image[None])


def test_the_state_is_still_good_for_use():
    model, state = convolutional()
    neuron.summary(model, jnp.ones((1, 8, 8)), model_state=state)
    index = model.norm.batch_counter
    state.set(index, state.get(index) + 1)  # spends it


def test_layers_of_layers_stand_above_them():
    table = neuron.summary(Attending(), jnp.ones((5, 6)))
    names = ["query_proj", "key_proj", "value_proj"]
    assert layers_of(table) == [
        ("", "Attending"),
        ("attention", "MultiheadAttention"),
        *((f"attention.{name}", "Linear") for name in names),
        ("attention.dropout", "Dropout"),
        ("attention.output_proj", "Linear"),
        ("head", "Dense"),
    ]
    shapes = {one.path: one.output.shape for one in table.outputs}
    assert shapes[""] == shapes["head"] == ()
    assert shapes["attention"] == (5, 6)
    # As the layer sees it, which is vmapped over the sequence.
    assert shapes["attention.query_proj"] == (6,)


def test_a_stateful_sequence():
    def make():
        norm = eqx.nn.BatchNorm(8, "batch", mode="ema")
        return eqx.nn.Sequential([eqx.nn.Linear(3, 8, key=key), eqx.nn.Lambda(jnp.tanh), norm])

    model, state = eqx.nn.make_with_state(make)()
    table = neuron.summary(model, jnp.ones(3), model_state=state)
    names = ["Linear", "Lambda", "BatchNorm"]
    assert layers_of(table) == [("", "Sequential")] + [
        (f"layers.{i}", n) for i, n in enumerate(names)
    ]
    assert {one.output.shape for one in table.outputs} == {(8,)}


def test_a_layer_around_a_layer():
    make = lambda: Stateful(eqx.nn.SpectralNorm(eqx.nn.Linear(3, 4, key=key), "weight", key=key))
    model, state = eqx.nn.make_with_state(make)()
    table = neuron.summary(model, jnp.ones(3), model_state=state)
    assert layers_of(table)[1:] == [("layer", "SpectralNorm"), ("layer.layer", "Linear")]


def scanned(layer, x):
    return jax.lax.scan(lambda x, _: (layer(x), None), x, length=4)[0]


@pytest.mark.parametrize(
    "how",
    [
        lambda layer, x: layer(x),
        lambda layer, x: jax.jit(lambda x: layer(x))(x),
        lambda layer, x: eqx.filter_jit(layer)(x),
        lambda layer, x: eqx.filter_jit(lambda layer, x: layer(x))(layer, x),
        lambda layer, x: jax.checkpoint(lambda x: layer(x))(x),
        lambda layer, x: jax.vmap(layer)(jnp.stack([x, x]))[0],
        lambda layer, x: jax.grad(lambda x: layer(x).sum())(x),
        lambda layer, x: jax.lax.cond(x[0] > 0, lambda x: layer(x), lambda x: x, x),
        lambda layer, x: eqx.tree_at(lambda one: one.weight, layer, layer.weight * 2)(x),
        scanned,
    ],
)
def test_a_layer_is_noted_wherever_it_is_traced(how):
    for _ in range(2):  # nothing that was traced before is left out
        table = neuron.summary(Inner(how), jnp.ones(3))
        assert set(layers_of(table)) == {("", "Inner"), ("layer", "Linear")}
        assert {one.output.shape for one in table.outputs} == {(3,)}


def test_every_call_is_noted():
    table = neuron.summary(Inner(lambda layer, x: layer(layer(layer(x)))), jnp.ones(3))
    assert layers_of(table) == [("", "Inner")] + 3 * [("layer", "Linear")]
    assert "float32[3] (3 calls)" in str(table)


def test_layers_that_look_alike_are_told_apart():
    model = Same(*(Jitted(neuron.Dense(3, 3, key=key)) for _ in range(2)))
    expected = ["", "first", "first.layer", "second", "second.layer"]
    for _ in range(2):
        assert [one.path for one in neuron.summary(model, jnp.ones(3)).outputs] == expected


def test_shared_layers():
    table = neuron.summary(Tied(), jnp.int32(3))
    assert [row.path for row in table.rows] == ["shared.pytree.0.weight"]
    assert layers_of(table)[1:] == [("shared.pytree.0", "Embedding"), ("shared.pytree.1", "Linear")]
    assert [one.output.shape for one in table.outputs] == [(7,), (4,), (7,)]


@pytest.mark.parametrize(
    ("wrap", "shape", "inside"),
    [
        (eqx.filter_vmap, (2, 3), [(3,)]),
        (eqx.filter_checkpoint, (3,), [(3,)]),
        (eqx.Partial, (3,), [(3,)]),
        # Keeps the layer in pieces, and is one itself.
        (eqx.filter_jit, (3,), []),
    ],
)
def test_a_layer_inside_what_equinox_makes_of_it(wrap, shape, inside):
    model = eqx.nn.Sequential([eqx.nn.Lambda(wrap(eqx.nn.Linear(3, 3, key=key)))])
    table = neuron.summary(model, jnp.ones(shape))
    assert [one.output.shape for one in table.outputs if one.layer == "Linear"] == inside
    assert {one.output.shape for one in table.outputs if one.layer != "Linear"} == {shape}


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (Stacking([eqx.nn.Linear(3, 3, key=key) for _ in range(2)]), "Stacking"),
        (Particular(eqx.nn.Linear(3, 3, key=key)), "Particular"),
    ],
)
def test_a_model_that_needs_its_layers_exactly_has_its_own_output(model, name):
    table = neuron.summary(model, jnp.ones(3))
    assert table.outputs == (Output("", name, jax.ShapeDtypeStruct((3,), jnp.float32)),)


def test_nothing_is_computed():
    """A model too large to make, from shapes to outputs."""
    wide = 2**20
    model = eqx.filter_eval_shape(eqx.nn.MLP, wide, wide, wide, 1, key=key)
    table = neuron.summary(model, jax.ShapeDtypeStruct((wide,), jnp.float32))
    assert table.parameters == table.trainable_parameters == 2 * (wide**2 + wide)
    assert [one.output.shape for one in table.outputs] == 3 * [(wide,)]
    assert "8.0 TiB" in str(table)
    abstract, state = eqx.filter_eval_shape(eqx.nn.make_with_state(Convolutional), key)
    example = np.ones((1, 8, 8))
    made = neuron.summary(convolutional()[0], example, model_state=convolutional()[1])
    assert neuron.summary(abstract, example, model_state=state) == made


def test_examples_are_trees_and_take_the_types_of_the_device():
    class Two(eqx.Module):
        layer: neuron.Dense

        def __call__(self, x):
            return self.layer(x["a"]) + x["b"][0], x["b"]

    table = neuron.summary(Two(neuron.Dense(2, key=key)), {"a": np.ones(2), "b": jnp.ones(1, int)})
    assert table.outputs[0].output == (shape_of(jnp.ones(())), shape_of(jnp.ones(1, jnp.int32)))
    assert "(float32[], int32[1])" in str(table)


def test_the_model_is_left_as_it_was():
    model = mlp()
    before = jax.tree.structure(model)
    neuron.summary(model, jnp.ones(3))
    assert jax.tree.structure(model) == before
    assert all(type(layer) is eqx.nn.Linear for layer in model.layers)


def test_prints_as_a_table():
    table = neuron.summary(eqx.nn.MLP(3, 1, 16, 1, key=key), jnp.ones(3), trainable="layers.1.*")
    assert str(table) == repr(table)
    assert str(table).splitlines() == [
        "layer     class   output",
        "-----------------------------",
        "(model)   MLP     float32[1]",
        "layers.0  Linear  float32[16]",
        "layers.1  Linear  float32[1]",
        "",
        "array            shape    dtype    parameters  bytes  trainable",
        "---------------------------------------------------------------",
        "layers.0.weight  (16, 3)  float32          48  192 B  no",
        "layers.0.bias    (16,)    float32          16   64 B  no",
        "layers.1.weight  (1, 16)  float32          16   64 B  yes",
        "layers.1.bias    (1,)     float32           1    4 B  yes",
        "---------------------------------------------------------------",
        "total                                      81  324 B",
        "trainable                                  17   68 B",
        "not trainable                              64  256 B",
    ]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        *((0, "0 B"), (1, "1 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB")),
        *((2**20, "1.0 MiB"), (3 * 2**30, "3.0 GiB"), (2**52, "4,096.0 TiB")),
    ],
)
def test_bytes_in_units_that_people_read(size, text):
    table = neuron.summary(jax.ShapeDtypeStruct((size,), jnp.int8))
    assert table.bytes == size
    assert f" {text}" in str(table).splitlines()[2]


@pytest.mark.parametrize("tree", [(), {"a": jnp.ones(3)}, jnp.ones(2), [np.ones(1), "text", None]])
def test_any_tree_of_arrays_has_a_table(tree):
    table = neuron.summary(tree)
    assert isinstance(table, Summary)
    assert table.parameters == sum(
        np.size(a) for a in jax.tree.leaves(tree) if not isinstance(a, str)
    )
    assert str(table).splitlines()[-1].startswith("not trainable")


@pytest.mark.parametrize(
    ("call", "kind", "point"),
    [
        (
            lambda: neuron.summary(mlp(), jnp.ones(4)),
            ValueError,
            r"x of float32\[4\] here.*answered",
        ),
        (
            lambda: neuron.summary({"a": key}, jnp.ones(4)),
            TypeError,
            "callable on one example; got {'a'",
        ),
        (lambda: neuron.summary(mlp(), [1.0, 2.0]), TypeError, r"as arrays or .* got \[1.0, 2.0\]"),
        (lambda: neuron.summary(mlp(), ()), TypeError, r"got \(\)"),
        (
            lambda: neuron.summary(mlp(), trainable="head.*"),
            ValueError,
            r"`summary\(trainable=...\)` must match",
        ),
        (lambda: neuron.summary(mlp(), trainable=3), TypeError, "got 3"),
        (
            lambda: neuron.summary(convolutional()[0], jnp.ones(3)),
            ValueError,
            r"`summary\(model\)`.*model_state=",
        ),
        (
            lambda: neuron.summary(mlp(), model_state=convolutional()[1]),
            ValueError,
            "MLP, which has none",
        ),
        (
            lambda: neuron.summary(convolutional()[0], model_state={}),
            TypeError,
            r"`summary\(model_state=...\)`",
        ),
    ],
)
def test_refused(call, kind, point):
    with pytest.raises(kind, match=point) as caught:
        call()
    assert type(caught.value) is kind


def test_a_model_that_can_not_take_the_example_answers_as_it_does_to_a_trainer():
    with pytest.raises(ValueError, match="must take one example") as ours:
        neuron.summary(mlp(), jnp.ones(4))
    with pytest.raises(ValueError, match="must take one example") as theirs:
        prediction_like(mlp(), None, np.ones((1, 4), np.float32))
    assert str(ours.value) == str(theirs.value)
