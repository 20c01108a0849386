"""Intervals for the seed's neuron by a thousand replicas, beside those of ordinary least squares.

y = 3 x1 + 4 x2 + 5 + noise, as in single_neuron.py; and two bands for a network of one input.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import neuron


TRUTH = {"x1": 3, "x2": 4, "bias": 5}


def make_data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = 10 * rng.random((1000, 2))
    y = x @ np.array([3, 4]) + 5 + rng.normal(scale=0.3, size=1000)
    return x.astype(np.float32), y.astype(np.float32)


def least_squares(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients and their textbook standard errors, for errors of one spread."""
    design = np.column_stack([x, np.ones(len(x))]).astype(np.float64)
    exact, squares, *_ = np.linalg.lstsq(design, y, rcond=None)
    return exact, np.sqrt(squares / (len(x) - 3) * np.diag(np.linalg.inv(design.T @ design)))


def network(replicas: int) -> tuple[np.ndarray, np.ndarray, neuron.Bootstrapped]:
    rng = np.random.default_rng(1)
    x = rng.uniform(-3, 3, (150, 1)).astype(np.float32)
    y = np.sin(x[:, 0]) + rng.normal(scale=0.2, size=150).astype(np.float32)
    model = eqx.nn.MLP(1, "scalar", 16, 1, jnp.tanh, key=jax.random.key(0))
    loader = neuron.DataLoader((x, y), len(x), sampler=neuron.Sequential())  # full batches
    trainer = neuron.Trainer(model, optimizer=neuron.Adam(0.01))
    # Trained on, it would follow the noise: its end is chosen, and no minimum to arrive at.
    return x, y, neuron.bootstrap(trainer, loader, replicas=replicas, steps=2_000, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=1_000)
    replicas = parser.parse_args().replicas
    x, y = make_data()
    exact, errors = least_squares(x, y)
    # The average takes out the noise of batches, which no replica's spread would show.
    model = neuron.Dense(2, key=jax.random.key(0))
    trainer = neuron.Trainer(model, optimizer=neuron.SGD(0.01), average=0.998)
    loader = neuron.DataLoader((x, y), batch_size=100, sampler=neuron.Shuffle(seed=123))
    result = neuron.bootstrap(trainer, loader, replicas=replicas, steps=8_000)
    weights = lambda model: jnp.append(model.weight, model.bias)
    estimate, spread = result.statistic(weights)[0], result.standard_error(weights)
    ends = {"least squares": (exact - 1.96 * errors, exact + 1.96 * errors)}
    ends |= {kind: result.interval(weights, kind=kind) for kind in ("percentile", "bca")}
    print("        least squares       neuron           ", *(f"{name:16}" for name in ends))
    for i, name in enumerate(TRUTH):
        values = f"{exact[i]:.4f} ± {errors[i]:.4f}   {estimate[i]:.4f} ± {spread[i]:.4f}"
        sides = [f"  {lower[i]:.3f} to {upper[i]:.3f}" for lower, upper in ends.values()]
        print(f"{name:6}{values}", *sides)
    print(result.optimization_error)

    x, y, curves = network(replicas)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    off = lambda values: (values - np.array([*TRUTH.values()])) / errors
    result.plot(lambda m: off(weights(m)), left, names=list(TRUTH), reference=off(exact))
    left.set(xlabel="off the truth, in least squares' standard errors", ylim=(2.9, -0.5))
    curves.plot_fit(x, right, outcome=True)
    right.plot(x[:, 0], y, "k.", ms=3, alpha=0.5, label="rows")
    right.legend(frameon=False)
    figure.savefig("bootstrap_intervals.png", dpi=120)


if __name__ == "__main__":
    main()
