"""Files of exported models: whatever is wrong with one is a `CheckpointError`.

The format itself has its tests in test_checkpoint*.py.
"""

import os
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

import neuron
from neuron.checkpoint import decode, encode


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.neuron"


def dense():
    return neuron.Dense(2, key=jax.random.key(0))


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model"
    neuron.export(dense(), np.ones(2, np.float32), path)
    return path.read_bytes()


def parts(content):
    """The arrays and facts of a file, to make another one of."""
    arrays, facts = decode(content, "")
    return arrays, {name: facts[name] for name in ("kind", "versions", "order")}


def refused(file, content, words):
    file.write_bytes(content)
    with pytest.raises(neuron.CheckpointError, match=words) as caught:
        neuron.load_exported(file)
    assert str(file) in str(caught.value)


def test_cuts_and_additions_are_refused(file, content):
    for length in [*range(0, len(content), 101), len(content) - 1]:
        refused(file, content[:length], "no checkpoint of neuron|damaged")
    refused(file, content + b"\x00", "damaged")


def test_flips_are_refused(file, content):
    for place in [*range(40), *range(40, len(content), 61)]:
        for bit in (1, 128):
            flipped = bytearray(content)
            flipped[place] ^= bit
            refused(file, bytes(flipped), "no checkpoint of neuron|damaged")


@pytest.mark.parametrize("other", [b"", b"neuron", b"PK\x03\x04" + bytes(100), b"{}" * 50])
def test_files_of_other_kinds(file, other):
    refused(file, other, "no checkpoint of neuron")


def test_a_saved_model_is_no_exported_one(file):
    neuron.save(file, dense())
    with pytest.raises(neuron.CheckpointError, match=r"a file of `export`; it is one of a model"):
        neuron.load_exported(file)


@pytest.mark.parametrize("program", [b"", b"\x00" * 64, b"\xff" * 64, bytes(range(256))])
def test_programs_that_are_none(file, content, program):
    arrays, facts = parts(content)
    arrays |= dict.fromkeys(("program", "exact"), np.frombuffer(program, np.uint8))
    facts["versions"] = {"jax": "9.9"}
    refused(file, encode(arrays, facts), "no program that JAX .* can read.*9.9")


def test_arrays_of_another_program(file, content):
    arrays, facts = parts(content)
    arrays["model.weight"] = np.ones((1, 3), np.float32)
    refused(file, encode(arrays, facts), "other arrays than there are")


@pytest.mark.parametrize("fact", ["versions", "order"])
def test_a_fact_less(file, content, fact):
    arrays, facts = parts(content)
    del facts[fact]
    refused(file, encode(arrays, facts), fact)


def test_other_tools_open_it(file, content):
    arrays = safetensors.numpy.load(content)
    assert set(arrays) == {"program", "exact", "model.weight", "model.bias"}
    np.testing.assert_array_equal(arrays["model.weight"], dense().weight)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("", "pipe", "none"):
        with pytest.raises(neuron.CheckpointError, match=r"regular file|could not be read"):
            neuron.load_exported(tmp_path / name)


def test_a_failed_write_leaves_the_file_before(file, content, monkeypatch):
    file.write_bytes(content)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(neuron.CheckpointError, match="could not be written: No space left"):
        neuron.export(dense(), np.ones(2, np.float32), file)
    assert file.read_bytes() == content
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("call", ["export", "load_exported"])
def test_without_flatbuffers_the_extra_is_named(tmp_path, monkeypatch, call):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    calls = {
        "export": lambda: neuron.export(len, np.zeros(2), tmp_path / "m"),
        "load_exported": lambda: neuron.load_exported(tmp_path / "m"),
    }
    with pytest.raises(ImportError, match=rf"`{call}` .*neuron-equinox\[export\]"):
        calls[call]()
