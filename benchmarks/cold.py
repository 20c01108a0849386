"""What a new process waits for: the import, the first fit, and the first bootstrap."""

import os
import statistics
import subprocess
import sys
import time

from tasks import table


IMPORT = """
import time
{before}
began = time.perf_counter()
import {modules}
print(time.perf_counter() - began)
"""
FIRST_FIT = """
import time
import jax, neuron
import numpy as np

random = np.random.default_rng(0)
x = random.normal(size=(1000, 2)).astype(np.float32)
y = x @ np.array([2.0, -3.4], np.float32) + np.float32(4.2)
loader = neuron.DataLoader((x, y), batch_size=100, sampler=neuron.Bootstrap(seed=123))
model = neuron.Dense(2, key=jax.random.key(0))
trainer = neuron.Trainer(model, neuron.RootMeanSquaredError(), neuron.SGD(1e-2), progress=False)
trainer.fit(loader, steps=5000)
print(time.time())
"""
BOOTSTRAP = """
import time
import jax, neuron
import numpy as np

random = np.random.default_rng(0)
x = random.normal(size=(1000, 2)).astype(np.float32)
y = x @ np.array([2.0, -3.4], np.float32) + np.float32(4.2)
y += random.normal(scale=0.3, size=1000).astype(np.float32)
loader = neuron.DataLoader((x, y), batch_size=100, sampler=neuron.Shuffle(seed=123))
model = neuron.Dense(2, key=jax.random.key(0))
for _ in range({times}):
    parts = neuron.RootMeanSquaredError(), neuron.SGD(1e-2)
    trainer = neuron.Trainer(model, *parts, average=0.995, progress=False)
    began = time.perf_counter()
    result = neuron.bootstrap(trainer, loader, replicas=1000, steps=5000)
    result.interval(lambda model: model.weight)
    seconds = time.perf_counter() - began
print(seconds)
"""


def measured(repeats: int) -> str:
    """The table: medians of several processes, one kind after the other."""
    kinds = {
        "import jax, equinox": lambda: _import("jax, equinox"),
        "import neuron": lambda: _import("neuron"),
        "neuron's own part": lambda: _import("neuron", before="import jax, equinox"),
        "first fit": _until_fitted,
        "first bootstrap": lambda: _output(BOOTSTRAP.format(times=1)),
        "bootstrap, again": lambda: _output(BOOTSTRAP.format(times=2)),
    }
    for run in kinds.values():
        run()  # leaves the byte code and the files in the caches
    seconds = {name: [] for name in kinds}
    for _ in range(repeats):
        for name, run in kinds.items():
            seconds[name].append(run())
    notes = {
        "neuron's own part": "where jax and equinox are imported already",
        "first fit": "from the start of the process to the end of the seed's task, no plot",
        "first bootstrap": "1,000 replicas of 5,000 steps, the check and an interval; no import",
    }
    rows = [
        [
            name,
            *[f"{figure(s) * 1e3:.0f}" for figure in (statistics.median, min, max)],
            notes.get(name, ""),
        ]
        for name, s in seconds.items()
    ]
    return table(["", "ms", "least", "most", "note"], rows)


def _import(modules: str, before: str = "") -> float:
    return _output(IMPORT.format(modules=modules, before=before))


def _output(code: str) -> float:
    # As pip leaves a package: with its byte code.
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    return float(done.stdout)


def _until_fitted() -> float:
    began = time.time()
    return _output(FIRST_FIT) - began
