"""How long the harness runs, and the figures that it prints."""

import os
import pathlib
import random
import tempfile

import pytest
from server import Server


def pytest_addoption(parser):
    parser.addoption(
        "--soak",
        type=float,
        nargs="?",
        const=100.0,
        metavar="PERCENT",
        help="the long form of the fault harness, or that share of it",
    )


class Soak:
    """The short form, or a share of the long one; and what was counted in it."""

    def __init__(self, config, record):
        self._percent = config.getoption("--soak", default=None)
        self.seed = int(os.environ.get("SEED", 0))
        self.draws = random.Random(self.seed)
        self.long = self._percent is not None
        self.tell = lambda text: record("figure", text)

    def number(self, short, long):
        """How many of something: never fewer than in the short form."""
        return max(short, round(long * self._percent / 100)) if self.long else short


@pytest.fixture
def soak(request, record_property):
    made = Soak(request.config, record_property)
    # pytest shows this where a test fails.
    print(f"soak: SEED={made.seed}")
    return made


@pytest.fixture
def folder():
    """In memory where that can be: what a killed process leaves does not depend on the disk."""
    there = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=there) as made:
        yield pathlib.Path(made)


@pytest.fixture(scope="module")
def server():
    with Server() as started:
        yield started


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--soak", default=None) is None:
        return
    terminalreporter.section("figures of the fault harness")
    command = " ".join(map(str, config.invocation_params.args))
    terminalreporter.line(f"SEED={os.environ.get('SEED', 0)} python -m pytest {command}")
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "figure":
                    terminalreporter.line(f"{report.head_line}: {value} ({report.duration:.0f} s)")
