"""A polars frame: columns by name, categories as codes, and predictions for another frame.

A made table of rides: how long one takes depends on its distance, its hour and its vehicle. The
model carries its own preprocessing, so it takes the columns as they are and predicts minutes.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

import neuron


SPEED = {"bike": 15.0, "bus": 22.0, "car": 35.0}


def rides(rows: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    vehicle = rng.choice(list(SPEED), rows)
    distance, hour = rng.gamma(2.0, 3.0, rows), rng.integers(0, 24, rows)
    rush = 1 + 0.5 * np.isin(hour, (8, 9, 17, 18)) * (vehicle != "bike")
    minutes = 60 * distance / np.array([SPEED[v] for v in vehicle]) * rush
    minutes += rng.normal(scale=1.0, size=rows)
    columns = {"vehicle": vehicle, "distance": distance, "hour": hour, "minutes": minutes}
    return pl.DataFrame(columns).with_columns(pl.col("vehicle").cast(pl.Categorical))


class Rides(eqx.Module):
    """A network of the distance, the hour and the vehicle, the last two as one of several."""

    distance: neuron.Standardize
    body: eqx.nn.MLP

    def __call__(self, x):
        vehicle, distance, hour = x
        one_of = jax.nn.one_hot(jnp.stack([hour, 24 + vehicle]).astype(int), 27).sum(axis=0)
        scaled = self.distance(distance[None])
        return self.body(jnp.concatenate([scaled, one_of]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    options = parser.parse_args()

    training, held_out = neuron.split(rides(20_000, seed=0), 0.8, stratify="vehicle", seed=1)
    loader = neuron.DataLoader.from_dataframe(training, 200, target="minutes")
    print(loader.columns)

    distance = neuron.Standardize.fit(training["distance"].to_numpy()[:, None].astype(np.float32))
    minutes = neuron.Standardize.fit(training["minutes"].to_numpy().astype(np.float32))
    model = Rides(distance, eqx.nn.MLP(28, "scalar", 64, 2, key=jax.random.key(0)))
    trainer = neuron.Trainer(
        neuron.Preprocessed(model, targets=minutes),
        neuron.Scaled(neuron.MeanSquaredError(), minutes),
        neuron.Adam(3e-3),
        metrics={"error": neuron.MeanAbsoluteError()},
    )
    validation = neuron.DataLoader.from_dataframe(held_out, 200, like=loader)
    history = trainer.fit(loader, epochs=options.epochs, validation=validation)
    print(f"held-out error {history.epochs[-1]['val_error']:.2f} minutes; the noise alone 0.80")

    # A frame with its columns in another order, and no minutes.
    asked = pl.DataFrame({"hour": [8, 12], "distance": [6.0, 6.0], "vehicle": ["car", "car"]})
    rush, noon = np.asarray(trainer.predict(asked))
    print(f"6 km by car: {rush:.1f} minutes at 8, {noon:.1f} at 12")


if __name__ == "__main__":
    main()
