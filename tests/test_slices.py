"""Slices: bounded, and steered by what was measured."""

import time

import neuron.slices
from neuron.run import CAPACITY
from neuron.slices import Pace, Slices


def fake_clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(
        neuron.slices, "time", type("Clock", (), {"perf_counter": staticmethod(lambda: now[0])})
    )
    return now


def test_the_first_guess_is_within_bounds():
    assert Slices(1).steps() > 1000
    assert Slices(10**12).steps() == 1


def test_slices_settle_at_a_tenth_of_a_second(monkeypatch):
    now = fake_clock(monkeypatch)
    for seconds_a_step in (1e-3, 1e-4, 10.0):
        slices = Slices(5_000)
        for _ in range(6):
            steps = slices.steps()
            now[0] += steps * seconds_a_step
            assert slices.took(steps) > 0
        expected = max(1, int(0.1 / seconds_a_step))
        assert abs(slices.steps() - expected) <= 1


def test_fast_steps_fill_the_buffer(monkeypatch):
    now = fake_clock(monkeypatch)
    slices = Slices(10**12)
    for expected in (1, 64, 4096, CAPACITY, CAPACITY):
        assert slices.steps() == expected
        now[0] += expected * 1e-7
        slices.took(expected)


def test_an_evaluation_is_cut_as_steps_are(monkeypatch):
    """Of batches that take about a millisecond each; the host looks before each piece."""
    now, looks, waits = fake_clock(monkeypatch), [], []
    pace = Pace(10**12, lambda: looks.append(now[0]))
    pieces = []
    for _ in range(2):
        before = len(pieces)

        def wait(before=before):
            waits.append(now[0])
            return len(pieces) > before

        for first, last in pace(300, wait):
            pieces.append((first, last))
            now[0] += (last - first) / 1024
        # Training goes on between the two, which teaches nothing of batches.
        now[0] += 100
    first = [(0, 1), (1, 65), (65, 167), (167, 269), (269, 300)]
    assert pieces == [*first, (0, 102), (102, 204), (204, 300)]
    assert looks == waits
    assert len(looks) == len(pieces)


def test_no_steps_teach_nothing():
    slices = Slices(10**12)
    slices.steps()
    time.sleep(0)
    slices.took(0)
    assert slices.steps() == 1
