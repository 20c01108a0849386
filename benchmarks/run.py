"""Measures `neuron` and its peers: `python benchmarks/run.py [--task seed] [--only NAME ...]`.

Every row has a process of its own, and they take turns: a machine that slows down meanwhile
slows them all down, and the ratios hold.
"""

import argparse
import importlib.metadata
import os
import platform
import statistics
import sys
import tempfile

import cold
import memory
import populations
import samplers
import sweep
from tasks import table
from turns import Row, figure, take_turns


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
        take_turns(task, rows, turns)
    base = rows[0]
    lines = [_cells(row, base.us()) for row in rows]
    by_turn = [statistics.median(turn) / base.ready["steps"] * 1e6 for turn in base.seconds]
    summary = f"`Trainer.fit` took {figure(min(by_turn))} to {figure(max(by_turn))} µs per step, "
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
    return [row.name, *map(figure, figures), row.verdict, row.note]


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
    choices = [*ROWS, "population", "sweep", "sampler", "cold", "memory", "all"]
    parser.add_argument("--task", choices=choices, default="all")
    parser.add_argument("--only", nargs="+", default=[], help="rows with one of these in the name")
    parser.add_argument("--repeats", type=int, default=9, help="turns that every row takes")
    parser.add_argument("--steps", type=int, help="ends each fit early, for a quick look")
    parser.add_argument("--members", type=int, help="one size alone, of populations")
    options = parser.parse_args()
    print(_machine())
    for task in choices[:-1]:
        if options.task not in (task, "all"):
            continue
        print(f"\n### {task}\n", flush=True)
        if task in ROWS:
            print(compare(task, options.only, options.repeats, options.steps), flush=True)
        elif task == "population":
            quick = options.only, options.repeats, options.steps, options.members
            for part in populations.measured(*quick):
                print(part, flush=True)
        else:
            others = {"sweep": sweep, "sampler": samplers, "cold": cold, "memory": memory}
            print(others[task].measured(options.repeats), flush=True)


if __name__ == "__main__":
    main()
