"""What a step costs where many models are trained at once: a table a problem, sizes in columns."""

import sys
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
from many import MANY, PROBLEMS
from tasks import table
from turns import Row, figure, same, take_turns


# (name, module of `peers` and a function in it, what a problem's name must hold)
ROWS = [
    ("Population.fit", "neuron_population.fit", ""),
    ("Population.fit, own draws", "neuron_population.own_draws", ""),
    ("Population.fit, 16x the steps", "neuron_population.long", "own batches"),
    ("bootstrap", "neuron_population.bootstrap", "counts"),
    ("Trainer.fit, one at a time", "neuron_one_by_one.fit", ""),
    ("Trainer.fit, two processes", "process_pool.fit", ""),
    ("Equinox ensemble, loop", "equinox_ensemble.loop", ""),
    ("Equinox ensemble, lax.scan", "equinox_ensemble.whole_run", ""),
    ("lax.scan, by hand", "lanes_scan.fit", "seed"),
    ("scikit-learn bagging", "sklearn_bagging.fit", "counts"),
    ("torch.func ensemble, one thread", "torch_ensemble.fit", ""),
    ("torch.func ensemble, all cores", "torch_ensemble.all_cores", ""),
]
# Members whose weights are worked out by hand, evenly spread, the first and the last among them.
CHECKED = 100


def measured(
    only: Sequence[str], turns: int, steps: int | None, members: int | None
) -> Iterator[str]:
    """The table of each problem, as soon as it is there."""
    wanted = lambda row: not only or any(o.lower() in str(row).lower() for o in only)
    chosen = [row for row in ROWS if wanted(row)]
    for problem, numbers in PROBLEMS.items():
        numbers = [n for n in numbers if members in (None, n)]
        if numbers:
            peers = [(name, peer) for name, peer, holds in chosen if holds in problem]
            columns = [_column(f"{problem}, {n}", peers, turns, steps) for n in numbers]
            yield f"#### {problem}\n\n{_table(numbers, columns)}\n"


def _column(task: str, peers: list[tuple[str, str]], turns: int, steps: int | None) -> list[Row]:
    early = [] if steps is None else [str(steps)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, peer in peers:
            print(f"{task}: {name} gets ready", file=sys.stderr)
            rows.append(Row(task, name, peer, folder, early, _verdict))
        take_turns(task, rows, turns)
    return rows


def _verdict(task: str, arrays: str) -> str:
    many = MANY[task]()
    with np.load(arrays) as saved:
        weights = saved["weights"]
        many = many.first(int(saved["steps"])).some(len(weights))
        batches = saved.get("batches", many.indices)
    chosen = np.unique(np.linspace(0, len(weights) - 1, CHECKED).round().astype(int))
    return same(weights[chosen], many.right(batches, chosen))


def _table(numbers: list[int], columns: list[list[Row]]) -> str:
    header = ["", *[f"{n:,} at once" for n in numbers], "furthest weight", "note"]
    lines = []
    for rows in zip(*columns, strict=True):
        # One that could not be measured says `missing` or `failed`, and why.
        cells = [figure(row.us()) if row.seconds else next(iter(row.ready)) for row in rows]
        notes = [row.note if row.seconds else next(iter(row.ready.values())) for row in rows]
        worst = max((row.verdict for row in rows if row.seconds), key=_badness, default="")
        lines.append([rows[0].name, *cells, worst, "; ".join(dict.fromkeys(notes))])
    return table(header, lines)


def _badness(verdict: str) -> tuple[bool, float]:
    """`NO` before `yes`, and then by the error; one that was not compared is last."""
    word, _, error = verdict.partition(", ")
    return word == "NO", float(error or 0)
