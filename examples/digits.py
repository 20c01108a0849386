"""Handwritten digits, 8 x 8 pixels: a convolutional network with BatchNorm and Dropout.

A quarter of scikit-learn's 1,797 digits is held out. The trainer minds the state of BatchNorm, the
keys of Dropout and the switch to inference.
"""

import argparse

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import neuron


class Block(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm

    def __init__(self, channels_in, channels_out, *, key):
        self.conv = eqx.nn.Conv2d(channels_in, channels_out, 3, padding=1, key=key)
        self.norm = eqx.nn.BatchNorm(channels_out, "batch", mode="batch", momentum=0.9)

    def __call__(self, x, state):
        x, state = self.norm(self.conv(x), state)
        return jax.nn.relu(x), state


class Network(eqx.Module):
    first: Block
    second: Block
    pool: eqx.nn.MaxPool2d
    drop: eqx.nn.Dropout
    head: eqx.nn.Linear

    def __init__(self, key):
        first, second, head = jax.random.split(key, 3)
        self.first, self.second = Block(1, 16, key=first), Block(16, 32, key=second)
        self.pool, self.drop = eqx.nn.MaxPool2d(2, 2), eqx.nn.Dropout(0.3)
        self.head = eqx.nn.Linear(32 * 4 * 4, 10, key=head)

    def __call__(self, x, state, *, key):
        x, state = self.first(x, state)
        x, state = self.second(x, state)
        return self.head(self.drop(self.pool(x).ravel(), key=key)), state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).reshape(-1, 1, 8, 8).astype(np.float32)
    x, x_test, y, y_test = train_test_split(images, labels, stratify=labels, random_state=0)

    model, state = eqx.nn.make_with_state(Network)(jax.random.key(options.seed))
    metrics = {"accuracy": neuron.Accuracy(), "confusion": neuron.ConfusionMatrix()}
    parts = (model, neuron.CrossEntropy(), neuron.AdamW(2e-3, weight_decay=1e-2))
    trainer = neuron.Trainer(*parts, model_state=state, metrics=metrics, average=0.99)
    loader, held_out = neuron.DataLoader((x, y), 64), (x_test, y_test)
    history = trainer.fit(loader, epochs=options.epochs, validation=held_out)
    logs = trainer.evaluate(held_out)
    print(neuron.summary(model, x[0], model_state=state))
    print(f"held-out accuracy: {logs['accuracy']:.4f}, loss: {logs['loss']:.4f}")
    print("rows of the digit, columns of the answer:", logs["confusion"].astype(int), sep="\n")
    _, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, label in (("accuracy", "training, with dropout"), ("val_accuracy", "held out")):
        axes.plot(*np.transpose([(r["epoch"], r[name]) for r in history.epochs]), label=label)
    axes.set(xlabel="epoch", ylabel="accuracy", ylim=(0.9, 1.0))
    axes.legend(frameon=False)
    axes.figure.savefig("digits.png", dpi=120)


if __name__ == "__main__":
    main()
