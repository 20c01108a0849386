"""One linear neuron on real data: the diabetes study's 442 patients, ten measurements each.

A quarter of the rows is held out; the neuron's answer stands beside scikit-learn's.
"""

import argparse

import jax
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import neuron


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2_000)
    options = parser.parse_args()

    x, y = load_diabetes(return_X_y=True)
    names = load_diabetes().feature_names
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=0)
    scaler = StandardScaler().fit(x_train)
    x_train, x_test = (scaler.transform(part).astype(np.float32) for part in (x_train, x_test))
    y_train, y_test = y_train.astype(np.float32), y_test.astype(np.float32)

    trainer = neuron.Trainer(
        neuron.Dense(10, key=jax.random.key(0)),
        optimizer=neuron.SGD(0.05),
        callbacks=[neuron.EarlyStopping("loss", patience=200, min_delta=1e-3)],
    )
    loader = neuron.DataLoader((x_train, y_train), len(x_train), sampler=neuron.Sequential())
    trainer.fit(loader, epochs=options.epochs, validation=(x_test, y_test))

    reference = LinearRegression().fit(x_train, y_train)
    print("measurement    neuron   LinearRegression")
    weights = np.append(trainer.model.weight, trainer.model.bias)
    exact = np.append(reference.coef_, reference.intercept_)
    for name, ours, theirs in zip([*names, "bias"], weights, exact, strict=True):
        print(f"{name:11}  {ours:8.2f}   {theirs:8.2f}")
    for name, model in (("neuron", trainer), ("LinearRegression", reference)):
        print(f"held-out R² of {name}: {r2_score(y_test, np.asarray(model.predict(x_test))):.4f}")
    print(f"{trainer.history}\nstopped: {trainer.stopped or 'at the last epoch'}")


if __name__ == "__main__":
    main()
