"""Preprocessing: fitted as scikit-learn fits, part of the model, never trained."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tree_allclose
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import preprocessing as theirs
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

import neuron
from neuron.preprocessing import rows as rows_file


F = np.float32
rng = np.random.default_rng(4)
# Badly scaled: features of about 1e-3 and 1e4, a constant, targets of about 1e5.
X = (rng.normal(size=(600, 3)) * [1e-3, 1e4, 0] + [2e-3, 5e4, 0.1]).astype(F)
Y = (1e5 + 3e6 * X[:, 0] + 0.4 * X[:, 1] + 50 * rng.normal(size=600)).astype(F)
key = jax.random.key(0)


def rows(scaler, x):
    return np.asarray(jax.vmap(scaler)(jnp.asarray(x)))


def test_standardize_is_as_scikit_learn_has_it():
    ours, sklearn = neuron.Standardize.fit(X), theirs.StandardScaler().fit(X.astype(float))
    np.testing.assert_allclose(ours.mean, sklearn.mean_, rtol=1e-6)
    np.testing.assert_allclose(ours.scale, sklearn.scale_, rtol=1e-6)
    assert ours.mean.dtype == ours.scale.dtype == jnp.float32
    assert ours.scale[2] == 1
    np.testing.assert_allclose(rows(ours, X), sklearn.transform(X), rtol=1e-3, atol=2e-6)
    back = jax.vmap(ours.inverse)(jax.vmap(ours)(jnp.asarray(X)))
    np.testing.assert_allclose(back, X, rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (2, 5.5)])
def test_min_max_is_as_scikit_learn_has_it(low, high):
    train, test = X[:500], X[500:]
    ours = neuron.MinMax.fit(train, low, high)
    sklearn = theirs.MinMaxScaler((low, high)).fit(train.astype(float))
    np.testing.assert_allclose(rows(ours, test), sklearn.transform(test.astype(float)), atol=5e-6)
    assert rows(ours, train)[:, :2].min() == low
    np.testing.assert_allclose(rows(ours, train)[:, :2].max(axis=0), high, rtol=1e-6)
    back = jax.vmap(ours.inverse)(jax.vmap(ours)(jnp.asarray(test)))
    np.testing.assert_allclose(back, test, rtol=1e-5)


def test_one_hot_is_as_scikit_learn_has_it():
    kinds = rng.choice([-3, 0, 7, 900], (200, 3))
    kinds[0] = -3, 0, 7
    test = np.array([[-3, 900, 7], [7, 5, 0], [8, 8, 8]])
    ours = neuron.OneHot.fit(kinds)
    sklearn = theirs.OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(kinds)
    np.testing.assert_array_equal(rows(ours, test), sklearn.transform(test))
    assert ours.out_features == len(sklearn.get_feature_names_out())
    assert rows(ours, test).dtype == np.float32
    # An unknown category is 0 in every column.
    assert not rows(ours, test)[2].any()


def test_one_hot_of_some_columns_leaves_the_others_first():
    mixed = np.array([[0.5, 7, 2], [0.25, 9, 2], [0.125, 9, 1]], F)
    encode = neuron.OneHot.fit(mixed, columns=[2, 1])
    np.testing.assert_array_equal(
        rows(encode, mixed), [[0.5, 1, 0, 0, 1], [0.25, 0, 1, 0, 1], [0.125, 0, 1, 1, 0]]
    )
    assert encode.out_features == 5
    np.testing.assert_array_equal(neuron.OneHot.fit(np.array([4, 2, 4]))(2), [1, 0])
    np.testing.assert_array_equal(
        rows(neuron.OneHot.fit(np.array([True, False])), [True]), [[0, 1]]
    )


each = pytest.mark.parametrize("kind", [neuron.Standardize, neuron.MinMax, neuron.OneHot])


@each
def test_fitting_on_blocks_is_fitting_on_all(kind):
    data = rng.integers(0, 9, (1000, 4)) if kind is neuron.OneHot else rng.normal(size=(1000, 4))
    whole = kind.fit(data)
    for cuts in ([1, 2, 999], [300, 301, 700], [500, 500]):
        blocks = (jnp.asarray(b) if i else b for i, b in enumerate(np.split(data, cuts)))
        assert tree_allclose(kind.fit(blocks), whole, rtol=2e-7)
    assert tree_allclose(kind.fit(neuron.DataLoader((data.astype(F),), 7)), whole, rtol=1e-6)
    targets = neuron.DataLoader((np.zeros(1000, F), data.astype(F)))
    assert tree_allclose(kind.fit(targets, what="targets"), whole, rtol=1e-6)


@each
def test_a_fit_reads_the_rows_once_in_blocks_of_bounded_size(kind, monkeypatch):
    monkeypatch.setattr(rows_file, "_BYTES", 4 * 4 * 8)
    seen = []
    original = rows_file._check_block
    monkeypatch.setattr(
        rows_file,
        "_check_block",
        lambda call, block, *rest: (seen.append(len(block)), original(call, block, *rest)),
    )
    data = rng.integers(0, 9, (1000, 4)).astype(np.int32)
    kind.fit(data)
    assert sum(seen) == 1000
    assert max(seen) <= 64 * 8

    def stream():
        yield from np.split(data, 10)

    kind.fit(stream())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_moments_of_blocks_are_those_of_all_rows(sizes, seed):
    """Where sums of squares would have lost everything: a mean a million times the deviation."""
    draws = np.random.default_rng(seed)
    data = 1e6 + draws.normal(size=(sum(sizes), 2))
    scaler = neuron.Standardize.fit(iter(np.split(data, np.cumsum(sizes)[:-1])))
    np.testing.assert_allclose(scaler.mean, data.mean(axis=0), rtol=1e-6)
    expected = np.where(np.ptp(data, axis=0) == 0, 1, data.std(axis=0))
    np.testing.assert_allclose(scaler.scale, expected, rtol=1e-6)


def test_rows_count_by_their_weight_in_standardize_alone():
    weight = rng.integers(0, 4, 600).astype(F)
    loader = neuron.DataLoader((X, Y, weight), 50)
    sklearn = theirs.StandardScaler().fit(X.astype(float), sample_weight=weight)
    ours = neuron.Standardize.fit(loader)
    np.testing.assert_allclose(ours.mean, sklearn.mean_, rtol=1e-6)
    np.testing.assert_allclose(ours.scale, sklearn.scale_, rtol=1e-6)
    assert tree_allclose(neuron.MinMax.fit(loader), neuron.MinMax.fit(X))


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9, -3e-30, 1e-50])
def test_a_constant_is_only_shifted(constant):
    data = np.full((1001, 1), constant)
    sklearn = theirs.StandardScaler().fit(data)
    scaler = neuron.Standardize.fit(iter(np.array_split(data, 7)))
    assert scaler.scale == sklearn.scale_ == 1
    assert np.abs(rows(scaler, data.astype(F))).max() <= abs(constant) * 1e-7
    assert rows(neuron.MinMax.fit(data, -1, 1), data.astype(F)).max() == -1


def test_scalars_images_and_integers_are_examples_too():
    scaler = neuron.Standardize.fit(Y)
    assert scaler.mean.shape == ()
    np.testing.assert_allclose(rows(scaler, Y), (Y - Y.mean()) / Y.std(), atol=1e-4)
    images = rng.integers(0, 256, (20, 4, 4, 3)).astype(np.uint8)
    scaled = rows(neuron.MinMax(np.zeros((4, 4, 3)), np.full((4, 4, 3), 255)), images)
    np.testing.assert_allclose(scaled, images / 255, rtol=1e-6)
    assert rows(neuron.Standardize.fit(images), images).dtype == np.float32


def test_under_x64_leaves_are_double(x64):
    scaler = neuron.Standardize.fit(Y.astype(float))
    assert scaler.mean.dtype == jnp.float64
    np.testing.assert_allclose(scaler.mean, Y.astype(float).mean(), rtol=1e-14)


def preprocessed(model=None, **options):
    model = neuron.Dense(3, key=key) if model is None else model
    scalers = {"inputs": neuron.Standardize.fit(X), "targets": neuron.Standardize.fit(Y)}
    return neuron.Preprocessed(model, **(scalers | options))


def trained(model, loss=None, epochs=40, **options):
    options = {"optimizer": neuron.SGD(0.1)} | options
    loss = (
        neuron.Scaled(neuron.MeanSquaredError(), neuron.Standardize.fit(Y))
        if loss is None
        else loss
    )
    trainer = neuron.Trainer(model, loss, progress=False, **options)
    trainer.fit(neuron.DataLoader((X, Y), 50), epochs=epochs)
    return trainer


def test_badly_scaled_data_are_fitted_and_predicted_in_their_own_units():
    trainer = trained(preprocessed(), metrics={"mae": neuron.MeanAbsoluteError()})
    # Without the inputs' scaling, their solver takes the feature of 1e-3 for rounding.
    linear = make_pipeline(theirs.StandardScaler(), LinearRegression())
    regressor = TransformedTargetRegressor(linear, transformer=theirs.StandardScaler())
    expected = regressor.fit(X.astype(float), Y.astype(float)).predict(X.astype(float))
    np.testing.assert_allclose(trainer.predict(X), expected, atol=0.01 * Y.std())
    found = trainer.evaluate((X, Y))
    # The loss is in units of the targets' deviation, the metric in those of the targets.
    prediction = np.asarray(trainer.predict(X), float)
    np.testing.assert_allclose(
        found["loss"], np.mean((prediction - Y) ** 2) / Y.astype(float).var(), rtol=1e-2
    )
    np.testing.assert_allclose(found["mae"], np.abs(prediction - Y).mean(), rtol=1e-3)
    assert found["mae"] < 60


def test_without_it_the_same_training_diverges():
    with pytest.raises(neuron.NonFiniteLossError):
        trained(neuron.Dense(3, key=key), neuron.MeanSquaredError())


def test_scaled_training_is_training_on_scaled_data():
    """The same weights as with scikit-learn's scaling around a trainer, to rounding."""
    scale_x, scale_y = theirs.StandardScaler().fit(X), theirs.StandardScaler().fit(Y[:, None])
    data = scale_x.transform(X).astype(F), scale_y.transform(Y[:, None])[:, 0].astype(F)
    alone = neuron.Trainer(neuron.Dense(3, key=key), optimizer=neuron.SGD(0.1), progress=False)
    alone.fit(neuron.DataLoader(data, 50), epochs=5)
    ours = trained(preprocessed(), epochs=5)
    np.testing.assert_allclose(ours.model.model.weight, alone.model.weight, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(ours.history["loss"], alone.history["loss"], rtol=1e-2)


OPTIMIZERS = [
    neuron.AdamW(0.01, weight_decay=0.1),
    neuron.SGD(0.01, momentum=0.9),
    neuron.AdamW(0.01, decay="*"),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "trainable",
    [None, "*", ["*"], lambda path: True, True, "spec"],
    ids=["none", "pattern", "patterns", "predicate", "prefix", "spec"],
)
def test_fixed_leaves_are_never_trained(optimizer, trainable):
    model = preprocessed()
    if trainable == "spec":
        trainable = jax.tree.map(eqx.is_inexact_array, model)
    trainer = trained(model, epochs=1, optimizer=optimizer, trainable=trainable, average=0.9)
    for part in ("inputs", "targets"):
        before, after = getattr(model, part), getattr(trainer.model, part)
        for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
            np.testing.assert_array_equal(one, other)
    assert not np.array_equal(model.model.weight, trainer.model.model.weight)
    assert len(jax.tree.leaves(trainer.state.params)) == 2
    trainer.train_only("model.weight")
    trainer.train_only(None)
    assert len(jax.tree.leaves(trainer.state.params)) == 2


class Mixed(eqx.Module):
    """A model of one's own, with fixed parts somewhere in it."""

    scale: neuron.Standardize
    dense: neuron.Dense

    def __call__(self, x):
        return self.dense(self.scale(x))


def test_fixed_parts_anywhere_are_not_trained_decayed_or_penalized():
    model = Mixed(neuron.Standardize.fit(X), neuron.Dense(3, key=key))
    loss = neuron.Penalized(neuron.MeanSquaredError(), neuron.L2(2.0), all=neuron.L1(1.0, "*"))
    penalties = loss.penalties(model)
    weight = np.asarray(model.dense.weight)
    np.testing.assert_allclose(penalties["l2"], 2 * np.sum(weight**2), rtol=1e-6)
    np.testing.assert_allclose(penalties["all"], np.abs(weight).sum(), rtol=1e-6)
    table = neuron.summary(model)
    assert {row.path: row.trainable for row in table.rows} == {
        "scale.mean": False,
        "scale.scale": False,
        "dense.weight": True,
        "dense.bias": True,
    }
    assert table.trainable_parameters == 4
    found = neuron.summary(preprocessed(), X[0], trainable="model.*")
    assert found.trainable_parameters == 4
    assert [one.path for one in found.outputs] == ["", "inputs", "model"]


def test_one_scaler_serves_inputs_and_targets():
    scaler = neuron.Standardize.fit(X)
    model = neuron.Preprocessed(neuron.Dense(3, 3, key=key), scaler, scaler)
    loss = neuron.Scaled(neuron.MeanSquaredError(), scaler)
    trainer = neuron.Trainer(model, loss, neuron.SGD(0.1), progress=False)
    before = trainer.evaluate((X, X))["loss"]
    trainer.fit((X, X), epochs=3)
    assert trainer.evaluate((X, X))["loss"] < 0.5 * before


class Keyed(eqx.Module):
    dense: neuron.Dense
    drop: eqx.nn.Dropout

    def __call__(self, x, *, key):
        return self.dense(self.drop(x, key=key))


class Stateful(eqx.Module):
    norm: eqx.nn.BatchNorm
    dense: neuron.Dense

    def __init__(self, key):
        self.norm = eqx.nn.BatchNorm(3, "rows", mode="batch")
        self.dense = neuron.Dense(3, key=key)

    def __call__(self, x, state):
        x, state = self.norm(x, state)
        return self.dense(x), state


class Both(eqx.Module):
    inner: Stateful
    drop: eqx.nn.Dropout

    def __call__(self, x, state, *, key):
        return self.inner(self.drop(x, key=key), state)


def made(kind):
    stateful = lambda key: Both(Stateful(key), eqx.nn.Dropout(0.3))
    return {
        "keyed": lambda: (Keyed(neuron.Dense(3, key=key), eqx.nn.Dropout(0.3)), None),
        "stateful": lambda: eqx.nn.make_with_state(Stateful)(key),
        "both": lambda: eqx.nn.make_with_state(stateful)(key),
    }[kind]()


@pytest.mark.parametrize("kind", ["keyed", "stateful", "both"])
def test_models_with_keys_and_state_are_called_as_alone(kind):
    """The same bits as the model alone on rows that were standardized beforehand."""
    model, state = made(kind)
    scaler = neuron.Standardize.fit(X)
    wrapped = trained(
        preprocessed(model, targets=None),
        neuron.MeanSquaredError(),
        2,
        optimizer=neuron.Adam(1e-2),
        model_state=state,
    )
    alone = neuron.Trainer(model, optimizer=neuron.Adam(1e-2), model_state=state, progress=False)
    data = np.asarray(jax.jit(jax.vmap(scaler))(jnp.asarray(X)))
    alone.fit(neuron.DataLoader((data, Y), 50), epochs=2)
    np.testing.assert_allclose(wrapped.history["loss"], alone.history["loss"], rtol=1e-5)
    np.testing.assert_allclose(wrapped.predict(X), alone.predict(data), rtol=1e-4)
    if kind != "stateful":
        draws = wrapped.predict(X[:4], samples=9)
        assert len(np.unique(np.asarray(draws)[:, 0])) > 1
    if kind != "keyed":
        with pytest.raises(ValueError, match="at least 2 rows"):
            wrapped.fit(neuron.DataLoader((X[:51], Y[:51]), 50), epochs=1)
        with pytest.raises(ValueError, match="must come with `model_state=`"):
            neuron.Trainer(preprocessed(model))


def test_several_transforms_in_turn():
    kinds = np.column_stack([rng.integers(0, 3, 600), X[:, 1]]).astype(F)
    encode = neuron.OneHot.fit(kinds, columns=[0])
    scale = neuron.Standardize.fit(rows(encode, kinds))
    inputs = eqx.nn.Sequential([encode, scale])
    model = neuron.Preprocessed(
        neuron.Dense(encode.out_features, key=key), inputs, neuron.Standardize.fit(Y)
    )
    trainer = neuron.Trainer(model, progress=False)
    np.testing.assert_allclose(
        trainer.predict(kinds[:3]),
        [model.targets.inverse(model.model(scale(encode(row)))) for row in kinds[:3]],
        rtol=1e-5,
    )
    assert len(jax.tree.leaves(trainer.state.params)) == 2


def test_a_function_and_a_scaler_of_ones_own():
    class Log(neuron.Scaler):
        def __call__(self, x, *, key=None):
            return jnp.log(x)

        def inverse(self, y):
            return jnp.exp(y)

    model = neuron.Preprocessed(neuron.Dense(3, key=key), jnp.tanh, Log())
    expected = jnp.exp(model.model(jnp.tanh(jnp.asarray(X[0]))))
    trainer = neuron.Trainer(model, neuron.Scaled(neuron.MeanSquaredError(), Log()), progress=False)
    np.testing.assert_allclose(trainer.predict(X[:1])[0], expected, rtol=1e-5)
    np.testing.assert_allclose(
        trainer.evaluate((X[:1], Y[:1]))["loss"], (np.log(expected) - np.log(Y[0])) ** 2, rtol=1e-4
    )


def test_a_scaled_loss_keeps_what_its_loss_does():
    scaler = neuron.MinMax.fit(Y)
    root = neuron.Scaled(neuron.RootMeanSquaredError(), scaler)
    trainer = neuron.Trainer(preprocessed(targets=scaler), root, progress=False)
    prediction = np.asarray(trainer.predict(X), float)
    expected = np.sqrt(np.mean((prediction - Y) ** 2)) / np.ptp(Y.astype(float))
    np.testing.assert_allclose(trainer.evaluate((X, Y))["loss"], expected, rtol=1e-4)
    positive = neuron.Scaled(neuron.MeanSquaredLogError(), neuron.Standardize.fit(Y))
    with pytest.raises(ValueError, match="targets that are above -1; got -"):
        trained(preprocessed(), positive, 1)


@pytest.mark.parametrize("own", [False, True])
def test_scaling_comes_before_rounding_to_bfloat16(own):
    """About 10,000 the numbers of bfloat16 lie 64 apart, and the deviation here is 1."""
    far = (X * [1, 1e-4, 1] + F([0, 1e4, 0])).astype(F)
    scaler = neuron.Standardize.fit(far)
    model = (
        Mixed(scaler, neuron.Dense(3, key=key))
        if own
        else neuron.Preprocessed(neuron.Dense(3, key=key), scaler)
    )
    half, single = (neuron.Trainer(model, precision=p, progress=False) for p in ("bfloat16", None))
    np.testing.assert_allclose(half.predict(far), single.predict(far), atol=2e-2)
    rounded = np.asarray(jnp.asarray(far, jnp.bfloat16), F)
    # What a cast of the inputs would have cost.
    assert np.abs(single.predict(rounded) - single.predict(far)).max() > 1


def test_half_precision_reaches_the_model_and_leaves_the_scalers():
    seen = []

    class Noting(eqx.Module):
        dense: neuron.Dense

        def __call__(self, x):
            seen.append((str(x.dtype), str(self.dense.weight.dtype)))
            return self.dense(x)

    trainer = trained(preprocessed(Noting(neuron.Dense(3, key=key))), precision="bfloat16")
    assert set(seen) == {("float32", "float32"), ("bfloat16", "bfloat16")}
    assert trainer.model.inputs.mean.dtype == jnp.float32
    single = trained(preprocessed())
    # bfloat16 has 8 bits, of a number of size 1 in scaled units.
    np.testing.assert_allclose(trainer.predict(X), single.predict(X), atol=0.03 * Y.std())


def test_other_numbers_of_scalers_compile_nothing():
    @eqx.debug.assert_max_traces(max_traces=3)
    def forward(dense, x):
        return dense(x)

    class Counted(eqx.Module):
        dense: neuron.Dense

        def __call__(self, x):
            return forward(self.dense, x)

    def run(shift):
        model = preprocessed(
            Counted(neuron.Dense(3, key=key)), targets=neuron.Standardize(F(shift), F(2))
        )
        trainer = neuron.Trainer(
            model, neuron.Scaled(neuron.MeanSquaredError(), model.targets), progress=False
        )
        trainer.fit(neuron.DataLoader((X, Y), 50), steps=3)
        return trainer.predict(X)

    run(1.0)
    traces = eqx.debug.get_num_traces(forward)
    run(5.0)
    assert eqx.debug.get_num_traces(forward) == traces


V, T = ValueError, TypeError
fit = neuron.Standardize.fit
bad = X.copy()
bad[7, 1] = np.nan
dense = neuron.Dense(3, key=key)
TABLE = [
    ("tuple", lambda: fit((X, Y)), T, r"`Standardize.fit\(data\)` must be an array, a neuron.DataLoader.*tuple"),
    ("number", lambda: fit(3.0), T, "got float"),
    ("path", lambda: fit("x.npy"), T, "got str"),
    ("scalar", lambda: fit(np.array(3.0)), V, r"rows along a first axis; got shape \(\)"),
    ("empty", lambda: fit(X[:0]), V, "at least one row; got 0"),
    ("no blocks", lambda: neuron.MinMax.fit(iter([])), V, r"`MinMax.fit\(data\)`.*at least one row"),
    ("lists", lambda: fit([[1.0], [2.0]]), T, "each a block of rows; it gave list"),
    ("shapes", lambda: fit([X, X[:, :2]]), V, r"rows of one shape; got \(3,\) and then \(2,\)"),
    ("nan", lambda: fit([X, bad]), V, r"finite numbers; got \[.* nan .*\] in row 607"),
    ("strings", lambda: fit(np.array(["a", "b"])), T, "floats, integers or booleans; got dtype <U1"),
    ("too large", lambda: fit(np.array([1e300, 2e300])), V, "numbers that float32 can hold"),
    ("what", lambda: fit(X, what="weights"), V, "must be 'inputs' or 'targets'; got 'weights'"),
    ("targets of rows", lambda: fit(Y, what="targets"), V, "must come with a neuron.DataLoader; got ndarray"),
    ("no targets", lambda: fit(neuron.DataLoader((X,)), what="targets"), T, "one array in the loader; got NoneType"),
    ("tree", lambda: fit(neuron.DataLoader(({"a": X}, Y))), T, "one array in the loader; got dict"),
    ("mean", lambda: neuron.Standardize(np.zeros(3), np.ones(2)), V, r"of one shape; got \(3,\) and \(2,\)"),
    ("scale", lambda: neuron.Standardize(np.zeros(2), np.array([1, 0])), V, r"above 0; got \[1. 0.\]"),
    ("limits", lambda: neuron.MinMax(np.ones(2), np.array([2, 0])), V, "nowhere above the maximum"),
    ("high", lambda: neuron.MinMax.fit(X, 1, 1), V, r"`MinMax\(high=...\)` must be above low=1; got 1"),
    ("low", lambda: neuron.MinMax.fit(X, "a"), T, r"`MinMax\(low=...\)` must be one real number"),
    ("not whole", lambda: neuron.OneHot.fit(X), V, "whole numbers.*in row 0"),
    ("images", lambda: neuron.OneHot.fit(np.zeros((4, 2, 2))), V, r"numbers or vectors; got shape \(2, 2\)"),
    ("columns", lambda: neuron.OneHot.fit(X, columns=[3]), V, r"places in a vector, from 0; got \[3\] for vectors of 3"),
    ("name", lambda: neuron.OneHot.fit(X, columns=["a"]), V, r"got \['a'\]"),
    ("no vector", lambda: neuron.OneHot.fit(Y, columns=[0]), V, "rows that are numbers"),
    ("row", lambda: fit(X)(X[:2]), V, r"one example of shape \(3,\), which it was fitted on; got \(2, 3\)"),
    ("broadcast", lambda: fit(Y)(X[0]), V, r"shape \(\), which it was fitted on; got \(3,\)"),
    ("pair", lambda: fit(Y).inverse((Y[0], Y[1])), T, r"`Standardize\(x\)` takes one array; got tuple"),
    ("code", lambda: neuron.OneHot.fit(np.arange(3))(X[0]), V, r"`OneHot\(x\)` takes one example of shape \(\)"),
    ("model", lambda: neuron.Preprocessed(3), T, r"`Preprocessed\(model\)` must be callable"),
    ("inputs", lambda: neuron.Preprocessed(dense, X), T, r"`Preprocessed\(inputs=...\)` must be a function"),
    ("targets", lambda: neuron.Preprocessed(dense, None, jnp.log), T, "must be a neuron.Scaler"),
    ("no inverse", lambda: neuron.Preprocessed(dense, None, neuron.OneHot.fit(np.arange(3))), T, "neuron.Scaler"),
    ("no loss", lambda: neuron.Scaled(dense, fit(Y)), T, r"`Scaled\(loss\)` must be a neuron.Loss"),
    ("scaler", lambda: neuron.Scaled(neuron.Huber(), fit), T, r"`Scaled\(targets=...\)` must be a neuron.Scaler"),
    ("fixed alone", lambda: neuron.Trainer(fit(X)), V, "floating-point arrays to train; got none"),
    ("fixed pattern", lambda: trained(preprocessed(), trainable="inputs.*"), V, r"'inputs.\*' is none of \['model.weight'"),
    ("wrong rows", lambda: neuron.Trainer(preprocessed()).predict(X[:, :2]), V, r"the model answered: `Standardize\(x\)`"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "kind", "point"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_refused(unchecked, call, kind, point):
    with pytest.raises(kind, match=point) as caught:
        call()
    assert type(caught.value) is kind
