"""Measures `neuron` and its peers: `python benchmarks/run.py [--task seed] [--only NAME ...]`.

Every row has a process of its own, and they take turns: a machine that slows down meanwhile
slows them all down, and the ratios hold.
"""

import argparse
import functools
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import cold
import memory
import numpy as np
import samplers
from tasks import TASKS, table
from trajectory import trajectory


HERE = pathlib.Path(__file__).parent
# (name, module of `peers` and a function in it); the ratios are to the first.
ROWS = {
    "seed": [
        ("Trainer.fit", "neuron_fit.fit"),
        ("C, whole run", "c_loop.fit"),
        ("lax.scan, small-loop kernel", "jax_scan.one_kernel"),
        ("lax.scan, whole run", "jax_scan.fit"),
        ("lax.scan, own draw ahead", "jax_scan.own_draw"),
        ("Trainer.fit, 20x the steps", "neuron_fit.long"),
        ("Trainer.fit, given indices", "neuron_fit.given"),
        ("Trainer.fit, Shuffle", "neuron_fit.shuffle"),
        ("Trainer.fit, many kernels", "neuron_fit.many_kernels"),
        ("Trainer.fit, given, many kernels", "neuron_fit.given_many_kernels"),
        ("Trainer.fit, progress bar", "neuron_fit.progress_bar"),
        ("Trainer.fit, every=100", "neuron_fit.looks_100"),
        ("Trainer.fit, all looks", "neuron_fit.watched"),
        ("scikit-learn SGDRegressor", "sklearn_sgd.fit"),
        ("JAX + optax loop", "jax_optax_loop.fit"),
        ("Equinox loop", "equinox_loop.fit"),
        ("Equinox loop, device data", "equinox_loop.on_device"),
        ("PyTorch, eager", "torch_eager.fit"),
        ("Keras", "keras.fit"),
        ("Keras, 32 steps a call", "keras.in_blocks"),
        ("skorch", "skorch.fit"),
        ("Lightning", "lightning.fit"),
    ],
    "mlp": [
        ("Trainer.fit", "neuron_fit.fit"),
        ("lax.scan, whole run", "jax_scan.fit"),
        ("Trainer.fit, given indices", "neuron_fit.given"),
        ("Trainer.fit, progress bar", "neuron_fit.progress_bar"),
        ("Trainer.fit, every=100", "neuron_fit.looks_100"),
        ("Trainer.fit, all looks", "neuron_fit.watched"),
        ("JAX + optax loop", "jax_optax_loop.fit"),
        ("Equinox loop", "equinox_loop.fit"),
        ("Equinox loop, device data", "equinox_loop.on_device"),
        ("PyTorch, eager", "torch_eager.fit"),
        ("PyTorch, one thread", "torch_eager.one_thread"),
        ("Keras", "keras.fit"),
        ("Keras, 32 steps a call", "keras.in_blocks"),
        ("skorch", "skorch.fit"),
        ("Lightning", "lightning.fit"),
    ],
    "norm": [
        ("Trainer.fit", "neuron_fit.fit"),
        ("Trainer.fit, accuracy and F1", "neuron_fit.with_metrics"),
        ("Trainer.fit, given indices", "neuron_fit.given"),
        ("lax.scan, Equinox model", "equinox_loop.whole_run"),
        ("lax.scan, whole run", "jax_scan.fit"),
        ("Equinox loop", "equinox_loop.fit"),
        ("Equinox loop, device data", "equinox_loop.on_device"),
        ("PyTorch, eager", "torch_eager.fit"),
        ("PyTorch, one thread", "torch_eager.one_thread"),
    ],
    "cnn": [
        ("Trainer.fit", "neuron_fit.fit"),
        ("Trainer.fit, accuracy and F1", "neuron_fit.with_metrics"),
        ("Trainer.fit, given indices", "neuron_fit.given"),
        ("lax.scan, whole run", "jax_scan.short"),
        ("lax.scan, shifted images", "jax_scan.shifted"),
        ("JAX + optax loop", "jax_optax_loop.fit"),
        ("Equinox loop", "equinox_loop.fit"),
        ("Equinox loop, device data", "equinox_loop.on_device"),
        ("PyTorch, eager", "torch_eager.fit"),
        ("PyTorch, one thread", "torch_eager.one_thread"),
        ("Keras", "keras.fit"),
        ("Keras, 32 steps a call", "keras.in_blocks"),
    ],
    "sources": [
        ("Trainer.fit", "sources.device"),
        ("Trainer.fit, host", "sources.host"),
        ("Trainer.fit, memory map", "sources.memmap"),
        ("Trainer.fit, Parquet", "sources.parquet"),
        ("Trainer.fit, PyTorch's loader", "sources.torch_stream"),
        ("Trainer.fit, PyTorch's dataset", "sources.torch_dataset"),
        ("Trainer.fit, grain", "sources.grain"),
        ("PyTorch, no workers", "sources.torch_loop"),
        ("PyTorch, two workers", "sources.torch_loop_of_two"),
        ("Keras", "keras.fit"),
    ],
}
HEADER = ["", "µs per step", "best", "ratio", "same weights", "note"]


class Row:
    """A peer in its process: ready, `missing`, or `failed`."""

    def __init__(self, task: str, name: str, peer: str, folder: str, steps: list[str]):
        self.name = name
        self.seconds: list[list[float]] = []
        self.note, self.verdict = "", ""
        arrays = os.path.join(folder, f"{peer}.npz")
        self._errors = open(os.path.join(folder, f"{peer}.txt"), "w+")  # noqa: SIM115
        command = [sys.executable, str(HERE / "row.py"), task, peer, arrays, *steps]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True
        )
        self.ready = self._answer()
        if "steps" in self.ready:
            self.note = self.ready["note"]
            self.verdict = _verdict(task, arrays) if self.ready["same_task"] else "-"

    def turn(self) -> None:
        """A tenth of a second of fits, or one."""
        if "steps" in self.ready:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
            answer = self._answer()
            if isinstance(answer, dict):
                self.ready, self.seconds = answer, []
            else:
                self.seconds.append(answer)

    def us(self, figure: Callable = statistics.median) -> float:
        """The median over all turns, in µs per step."""
        fits = itertools.chain.from_iterable(self.seconds)
        return figure(fits) / self.ready["steps"] * 1e6

    def close(self) -> None:
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> Any:
        # What a peer prints on the way is not an answer.
        for line in self._process.stdout:
            if line[0] in "[{":
                return json.loads(line)
        self._errors.seek(0)
        return {"failed": (self._errors.read().strip().splitlines() or ["no message"])[-1]}


def _verdict(task: str, arrays: str) -> str:
    with np.load(arrays) as saved:
        right = _right_weights(task, saved["batches"].shape, saved["batches"].tobytes())
        error = np.abs(saved["weights"] - right).max()
    return f"{'yes' if error < 1e-3 else 'NO'}, {error:.0e}"


@functools.lru_cache(maxsize=8)
def _right_weights(task: str, shape: tuple[int, int], batches: bytes) -> np.ndarray:
    indices = np.frombuffer(batches, np.int32).reshape(shape)
    return np.concatenate([w.ravel() for w in trajectory(TASKS[task](), indices)])


def compare(task: str, only: list[str], turns: int, steps: int | None) -> str:
    """The table of one task."""
    early = [] if steps is None else [str(steps)]
    wanted = lambda row: not only or any(o.lower() in str(row).lower() for o in only)
    chosen = ROWS[task][:1] + [row for row in ROWS[task][1:] if wanted(row)]
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for name, peer in chosen:
            print(f"{task}: {name} gets ready", file=sys.stderr)
            rows.append(Row(task, name, peer, folder, early))
        if "steps" not in rows[0].ready:
            raise SystemExit(f"`Trainer.fit` could not be measured: {rows[0].ready}")
        for turn in range(turns):
            print(f"{task}: turn {turn + 1} of {turns}", file=sys.stderr)
            for row in rows:
                row.turn()
        for row in rows:
            row.close()
    base = rows[0]
    lines = [_cells(row, base.us()) for row in rows]
    by_turn = [statistics.median(turn) / base.ready["steps"] * 1e6 for turn in base.seconds]
    summary = f"`Trainer.fit` took {_figure(min(by_turn))} to {_figure(max(by_turn))} µs per step, "
    summary += f"from turn to turn of {turns}."
    for long in (row for row in rows if "20x" in row.name):
        summary += _fixed_cost(base, long)
    return f"{table(HEADER, lines)}\n\n{summary}"


def _fixed_cost(short: Row, long: Row) -> str:
    """What a fit costs beside its steps: two fits of different length make a line."""
    steps = short.ready["steps"], long.ready["steps"]
    milliseconds = [row.us() * n / 1e3 for row, n in zip((short, long), steps, strict=True)]
    slope = (milliseconds[1] - milliseconds[0]) / (steps[1] - steps[0])
    fixed = milliseconds[0] - slope * steps[0]
    return f" A fit is {fixed:.2g} ms, and {slope * 1e3:.2g} µs a step."


def _cells(row: Row, base: float) -> list[str]:
    if not row.seconds:
        ((state, why),) = row.ready.items()
        note = f"{why} is not installed" if state == "missing" else why
        return [row.name, state, "", "", "", note]
    figures = [row.us(), row.us(min), row.us() / base]
    return [row.name, *map(_figure, figures), row.verdict, row.note]


def _figure(value: float) -> str:
    """Three digits, and no exponent."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def _machine() -> str:
    names = ["jax", "equinox", "optax", "torch", "keras", "skorch", "lightning", "scikit-learn"]
    versions = [f"Python {platform.python_version()}"]
    for name in names:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    machine = f"{os.cpu_count()} CPU cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}"
    return f"{machine}; {', '.join(versions)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    choices = [*ROWS, "sampler", "cold", "memory", "all"]
    parser.add_argument("--task", choices=choices, default="all")
    parser.add_argument("--only", nargs="+", default=[], help="rows with one of these in the name")
    parser.add_argument("--repeats", type=int, default=9, help="turns that every row takes")
    parser.add_argument("--steps", type=int, help="ends each fit early, for a quick look")
    options = parser.parse_args()
    print(_machine())
    for task in choices[:-1]:
        if options.task not in (task, "all"):
            continue
        print(f"\n### {task}\n", flush=True)
        if task in ROWS:
            print(compare(task, options.only, options.repeats, options.steps), flush=True)
        else:
            others = {"sampler": samplers, "cold": cold, "memory": memory}
            print(others[task].measured(options.repeats), flush=True)


if __name__ == "__main__":
    main()
