"""A learning rate and an L2 penalty, tuned by the gradient of a held-out loss through whole runs.

Sixty noisy rows of forty features, of which five matter. A grid of runs, side by side, shows the
landscape that the gradient goes down.
"""

import argparse

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import neuron


NAMES = ("optimizer.learning_rate", "loss.penalties.l2.strength")


def rows(rng: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(number, 40)).astype(np.float32)
    y = x[:, :5] @ np.float32([2, -1, 1, 0.5, -0.5]) + 2 * rng.normal(size=number)
    return x, y.astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=40)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    train, (x, y), test = rows(rng, 60), rows(rng, 200), rows(rng, 2_000)
    trainer = neuron.Trainer(
        neuron.Dense(40, key=jax.random.key(0)),
        neuron.Penalized(neuron.MeanSquaredError(), neuron.L2(1e-3)),
        neuron.SGD(1e-3),
    )
    loader = neuron.DataLoader(train, 20, sampler=neuron.Shuffle(1))
    run = neuron.unrolled(trainer, loader, steps=100)

    def loss(exponents: jax.Array, rows: tuple = (x, y)) -> jax.Array:
        model = run(dict(zip(NAMES, 10**exponents, strict=True)))
        return jnp.mean((jax.vmap(model)(rows[0]) - rows[1]) ** 2)

    # Both numbers by their powers of ten: they are of very different sizes.
    place = jnp.array([-3.0, -3.0])
    hypergradient = jax.jit(jax.grad(loss))
    optimizer = neuron.Adam(0.1)
    state, path = optimizer.init(place), [place]
    for _ in range(options.updates):
        updates, state = optimizer.update(hypergradient(place), state, place)
        place = place + updates
        path.append(place)

    many = jax.jit(jax.vmap(jax.vmap(loss)))
    side = jnp.linspace(-3.5, -0.9, 27), jnp.linspace(-4.0, 1.0, 26)
    landscape = many(jnp.stack(jnp.meshgrid(*side), axis=-1))
    # As one would search without a gradient: five of each.
    coarse = jnp.stack(jnp.meshgrid(jnp.linspace(-3, -1, 5), jnp.linspace(-3, 1, 5)), axis=-1)
    best = coarse.reshape(-1, 2)[jnp.nanargmin(many(coarse))]

    after = f"{options.updates} gradients"
    for name, at in (("before", path[0]), ("25 runs of a grid", best), (after, place)):
        numbers = "rate {:.4f}, L2 {:.4f}".format(*(10**at))
        scores = f"held-out loss {loss(at):.3f}, on other rows {loss(at, test):.3f}"
        print(f"{name:18} {numbers}: {scores}")

    figure, ax = plt.subplots(figsize=(6, 4))
    levels = np.linspace(8.6, 12, 18)
    colors = ax.contourf(*(10**s for s in side), landscape, levels, extend="max")
    ax.plot(*(10 ** jnp.stack(path)).T, "r.-", ms=4, lw=1, label="by gradient")
    ax.plot(*(10 ** coarse.reshape(-1, 2)).T, "w+", ms=6, label="a grid of 25 runs")
    ax.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="strength of the L2 penalty")
    figure.colorbar(colors, label="held-out loss after 100 steps")
    ax.legend(loc="lower left", facecolor="0.6")
    figure.savefig("hypergradient.png", dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main()
