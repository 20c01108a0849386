"""The benchmarks' peers reach the weights that are worked out by hand, on each task, shortened."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

import neuron


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


def test_sweep_again_traces_and_compiles_nothing():
    _, fits, _, sweep = cells("--task", "sweep")
    for name, seconds, *counts in (fits, sweep):
        assert name.endswith(", again")
        assert float(seconds) > 0
        assert counts == ["0", "0"]


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


@pytest.fixture(scope="module")
def coverage():
    spec = importlib.util.spec_from_file_location("coverage", ROOT / "benchmarks" / "coverage.py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_coverage_fits_each_resample_by_least_squares(coverage):
    rng = np.random.default_rng(0)
    x, y = coverage.drawn("clustered 5", 40, 2, rng)
    counts = rng.integers(0, 4, (40, 3))
    found = coverage.fitted(x, y, counts)
    for replica, of_set in np.ndindex(3, 2):
        rows = np.repeat(np.arange(40), counts[:, replica])
        a, b = x[of_set, rows], y[of_set, rows]
        best, left, *_ = np.linalg.lstsq(a, b)
        expected = [*best, np.sqrt(left[0] / len(rows))]
        np.testing.assert_allclose(found[replica, of_set], expected, rtol=1e-8)


def test_coverages_textbook_is_the_textbooks(coverage):
    # The second column is 0 and 1: the two-sample t test, and Welch's denominator by HC3.
    rng = np.random.default_rng(1)
    kind = np.repeat([0.0, 1.0], [12, 18])
    y = rng.normal(size=30) * (1 + kind)
    x = np.stack([np.ones(30), kind], axis=1)
    plain, robust = (float(half[0]) for half in coverage.textbook(x[None], y[None], 1))
    ends = stats.ttest_ind(y[12:], y[:12]).confidence_interval(0.95)
    assert plain == pytest.approx((ends.high - ends.low) / 2)
    # A residual over one less than its leverage, squared and summed, of each group.
    parts = [len(g) / (len(g) - 1) * g.var(ddof=1) / len(g) for g in (y[:12], y[12:])]
    assert robust == pytest.approx(stats.t.ppf(0.975, 28) * np.sqrt(sum(parts)))


def test_coverage_in_short():
    command = [sys.executable, "benchmarks/coverage.py", "--simulations", "60", "--replicas", "200"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in out.splitlines()[2:]]
    shares = {
        (name, size, what): [float(each.split()[0]) for each in found if each]
        for name, size, what, *found in rows
    }
    assert len(shares) == len(rows) > 10
    # The exact one, with room for what 60 sets may miss.
    assert shares["normal", "100", "cases"][3] > 84
    cases, clusters = (shares["40 clusters of 5", "200", what] for what in ("cases", "clusters"))
    assert max(cases[:3]) < 90
    assert all(more > less + 5 for more, less in zip(clusters[:3], cases[:3], strict=True))
    assert clusters[3:] == cases[3:]


def test_coverage_of_trained_replicas_is_that_of_the_same_solved(coverage):
    rng = np.random.default_rng(2)
    x, y = coverage.drawn("normal", 50, 1, rng)
    rows = x[0, :, 1:].astype(np.float32), y[0].astype(np.float32)
    replicates, estimate = coverage.by_bootstrap(*rows, 50, 7)
    counts = neuron.Cases().counts(50, 50, 7)
    np.testing.assert_allclose(replicates, coverage.fitted(x, y, counts)[:, 0, 1:3], atol=1e-4)
    best = coverage.fitted(x, y, np.ones((50, 1)))[0, 0, 1:3]
    np.testing.assert_allclose(estimate, best, atol=1e-4)
    # Minibatches lie around the same minimum, each with no more than their own noise.
    replicates, center = coverage.by_minibatches(*rows, 50, 7)
    np.testing.assert_allclose(center, best, atol=0.1)
    assert (replicates.std(axis=0) < 0.5 * np.sqrt(1 / 50)).all()
