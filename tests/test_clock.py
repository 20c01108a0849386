"""The clock: every moment belongs to one stretch, and compiling to its own."""

import threading

import jax
import jax.numpy as jnp
import pytest

from neuron import clock as room
from neuron.clock import STRETCHES, Clock


@pytest.fixture
def hands(monkeypatch):
    """A time that passes when a test says so."""

    class Hands:
        now = 100.0

    monkeypatch.setattr(room.time, "perf_counter", lambda: Hands.now)
    return Hands


def told(clock):
    return {name: value for name, value in clock.seconds.items() if value}


def test_each_moment_is_charged_once(hands):
    clock = Clock()
    hands.now += 1
    with clock:
        hands.now += 2
        with clock("steps"):
            hands.now += 4
            with clock("input"):
                hands.now += 8
            hands.now += 16
            assert told(clock) == {"rest": 3, "steps": 20, "input": 8}
        hands.now += 32
    hands.now += 64
    assert told(clock) == {"rest": 35, "steps": 20, "input": 8}
    assert tuple(clock.seconds) == STRETCHES


def test_an_error_ends_its_stretch(hands):
    clock = Clock()

    def failing():
        with clock, clock("callbacks"):
            hands.now += 1
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert told(clock) == {"callbacks": 1}
    assert clock not in room._running


def test_compiling_is_taken_out_of_the_stretch_in_which_it_happens(hands):
    with Clock() as clock, clock("steps"):
        hands.now += 10
        # Three seconds from 107 on; then what they were part of: six from 104 on.
        room._note("/jax/core/compile/jaxpr_trace_duration", 3.0)
        room._note("/jax/core/compile/backend_compile_duration", 6.0, fun_name="f")
        room._note("/jax/checkpoint/write_duration", 5.0)
        hands.now += 1
        room._note("/jax/core/compile/backend_compile_duration", 1.0)
    assert told(clock) == {"compile": 7, "steps": 4}


def test_jax_tells_when_it_compiles():
    def function(x):
        return jnp.tanh(x) * 17.25

    compiled = jax.jit(function)
    with Clock() as clock:
        compiled(1.0).block_until_ready()
        first = clock.seconds["compile"]
        compiled(2.0).block_until_ready()
        assert clock.seconds["compile"] == first > 0


def test_compiling_of_another_thread_is_not_ours():
    with Clock() as clock:
        thread = threading.Thread(target=lambda: jax.jit(lambda x: x * 18.25)(1.0))
        thread.start()
        thread.join()
        assert clock.seconds["compile"] == 0


def test_two_clocks_in_one_thread_both_hear_of_it(hands):
    with Clock() as outer, outer("callbacks"):
        with Clock() as inner, inner("steps"):
            hands.now += 2
            room._note("/jax/core/compile/backend_compile_duration", 1.0)
        assert told(inner) == {"compile": 1, "steps": 1}
    assert told(outer) == {"compile": 1, "callbacks": 1}


def test_listening_begins_once():
    room._listen()
    before = room._listen.cache_info().misses
    for _ in range(3):
        with Clock():
            pass
    assert room._listen.cache_info().misses == before == 1
