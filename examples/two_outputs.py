"""Two outputs, two losses: which digit it is, and where its ink lies, from one body.

Predictions and targets are dicts; each loss and each metric takes the entry of its name.
"""

import argparse

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import neuron


class Network(eqx.Module):
    body: eqx.nn.MLP
    digit: neuron.Dense
    center: neuron.Dense

    def __init__(self, key):
        body, digit, center = jax.random.split(key, 3)
        self.body = eqx.nn.MLP(64, 64, 128, 1, final_activation=jax.nn.relu, key=body)
        self.digit = neuron.Dense(64, 10, key=digit)
        self.center = neuron.Dense(64, 2, key=center)

    def __call__(self, x):
        hidden = self.body(x)
        return {"digit": self.digit(hidden), "center": self.center(hidden)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    places = np.stack(np.mgrid[0:8, 0:8]).reshape(2, 64).astype(np.float32)
    centers = images @ places.T / images.sum(axis=1, keepdims=True)
    parts = train_test_split(images, labels, centers, stratify=labels, random_state=0)
    x, x_test, digit, digit_test, center, center_test = parts

    loss = neuron.Supervised(
        {"digit": neuron.CrossEntropy(), "center": neuron.MeanSquaredError()},
        weights={"center": 0.5},
    )
    metrics = {"digit": {"accuracy": neuron.Accuracy()}, "center": {"r2": neuron.R2()}}
    trainer = neuron.Trainer(Network(jax.random.key(0)), loss, metrics=metrics)
    history = trainer.fit(
        neuron.DataLoader((x, {"digit": digit, "center": center}), 64),
        epochs=options.epochs,
        validation=(x_test, {"digit": digit_test, "center": center_test}),
    )

    row = history.epochs[-1]
    for name in ("loss", "digit", "center", "digit_accuracy", "center_r2"):
        print(f"{name:15} {row[name]:.4f}   held-out {row['val_' + name]:.4f}")
    _, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    epochs = [r["epoch"] for r in history.epochs]
    for axes, name in zip(panels, ("digit", "center"), strict=True):
        axes.plot(epochs, [r[name] for r in history.epochs], label="training")
        axes.plot(epochs, [r["val_" + name] for r in history.epochs], label="held out")
        axes.set(title=f"loss of the {name}", xlabel="epoch", yscale="log")
        axes.legend(frameon=False)
    plt.savefig("two_outputs.png", dpi=120)


if __name__ == "__main__":
    main()
