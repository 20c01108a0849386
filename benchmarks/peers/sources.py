"""The same batches from other places than the device: `Trainer.fit`, and PyTorch's own loop."""

import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from peers.equinox_loop import network
from peers.neuron_fit import Given
from tasks import Fit, Task

import neuron


def _fit(task: Task, loader: neuron.DataLoader, note: str, indices=None) -> Fit:
    model, _ = network(task)

    def run(trainer: neuron.Trainer) -> neuron.Trainer:
        return trainer.fit(loader, steps=task.steps) and trainer

    return Fit(
        start=lambda: neuron.Trainer(
            model, neuron.CrossEntropy(), neuron.Adam(task.learning_rate), progress=False
        ),
        run=run,
        weights=lambda trainer: jax.tree.leaves(trainer.state.params),
        steps=task.steps,
        note=note,
        indices=indices,
    )


def _by_rows(task: Task, data, placement: str, note: str) -> Fit:
    sampler = Given(jnp.asarray(task.indices))
    loader = neuron.DataLoader(data, task.batch_size, sampler=sampler, placement=placement)
    return _fit(task, loader, note)


def device(task: Task) -> Fit:
    return _by_rows(task, (task.inputs, task.targets), "device", "arrays on the device")


def host(task: Task) -> Fit:
    return _by_rows(task, (task.inputs, task.targets), "host", "arrays in the host's memory")


def memmap(task: Task) -> Fit:
    path = pathlib.Path(tempfile.mkdtemp()) / "inputs.npy"
    np.save(path, task.inputs)
    data = (np.load(path, mmap_mode="r"), task.targets)
    return _by_rows(task, data, "host", "a memory-mapped `.npy` file, read by rows")


def parquet(task: Task) -> Fit:
    import pyarrow
    import pyarrow.parquet

    names = [f"x{column}" for column in range(task.inputs.shape[1])]
    table = pyarrow.table([*task.inputs.T, task.targets], [*names, "y"])
    path = pathlib.Path(tempfile.mkdtemp()) / "rows.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=1024)
    loader = neuron.DataLoader.from_files(
        path, task.batch_size, target="y", features=names, placement="host"
    )
    indices = drawn(loader, task.steps)
    return _fit(task, loader, "groups of 1,024 rows, ShuffleBlocks", indices)


def drawn(loader: neuron.DataLoader, steps: int) -> np.ndarray:
    """The batches that a loader of rows draws."""
    from neuron.counters import words
    from neuron.rows import draw_ahead

    first = np.zeros((), np.uint32)
    return np.asarray(draw_ahead(loader._supply.sampler, words(0), first, loader.cut, steps))


def _torch_loader(task: Task, workers: int):
    import torch

    rows = torch.from_numpy(task.inputs), torch.from_numpy(task.targets.astype(np.int64))
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*rows),
        batch_sampler=task.indices.tolist(),
        num_workers=workers,
    )


def torch_stream(task: Task) -> Fit:
    loader = neuron.DataLoader(_torch_loader(task, 0))
    return _fit(task, loader, "batches of PyTorch's loader, in our thread")


def torch_dataset(task: Task) -> Fit:
    dataset = _torch_loader(task, 0).dataset
    return _by_rows(task, dataset, "host", "PyTorch's dataset, example by example")


def grain(task: Task) -> Fit:
    import grain

    inputs, targets = task.in_order(task.steps)
    rows = grain.MapDataset.source(range(len(inputs))).map(lambda row: (inputs[row], targets[row]))
    loader = neuron.DataLoader(rows.batch(task.batch_size).to_iter_dataset())
    return _fit(task, loader, "batches of a `grain.IterDataset`")


def torch_loop(task: Task, *, workers: int = 0) -> Fit:
    import torch
    from peers.torch_eager import network as torch_network
    from peers.torch_eager import weights

    loader, loss = _torch_loader(task, workers), torch.nn.CrossEntropyLoss()

    def start():
        model = torch_network(task)
        return model, torch.optim.Adam(model.parameters(), lr=task.learning_rate)

    def run(state):
        model, optimizer = state
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss(model(inputs), targets).backward()
            optimizer.step()
        return model

    note = f"PyTorch's loop and loader, {workers} workers"
    return Fit(start, run, weights, task.steps, note)


def torch_loop_of_two(task: Task) -> Fit:
    return torch_loop(task, workers=2)
