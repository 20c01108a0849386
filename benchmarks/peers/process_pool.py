"""`multiprocessing`: two spawned processes, each with its share of the members one at a time."""

import concurrent.futures
import multiprocessing
import os

import numpy as np
from many import MANY, Many
from tasks import Fit


_HELD: dict[str, object] = {}


def _prepare(task: str, steps: int, places: range, core: int | None) -> None:
    """Builds the fits in a worker, and trains once, which compiles."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    # Here, so that JAX counts the cores of the worker.
    from peers import neuron_one_by_one

    many = MANY[task]().first(steps)
    fit = neuron_one_by_one.fit(many, places)
    fit.run(fit.start())
    _HELD["fit"] = fit


def _start() -> None:
    fit = _HELD["fit"]
    _HELD["state"] = fit.start()


def _train() -> list[np.ndarray]:
    fit = _HELD["fit"]
    return [np.asarray(w) for w in fit.weights(fit.run(_HELD["state"]))]


def fit(many: Many) -> Fit:
    members = min(many.members, many.alone)
    half = -(-members // 2)
    shares = [share for share in (range(half), range(half, members)) if share]
    context = multiprocessing.get_context("spawn")
    # A pool of one for each share: who starts a fit must be the one who trains it.
    workers = [concurrent.futures.ProcessPoolExecutor(1, context) for _ in shares]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    def everywhere(function, *arguments) -> list:
        futures = [w.submit(function, *(a[i] for a in arguments)) for i, w in enumerate(workers)]
        return [future.result() for future in futures]

    own = [cores[i % len(cores)] if len(cores) > 1 else None for i in range(len(shares))]
    alike = len(shares)
    everywhere(_prepare, [many.name] * alike, [many.steps] * alike, shares, own)

    def weights(shares: list[list[np.ndarray]]) -> list[np.ndarray]:
        return [np.concatenate(arrays) for arrays in zip(*shares, strict=True)]

    note = "two warm workers, a core each; the way to them and back is timed"
    return Fit(
        start=lambda: everywhere(_start),
        run=lambda _: everywhere(_train),
        weights=weights,
        steps=many.steps,
        note=note,
        members=members,
    )
