"""Ten folds of the diabetes study's 442 patients at once, for one linear neuron and for a network.

The neuron's scores stand beside those of scikit-learn's least squares on the same folds.
"""

import argparse

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import PredefinedSplit, cross_val_score

import neuron


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5_000)
    options = parser.parse_args()

    x, y = load_diabetes(return_X_y=True)
    # Columns come with mean 0 and a sum of squares of 1. Targets are in hundreds here.
    x, y = (x * np.sqrt(len(x))).astype(np.float32), (y / 100).astype(np.float32)
    rmse = {"rmse": neuron.RootMeanSquaredError()}

    model = neuron.Dense(10, key=jax.random.key(0))
    linear = neuron.Trainer(model, optimizer=neuron.SGD(0.2), metrics=rmse)
    every_row = neuron.DataLoader((x, y), len(x), sampler=neuron.Sequential())
    ours = neuron.cross_validate(linear, every_row, folds=10, steps=options.steps)

    model = eqx.nn.MLP(10, "scalar", width_size=16, depth=1, key=jax.random.key(0))
    network = neuron.Trainer(model, optimizer=neuron.AdamW(3e-3), metrics=rmse, average=0.99)
    batches = neuron.DataLoader((x, y), 50, sampler=neuron.Shuffle(seed=1))
    networks = neuron.cross_validate(network, batches, folds=10, steps=options.steps // 10)

    folds = PredefinedSplit(ours.fold_of)
    score = "neg_root_mean_squared_error"
    theirs = -cross_val_score(LinearRegression(), x, y, cv=folds, scoring=score)

    columns = {"neuron": ours["rmse"], "LinearRegression": theirs, "network": networks["rmse"]}
    print("fold     neuron   LinearRegression   network")
    for fold, row in enumerate(zip(*columns.values(), strict=True)):
        print(f"{fold:4}   {100 * row[0]:8.2f}   {100 * row[1]:16.2f}   {100 * row[2]:7.2f}")
    ends = [100 * values.mean() for values in columns.values()]
    print(f"mean   {ends[0]:8.2f}   {ends[1]:16.2f}   {ends[2]:7.2f}")
    print(f"{ours}\n{networks}")

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for (name, values), marker in zip(columns.items(), "ox^", strict=True):
        left.plot(100 * values, marker, ms=6, mfc="none", label=name)
    left.set(xlabel="fold", ylabel="held-out RMSE", xticks=range(10))
    left.legend(frameon=False)
    for name, scores in {"neuron": ours, "network": networks}.items():
        right.plot(100 * y, 100 * scores.predict(x), ".", ms=4, alpha=0.6, label=name)
    right.axline((150, 150), slope=1, color="black", lw=0.8)
    right.set(xlabel="target", ylabel="prediction by the fold's model", aspect="equal")
    right.legend(frameon=False)
    figure.savefig("cross_validation.png", dpi=120)


if __name__ == "__main__":
    main()
