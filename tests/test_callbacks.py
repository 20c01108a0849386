"""Callbacks: which hooks are called, in what order, and what the built-in ones do."""

import logging

import jax
import numpy as np
import pytest

import neuron


rng = np.random.default_rng(3)
X = rng.normal(size=(40, 2)).astype(np.float32)
Y = (X @ np.array([3.0, 4.0]) + 5 + 0.3 * rng.normal(size=40)).astype(np.float32)


def trainer(*callbacks, rate=0.05, **options):
    model = neuron.Dense(2, key=jax.random.key(1))
    options = {"progress": False} | options
    return neuron.Trainer(model, optimizer=neuron.SGD(rate), callbacks=callbacks, **options)


class Diary(neuron.Callback):
    every = 3

    def __init__(self, lines=None):
        self.lines = [] if lines is None else lines

    def note(self, hook, trainer, logs=()):
        self.lines.append((hook, trainer.step, trainer.epoch, *sorted(logs)))

    def on_fit_begin(self, trainer):
        self.note("fit_begin", trainer)

    def on_epoch_begin(self, trainer):
        self.note("epoch_begin", trainer)

    def on_step_end(self, trainer, logs):
        self.note("step_end", trainer, logs)

    def on_validation_end(self, trainer, logs):
        self.note("validation_end", trainer, logs)

    def on_epoch_end(self, trainer, logs):
        self.note("epoch_end", trainer, logs)

    def on_fit_end(self, trainer):
        self.note("fit_end", trainer)

    def on_exception(self, trainer, error):
        self.note(f"exception {error}", trainer)


def test_hooks_come_in_order():
    diary = Diary()
    trainer(diary).fit(neuron.DataLoader((X, Y), 20), epochs=2, validation=(X, Y))
    row = ("epoch", "learning_rate", "loss", "seconds", "step", "val_loss")
    assert diary.lines == [
        ("fit_begin", 0, 0),
        ("epoch_begin", 0, 0),
        ("validation_end", 2, 1, "val_loss"),
        ("epoch_end", 2, 1, *row),
        ("epoch_begin", 2, 1),
        ("step_end", 3, 1, "learning_rate", "loss"),
        ("validation_end", 4, 2, "val_loss"),
        ("epoch_end", 4, 2, *row),
        ("fit_end", 4, 2),
    ]


def test_every_none_looks_when_the_host_does():
    diary = Diary()
    diary.every = None
    trainer(diary).fit(neuron.DataLoader((X, Y), 20), steps=3)
    assert ("step_end", 2, 1, "learning_rate", "loss") in diary.lines
    assert diary.lines[-2][:2] == ("step_end", 3)


def test_stop_ends_the_fit_with_its_reason():
    class Enough(neuron.Callback):
        every = 4

        def on_step_end(self, trainer, logs):
            trainer.stop("enough")

    one = trainer(Enough())
    one.fit(neuron.DataLoader((X, Y), 20), epochs=50)
    assert (one.step, one.stopped) == (4, "enough")
    one.fit(neuron.DataLoader((X, Y), 20), steps=1)
    assert (one.step, one.stopped) == (5, None)


@pytest.mark.parametrize(
    "hook", ["on_fit_begin", "on_epoch_begin", "on_step_end", "on_validation_end", "on_epoch_end"]
)
def test_an_error_reaches_the_user_unchanged_and_everybody_hears_of_it(hook):
    error = ZeroDivisionError("mine")

    class Broken(neuron.Callback):
        pass

    def fail(self, *arguments):
        raise error

    setattr(Broken, hook, fail)
    before, after = Diary(), Diary()
    one = trainer(before, Broken(), after)
    with pytest.raises(ZeroDivisionError) as caught:
        one.fit(neuron.DataLoader((X, Y), 20), epochs=2, validation=(X, Y))
    assert caught.value is error
    for diary in (before, after):
        assert [line[0] for line in diary.lines[-2:]] == ["exception mine", "fit_end"]
    assert len(one.history) == one.step


def test_errors_while_closing_do_not_hide_the_first():
    class Worse(neuron.Callback):
        def on_fit_end(self, trainer):
            raise RuntimeError("later")

    class Bad(neuron.Callback):
        def on_step_end(self, trainer, logs):
            raise ZeroDivisionError("first")

    diary = Diary()
    with pytest.raises(ZeroDivisionError, match="first") as caught:
        trainer(Worse(), Bad(), diary).fit((X, Y), steps=2)
    assert "RuntimeError('later')" in caught.value.__notes__[0]
    assert diary.lines[-1][0] == "fit_end"
    with pytest.raises(RuntimeError, match="later"):
        trainer(Worse(), diary).fit((X, Y), steps=2)


def test_early_stopping_waits_and_restores_the_best():
    class Rise(neuron.Callback):
        """Makes the model worse from the third epoch on."""

        def on_epoch_end(self, trainer, logs):
            if trainer.epoch == 3:
                self.best = np.asarray(trainer.model.weight)
                self.loss = logs["val_loss"]
                trainer.set(learning_rate=3.0)

    rise, stopping = Rise(), neuron.EarlyStopping(patience=2)
    one = trainer(rise, stopping, rate=0.01)
    one.fit(neuron.DataLoader((X, Y), 20), epochs=50, validation=(X, Y))
    assert one.epoch == 5
    assert stopping.best_epoch == 3
    assert "val_loss has not improved" in one.stopped
    np.testing.assert_array_equal(one.model.weight, rise.best)
    assert (
        one.evaluate(neuron.DataLoader((X, Y), 256, sampler=neuron.Bootstrap()))["loss"]
        == stopping.best
    )


@pytest.mark.parametrize(
    ("min_delta", "mode", "epochs"), [(0.0, "min", 20), (1e9, "min", 3), (0.0, "max", 3)]
)
def test_early_stopping_knows_what_better_means(min_delta, mode, epochs):
    stopping = neuron.EarlyStopping("loss", patience=2, min_delta=min_delta, mode=mode)
    one = trainer(stopping, rate=0.001)
    one.fit(neuron.DataLoader((X, Y), 40, sampler=neuron.Sequential()), epochs=20)
    assert one.epoch == epochs


def test_early_stopping_that_keeps_the_last():
    one = trainer(neuron.EarlyStopping("loss", patience=1, mode="max", restore_best=False))
    one.fit(neuron.DataLoader((X, Y), 40, sampler=neuron.Sequential()), epochs=20)
    other = trainer()
    other.fit(neuron.DataLoader((X, Y), 40, sampler=neuron.Sequential()), epochs=2)
    np.testing.assert_array_equal(one.model.weight, other.model.weight)


def test_print_log_writes_ten_lines(caplog):
    with caplog.at_level(logging.INFO, "neuron"):
        trainer(neuron.PrintLog()).fit(neuron.DataLoader((X, Y), 20), steps=200)
    assert len(caplog.messages) == 10
    assert caplog.messages[-1].startswith("step 200/200  learning_rate 0.05  loss ")


def test_print_log_reaches_standard_output_where_nobody_set_logging_up(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    trainer(neuron.PrintLog(3)).fit(neuron.DataLoader((X, Y), 20), steps=9, validation=(X, Y))
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("step")).startswith("step 3/9")
    assert any(line.startswith("epoch 1  val_loss ") for line in lines)
    assert logging.getLogger("neuron").handlers == []


def test_the_bar_counts_every_step(capsys):
    trainer(progress=True).fit(neuron.DataLoader((X, Y), 20), steps=500)
    err = capsys.readouterr().err
    assert "500/500" in err
    assert "loss" in err
    trainer().fit(neuron.DataLoader((X, Y), 20), steps=5)
    assert capsys.readouterr().err == ""


def test_no_bar_without_a_terminal(capsys):
    trainer(progress=None).fit(neuron.DataLoader((X, Y), 20), steps=5)
    assert capsys.readouterr().err == ""


def test_the_bar_is_closed_by_an_error():
    class Bad(neuron.Callback):
        def on_step_end(self, trainer, logs):
            raise ZeroDivisionError

    bar = neuron.ProgressBar()
    with pytest.raises(ZeroDivisionError):
        trainer(bar, Bad()).fit((X, Y), steps=2)
    assert bar._bar is None
