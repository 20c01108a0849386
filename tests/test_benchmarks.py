"""The benchmarks' peers reach the weights that are worked out by hand, on each task, shortened."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest


ROOT = pathlib.Path(__file__).parents[1]
# A few peers of the shortest tasks: the benchmark itself says of every row that it ran whether its
# weights are the same.
ROWS = {
    "seed": ["Trainer.fit, given indices", "lax.scan, whole run", "Equinox loop", "PyTorch"],
    "mlp": ["lax.scan, whole run"],
}


def cells(*options):
    """The table that `run.py` prints, a list of cells a row."""
    command = [sys.executable, "benchmarks/run.py", "--repeats", "1", "--steps", "12", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    lines = [line for line in out.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def check(rows):
    for name, microseconds, _, ratio, verdict, note in rows:
        if microseconds == "missing":
            continue
        assert verdict.startswith("yes, "), (name, verdict, note)
        assert float(microseconds.replace(",", "")) > 0
        assert float(ratio.replace(",", "")) > 0


@pytest.mark.parametrize("task", ROWS)
def test_each_task(task):
    rows = cells("--task", task, "--only", *ROWS[task])
    assert rows[0][0] == "Trainer.fit"
    assert len(rows) >= 2
    check(rows)


@pytest.mark.parametrize(
    ("members", "rows", "tables"),
    [
        ("10", ["by hand"], 3),
        ("8", ["one at a time", "two processes", "lax.scan", "torch.func ensemble, one"], 1),
    ],
)
def test_populations(members, rows, tables):
    # `cells` leaves out the head of the first table alone.
    lines = cells("--task", "population", "--members", members, "--only", *rows)
    found = [line for line in lines if line[0] and not line[0].startswith("-")]
    assert len(found) == len(rows) * tables
    for name, microseconds, verdict, note in found:
        if microseconds == "missing":
            continue
        assert verdict.startswith("yes, "), (name, microseconds, verdict, note)
        assert float(microseconds.replace(",", "")) > 0


def test_reliability():
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    command = [sys.executable, "benchmarks/reliability.py", "--flips", "50"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [*command, "--only", "neuron"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if "may not attach" in run.stderr:
        pytest.skip("strace may not attach")
    _, _, ours = run.stdout.splitlines()
    _, kills, *rest = [cell.strip() for cell in ours.strip("|").split("|")]
    assert int(kills) > 30
    assert rest == ["0", "0", "0", "50 of 50", "0", "same bits"]
