"""However a run is stopped, and wherever, it ends with the same bits when it has gone on."""

import contextlib
import itertools
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys

import pytest
import runs

from neuron.trainer import resuming


AXES = (tuple(runs.OPTIMIZERS), runs.MODELS, runs.SAMPLERS, runs.STOPS, runs.WAYS)


def pairwise(axes, seed=0):
    """Cases in which each two values of two axes come together; few, and of few programs: the first
    three values of a case are what is compiled."""
    draws = random.Random(seed)
    cases = list(itertools.product(*axes))
    draws.shuffle(cases)
    pairs = lambda case: {
        ((i, case[i]), (j, case[j])) for i, j in itertools.combinations(range(len(axes)), 2)
    }
    left = set().union(*map(pairs, cases))
    chosen, compiled = [], set()
    while left:
        best = max(cases, key=lambda case: (len(pairs(case) & left), case[:3] in compiled))
        chosen.append(best)
        compiled.add(best[:3])
        left -= pairs(best)
    return chosen


@contextlib.contextmanager
def process(cache):
    """What makes runs in processes of their own."""
    # As a module: a model of `__main__` is another one.
    command = [sys.executable, "-c", "import runs; runs.serve()", str(cache)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    paths = f"{pathlib.Path(runs.__file__).parent}:{os.environ.get('PYTHONPATH', '')}"
    environment = {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen(command, env=environment, **pipes) as started:
        assert started.stdout.readline() == "ready\n"

        def order(case, directory, **how):
            how = {"case": case, "directory": str(directory), **how}
            started.stdin.write(json.dumps(how) + "\n")
            started.stdin.flush()
            return json.loads(started.stdout.readline())

        yield order
        started.stdin.close()


@pytest.fixture(scope="module")
def order(tmp_path_factory):
    with process(tmp_path_factory.mktemp("cache")) as started:
        yield started


def assert_same(end, whole, what):
    for part in whole:
        assert end[part] == whole[part], (what, part)


def test_pairs_are_complete():
    cases = pairwise(AXES)
    for i, j in itertools.combinations(range(len(AXES)), 2):
        assert {(case[i], case[j]) for case in cases} == set(itertools.product(AXES[i], AXES[j]))
    assert len(cases) < 45


@pytest.mark.parametrize("optimizer", runs.OPTIMIZERS)
def test_stopped_and_resumed(folder, order, soak, optimizer):
    cases = list(itertools.product(*AXES)) if soak.long else pairwise(AXES, soak.seed)
    cases = [case for case in cases if case[0] == optimizer]
    if soak.long:
        cases = soak.draws.sample(cases, min(len(cases), soak.number(1, len(cases))))
    # One after the other of one program.
    for program, of_these in itertools.groupby(sorted(cases, key=lambda c: c[:3]), lambda c: c[:3]):
        whole = runs.end_of(runs.fit(program, folder / "whole"))
        assert whole["place"][0] == runs.TOTAL
        for *_, stop, way in of_these:
            here = folder / "runs"
            if way == "SIGKILL":
                assert order(program, here, stop=stop, way=way)["code"] == -9
            else:
                stopped = runs.fit(program, here, stop=stop, way=way)
                assert stopped.step == stop
            end = runs.end_of(runs.fit(program, here))
            assert_same(end, whole, (program, stop, way))
            shutil.rmtree(here)
        shutil.rmtree(folder / "whole")
    soak.tell(f"{len(cases)} runs stopped and resumed, {len(cases)} of them with the same bits")


def test_one_core_and_two(folder, order, soak):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("there is one core")
    programs = [("Adam", "MLP", "shuffle")]
    if soak.long:
        programs = list(itertools.product(*AXES[:3]))
    for program in programs:
        # The process of the tests has all cores.
        whole = runs.end_of(runs.fit(program, folder / "two"))
        assert_same(order(program, folder / "one", cores=cores[:1])["end"], whole, program)
        # Begun on two cores, and ended on one; and the other way round.
        for name, first, second in (("there", cores, cores[:1]), ("back", cores[:1], cores)):
            if name == "there" or soak.long:
                order(program, folder / name, cores=first, stop=9, way="SIGKILL")
                end = order(program, folder / name, cores=second)["end"]
                assert_same(end, whole, program)
        shutil.rmtree(folder)
        folder.mkdir()
    soak.tell(f"{len(programs)} programs on one core, on two, on one and then the other: same bits")


# Of these some of each part of a run are in: what is compared would show it.
@pytest.mark.parametrize("lost", ["opt_state", "average", "history", "callbacks"])
def test_what_a_checkpoint_may_not_lose(folder, monkeypatch, lost):
    program = ("Adam", "MLP", "shuffle")
    whole = runs.end_of(runs.fit(program, folder / "whole"))
    runs.fit(program, folder / "runs", stop=9, way="Ctrl-C")
    put_back = resuming.put_back

    def loses(trainer, saved):
        before = trainer.snapshot()
        put_back(trainer, saved)
        if lost in ("opt_state", "average"):
            kept = {lost: getattr(before, lost)}
            trainer._state = runs.eqx.tree_at(
                lambda s: getattr(s, lost), trainer._state, kept[lost]
            )
        elif lost == "history":
            trainer.history._columns["loss"].values[:0]
            trainer.history._columns["loss"]._buffer[3] += 1
        else:
            saved.callbacks["EarlyStopping"]["best"]["value"] = 1.0

    monkeypatch.setattr(resuming, "put_back", loses)
    with pytest.raises(AssertionError):
        assert_same(runs.end_of(runs.fit(program, folder / "runs")), whole, lost)
