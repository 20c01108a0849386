"""One linear neuron, fitted by stochastic gradient descent on bootstrap samples.

y = 3 x1 + 4 x2 + 5 + noise: 5,000 steps of SGD on the root mean squared error, 100 rows
drawn with replacement at each step, and the answer beside that of least squares.
"""

import argparse

import jax
import numpy as np

import neuron


def make_data(rows: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = 10 * rng.random((rows, 2))
    y = x @ np.array([3, 4]) + 5 + rng.normal(scale=0.3, size=rows)
    return x.astype(np.float32), y.astype(np.float32)


def plot(history: neuron.History, y: np.ndarray, prediction: np.ndarray) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    history.plot().set_title("One neuron: loss per step")
    plt.savefig("loss.png", dpi=120)
    _, ax = plt.subplots(figsize=(4.5, 4.5), layout="constrained")
    ax.plot(y, prediction, ".", ms=3, alpha=0.6)
    ax.axline((y.mean(), y.mean()), slope=1, color="black", lw=0.8)
    ax.set(xlabel="target", ylabel="prediction", title="One neuron: fit", aspect="equal")
    plt.savefig("fit.png", dpi=120)
    print("wrote loss.png and fit.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--no-plots", action="store_true")
    options = parser.parse_args()

    x, y = make_data()
    loader = neuron.DataLoader((x, y), batch_size=100, sampler=neuron.Bootstrap(seed=123))
    trainer = neuron.Trainer(
        neuron.Dense(2, key=jax.random.key(0)),
        loss=neuron.RootMeanSquaredError(),
        optimizer=neuron.SGD(0.01),
        callbacks=[neuron.PrintLog()],
        progress=True,
    )
    history = trainer.fit(loader, steps=options.steps)

    learned = np.append(trainer.model.weight, trainer.model.bias)
    exact = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]
    print("\n               x1      x2    bias")
    print("neuron       ", *(f"{value:7.4f}" for value in learned))
    print("least squares", *(f"{value:7.4f}" for value in exact))

    prediction = np.asarray(trainer.predict(x))
    r_squared = 1 - np.sum((y - prediction) ** 2) / np.sum((y - y.mean()) ** 2)
    print(f"R² = {r_squared:.4f}\n{history}")
    if not options.no_plots:
        plot(history, y, prediction)


if __name__ == "__main__":
    main()
