"""What drawing alone costs: `python benchmarks/samplers.py` prints µs per step of 100 rows."""

import functools
import os
import subprocess
import sys

import numpy as np
from tasks import Fit, clock, table


BATCH_SIZE = 100
SIZES = [1_000, 1_000_000, 1_000_000_000]
# Where a sampler has a table with a place for each row.
TABLE_SIZES = SIZES[:2]
# Steps that one vectorized call draws; a run's block has as many.
BLOCK, BLOCKS = 128, 40


def measured(repeats: int) -> str:
    """The table, from a process of its own."""
    command = [sys.executable, __file__, str(repeats)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=environment
    ).stdout.strip()


def _table(repeats: int) -> str:
    import jax
    import jax.numpy as jnp

    import neuron

    class Threefry(neuron.Sampler):
        """The plain way: a folded key a step, and `jax.random.randint`."""

        def indices(self, epoch, position, batch_size, size):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), epoch[1]), position)
            return jax.random.randint(key, (batch_size,), 0, size)

    @functools.partial(jax.jit, static_argnums=1)
    def draw(sampler: neuron.Sampler, size: int) -> jax.Array:
        per_epoch = jnp.uint32(-(-size // BATCH_SIZE))

        def batch(step):
            epoch = jnp.stack([jnp.uint32(0), step // per_epoch])
            return sampler.indices(epoch, step % per_epoch, BATCH_SIZE, size)

        def block(place, _):
            steps = place.astype(jnp.uint32) * BLOCK + jnp.arange(BLOCK, dtype=jnp.uint32)
            return jax.vmap(batch)(steps)

        empty = jnp.zeros((BLOCK, BATCH_SIZE), jnp.int32)
        # The loop carries each block into memory, as a run does before it takes the steps.
        return jax.lax.fori_loop(0, BLOCKS, block, empty)

    def microseconds(sampler: neuron.Sampler, size: int) -> str:
        fit = Fit(
            start=lambda: jax.tree.map(jnp.asarray, sampler),
            run=lambda sampler: jax.block_until_ready(draw(sampler, size)),
            weights=lambda _: [],
            steps=BLOCK * BLOCKS,
        )
        fit.run(fit.start())
        seconds = [s for _ in range(repeats) for s in clock(fit)]
        return f"{np.median(seconds) / fit.steps * 1e6:.3f}"

    header = ["", *[f"{size:,} rows" for size in SIZES], "note"]
    alike = [
        ("Bootstrap", neuron.Bootstrap(seed=123), ""),
        ("Shuffle", neuron.Shuffle(seed=123), ""),
        ("Sequential", neuron.Sequential(), ""),
        ("BlockBootstrap", neuron.BlockBootstrap(10, seed=123), "blocks of 10 rows"),
        ("Threefry", Threefry(), "`jax.random.randint` with a folded key, for comparison"),
    ]
    labels = lambda size: np.arange(size) % 10
    tables = [
        ("Weighted", lambda n: neuron.Weighted(1 + np.arange(n), seed=123), "no two alike"),
        ("Balanced", lambda n: neuron.Balanced(labels(n), seed=123), "10 classes"),
        ("Stratified", lambda n: neuron.Stratified(labels(n), seed=123), "10 classes"),
        ("Grouped", lambda n: neuron.Grouped(np.arange(n) // 10, seed=123), "groups of 10 rows"),
        ("ShuffleBlocks", lambda n: neuron.ShuffleBlocks([n // 20] * 20, seed=123), "20 blocks"),
        ("ShuffleBlocks", lambda n: neuron.ShuffleBlocks([n // 500] * 500, seed=123), "500 blocks"),
        (
            "Subset",
            lambda n: neuron.Subset(np.arange(n)[::-1], neuron.Bootstrap()),
            "of a Bootstrap",
        ),
    ]
    cells = [[name, *[microseconds(s, size) for size in SIZES], note] for name, s, note in alike]
    for name, of_size, note in tables:
        timed = [microseconds(of_size(size), size) for size in TABLE_SIZES]
        cells.append([name, *timed, "-", note])
    return table(header, cells)


if __name__ == "__main__":
    print(_table(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
