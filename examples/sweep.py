"""Thirty-two learning rates of a small network at once: which one, and what each of them leads to.

All runs are members of one program, start from the same weights and see the same batches of
handwritten digits.
"""

import argparse

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import neuron


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    x, y = (images / 16).astype(np.float32), labels.astype(np.int32)
    order = np.random.default_rng(0).permutation(len(x))
    train, held_out = ((x[rows], y[rows]) for rows in (order[:1200], order[1200:]))

    trainer = neuron.Trainer(
        eqx.nn.MLP(64, 10, width_size=32, depth=1, key=jax.random.key(0)),
        neuron.CrossEntropy(),
        neuron.SGD(0.1),
        metrics={"accuracy": neuron.Accuracy()},
    )
    loader = neuron.DataLoader(train, batch_size=50, sampler=neuron.Shuffle(seed=1))
    rates = {"optimizer.learning_rate": np.logspace(-3, 1, 32)}
    found = neuron.sweep(trainer, loader, rates, epochs=options.epochs, validation=held_out)

    print(found)
    print("learning rate   val_loss   val_accuracy")
    for row in found.rows[::4]:
        rate, loss, accuracy = (row[n] for n in (*rates, "val_loss", "val_accuracy"))
        print(f"{rate:13.4f}   {loss:8.4f}   {accuracy:12.4f}")
    (rate,) = found.best_setting().values()
    best = found.best().evaluate(held_out)
    print(
        f"best: rate {rate:.3g}, held-out loss {best['loss']:.4f}, accuracy {best['accuracy']:.4f}"
    )

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    found.plot(left).axvline(rate, color="C3", lw=0.8, ls="--", label="the best")
    left.legend(frameon=False)
    left.set(title=f"after {options.epochs} epochs", xlabel="learning rate", ylabel="held-out loss")
    found.population.history.plot(right).set_title("all 32 runs")
    figure.savefig("sweep.png", dpi=120)


if __name__ == "__main__":
    main()
