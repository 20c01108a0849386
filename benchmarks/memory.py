"""How much memory a fit takes whose rows are larger: one epoch of a mapped file of 4 GB."""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from tasks import table


ROWS, COLUMNS, PART = 1_000_000, 1024, 10_000
FIT = """
import sys
import jax, neuron
import numpy as np

def peak():
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

inputs = np.load(sys.argv[1], mmap_mode="r")
targets = np.zeros(len(inputs), np.float32)
model = neuron.Dense(inputs.shape[1], key=jax.random.key(0))
trainer = neuron.Trainer(model, progress=False)
# What any fit takes: the program, and JAX itself.
trainer.fit((np.asarray(inputs[:1000]), targets[:1000]), steps=10)
before = peak()
sampler = {sampler}
trainer.fit(neuron.DataLoader((inputs, targets), 1000, sampler=sampler), epochs=1)
print(before, peak() - before)
"""
SAMPLERS = ("neuron.Shuffle()", "neuron.Sequential()")


def measured(repeats: int) -> str:
    """The table, of one fit each, however many repeats were asked for: memory does not drift."""
    del repeats
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "inputs.npy"
        whole = np.lib.format.open_memmap(path, "w+", np.float32, (ROWS, COLUMNS))
        for start in range(0, ROWS, PART):
            random = np.random.default_rng(start)
            whole[start : start + PART] = random.random((PART, COLUMNS), np.float32)
        whole.flush()
        del whole
        size = path.stat().st_size / (1 << 20)
        for sampler in SAMPLERS:
            program = FIT.replace("{sampler}", sampler)
            done = subprocess.run(
                [sys.executable, "-c", program, str(path)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            before, more = map(float, done.stdout.split())
            rows.append([sampler, f"{size:,.0f}", f"{before:.0f}", f"{more:.0f}"])
    return table(["sampler", "MiB of rows", "MiB before", "MiB more at most"], rows)
