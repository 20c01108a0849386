"""Fine-tuning: a body that has learned the ten digits helps to tell odd from even, from 20 rows.

First a new head alone is trained, with the body frozen; then everything, the body at a tenth of the
head's learning rate. Beside it stand a copy whose body stays frozen for as long, and a network that
starts from nothing. The learned body is what helps; with so few rows, to train it on adds little.
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
    head: neuron.Dense

    def __init__(self, outputs, key):
        body, head = jax.random.split(key)
        self.body = eqx.nn.MLP(64, 64, 128, 2, final_activation=jax.nn.relu, key=body)
        self.head = neuron.Dense(64, outputs, key=head)

    def __call__(self, x):
        return self.head(self.body(x))


def trainer_of(model, loss=neuron.BinaryCrossEntropy(), **options):
    rates = neuron.Adam({"body.*": 1e-3, "*": 1e-2})
    options = {"optimizer": rates, "metrics": {"accuracy": neuron.Accuracy()}} | options
    return neuron.Trainer(model, loss, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=100)
    epochs = parser.parse_args().epochs

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    odd = (labels % 2).astype(np.float32)
    first_rows, others = train_test_split(np.arange(len(labels)), stratify=labels, random_state=0)
    rows, test = train_test_split(others, train_size=20, stratify=odd[others], random_state=0)
    few, held_out = neuron.DataLoader((images[rows], odd[rows]), 10), (images[test], odd[test])

    digits = Network(10, jax.random.key(0))
    first = trainer_of(digits, neuron.CrossEntropy(), optimizer=neuron.Adam(1e-3))
    first.fit(neuron.DataLoader((images[first_rows], labels[first_rows]), 64), epochs=epochs // 3)

    fresh = Network("scalar", jax.random.key(1))
    tuned = trainer_of(eqx.tree_at(lambda m: m.body, fresh, first.model.body), trainable="head.*")
    tuned.fit(few, epochs=epochs, validation=held_out)
    frozen, still = tuned.evaluate(held_out)["accuracy"], tuned.copy()
    still.fit(few, epochs=epochs)
    tuned.train_only(None)
    tuned.fit(few, epochs=epochs, validation=held_out)
    scratch = trainer_of(fresh, optimizer=neuron.Adam(1e-3))
    scratch.fit(few, epochs=2 * epochs, validation=held_out)

    print(f"held-out accuracy, body frozen:  {frozen:.3f}")
    print(f"held-out accuracy, for as long:  {still.evaluate(held_out)['accuracy']:.3f}")
    print(f"held-out accuracy, all trained:  {tuned.evaluate(held_out)['accuracy']:.3f}")
    print(f"held-out accuracy, from scratch: {scratch.evaluate(held_out)['accuracy']:.3f}")
    _, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for trainer, label in ((tuned, "fine-tuned"), (scratch, "from scratch")):
        rows = [(row["epoch"], row["val_accuracy"]) for row in trainer.history.epochs]
        axes.plot(*np.transpose(rows), label=label)
    axes.axvline(epochs, color="0.7", lw=1, label="the body is trained as well")
    axes.set(xlabel="epoch", ylabel="held-out accuracy")
    axes.legend(frameon=False)
    axes.figure.savefig("fine_tuning.png", dpi=120)


if __name__ == "__main__":
    main()
