"""Every example runs, shortened, in a process of its own; what they say is checked where it is cheap."""

import pathlib
import subprocess
import sys

import pytest


EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
SHORT = {
    "bootstrap_intervals.py": ["--replicas", "200"],
    "cross_validation.py": ["--steps", "5000"],
    "deep_ensemble.py": ["--steps", "1000"],
    "single_neuron.py": ["--steps", "5000"],
    "diabetes.py": ["--epochs", "300"],
    "digits.py": ["--epochs", "3"],
    "export.py": ["--epochs", "5"],
    "fine_tuning.py": ["--epochs", "30"],
    "hypergradient.py": ["--updates", "40"],
    "logging_a_run.py": ["--epochs", "6"],
    "parquet.py": ["--rows", "500000"],
    "pendulum.py": ["--steps", "3000"],
    "polars_frame.py": ["--epochs", "8"],
    "resume.py": ["--epochs", "6", "--kills", "2"],
    "sweep.py": ["--epochs", "10"],
    "torch_dataset.py": ["--epochs", "6"],
    "two_outputs.py": ["--epochs", "10"],
    "variational.py": ["--epochs", "20"],
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


def test_bootstrap_intervals(tmp_path):
    command = [
        sys.executable,
        "-W",
        "error:`bootstrap` trained",
        EXAMPLES / "bootstrap_intervals.py",
    ]
    command += SHORT["bootstrap_intervals.py"]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    for line in out.splitlines()[1:4]:
        exact, error, ours, spread, *ends = numbers(line.replace("±", ""))
        assert ours == pytest.approx(exact, abs=0.2 * error)
        # 200 replicas know a standard error to 5 %, and an end of an interval to a fifth of one.
        assert spread == pytest.approx(error, rel=0.25)
        least, *others = zip(ends[::2], ends[1::2], strict=True)
        assert all(found == pytest.approx(least, abs=0.8 * error) for found in others)
    assert (tmp_path / "bootstrap_intervals.png").exists()


def test_sweep(tmp_path):
    out = run("sweep.py", tmp_path)
    (line,) = (line for line in out.splitlines() if line.startswith("best: rate"))
    # 0.98 with all 30 epochs.
    assert float(line.split()[-1]) > 0.95
    assert (tmp_path / "sweep.png").exists()


def test_cross_validation(tmp_path):
    out = run("cross_validation.py", tmp_path)
    for line in out.splitlines()[1:12]:
        ours, least_squares, network = numbers(line)[-3:]
        assert ours == pytest.approx(least_squares, abs=0.05)
        assert 35 < network < 70
    assert (tmp_path / "cross_validation.png").exists()


def test_deep_ensemble(tmp_path):
    lines = run("deep_ensemble.py", tmp_path).splitlines()
    data, gap, beyond = (numbers(line)[0] for line in lines[-3:])
    assert 2 * data < gap < beyond
    assert (tmp_path / "deep_ensemble.png").exists()


def test_digits(tmp_path):
    out = run("digits.py", tmp_path)
    (line,) = (line for line in out.splitlines() if line.startswith("held-out accuracy"))
    # Above 0.98 with all 20 epochs.
    assert float(line.split()[2].rstrip(",")) > 0.93
    assert "BatchNorm" in out
    assert (tmp_path / "digits.png").exists()


def test_export(tmp_path):
    out = run("export.py", tmp_path)
    assert "Exported(inputs=float32[64], outputs=float32[10]" in out
    # 0.98 with all 20 epochs.
    assert float(out.split("its answers:")[1].split()[0]) > 0.9
    assert out.rstrip().endswith("to the bit: True")
    assert (tmp_path / "export.png").exists()


def test_fine_tuning(tmp_path):
    out = run("fine_tuning.py", tmp_path)
    scores = [float(line.split()[-1]) for line in out.splitlines() if line.startswith("held-out")]
    assert len(scores) == 4
    assert all(0.4 < score < 1 for score in scores)


def test_hypergradient(tmp_path):
    out = run("hypergradient.py", tmp_path)
    before, grid, ours = (
        float(line.split("held-out loss")[1].split(",")[0]) for line in out.splitlines()
    )
    assert ours < grid < before
    assert (tmp_path / "hypergradient.png").exists()


def test_resume(tmp_path):
    out = run("resume.py", tmp_path)
    assert out.endswith("states alike: True\nlosses alike: True\n")
    assert (tmp_path / "resume.png").exists()


def test_logging_a_run(tmp_path):
    out = run("logging_a_run.py", tmp_path)
    assert out.startswith("fit ")
    assert out.endswith("the same after a stop: True\n")
    assert (tmp_path / "logging_a_run.png").exists()


def test_pendulum(tmp_path):
    out = run("pendulum.py", tmp_path)
    alone, both = (
        float(line.split("error")[1].split()[0]) for line in out.splitlines() if "error" in line
    )
    assert both < alone


def test_parquet(tmp_path):
    out = run("parquet.py", tmp_path)
    assert "500000 rows" in out
    assert float(out.split("error of a gain")[1].split(",")[0]) < 0.05
    assert (tmp_path / "parquet.png").exists()


def test_polars_frame(tmp_path):
    out = run("polars_frame.py", tmp_path)
    assert "categories={'vehicle': ('bike', 'bus', 'car')}" in out
    # 0.86 with all 40 epochs.
    assert float(out.split("held-out error")[1].split()[0]) < 1.5
    rush, noon = numbers(out.splitlines()[-1].replace(",", ""))[1::2]
    assert rush > noon + 2


def test_torch_dataset(tmp_path):
    pytest.importorskip("torch", reason="the example is about torch")
    rows, batches, same = run("torch_dataset.py", tmp_path).splitlines()
    # Above 0.85 with all 20 epochs; a guess is right in 0.25.
    assert all(float(line.split()[-1]) > 0.5 for line in (rows, batches))
    assert same.endswith("to the bit: True")


def test_two_outputs(tmp_path):
    out = run("two_outputs.py", tmp_path)
    values = {line.split()[0]: float(line.split()[-1]) for line in out.splitlines()}
    assert values["digit_accuracy"] > 0.9
    assert values["loss"] == pytest.approx(values["digit"] + 0.5 * values["center"], abs=2e-4)


def test_variational(tmp_path):
    out = run("variational.py", tmp_path)
    values = {line.split()[0]: float(line.split()[1]) for line in out.splitlines()}
    assert values["loss"] == pytest.approx(values["pixels"] + values["prior"], abs=2e-3)
    assert values["loss"] < 30
    assert (tmp_path / "variational.png").exists()
