"""A deep ensemble (Lakshminarayanan, Pritzel & Blundell, 2017): what a network does not know.

Thirty-two networks that differ in their seeds alone, trained by one program. Each predicts a mean
and a variance. Where there were no data they disagree, and yet by less than they are wrong.
"""

import argparse

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np

import neuron


def truth(x: np.ndarray) -> np.ndarray:
    return np.sin(2.5 * x)


def make_data(rows: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-2, -0.7, rows // 2), rng.uniform(0.5, 2, rows // 2)])
    y = truth(x) + rng.normal(scale=0.1, size=rows)
    return x[:, None].astype(np.float32), y.astype(np.float32)


def member(seed: int) -> neuron.Trainer:
    model = eqx.nn.MLP(1, 2, width_size=32, depth=2, key=jax.random.key(seed))
    loss = neuron.GaussianNegativeLogLikelihood()
    return neuron.Trainer(model, loss, neuron.Adam(3e-3), seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2_000)
    options = parser.parse_args()

    x, y = make_data()
    population = neuron.Population([member(seed) for seed in range(32)])
    loader = neuron.DataLoader((x, y), batch_size=50, sampler=neuron.Shuffle(seed=1))
    print(population.fit(loader, steps=options.steps))

    grid = np.linspace(-3, 3, 301, dtype=np.float32)[:, None]
    predicted = np.asarray(population.predict(grid))  # (members, rows, 2)
    means, variances = predicted[..., 0], np.exp(predicted[..., 1])
    mean, disagreement = means.mean(axis=0), means.std(axis=0)
    # Of the mixture: what each member takes for noise, and how far apart their means are.
    total = np.sqrt(variances.mean(axis=0) + disagreement**2)

    over = grid[:, 0]
    places = {
        "where there are data": ((over > -2) & (over < -0.7)) | ((over > 0.5) & (over < 2)),
        "in the gap": (over > -0.5) & (over < 0.3),
        "beyond the ends": abs(over) > 2.5,
    }
    print("deviations (noise 0.1)   of the members   in all   truth within 2 of them")
    for name, there in places.items():
        inside = np.mean(abs(mean - truth(over))[there] < 2 * total[there])
        numbers = (
            f"{disagreement[there].mean():14.3f}   {total[there].mean():6.3f}   {inside:22.2f}"
        )
        print(f"{name:22}   {numbers}")

    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, width, alpha in (("in all", total, 0.15), ("of the members", disagreement, 0.3)):
        sides, label = (mean - 2 * width, mean + 2 * width), f"2 deviations {name}"
        ax.fill_between(over, *sides, color="C0", alpha=alpha, lw=0, label=label)
    ax.plot(over, mean, lw=1.6, label="mean of 32 networks")
    ax.plot(over, truth(over), "k--", lw=0.9, label="truth")
    ax.plot(x[:, 0], y, ".", color="C3", ms=4, alpha=0.7, label="data")
    ax.set(xlabel="input", ylabel="target", xlim=(-3, 3), ylim=(-3, 3.5))
    ax.legend(frameon=False, ncols=2)
    figure.savefig("deep_ensemble.png", dpi=120)


if __name__ == "__main__":
    main()
