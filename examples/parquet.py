"""Training on a folder of Parquet files that is not read into memory: 10 million rows.

A script makes the files, of readings of a sensor that drifts; one neuron learns what it measures.
The groups of rows are shuffled, a background thread reads ahead, and memory stays where it is.
"""

import argparse
import pathlib
import resource
import tempfile
import time

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import neuron


FEATURES = [f"channel_{place}" for place in range(8)]
GAINS = np.linspace(-2, 2, len(FEATURES), dtype=np.float32)


def make(folder: pathlib.Path, rows: int, files: int = 10) -> None:
    """Files of rows in their order of time: the noise grows, so the last rows are not typical."""
    for part in range(files):
        rng = np.random.default_rng(part)
        x = rng.standard_normal((rows // files, len(FEATURES)), dtype=np.float32)
        noise = 0.1 * (1 + part) * rng.standard_normal(len(x), dtype=np.float32)
        table = pa.table([*x.T, x @ GAINS + 1 + noise], [*FEATURES, "level"])
        pq.write_table(table, folder / f"part-{part:02}.parquet", row_group_size=50_000)


def peak() -> float:
    """The most memory that was ever resident, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    rows = parser.parse_args().rows

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make(folder, rows)
        size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        loader = neuron.DataLoader.from_files(folder, 500, target="level", placement="host")
        print(f"{loader}\n{size:.0f} MB of files")

        model = neuron.Dense(len(FEATURES), key=jax.random.key(0))
        trainer = neuron.Trainer(model, optimizer=neuron.Adam(1e-2), progress=False)
        trainer.fit(loader, steps=10)
        before, began = peak(), time.perf_counter()
        history = trainer.fit(loader, steps=len(loader) - 10)
        seconds = time.perf_counter() - began
        print(f"{(len(history) - 10) * 500 / seconds:,.0f} rows a second")
        print(f"{peak() - before:.0f} MB more at most than after the first steps")
    error = np.abs(np.asarray(trainer.model.weight)[0] - GAINS).max()
    print(f"largest error of a gain {error:.4f}, loss {history.epochs[-1]['loss']:.3f}")

    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    history.plot().figure.savefig("parquet.png", dpi=120)


if __name__ == "__main__":
    main()
