"""ONNX files: onnxruntime gives what the model gives; what it can not is refused."""

import pathlib
import re
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_exports import (
    CASES,
    Answering,
    Drawing,
    Named,
    Pair,
    dense,
    mlp,
    named_inputs,
    predicted,
    rows,
)

import neuron


pytest.importorskip("jax2onnx", reason="ONNX is an extra")
onnxruntime = pytest.importorskip("onnxruntime")
F = np.float32


class Network(eqx.Module):
    layers: list

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Splitting(eqx.Module):
    """Splits its key itself, for what draws nothing in inference mode."""

    layer: neuron.Dense
    dropout: eqx.nn.Dropout

    def __call__(self, x, *, key):
        first, _ = jax.random.split(key)
        return self.layer(self.dropout(x, key=first))


class Attending(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    norm: eqx.nn.LayerNorm

    def __call__(self, x):
        return jax.vmap(self.norm)(self.attention(x, x, x))


def network(*layers):
    return Network(list(layers))


key = jax.random.key(0)
MORE = {
    "pooling": lambda: (
        network(
            eqx.nn.Conv2d(3, 4, 3, padding=1, key=key),
            jax.nn.gelu,
            eqx.nn.MaxPool2d(2, 2),
            eqx.nn.AvgPool2d(2, 2),
            jnp.ravel,
            jax.nn.softmax,
        ),
        rows(30, 3, 8, 8),
    ),
    "an embedding": lambda: (eqx.nn.Embedding(9, 4, key=key), np.arange(8, dtype=np.int32)),
    "attention": lambda: (
        Attending(eqx.nn.MultiheadAttention(2, 8, key=key), eqx.nn.LayerNorm(8)),
        rows(20, 6, 8),
    ),
    "keys that are split": lambda: (Splitting(dense(3), eqx.nn.Dropout(0.5)), rows(30, 3)),
}
# ONNX has no eigenvalues, and onnxruntime no bfloat16 on the CPU.
NONE = ("bfloat16", "eigenvalues")
ALL = {name: case for name, case in CASES.items() if name not in NONE} | MORE


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.onnx"


def run(file, x):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    inputs = [one.name for one in session.get_inputs()]
    return session.run(None, dict(zip(inputs, jax.tree.leaves(x), strict=True)))


@pytest.mark.parametrize("case", ALL)
def test_gives_what_the_model_gives(file, case):
    model, x, *state = ALL[case]()
    example = jax.tree.map(lambda leaf: leaf[0], x)
    neuron.export_onnx(model, example, file, model_state=state[0] if state else None)
    wanted = jax.tree.leaves(predicted(model, x, *state))
    for one, other in zip(run(file, x), wanted, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


def test_the_block_of_the_docs(tmp_path, monkeypatch):
    page = (pathlib.Path(__file__).parents[1] / "docs" / "export.md").read_text()
    (block,) = re.findall(r"^```py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    x = rows(30, 2)
    trainer = neuron.Trainer(dense(2), progress=False)
    names = {"neuron": neuron, "onnxruntime": onnxruntime, "trainer": trainer, "x": x}
    exec(block, names)
    np.testing.assert_allclose(names["outputs"], trainer.predict(x), rtol=1e-5, atol=1e-6)


def test_names(file):
    neuron.export_onnx(Named(dense(3)), jax.tree.map(lambda leaf: leaf[0], named_inputs()), file)
    session = onnxruntime.InferenceSession(file)
    inputs = {one.name: (one.shape, one.type) for one in session.get_inputs()}
    assert inputs == {
        "inputs.rest.0": (["batch", 4], "tensor(float)"),
        "inputs.rest.1": (["batch"], "tensor(int32)"),
        "inputs.u": (["batch", 3], "tensor(float)"),
    }
    outputs = [one.name for one in session.get_outputs()]
    assert outputs == ["outputs.both.0", "outputs.both.2.0", "outputs.sum"]


def test_any_number_of_rows(file):
    model, x = mlp(), rows(300, 6)
    neuron.export_onnx(model, jax.ShapeDtypeStruct((6,), F), file)
    for number in (1, 2, 300):
        (found,) = run(file, x[:number])
        np.testing.assert_allclose(found, predicted(model, x[:number]), rtol=1e-4, atol=1e-6)


def test_leaves_jax_as_it_was(file):
    model, x = mlp(), rows(9, 6)
    before, call = predicted(model, x), eqx.nn.Linear.__call__
    neuron.export_onnx(model, x[0], file)
    assert eqx.nn.Linear.__call__ is call
    assert not jax.config.jax_enable_x64
    np.testing.assert_array_equal(predicted(model, x), before)


def test_double_precision(file, x64):
    model, x = neuron.Dense(3, key=key, dtype=jnp.float64), rows(30, 3, dtype=float)
    neuron.export_onnx(model, x[0], file)
    (found,) = run(file, x)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, predicted(model, x), rtol=1e-12)


class Wrong:
    """What a converter might make: another model."""

    def __init__(self, other):
        self.other = other

    def to_onnx(self, function, inputs, **options):
        return sys.modules["jax2onnx"].to_onnx(self.other, inputs, **options)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda x: x[:, 0] + 1, "other numbers than the model"),
        (lambda x: x[:, :1], r"float32\[3, 1\] for float32\[3\]"),
    ],
)
def test_a_wrong_file_is_not_written(file, monkeypatch, other, words):
    import neuron.exports.onnx as room

    monkeypatch.setattr(room, "extra", lambda *_: (Wrong(other), onnxruntime))
    with pytest.raises(ValueError, match=words):
        neuron.export_onnx(dense(2), rows(2), file)
    assert not file.exists()


def calling_python(x):
    return jax.pure_callback(lambda x: x, x, x, vmap_method="sequential")


def answering(answer):
    return Answering(dense(2), answer)


REFUSED = [
    ("draws", lambda file: neuron.export_onnx(Drawing(dense(2)), rows(2), file), ValueError, "Drawing draws"),
    ("no example", lambda file: neuron.export_onnx(dense(2), (), file), TypeError, r"export_onnx\(example\)`"),
    ("another width", lambda file: neuron.export_onnx(dense(2), rows(3), file), ValueError, "one example"),
    ("a class of outputs", lambda file: neuron.export_onnx(answering(Pair), rows(2), file), TypeError, "got Pair"),
    (
        "no such operation",
        lambda file: neuron.export_onnx(answering(calling_python), rows(2), file),
        ValueError,
        r"ONNX can express; of Answering jax2onnx and onnxruntime say: .* / ",
    ),
    ("no such folder", lambda file: neuron.export_onnx(dense(2), rows(2), file / "x"), neuron.CheckpointError, "could not be written"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "act", "error", "words"), REFUSED, ids=[r[0] for r in REFUSED])
def test_refused(file, case, act, error, words, unchecked):
    with pytest.raises(error, match=words):
        act(file)


def test_without_the_extra(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"install `neuron-equinox\[onnx\]`"):
        neuron.export_onnx(dense(2), rows(2), file)
