"""A PyTorch `Dataset`, as rows and through PyTorch's own loader.

Each example is a noisy wave, made by number; the model names its shape. As rows the waves lie on
the device, drawn there by a sampler, and the run repeats to the bit. Through PyTorch's `DataLoader`
they come as batches, in its order and with its workers.
"""

import argparse
import time

import equinox as eqx
import jax
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset

import neuron


SHAPES = ("sine", "square", "saw", "noise")


class Waves(Dataset):
    """Waves of 64 points, with random phase and frequency: functions of their number."""

    def __len__(self):
        return 4_000

    def __getitem__(self, number):
        rng = np.random.default_rng(number)
        kind, phase, frequency = number % 4, rng.random(), rng.uniform(2, 5)
        turn = frequency * np.linspace(0, 1, 64) + phase
        clean = (np.sin(2 * np.pi * turn), np.sign(np.sin(2 * np.pi * turn)), 2 * (turn % 1) - 1, 0)
        wave = clean[kind] + rng.normal(scale=0.5 if kind < 3 else 1.0, size=64)
        return torch.from_numpy(wave.astype(np.float32)), np.int32(kind)


def trainer_of(seed: int) -> neuron.Trainer:
    model = eqx.nn.MLP(64, len(SHAPES), 128, 2, key=jax.random.key(seed))
    metrics = {"accuracy": neuron.Accuracy()}
    return neuron.Trainer(model, neuron.CrossEntropy(), neuron.AdamW(1e-3), metrics=metrics)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()

    waves = Waves()
    held_out = neuron.DataLoader(Subset(waves, range(3_000, 4_000)), 100)
    training = Subset(waves, range(3_000))
    generator = torch.Generator().manual_seed(0)
    loaders = {
        "rows": neuron.DataLoader(training, 100),
        "batches": neuron.DataLoader(
            DataLoader(
                training, 100, shuffle=True, num_workers=options.workers, generator=generator
            )
        ),
    }
    for name, loader in loaders.items():
        trainer = trainer_of(0)
        began = time.perf_counter()
        history = trainer.fit(loader, epochs=options.epochs)
        seconds = time.perf_counter() - began
        accuracy = trainer.evaluate(held_out)["accuracy"]
        print(f"{name}: {len(history)} steps in {seconds:.1f} s, held-out accuracy {accuracy:.3f}")

    again = trainer_of(0)
    again.fit(loaders["rows"], epochs=options.epochs)
    first = trainer_of(0)
    first.fit(neuron.DataLoader(training, 100, placement="host"), epochs=options.epochs)
    same = (again.history["loss"] == first.history["loss"]).all()
    print(f"the same rows from the host give the same losses, to the bit: {same}")


if __name__ == "__main__":
    main()
