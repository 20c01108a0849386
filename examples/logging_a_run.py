"""A run's log: every tenth step and every epoch in one table, and where the time went.

A fit stops halfway, as if its process had been killed in the middle of a line. A second trainer
takes its state over and goes on, and the table is that of a run that was never stopped.
"""

import argparse
import csv
import pathlib

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import neuron


class Loudest(neuron.Logger):
    """A logger of one's own: the step with the highest loss so far."""

    every = 1
    loss, step = 0.0, 0

    def log(self, values, step):
        if values.get("step_loss", 0.0) > self.loss:
            self.loss, self.step = values["step_loss"], step


def trainer_of(*callbacks):
    model = eqx.nn.MLP(64, 10, 64, 1, key=jax.random.key(0))
    accuracy = {"accuracy": neuron.Accuracy()}
    return neuron.Trainer(
        model, neuron.CrossEntropy(), neuron.Adam(1e-3), metrics=accuracy, callbacks=callbacks
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    half = parser.parse_args().epochs // 2

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    x, x_test, y, y_test = train_test_split(images, labels, stratify=labels, random_state=0)
    loader = neuron.DataLoader((x, y), batch_size=32, sampler=neuron.Shuffle(seed=0))
    held_out = (x_test, y_test)

    timer, loudest = neuron.Timer(), Loudest()
    whole = trainer_of(neuron.CSVLogger("whole.csv", every=10, overwrite=True), timer, loudest)
    whole.fit(loader, epochs=2 * half, validation=held_out)
    print(timer)
    print(f"the highest loss was {loudest.loss:.3f}, at step {loudest.step}")

    stopped = trainer_of(neuron.CSVLogger("resumed.csv", every=10, overwrite=True))
    stopped.fit(loader, epochs=half, validation=held_out)
    with pathlib.Path("resumed.csv").open("a") as file:
        file.write("99999,7,0.1")  # half a line
    resumed = trainer_of(neuron.CSVLogger("resumed.csv", every=10))
    resumed.state = stopped.snapshot()
    resumed.fit(loader, epochs=half, validation=held_out)
    logs = [pathlib.Path(name).read_bytes() for name in ("whole.csv", "resumed.csv")]
    print(f"{len(logs[0].splitlines())} lines, the same after a stop: {logs[0] == logs[1]}")

    rows = list(csv.DictReader(logs[0].decode().splitlines()))
    _, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name in ("step_loss", "loss", "val_loss"):
        points = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        axes.plot(*np.transpose(points), label=name, lw=0.7 if name == "step_loss" else 1.6)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.legend(frameon=False)
    axes.figure.savefig("logging_a_run.png", dpi=120)


if __name__ == "__main__":
    main()
