"""Every example runs, shortened, in a process of its own; what they say is checked where it is cheap."""

import pathlib
import subprocess
import sys

import pytest


EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
SHORT = {
    "single_neuron.py": ["--steps", "5000"],
    "diabetes.py": ["--epochs", "300"],
}


def run(name, tmp_path):
    command = [sys.executable, EXAMPLES / name, *SHORT[name]]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout


def numbers(line):
    return [
        float(word) for word in line.split() if word.replace(".", "").replace("-", "").isdigit()
    ]


def test_every_example_is_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SHORT)
    assert all(len(path.read_text().splitlines()) <= 80 for path in EXAMPLES.glob("*.py"))


def test_single_neuron(tmp_path):
    out = run("single_neuron.py", tmp_path)
    lines = out.splitlines()
    assert sum(line.startswith("step ") for line in lines) == 10
    ours, exact = (
        numbers(next(x for x in lines if x.startswith(name))) for name in ("neuron", "least")
    )
    assert ours == pytest.approx(exact, abs=0.05)
    assert exact == pytest.approx([3, 4, 5], abs=0.1)
    for picture in ("loss.png", "fit.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_diabetes(tmp_path):
    out = run("diabetes.py", tmp_path)
    scores = [float(line.split()[-1]) for line in out.splitlines() if line.startswith("held-out")]
    assert scores[0] == pytest.approx(scores[1], abs=0.01)
