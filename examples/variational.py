"""A variational autoencoder of handwritten digits (Kingma & Welling, 2014).

An objective of one's own is one method: the lower bound of one example's likelihood, with the
example's own key for the draw, and what is worth recording beside it.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import neuron


class Autoencoder(eqx.Module):
    encoder: eqx.nn.MLP
    decoder: eqx.nn.MLP

    def __init__(self, latent, *, key):
        encoder, decoder = jax.random.split(key)
        self.encoder = eqx.nn.MLP(64, 2 * latent, 256, 2, key=encoder)
        self.decoder = eqx.nn.MLP(latent, 64, 256, 2, key=decoder)

    def __call__(self, x):
        mean, _ = jnp.split(self.encoder(x), 2)
        return jax.nn.sigmoid(self.decoder(mean))


class LowerBound(neuron.Objective):
    def __call__(self, model, model_state, example, *, key):
        mean, log_variance = jnp.split(model.encoder(example.inputs), 2)
        latent = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        logits = model.decoder(latent)
        # Pixels are shades, which the Bernoulli likelihood takes as probabilities.
        pixels = jnp.sum(jax.nn.softplus(logits) - example.inputs * logits)
        prior = jnp.sum(mean**2 + jnp.exp(log_variance) - log_variance - 1) / 2
        return neuron.Terms(pixels + prior, logs={"pixels": pixels, "prior": prior}), model_state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=150)
    options = parser.parse_args()

    images = (load_digits().data / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    x, held_out = images[order[:1500]], images[order[1500:]]

    model = Autoencoder(8, key=jax.random.key(0))
    trainer = neuron.Trainer(model, LowerBound(), neuron.Adam(1e-3), average=0.99)
    loader = neuron.DataLoader((x,), 100)
    history = trainer.fit(loader, epochs=options.epochs, validation=(held_out,))
    row = history.epochs[-1]
    for name in ("loss", "pixels", "prior"):
        print(f"{name:7} {row[name]:.3f}   held-out {row['val_' + name]:.3f}")

    draws = jax.random.normal(jax.random.key(1), (16, 8))
    samples = jax.nn.sigmoid(jax.vmap(trainer.model.decoder)(draws))
    rows = {"held out": held_out[:16], "decoded": trainer.predict(held_out[:16]), "drawn": samples}
    _, panels = plt.subplots(3, 16, figsize=(12, 2.6), layout="constrained")
    for line, (name, pictures) in zip(panels, rows.items(), strict=True):
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(np.reshape(picture, (8, 8)), cmap="gray_r", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    plt.savefig("variational.png", dpi=120)


if __name__ == "__main__":
    main()
