"""Export: a network of digits leaves the program that knows its class.

It is trained here, with its scaling inside, and written into a file. Another process, which has
neither the class nor the scaling, reads the file and answers for held-out digits.
"""

import argparse
import pathlib
import subprocess
import sys

import equinox as eqx
import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import neuron


# All that the other process is: a file of rows in, a file of outputs out.
SERVICE = """
import sys
import numpy as np
import neuron

exported = neuron.load_exported(sys.argv[1])
print(exported)
np.save(sys.argv[3], exported(np.load(sys.argv[2])))
"""


class Network(eqx.Module):
    scaling: neuron.Standardize
    body: eqx.nn.MLP
    norm: eqx.nn.BatchNorm
    head: neuron.Dense

    def __init__(self, scaling, key):
        body, head = jax.random.split(key)
        self.scaling = scaling
        self.body = eqx.nn.MLP(64, 64, 128, 1, key=body)
        self.norm = eqx.nn.BatchNorm(64, "batch", mode="batch")
        self.head = neuron.Dense(64, 10, key=head)

    def __call__(self, x, state):
        x, state = self.norm(self.body(self.scaling(x)), state)
        return self.head(jax.nn.relu(x)), state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs

    images, labels = load_digits(return_X_y=True)
    train, (x, y) = neuron.split((images.astype(np.float32), labels), 0.8, stratify=labels)
    scaling = neuron.Standardize.fit(train[0])
    model, state = eqx.nn.make_with_state(Network)(scaling, jax.random.key(0))
    trainer = neuron.Trainer(model, neuron.CrossEntropy(), model_state=state)
    trainer.fit(neuron.DataLoader(train, 64, drop_last=True), epochs=epochs)

    file = pathlib.Path("digits.neuron")
    neuron.export(trainer.model, x[0], file, model_state=trainer.model_state)
    np.save("rows.npy", x)
    subprocess.run([sys.executable, "-c", SERVICE, file, "rows.npy", "outputs.npy"], check=True)
    outputs = np.load("outputs.npy")
    same = np.array_equal(outputs, trainer.predict(x))
    print(f"the file has {file.stat().st_size / 1024:.0f} KiB")
    print(f"held-out accuracy of its answers: {np.mean(outputs.argmax(axis=1) == y):.3f}")
    print(f"the outputs are those of predict, to the bit: {same}")
    _, axes = plt.subplots(2, 8, figsize=(8, 2.6), layout="constrained")
    for axis, image, output in zip(axes.flat, x, outputs, strict=False):
        axis.imshow(image.reshape(8, 8), cmap="gray_r")
        axis.set(title=str(output.argmax()), xticks=[], yticks=[])
    plt.savefig("export.png", dpi=120)


if __name__ == "__main__":
    main()
