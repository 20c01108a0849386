"""A run that is killed again and again, and ends with the same bits as one that never was.
The script is started after each kill, as a cluster's queue does, and goes on at the newest file.
"""

import argparse
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import neuron


def train(directory: pathlib.Path, epochs: int) -> neuron.Trainer:
    """What survives: nothing in it knows of kills but `resume_from`."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    norm = eqx.nn.BatchNorm(64, axis_name="batch", mode="batch")
    layers = [norm, eqx.nn.Dropout(0.1), eqx.nn.Linear(64, 10, key=jax.random.key(0))]
    model, state = eqx.nn.make_with_state(eqx.nn.Sequential)(layers)
    callbacks = [neuron.ReduceLROnPlateau(patience=3), neuron.Checkpoint(directory, every=40)]
    loss, options = neuron.CrossEntropy(), {"callbacks": callbacks, "progress": False}
    trainer = neuron.Trainer(model, loss, model_state=state, **options)
    rows, held_out = neuron.split((images, labels), (0.8, 0.2), seed=0)
    loader = neuron.DataLoader(rows, batch_size=32)
    trainer.fit(loader, epochs=epochs, validation=held_out, resume_from=directory)
    return trainer


def newest(directory: pathlib.Path) -> int:
    """The step of the newest checkpoint."""
    return max((int(file.stem.split("-")[1]) for file in directory.glob("step-*")), default=0)


def killed(directory: pathlib.Path, epochs: int, seed: int) -> int:
    """Starts this file as a process of its own, and kills it a little after its next checkpoint."""
    command = [sys.executable, __file__, f"--epochs={epochs}", f"--directory={directory}"]
    process, before = subprocess.Popen(command), newest(directory)
    while process.poll() is None and newest(directory) == before:
        time.sleep(0.001)
    time.sleep(random.Random(seed).uniform(0, 0.05))
    process.kill()
    process.wait()
    return newest(directory)


def main(epochs: int, kills: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        whole = train(pathlib.Path(name) / "whole", epochs)
        cut = pathlib.Path(name) / "cut"
        steps = [killed(cut, epochs, seed) for seed in range(kills)]
        resumed = train(cut, epochs)
    print(f"killed behind the checkpoints of steps {steps}; {resumed.step} steps in all")
    losses = whole.history["loss"], resumed.history["loss"]
    print(f"states alike: {eqx.tree_equal(whole.state, resumed.state)}")
    print(f"losses alike: {np.array_equal(*losses)}")
    _, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(losses[0], lw=3, alpha=0.3)
    for start, end in zip([0, *steps], [*steps, resumed.step], strict=True):
        axes.plot(range(start, end), losses[1][start:end], lw=0.7)
    axes.set(xlabel="step", ylabel="loss, and which process took the step", yscale="log")
    axes.figure.savefig("resume.png", dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--directory", type=pathlib.Path)
    given = parser.parse_args()
    one = given.directory is not None
    train(given.directory, given.epochs) if one else main(given.epochs, given.kills)
