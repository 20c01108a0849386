"""Files of exported models: whatever is wrong with one is a `CheckpointError`."""

import hashlib
import os

import jax
import numpy as np
import pytest

import neuron
from neuron.exports import container


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.neuron"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model"
    neuron.export(neuron.Dense(2, key=jax.random.key(0)), np.ones(2, np.float32), path)
    return path.read_bytes()


def refused(file, content, words):
    file.write_bytes(content)
    with pytest.raises(neuron.CheckpointError, match=words) as caught:
        neuron.load_exported(file)
    assert str(file) in str(caught.value)


def test_every_cut_is_refused(file, content):
    for length in range(0, len(content), 37):
        refused(file, content[:length], "cut off|damaged")
    refused(file, content[:-1], "damaged")
    refused(file, content + b"\x00", "damaged")


def test_every_flip_is_refused(file, content):
    for place in [*range(200), *range(200, len(content), 61)]:
        for bit in (1, 128):
            flipped = bytearray(content)
            flipped[place] ^= bit
            refused(file, bytes(flipped), "no exported model|damaged")


@pytest.mark.parametrize("other", [b"", b"neuron", b"PK\x03\x04" + bytes(100), b"{}" * 50])
def test_files_of_other_kinds(file, other):
    refused(file, other, "no exported model of neuron")


def signed(body):
    """A body under a digest of its own, as somebody with bad intentions would make it."""
    return container._MAGIC + hashlib.sha256(body).digest() + body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff" * 8,
        (1 << 62).to_bytes(8, "little"),
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{}",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        (35).to_bytes(8, "little") + b'{"format":1,"arrays":[["a","O",[1]]' + b"]}",
    ],
)
def test_bodies_that_are_none(file, body):
    refused(file, signed(body), "no exported model of neuron")


@pytest.mark.parametrize(
    ("listed", "data"),
    [
        ([["a", "float32", [-1]]], b""),
        ([["a", "float32", [1 << 62]]], b""),
        ([["a", "float32", [2]]], bytes(4)),
        ([["a", "float32", [1]]], bytes(8)),
        ([["a", "no type", [1]]], bytes(8)),
        ([["a", "object", [1]]], bytes(8)),
        ([["a", "float32"]], bytes(8)),
    ],
)
def test_lists_of_arrays_that_can_not_be(file, listed, data):
    text = container.json.dumps({"format": 1, "arrays": listed}).encode()
    refused(file, signed(len(text).to_bytes(8, "little") + text + data), "no exported model of neu")


def test_another_format(file):
    text = b'{"format":2,"arrays":[]}'
    refused(file, signed(len(text).to_bytes(8, "little") + text), "must have format 1; it has 2")


@pytest.mark.parametrize("program", [b"", b"\x00" * 64, b"\xff" * 64, bytes(range(256))])
def test_programs_that_are_none(file, program):
    facts = {"kind": "exported", "versions": {"jax": "9.9"}, "order": []}
    arrays = dict.fromkeys(("program", "exact"), np.frombuffer(program, np.uint8))
    refused(file, container.encode(arrays, facts), "no program that JAX .* can read.*9.9")


def test_arrays_of_another_program(file, content):
    arrays, facts = container.decode(content, "")
    facts = {name: value for name, value in facts.items() if name not in ("format", "arrays")}
    arrays["model.weight"] = np.ones((1, 3), np.float32)
    refused(file, container.encode(arrays, facts), "other arrays than there are")


def test_arrays_come_back(content):
    arrays, facts = container.decode(content, "")
    assert list(arrays) == ["program", "exact", "model.weight", "model.bias"]
    assert facts["order"] == ["model.weight", "model.bias"]
    again = {name: array[:, ::-1] if array.ndim == 2 else array for name, array in arrays.items()}
    found, _ = container.decode(container.encode(again, {}), "")
    for name, array in again.items():
        np.testing.assert_array_equal(found[name], array)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, words in (
        ("", "Is a directory|regular file"),
        ("pipe", "regular file"),
        ("none", "No such"),
    ):
        with pytest.raises(neuron.CheckpointError, match=words):
            neuron.load_exported(tmp_path / name)


def test_a_failed_write_leaves_the_file_before(file, content, monkeypatch):
    file.write_bytes(content)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(neuron.CheckpointError, match="could not be written: No space left"):
        container.write(file, b"other")
    assert file.read_bytes() == content
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_is_written_is_on_the_disk_first(file, monkeypatch):
    seen = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, name=name, real=real: (seen.append(name), real(*a))
        )
    container.write(file, b"content")
    assert seen == ["fsync", "replace", "fsync"]
    assert file.read_bytes() == b"content"
