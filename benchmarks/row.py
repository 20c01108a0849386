"""One row of a table, in a process of its own: `python row.py TASK PEER.VARIANT ARRAYS [STEPS]`.

It trains once, which compiles, leaves its weights and batches in ARRAYS, and says that it is
ready. Then each line on standard input is a turn, answered by the seconds of its fits.
"""

import importlib
import json
import os
import sys
from typing import Any

import numpy as np
from many import MANY, Many, flat
from tasks import TASKS, Fit, Task, clock


def prepared(task_name: str, peer: str, arrays: str, steps: str | None = None) -> Fit | None:
    """How the peer trains; `None` if it is not installed, which is reported."""
    module, variant = peer.split(".")
    try:
        build = getattr(importlib.import_module(f"peers.{module}"), variant)
        task = (TASKS | MANY)[task_name]()
        task = task.first(int(steps or task.steps))
        fit: Fit = build(task)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        say({"missing": getattr(error, "name", None) or error.filename})
        return None
    result = fit.run(fit.start())
    checked = fit
    if task.checked < task.steps or task.dropout:
        task = task.to_check()
        checked = build(task)
        result = checked.run(checked.start())
    save(arrays, checked, task, result)
    say({"steps": fit.steps * fit.members, "note": fit.note, "same_task": fit.same_task})
    return fit


def save(arrays: str, fit: Fit, task: Task | Many, result: Any) -> None:
    if isinstance(task, Many):
        own = {} if fit.indices is None else {"batches": fit.indices}
        np.savez(arrays, steps=fit.steps, weights=flat(fit.weights(result)), **own)
        return
    batches = task.indices[: fit.steps] if fit.indices is None else fit.indices
    weights = np.concatenate([np.ravel(w) for w in fit.weights(result)])
    np.savez(arrays, batches=batches, weights=weights)


def say(what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    # All peers run on the CPU; JAX would otherwise take an accelerator where there is one.
    os.environ["JAX_PLATFORMS"] = "cpu"
    fit = prepared(*sys.argv[1:])
    for _ in sys.stdin:
        if fit is not None:
            say(clock(fit))
