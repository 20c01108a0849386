"""A physics-informed fit: a damped oscillation from eight noisy measurements of its first half.

The network must also obey x'' + damping x' + stiffness x = 0 at every time, measured or not; both
numbers, in truth 0.4 and 4, are learned as leaves of the model (Raissi et al., 2019).
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import neuron


class Motion(eqx.Module):
    path: eqx.nn.MLP
    damping: jax.Array
    stiffness: jax.Array

    def __init__(self, key):
        self.path = eqx.nn.MLP("scalar", "scalar", 32, 3, jnp.tanh, key=key)
        self.damping, self.stiffness = jnp.array(0.0), jnp.array(1.0)

    def __call__(self, t):
        return self.path(t)


class Physics(neuron.Objective):
    """A row is a time, and a measurement there or a target that is not counted."""

    weight: jax.Array

    def __call__(self, model, model_state, example, *, key):
        t, measured = example.inputs["time"], example.inputs["measured"]
        speed = jax.grad(model)
        acceleration = jax.grad(speed)(t)
        residual = acceleration + model.damping * speed(t) + model.stiffness * model(t)
        values = {"data": (model(t) - example.targets) ** 2, "physics": residual**2}
        return neuron.Terms(values, {"data": measured, "physics": 1.0}), model_state

    def finish(self, mean):
        return mean["data"] + self.weight * mean["physics"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    options = parser.parse_args()
    exact = lambda t: np.exp(-0.2 * t) * np.cos(np.sqrt(4 - 0.04) * t)
    seen = np.linspace(0, 3, 8)
    times = np.concatenate([seen, np.linspace(0, 6, 56)]).astype(np.float32)
    measured = (np.arange(64) < 8).astype(np.float32)
    noise = np.random.default_rng(0).normal(scale=0.02, size=64)
    targets = ((exact(times) + noise) * measured).astype(np.float32)
    rows = ({"time": times, "measured": measured}, targets)
    loader = neuron.DataLoader(rows, 64, sampler=neuron.Sequential())

    _, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    grid = np.linspace(0, 6, 200).astype(np.float32)
    axes.plot(grid, exact(grid), color="0.6", lw=3, label="exact")
    for weight, label in ((0.0, "data alone"), (0.1, "data and physics")):
        adam = neuron.Clipped(neuron.Adam(2e-3), norm=1.0)
        trainer = neuron.Trainer(Motion(jax.random.key(0)), Physics(jnp.array(weight)), adam)
        trainer.fit(loader, steps=options.steps)
        found = jax.vmap(trainer.model)(grid)
        among, after = np.abs(found - exact(grid)).reshape(2, -1).max(axis=1)
        print(f"{label:17} error {after:.3f} after the measurements, {among:.3f} among them")
        axes.plot(grid, found, label=label)
    print(f"damping {trainer.model.damping:.3f}, stiffness {trainer.model.stiffness:.3f}")
    axes.plot(seen, targets[:8], "k.", label="measured")
    axes.set(xlabel="time", ylabel="position", ylim=(-1.5, 1.5))
    axes.legend(frameon=False)
    axes.figure.savefig("pendulum.png", dpi=120)


if __name__ == "__main__":
    main()
