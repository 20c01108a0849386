"""A run that is killed at random instants, up to five times, and goes on each time."""

import shutil

import pytest
from test_resume_matrix import assert_same, process


SHORT, LONG = ("Adam", "neuron", "shuffle"), ("Adam", "MLP", "shuffle")
TOTAL, EVERY, MOST = 120, 2, 5


@pytest.fixture(scope="module")
def order(tmp_path_factory):
    with process(tmp_path_factory.mktemp("cache")) as started:
        yield started


def test_killed_at_random_instants(folder, tmp_path, order, soak):
    # On a real disk in the long form, so that syncs take their time.
    folder, program = (tmp_path, LONG) if soak.long else (folder, SHORT)
    how = {"total": TOTAL, "every": EVERY}
    # Compiled once, so that the second time is that of the fit.
    order(program, folder / "first", **how)
    whole = order(program, folder / "whole", **how)
    assert whole["end"]["place"][0] == TOTAL
    number, kills, fresh = soak.number(5, 1000), 0, 0
    for _ in range(number):
        here = folder / "runs"
        for _ in range(soak.draws.randint(1, MOST)):
            found = order(program, here, kill_after=soak.draws.uniform(0, whole["took"]), **how)
            if found["code"] == 0:
                break
            assert found["code"] == -9
            kills += 1
            fresh += not any(here.glob("step-*"))
        end = order(program, here, **how)
        assert end["code"] == 0
        assert_same(end["end"], whole["end"], "killed")
        shutil.rmtree(here)
    assert kills > number / 2
    soak.tell(
        f"{number} runs of {TOTAL} steps and {TOTAL // EVERY} checkpoints, killed {kills} times, "
        f"{fresh} of them before the first checkpoint: {number} ended with the same bits"
    )
