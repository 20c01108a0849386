"""A process that saves is killed just before each of its calls into the system."""

import re
import signal

import bare
import pytest
from server import acknowledged, calls_of, can_trace, check, left


# More than any sweep has calls.
MANY = 2000
KINDS = {"openat", "write", "fsync", "close", "rename", "unlink", "mkdir"}


def swept(server, folder, run):
    """Kills at call 1, 2, ... until nothing is killed; of each folder the next process goes on."""
    for number in range(1, MANY):
        here, log = folder / f"{number}" / "runs" / "first", folder / f"{number}.log"
        (folder / f"{number}").mkdir(parents=True)
        code = run(here, log, number)
        check(here, acknowledged(log))
        if code == 0:
            assert acknowledged(log) == {"step": 3, "best": 3}
            return number - 1
        assert code == -signal.SIGKILL
        # What the next process finds does not hinder it, and is cleared away.
        assert server.order(here, log, how="kill", when=0, last=4) == 0
        check(here, acknowledged(log))
        assert acknowledged(log) == {"step": 4, "best": 4}
        assert not left(here)
    raise AssertionError("the sweep has no end")


@pytest.mark.parametrize("limit", [None, 700], ids=["whole writes", "writes cut short"])
def test_killed_before_each_call_of_os(server, folder, soak, limit):
    kill = lambda here, log, n: server.order(here, log, how="kill", when=n, limit=limit)
    kills = swept(server, folder, kill)
    assert kills > 40
    soak.tell(f"{kills} kills, 0 unreadable states, 0 acknowledged checkpoints lost")


def test_killed_before_each_system_call(server, folder, soak):
    if not can_trace():
        pytest.skip("strace is not there, or may not attach")
    (folder / "all" / "0").mkdir(parents=True)
    # As deep as the folders of the sweep, whose parents are looked at.
    deep = folder / "all" / "0" / "runs" / "first"
    # Of files and of what is open: others (gettid) are not made each time.
    code, out = server.traced(deep, folder / "all.log", "trace=%file,%desc")
    assert code == 0
    calls = calls_of(out)
    assert set(calls) >= KINDS
    for name, number in calls.items():

        def kill(here, log, n, name=name):
            code, out = server.traced(here, log, f"inject={name}:signal=KILL:when={n}")
            if code:
                # Strace did not see that call return: it was not made.
                assert re.search(rf" {name}\(.*= \?$", out.splitlines()[-2])
            return code

        # Each call of a kind counts by itself.
        assert swept(server, folder / name, kill) == number
    soak.tell(
        f"{calls.total()} kills over {len(calls)} system calls, 0 unreadable states, "
        "0 acknowledged checkpoints lost"
    )


def test_the_check_sees_what_is_lost(server, tmp_path):
    log = tmp_path / "log"
    assert server.order(tmp_path / "runs", log, how="kill", when=0) == 0
    file = tmp_path / "runs" / "step-000000000003.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(UserWarning, match="skipped"):
        check(tmp_path / "runs", acknowledged(log))
    file.unlink()
    with pytest.raises(AssertionError):
        check(tmp_path / "runs", acknowledged(log))
    file.write_bytes(whole)
    check(tmp_path / "runs", acknowledged(log))
    assert len(list((tmp_path / "runs").glob("step-*"))) == bare.KEPT
