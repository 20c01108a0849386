"""Bad input is refused before the first step: one row a mistake, with the exact type and the point."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

import neuron


F = np.float32
x, y = np.ones((8, 2), F), np.ones(8, F)
key = jax.random.key(0)
nan = y.copy()
nan[3] = np.nan
inf = x.copy()
inf[5, 1] = np.inf


def load(data=(x, y), batch_size=4, **options):
    return neuron.DataLoader(data, batch_size, **options)


def train(
    model=None,
    loss=neuron.MeanSquaredError(),
    optimizer=neuron.Adam(),
    data=(x, y),
    fit=None,
    **options,
):
    model = neuron.Dense(2, key=key) if model is None else model
    fit = {"steps": 1} if fit is None else fit
    trainer = neuron.Trainer(model, loss, optimizer, progress=False, **options)
    trainer.fit(data if isinstance(data, neuron.DataLoader) else load(data), **fit)


def out(features, **options):
    return neuron.Dense(2, features, key=key, **options)


class Static(eqx.Module):
    weight: jax.Array
    table: dict = eqx.field(static=True)

    def __call__(self, x):
        return self.weight @ x


class Nameless(eqx.Module):
    weight: jax.Array


class Listed(eqx.Module):
    weight: jax.Array
    names: list = eqx.field(static=True)

    def __call__(self, x):
        return self.weight @ x


class Twice(eqx.Module):
    first: neuron.Dense
    second: neuron.Dense

    def __call__(self, x):
        return self.first(x) + self.second(x)


def tied():
    one = neuron.Dense(2, key=key)
    return Twice(one, eqx.tree_at(lambda m: m.bias, one, jnp.ones(1)))


class Early(neuron.Callback):
    every = 0


V, T, A = ValueError, TypeError, AssertionError

TABLE = [
    # Data.
    (
        "lengths",
        lambda: load((x, y[:7])),
        V,
        "equally many rows in each array; inputs has 8, targets has 7",
    ),
    ("lengths of weight", lambda: load((x, y, y[:2])), V, "weight has 2"),
    ("lengths in a tree", lambda: load(({"a": x, "b": x[:3]}, y)), V, r"inputs\['b'\] has 3"),
    ("empty", lambda: load((x[:0], y[:0])), V, "at least one row; got 0"),
    ("no inputs", lambda: load((None, y)), V, "must have inputs"),
    ("nan", lambda: load((x, nan)), V, "targets has nan in row 3"),
    ("inf", lambda: load((inf, y)), V, r"inputs has \[ *1. +inf\] in row 5"),
    ("nan in jax", lambda: load((jnp.asarray(x), jnp.asarray(nan))), V, "targets has nan in row 3"),
    ("nan weight", lambda: load((x, y, nan)), V, "weight has nan in row 3"),
    ("nan in a tree", lambda: load(({"a": inf}, y)), V, r"inputs\['a'\] has"),
    ("strings", lambda: load((np.array(["a"] * 8), y)), T, "inputs has dtype <U1"),
    ("objects", lambda: load((np.array([None] * 8), y)), T, "inputs has dtype object"),
    ("complex", lambda: load((x.astype(complex), y)), T, "inputs has dtype complex128"),
    ("dates", lambda: load((np.zeros(8, "M8[s]"), y)), T, "inputs has dtype datetime64"),
    ("keys", lambda: load((jax.random.split(key, 8), y)), T, "inputs has dtype key"),
    ("scalar", lambda: load((x, F(1))), V, r"targets has shape \(\)"),
    ("ragged lists", lambda: load(([[1.0], [1.0, 2.0]], y)), V, "rows of one shape|equally many"),
    (
        "wide integers",
        lambda: load((x, np.full(8, 2**40))),
        V,
        "integers that fit int32; targets has values from 1099511627776",
    ),
    (
        "weight of rank 2",
        lambda: load((x, y, x)),
        V,
        r"one weight a row; weight has shape \(8, 2\)",
    ),
    ("negative weight", lambda: load((x, y, -y)), V, "at least 0; weight has -1.0 in row 0"),
    ("no weight at all", lambda: load((x, y, 0 * y)), V, "a weight above 0"),
    ("inputs alone", lambda: train(data=load(x)), V, "data without targets"),
    ("a list of arrays", lambda: load([x, y]), T, "must be a tuple.*got a list of arrays"),
    ("too many parts", lambda: load((x, y, y, y)), T, "got a tuple of 4"),
    ("no parts", lambda: load(()), T, "got a tuple of 0"),
    # Batches.
    (
        "batch of 0",
        lambda: load(batch_size=0),
        V,
        r"DataLoader\(batch_size=...\)` must be at least 1; got 0",
    ),
    ("negative batch", lambda: load(batch_size=-4), V, "got -4"),
    ("fractional batch", lambda: load(batch_size=4.0), T, "a whole number; got 4.0"),
    ("boolean batch", lambda: load(batch_size=True), T, "a whole number; got True"),
    ("batch beyond shuffle", lambda: load(batch_size=9), V, "got batch_size=9 for 8 rows"),
    (
        "batch beyond sequence",
        lambda: load(batch_size=9, sampler=neuron.Sequential()),
        V,
        "as Sequential does",
    ),
    (
        "nothing left",
        lambda: load(batch_size=9, sampler=neuron.Bootstrap(), drop_last=True),
        V,
        "at least one batch",
    ),
    ("sampler of a wrong kind", lambda: load(sampler="shuffle"), T, "neuron.Sampler"),
    ("sampler class", lambda: load(sampler=neuron.Shuffle), T, "neuron.Sampler"),
    ("negative seed", lambda: neuron.Bootstrap(-1), V, r"Bootstrap\(seed=...\)` must be from 0"),
    ("large seed", lambda: neuron.Shuffle(2**64), V, "from 0 to 2\\^64 - 1"),
    ("seed of a wrong kind", lambda: neuron.Shuffle(1.5), T, "a whole number; got 1.5"),
    ("group beyond the array", lambda: neuron.Bootstrap().groups(y, 9, 1), V, "size=9 for 8 rows"),
    ("group of 0", lambda: neuron.Bootstrap().groups(y, 0, 1), V, "at least 1; got 0"),
    ("negative count", lambda: neuron.Bootstrap().groups(y, 2, -1), V, "at least 0; got -1"),
    # Hyperparameters.
    (
        "negative rate",
        lambda: neuron.SGD(-0.1),
        V,
        r"`SGD\(learning_rate=...\)` must be at least 0; got -0.1",
    ),
    ("rate nan", lambda: neuron.Adam(float("nan")), V, "got nan"),
    ("rate inf", lambda: neuron.AdamW(float("inf")), V, "got inf"),
    ("rate string", lambda: neuron.Adam("0.1"), T, "one real number; got '0.1'"),
    ("rate None", lambda: neuron.SGD(None), T, "one real number; got None"),
    ("rate boolean", lambda: neuron.SGD(True), T, "got True"),
    ("rate complex", lambda: neuron.SGD(1j), T, "got 1j"),
    ("rate vector", lambda: neuron.SGD(np.ones(2)), T, "one real number"),
    ("momentum 1", lambda: neuron.SGD(0.1, momentum=1), V, r"in \[0, 1\); got 1"),
    ("momentum below 0", lambda: neuron.SGD(0.1, momentum=-0.5), V, r"in \[0, 1\); got -0.5"),
    ("nesterov alone", lambda: neuron.SGD(0.1, nesterov=True), V, "needs a momentum"),
    (
        "decay below 0",
        lambda: neuron.SGD(0.1, weight_decay=-1),
        V,
        r"SGD\(weight_decay=...\)` must be at least 0",
    ),
    (
        "decay of a number",
        lambda: neuron.AdamW(decay=0.1),
        T,
        r"AdamW\(decay=...\)` must be patterns",
    ),
    (
        "decay of nothing",
        lambda: train(optimizer=neuron.SGD(decay="kernel")),
        V,
        r"'kernel' is none of \['weight', 'bias'\]",
    ),
    (
        "decay of another tree",
        lambda: train(optimizer=neuron.SGD(decay={"weight": True})),
        T,
        r"SGD\(decay=...\)` must be .* fits the model",
    ),
    ("b1", lambda: neuron.Adam(b1=1.0), V, r"Adam\(b1=...\)` must be in \[0, 1\); got 1"),
    ("b2", lambda: neuron.AdamW(b2=1.5), V, r"AdamW\(b2=...\)` must be in \[0, 1\); got 1.5"),
    ("eps", lambda: neuron.Adam(eps=-1e-8), V, r"Adam\(eps=...\)` must be at least 0"),
    ("huber 0", lambda: neuron.Huber(0), V, "above 0; got 0"),
    ("smoothing", lambda: neuron.CrossEntropy(label_smoothing=2), V, r"in \[0, 1\]; got 2"),
    # Layers.
    (
        "no inputs to a layer",
        lambda: neuron.Dense(0, key=key),
        V,
        r"Dense\(in_features=...\)` must be at least 1",
    ),
    ("fractional layer", lambda: neuron.Dense(2.5, key=key), T, "whole number; got 2.5"),
    ("layer of 0", lambda: neuron.Dense(2, 0, key=key), V, r"Dense\(out_features=...\)"),
    ("layer of a name", lambda: neuron.Dense(2, "vector", key=key), T, "got 'vector'"),
    # Summaries.
    (
        "summary of what can not be called",
        lambda: neuron.summary({"a": y}, x[0]),
        T,
        r"callable on one example; got \{'a': f32\[8\]",
    ),
    ("summary of rows", lambda: neuron.summary(out(1), x), V, r"x of float32\[8, 2\] here"),
    ("summary of lists", lambda: neuron.summary(out(1), [1.0, 2.0]), T, r"got \[1.0, 2.0\]"),
    (
        "summary of other leaves",
        lambda: neuron.summary(out(1), trainable="head.*"),
        V,
        r"`summary\(trainable=...\)` must match a leaf; 'head.\*' is none of \['weight', 'bias'\]",
    ),
    (
        "summary of a foreign state",
        lambda: neuron.summary(out(1), model_state={"a": 1}),
        T,
        r"`summary\(model_state=...\)` must be the state",
    ),
    # Parts of a trainer.
    (
        "model without arrays",
        lambda: train(eqx.nn.Lambda(jnp.sum)),
        V,
        "arrays to train; got none in Lambda",
    ),
    (
        "model that can not be called",
        lambda: train(Nameless(jnp.ones(2))),
        T,
        "callable on one example",
    ),
    ("model None", lambda: neuron.Trainer(None), T, "callable on one example; got None"),
    ("one array twice", lambda: train(tied()), V, r"`.first.weight` and `.second.weight`.*Shared"),
    (
        "unhashable dict",
        lambda: train(Static(jnp.ones(2), {"a": 1})),
        T,
        r"dict \{'a': 1\} at `.table`",
    ),
    ("unhashable list", lambda: train(Listed(jnp.ones(2), ["a"])), T, r"list \['a'\] at `.names`"),
    ("optimizer class", lambda: train(optimizer=neuron.Adam), T, "neuron.Optimizer"),
    ("optimizer name", lambda: train(optimizer="adam"), T, "got 'adam'"),
    ("optax function", lambda: train(optimizer=optax.adam), T, "`init` and `update`"),
    ("loss name", lambda: train(loss="mse"), T, "neuron.Loss.*got 'mse'"),
    ("loss function", lambda: train(loss=optax.squared_error), T, "neuron.Loss"),
    ("loss class", lambda: train(loss=neuron.MeanSquaredError), T, "neuron.Loss"),
    ("callback of a wrong kind", lambda: train(callbacks=[print]), T, "neuron.Callback"),
    (
        "callback that never looks",
        lambda: train(callbacks=[Early()]),
        V,
        "Early.every` must be at least 1; got 0",
    ),
    ("nonfinite", lambda: train(nonfinite="warn"), V, "'raise', 'locate' or 'skip'; got 'warn'"),
    ("platform", lambda: train(device="abacus"), V, "got 'abacus', there are"),
    ("device of a wrong kind", lambda: train(device=0), T, "jax.Device"),
    ("trainer's seed", lambda: train(seed="7"), T, r"Trainer\(seed=...\)"),
    ("lines", lambda: neuron.PrintLog(0), V, r"PrintLog\(lines=...\)` must be at least 1"),
    ("patience", lambda: neuron.EarlyStopping(patience=-1), V, "patience"),
    ("min_delta", lambda: neuron.EarlyStopping(min_delta=-1), V, "min_delta"),
    ("mode", lambda: neuron.EarlyStopping(mode="up"), V, "'min' or 'max'; got 'up'"),
    (
        "monitor",
        lambda: train(callbacks=[neuron.EarlyStopping("acc")], fit={"epochs": 1}),
        V,
        "got 'acc', there are",
    ),
    # Fitting.
    (
        "epochs and steps",
        lambda: train(fit={"epochs": 1, "steps": 1}),
        V,
        "not both; got epochs=1, steps=1",
    ),
    ("negative epochs", lambda: train(fit={"epochs": -1}), V, "at least 0; got -1"),
    ("negative steps", lambda: train(fit={"steps": -5}), V, "at least 0; got -5"),
    ("fractional steps", lambda: train(fit={"steps": 1e3}), T, "whole number; got 1000.0"),
    (
        "arrays one by one",
        lambda: neuron.Trainer(out("scalar"), progress=False).fit(x),
        T,
        "tuple of arrays",
    ),
    ("no targets", lambda: train(data=(x,)), V, "data without targets"),
    (
        "target too deep",
        lambda: train(data=(x, x)),
        V,
        r"prediction of shape \(\) and a target of shape \(2,\)",
    ),
    (
        "column of targets",
        lambda: train(data=(x, y[:, None])),
        V,
        r"shape \(\) and a target of shape \(1,\)",
    ),
    (
        "column of predictions",
        lambda: train(out(1)),
        V,
        r"prediction of shape \(1,\) and a target of shape \(\)",
    ),
    ("inputs too wide", lambda: train(data=(np.ones((8, 3), F), y)), V, r"x of float32\[3\] here"),
    ("inputs of rank 1", lambda: train(data=(y, y)), V, r"x of float32\[\] here"),
    (
        "validation too wide",
        lambda: train(fit={"steps": 1, "validation": (np.ones((8, 3), F), y)}),
        V,
        "float32",
    ),
    ("validation with nan", lambda: train(fit={"steps": 1, "validation": (x, nan)}), V, "row 3"),
    (
        "class too high",
        lambda: train(out(3), neuron.CrossEntropy(), data=(x, np.array([0, 1, 2, 3] * 2))),
        V,
        "from 0 to 2; got 3 in row 3",
    ),
    (
        "class below 0",
        lambda: train(out(3), neuron.CrossEntropy(), data=(x, np.full(8, -1))),
        V,
        "got -1 in row 0",
    ),
    (
        "classes of rank 2",
        lambda: train(out(3), neuron.CrossEntropy(), data=(x, np.zeros((8, 3), int))),
        V,
        "a class number",
    ),
    (
        "logits of rank 0",
        lambda: train(None, neuron.CrossEntropy(), data=(x, np.zeros(8, int))),
        V,
        "logit",
    ),
    (
        "probability above 1",
        lambda: train(loss=neuron.BinaryCrossEntropy(), data=(x, 2 * y)),
        V,
        "from 0 to 1; got 2.0 in row 0",
    ),
    (
        "unknown number",
        lambda: neuron.Trainer(out(1)).set(lr=1),
        V,
        r"`set\(lr=...\)`.*'learning_rate'",
    ),
    ("number out of range", lambda: neuron.Trainer(out(1)).set(b1=1), V, r"in \[0, 1\)"),
    (
        "unknown group",
        lambda: neuron.Trainer(out(1), optimizer=neuron.SGD({"*": 1})).set(
            learning_rate={"bias": 1}
        ),
        V,
        r"got 'bias', there are \['\*'\]",
    ),
    (
        "optax's numbers",
        lambda: neuron.Trainer(out(1), optimizer=optax.sgd(1.0)).set(learning_rate=1),
        V,
        r"there are \[\]",
    ),
    # Afterwards.
    (
        "predict too wide",
        lambda: neuron.Trainer(out(1)).predict(np.ones((3, 5), F)),
        V,
        r"float32\[5\]",
    ),
    (
        "predict nan",
        lambda: neuron.Trainer(out(1)).predict(inf),
        V,
        r"Trainer.predict\(inputs\)` must hold finite",
    ),
    ("predict no rows", lambda: neuron.Trainer(out(1)).predict(x[:0]), V, "at least one row"),
    (
        "predict by 0",
        lambda: neuron.Trainer(out(1)).predict(x, batch_size=0),
        V,
        "at least 1; got 0",
    ),
    ("evaluate on arrays", lambda: neuron.Trainer(out(1)).evaluate(x), T, "tuple of arrays"),
    ("unknown column", lambda: neuron.History()["loss"], KeyError, r"history\['loss'\]"),
]


@pytest.fixture(autouse=True)
def without_runtime_type_checks():
    """As users have it: it is the library that must refuse."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("call", "kind", "point"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_refused(call, kind, point):
    with pytest.raises(Exception, match=point) as caught:
        call()
    assert type(caught.value) is kind


def test_the_table_is_long_enough():
    assert len(TABLE) >= 60


def test_no_step_is_taken_and_the_trainer_lives_on():
    trainer = neuron.Trainer(neuron.Dense(2, key=key), progress=False)
    with pytest.raises(ValueError, match="got -1"):
        trainer.fit(load(), steps=-1)
    with pytest.raises(ValueError, match="shape"):
        trainer.fit(load((x, x)))
    assert trainer.step == 0
    assert len(trainer.fit(load(), steps=3)) == 3
