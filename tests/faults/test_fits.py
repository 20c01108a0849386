"""Many fits in one process leave nothing behind; `--soak` makes a thousand of them."""

import json
import pathlib
import subprocess
import sys

import pytest


SCRIPT = pathlib.Path(__file__).with_name("fits.py")


@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="needs /proc")
def test_many_fits_leave_nothing_behind(soak):
    fits = soak.number(110, 1000)
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(fits)], capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    print(found)
    soak.tell(f"{fits} fits in one process, before and after: {found}")
    before, after = found["before"], found["after"]
    # What the allocator keeps settles at some 15 MB, after a hundred fits as after three thousand;
    # a leak of the smallest trainer would be as much in a hundred.
    assert after.pop("megabytes") - before.pop("megabytes") < 40
    assert after == before
    assert before["traces and compilations"] > 0
