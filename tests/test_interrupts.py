"""Interrupts: Ctrl-C ends a fit at a step boundary, and leaves everything whole."""

import signal
import threading

import jax
import numpy as np
import pytest

import neuron
from neuron.interrupts import Interrupts


X = np.random.default_rng(4).normal(size=(40, 2)).astype(np.float32)
Y = X.sum(1)


@pytest.fixture(autouse=True)
def pythons_own_handler():
    """Whatever started the tests may have them ignore Ctrl-C, as `nohup` and `&` do."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def trainer(*callbacks):
    model = neuron.Dense(2, key=jax.random.key(1))
    return neuron.Trainer(model, optimizer=neuron.SGD(0.01), callbacks=callbacks, progress=False)


class Press(neuron.Callback):
    """Presses Ctrl-C after some steps, and notes what hears of it."""

    every = 7
    heard = ()

    def on_step_end(self, trainer, logs):
        if trainer.step == 14:
            signal.raise_signal(signal.SIGINT)

    def on_exception(self, trainer, error):
        self.heard = (*self.heard, type(error))

    def on_fit_end(self, trainer):
        self.heard = (*self.heard, "end")


def test_ctrl_c_leaves_a_whole_trainer():
    before = signal.getsignal(signal.SIGINT)
    press = Press()
    one = trainer(press)
    loader = neuron.DataLoader((X, Y), 8)
    with pytest.raises(KeyboardInterrupt):
        one.fit(loader, steps=1000)
    assert signal.getsignal(signal.SIGINT) is before
    assert press.heard == (KeyboardInterrupt, "end")
    assert one.step == len(one.history) == 14
    one.fit(loader, steps=6)
    whole = trainer()
    whole.fit(loader, steps=20)
    np.testing.assert_array_equal(one.model.weight, whole.model.weight)
    np.testing.assert_array_equal(one.history["loss"], whole.history["loss"])


def test_ctrl_c_from_another_thread_of_the_system():
    """As a terminal sends it, while the program runs."""
    one = trainer()
    loader = neuron.DataLoader((X, Y), 8)
    one.fit(loader, steps=1)
    timer = threading.Timer(
        0.3, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    )
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        one.fit(loader, steps=10**7)
    timer.join()
    assert one.step == len(one.history) > 1
    assert np.isfinite(one.model.weight).all()


def test_a_second_press_goes_to_the_handler_before():
    pressed = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            assert pressed == []
            signal.raise_signal(signal.SIGINT)
            assert pressed == [signal.SIGINT]
            with pytest.raises(KeyboardInterrupt):
                interrupts.check()
        signal.raise_signal(signal.SIGINT)
        assert pressed == [signal.SIGINT] * 2
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_handler_that_is_no_function_is_left_alone(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with Interrupts() as interrupts:
            assert signal.getsignal(signal.SIGINT) is handler
            interrupts.check()
    finally:
        signal.signal(signal.SIGINT, before)


def test_nothing_is_touched_off_the_main_thread():
    handlers = []

    def fit():
        class Note(neuron.Callback):
            def on_step_end(self, trainer, logs):
                handlers.append(signal.getsignal(signal.SIGINT))

        trainer(Note()).fit((X, Y), steps=1)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert handlers == [before]
