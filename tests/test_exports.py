"""Exports: the same numbers as `Trainer.predict`, without the model's class; a table of errors."""

import functools
import subprocess
import sys
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron


F = np.float32
V, T, C = ValueError, TypeError, neuron.CheckpointError
rng = np.random.default_rng(0)


def rows(*shape, dtype=F):
    return rng.normal(size=shape).astype(dtype)


def dense(*features):
    return neuron.Dense(*features, key=jax.random.key(0))


def mlp(features=6, out=3):
    return eqx.nn.MLP(features, out, 16, 2, key=jax.random.key(0))


class Pictures(eqx.Module):
    """A convolution, BatchNorm and dropout."""

    convolution: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    out: eqx.nn.Linear

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.convolution = eqx.nn.Conv2d(3, 4, 3, key=first)
        self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch")
        self.dropout = eqx.nn.Dropout(0.5)
        self.out = eqx.nn.Linear(4 * 36, 10, key=second)

    def __call__(self, x, state, *, key):
        x, state = self.norm(self.convolution(x), state)
        return self.out(self.dropout(jax.nn.relu(x).reshape(-1), key=key)), state


class Named(eqx.Module):
    """Inputs and outputs by name, in trees."""

    layer: neuron.Dense

    def __call__(self, x):
        u, (v, place) = x["u"], x["rest"]
        return {"sum": self.layer(u) + v[place], "both": (self.layer(u), None, [v])}


class Recurrent(eqx.Module):
    cell: eqx.nn.GRUCell

    def __init__(self):
        self.cell = eqx.nn.GRUCell(4, 6, key=jax.random.key(0))

    def __call__(self, x):
        return jax.lax.scan(lambda h, x: (self.cell(x, h), None), jnp.zeros(6), x)[0]


class Drawing(eqx.Module):
    layer: neuron.Dense

    def __call__(self, x, *, key):
        return self.layer(x) + jax.random.normal(key)


def preprocessed():
    x = np.column_stack([rows(60, 2) * F([10, 0.1]) + F([3, 1]), rng.integers(0, 3, 60)]).astype(F)
    encode = neuron.OneHot.fit(x, columns=[2])
    scale = neuron.Standardize.fit(np.asarray(jax.vmap(encode)(x)))
    targets = neuron.MinMax.fit(rows(60))
    inputs = eqx.nn.Sequential([encode, scale])
    return neuron.Preprocessed(dense(encode.out_features), inputs, targets), x


@functools.cache
def trained_pictures():
    model, state = eqx.nn.make_with_state(Pictures)(jax.random.key(0))
    x = rows(40, 3, 8, 8)
    trainer = neuron.Trainer(model, neuron.CrossEntropy(), model_state=state, progress=False)
    trainer.fit((x, rng.integers(0, 10, 40)), steps=3)
    return trainer.model, x, trainer.model_state


def in_bfloat16(model):
    half = lambda leaf: leaf.astype(jnp.bfloat16) if eqx.is_inexact_array(leaf) else leaf
    return jax.tree.map(half, model)


def named_inputs():
    return {"u": rows(30, 3), "rest": (rows(30, 4), rng.integers(0, 4, 30).astype(np.int32))}


CASES = {
    "a neuron": lambda: (dense(2), rows(30, 2)),
    "a layer": lambda: (dense(7, 5), rows(30, 7)),
    "an MLP": lambda: (mlp(), rows(300, 6)),
    "NumPy's arrays": lambda: (jax.tree.map(lambda a: np.asarray(a) if eqx.is_array(a) else a, mlp()), rows(9, 6)),
    "a convolution": lambda: (eqx.nn.Conv2d(3, 4, 3, key=jax.random.key(0)), rows(30, 3, 8, 8)),
    "BatchNorm and dropout": trained_pictures,
    "an MLP for a number": lambda: (mlp(out="scalar"), rows(300, 6)),
    "a loop": lambda: (Recurrent(), rows(30, 5, 4)),
    "scaling in the model": preprocessed,
    "eigenvalues": lambda: (Answering(dense(4, 9), eigenvalues), rows(20, 4)),
    "names": lambda: (Named(dense(3)), named_inputs()),
    "bfloat16": lambda: (in_bfloat16(mlp()), rows(30, 6)),
    "a layer that hands on keys": lambda: (
        eqx.nn.Sequential([mlp(), eqx.nn.Dropout(0.5), eqx.nn.Lambda(jnp.tanh)]),
        rows(30, 6),
    ),
}  # fmt: skip


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.neuron"


def exported(file, model, x, state=None, **options):
    example = jax.tree.map(lambda leaf: leaf[0], x)
    neuron.export(model, example, file, model_state=state, **options)
    return neuron.load_exported(file)


def predicted(model, x, state=None, **options):
    return neuron.Trainer(model, model_state=state, progress=False, **options).predict(x)


def assert_same_bits(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert isinstance(one, jax.Array)
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("case", CASES)
def test_gives_the_bits_of_predict(file, case):
    model, x, *state = CASES[case]()
    loaded = exported(file, model, x, *state)
    assert_same_bits(loaded(x), predicted(model, x, *state))


def test_is_equinox_in_inference_mode(file):
    model, x, state = trained_pictures()
    quiet = eqx.nn.inference_mode(model)
    one = lambda x: quiet(x, state, key=jax.random.key(0))[0]
    wanted = jax.vmap(one, axis_name="batch")(x)
    np.testing.assert_allclose(exported(file, model, x, state)(x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_other_batch_sizes_agree_to_rounding(file, case):
    model, x, *state = CASES[case]()
    loaded = exported(file, model, x, *state, platforms=("cpu", "cuda", "rocm", "tpu"))
    rtol, atol = (5e-2, 5e-2) if case == "bfloat16" else (1e-5, 1e-6)
    for one, other in zip(*map(jax.tree.leaves, (loaded(x, batch_size=7), loaded(x))), strict=True):
        np.testing.assert_allclose(F(one), F(other), rtol=rtol, atol=atol)


def test_precision(file):
    model, x = mlp(), rows(30, 6)
    loaded = exported(file, model, x, precision="bfloat16")
    found = loaded(x)
    assert_same_bits(found, predicted(model, x, precision="bfloat16"))
    assert not np.array_equal(found, predicted(model, x))


def test_double_precision(file, x64):
    model, x = neuron.Dense(3, key=jax.random.key(0), dtype=jnp.float64), rows(30, 3, dtype=float)
    loaded = exported(file, model, x)
    assert loaded.inputs.dtype == np.float64
    assert_same_bits(loaded(x), predicted(model, x))
    np.testing.assert_allclose(
        loaded(x), x @ np.asarray(model.weight)[0] + float(model.bias[0]), rtol=1e-14
    )


def test_against_numpy(file):
    model, x = dense(3, 4), rows(30, 3)
    loaded = exported(file, model, x)
    exact = x.astype(float) @ np.asarray(model.weight, float).T + np.asarray(model.bias, float)
    np.testing.assert_allclose(loaded(x), exact, rtol=1e-5, atol=1e-6)


def test_any_number_of_rows(file):
    model, x = mlp(), rows(600, 6)
    loaded = exported(file, model, x)
    whole = loaded(x)
    for number in (0, 1, 2, 255, 256, 257, 512, 600):
        assert_same_bits(loaded(x[:number]), whole[:number])
    np.testing.assert_allclose(loaded(x, batch_size=7), whole, rtol=1e-5, atol=1e-6)


def test_no_rows_of_a_tree(file):
    loaded = exported(file, Named(dense(3)), named_inputs())
    none = loaded(jax.tree.map(lambda leaf: leaf[:0], named_inputs()))
    assert jax.tree.map(jnp.shape, none) == {"sum": (0,), "both": ((0,), None, [(0, 4)])}


def test_one_program_a_batch_size(file):
    loaded = exported(file, mlp(), rows(1, 6))
    for number in (1, 5, 300):
        loaded(rows(number, 6))
    assert loaded._run_exact._cache_size() == 1
    assert loaded._run._cache_size() == 0


def test_inside_another_program(file):
    model, x = mlp(), rows(30, 6)
    loaded = exported(file, model, x)
    found = jax.jit(lambda x: 2 * loaded(x))(x)
    np.testing.assert_allclose(found, 2 * predicted(model, x), rtol=1e-5, atol=1e-6)


def test_shapes_are_enough_for_an_example(file):
    model, x = Named(dense(3)), named_inputs()
    example = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), x)
    neuron.export(model, example, file)
    assert_same_bits(neuron.load_exported(file)(x), predicted(model, x))


def test_says_what_it_takes(file):
    loaded = exported(file, Named(dense(3)), named_inputs(), platforms=("cpu", "cuda", "tpu"))
    shape = jax.ShapeDtypeStruct
    assert loaded.inputs == {
        "u": shape((3,), F),
        "rest": (shape((4,), F), shape((), np.int32)),
    }
    assert loaded.outputs == {
        "sum": shape((), F),
        "both": (shape((), F), None, [shape((4,), F)]),
    }
    assert loaded.platforms == ("cpu", "cuda", "tpu")
    assert loaded.versions["jax"] == jax.__version__
    assert repr(loaded) == (
        "Exported(inputs={'rest': (float32[4], int32[]), 'u': float32[3]}, "
        "outputs={'both': (float32[], None, [float32[4]]), 'sum': float32[]}, "
        "platforms=('cpu', 'cuda', 'tpu'))"
    )


@pytest.mark.parametrize(
    "given",
    [
        lambda x: x.tolist(),
        lambda x: x.astype(np.float64),
        lambda x: x.astype(np.float16),
        lambda x: jnp.asarray(x),
        lambda x: x.astype(np.int64),
        lambda x: x > 0,
        lambda x: np.asfortranarray(x),
    ],
)
def test_takes_numbers_of_other_types(file, given):
    model, x = dense(3), 4 * rows(20, 3)
    loaded = exported(file, model, x)
    np.testing.assert_array_equal(loaded(given(x)), loaded(np.asarray(given(x)).astype(F)))


def test_runs_without_the_class(file, tmp_path):
    """In another process, that has none of this file's classes and never makes a model."""
    model, x, state = trained_pictures()
    loaded = exported(file, model, x, state)
    np.save(tmp_path / "x.npy", x)
    program = """
    import sys
    import numpy as np
    import neuron
    loaded = neuron.load_exported(sys.argv[1])
    assert "test_exports" not in sys.modules
    np.save(sys.argv[3], loaded(np.load(sys.argv[2])))
    """
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(program),
        file,
        tmp_path / "x.npy",
        tmp_path / "y.npy",
    ]
    subprocess.run(command, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), loaded(x))


def test_the_same_model_is_the_same_file(file, tmp_path):
    neuron.export(mlp(), rows(6), file)
    neuron.export(mlp(), rows(6), tmp_path / "again")
    assert file.read_bytes() == (tmp_path / "again").read_bytes()


def test_the_file_names_no_file(file):
    limit = jax.config.values["jax_traceback_in_locations_limit"]
    neuron.export(mlp(), rows(6), file)
    assert b".py" not in file.read_bytes()
    assert jax.config.values["jax_traceback_in_locations_limit"] == limit


def test_the_file_replaces_another_one(file):
    neuron.export(dense(2), rows(2), file)
    neuron.export(dense(3), rows(3), file)
    assert neuron.load_exported(file).inputs.shape == (3,)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_model_stays_usable(file):
    model = dense(2)
    neuron.export(model, rows(2), file)
    assert model(jnp.ones(2)).shape == ()


# What is refused.


class Answering(eqx.Module):
    """Answers what a function makes of its input."""

    layer: neuron.Dense
    answer: object = eqx.field(static=True)

    def __call__(self, x):
        return self.answer(self.layer(x))


class Pair(eqx.Module):
    one: object


def answering(answer):
    return Answering(dense(2), answer)


def export(model=None, example=None, path="unused/model", **options):
    example = np.ones(2, F) if example is None else example
    neuron.export(dense(2) if model is None else model, example, path, **options)


def eigenvalues(x):
    matrix = x.reshape(3, 3)
    return jnp.linalg.eigvalsh(matrix + matrix.T)


def printing(x):
    jax.debug.callback(lambda x: None, x)
    return x


stateful, its_state = eqx.nn.make_with_state(Pictures)(jax.random.key(0))
picture = np.ones((3, 8, 8), F)

REFUSED = [
    ("no model", lambda: export({"a": 1}), T, r"export\(model\)` must be callable.*got dict"),
    ("a trainer", lambda: export(neuron.Trainer(dense(2))), T, r"got Trainer.*`trainer.model`"),
    ("rows for an example", lambda: export(example=np.ones((8, 2), F)), V, r"one example.*float32\[8, 2\]"),
    ("another width", lambda: export(example=np.ones(3, F)), V, r"one example, x of float32\[3\]"),
    ("no example", lambda: export(example=()), T, "as arrays of numbers"),
    ("a number", lambda: export(example=1.0), T, "as arrays of numbers.*got float"),
    ("words", lambda: export(example=np.array(["a"])), T, "as arrays of numbers"),
    ("keys", lambda: export(example=jax.random.key(0)), T, r"as arrays of numbers.*got key<fry>\[\]"),
    ("a class of inputs", lambda: export(Named(dense(3)), Pair(np.ones(2, F))), T, r"example\)` must be arrays in tup.*got Pair"),
    ("numbers as names", lambda: export(Named(dense(3)), {1: np.ones(2, F)}), T, r"got a dict with the keys \[1\]"),
    ("a class of outputs", lambda: export(answering(Pair)), T, r"export\(model\)\(example\)` must be.*got Pair"),
    ("state forgotten", lambda: export(stateful, picture), V, "export.*must come with `model_state=`"),
    ("state too many", lambda: export(model_state=its_state), V, "which has none"),
    ("draws", lambda: export(Drawing(dense(2))), V, "same outputs for the same inputs; Drawing draws"),
    ("a key", lambda: export(answering(lambda x: x), model_state=None, precision="float16"), V, r"export\(precision=...\)` must be"),
    ("a key in the model", lambda: export(eqx.nn.Sequential([dense(2), eqx.nn.Lambda(jax.tree_util.Partial(jnp.add, jax.random.key(1)))])), (V, T), "random keys at"),
    ("a place that is none", lambda: export(platforms=["gpu"]), V, r"some of \['cpu', 'cuda', 'rocm', 'tpu'\]; got \['gpu'\]"),
    ("nowhere", lambda: export(platforms=[]), V, r"got \[\]"),
    ("a callback", lambda: export(answering(printing)), V, "a model that JAX can export.*Answering"),
    ("no such folder", lambda: export(), C, "unused/model could not be written: No such file"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "act", "error", "words"), REFUSED, ids=[r[0] for r in REFUSED])
def test_refused(case, act, error, words, unchecked):
    with pytest.raises(error, match=words):
        act()


NAMED, NEURON = (Named(dense(3)), named_inputs()), (dense(2), rows(4, 2))
WRONG_ROWS = [
    ("one example", NEURON, lambda x: x[0], V, r"float32\[rows, 2\]; got shape \(2,\). One example is one row"),
    ("another width", NEURON, lambda x: x[:, :1], V, r"float32\[rows, 2\]; got shape \(4, 1\)\.$"),
    ("a number", NEURON, lambda x: 1.0, V, r"got shape \(\)"),
    ("complex numbers", NEURON, lambda x: x + 1j, T, r"must be float32\[rows, 2\]; got complex64"),
    ("words", NEURON, lambda x: x.astype(str), T, "got <U"),
    ("rows of several lengths", NEURON, lambda x: [[1.0], [1.0, 2.0]], V, "rows of one shape"),
    ("a batch size of none", NEURON, None, V, r"batch_size=...\)` must be at least 1"),
    ("a tuple", NAMED, lambda x: (x["u"], x["rest"]), T, r"rows of {'rest': .*'u': float32\[3\]}; got \(float32"),
    ("a name less", NAMED, lambda x: {"u": x["u"]}, T, r"rows of {'rest'"),
    ("floats for whole numbers", NAMED, lambda x: x | {"rest": (x["rest"][0], rows(30))}, T, r"exported\(inputs\['rest'\]\[1\]\)` must be int32\[rows\]; got float32"),
    ("too large", NAMED, lambda x: x | {"rest": (x["rest"][0], np.full(30, 1 << 40))}, V, "numbers that int32 can hold"),
    ("fewer rows", NAMED, lambda x: x | {"u": x["u"][:7]}, V, r"as many rows.*inputs\['u'\].*: 7"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "parts", "change", "error", "words"), WRONG_ROWS, ids=[r[0] for r in WRONG_ROWS]
)
def test_wrong_rows(file, case, parts, change, error, words, unchecked):
    loaded = exported(file, *parts)
    with pytest.raises(error, match=words):
        loaded(parts[1], batch_size=0) if change is None else loaded(change(parts[1]))


def test_another_platform(file):
    loaded = exported(file, dense(2), rows(1, 2), platforms="tpu")
    assert loaded.platforms == ("tpu",)
    with pytest.raises(ValueError, match=r"for platforms.*tpu.*used on.*cpu"):
        loaded(rows(1, 2))


def test_double_precision_is_not_halved(file, x64):
    model = neuron.Dense(2, key=jax.random.key(0), dtype=jnp.float64)
    neuron.export(model, np.ones(2), file)
    jax.config.update("jax_enable_x64", False)
    with pytest.raises(ValueError, match=r"jax_enable_x64.*\['float64'\]"):
        neuron.load_exported(file)
