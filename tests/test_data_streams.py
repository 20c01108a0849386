"""Streams: batches in an order of their own, with and without an end."""

import itertools
import threading
import time
import traceback

import equinox as eqx
import jax
import numpy as np
import pytest
from helpers import line

import neuron
from neuron.data import feed


x, y = line(96)


def batches(size=16, rows=96):
    return [(x[i : i + size], y[i : i + size]) for i in range(0, rows, size)]


class Again:
    """A re-iterable, which counts what is asked of it."""

    def __init__(self, batches):
        self.made, self.begun, self.items = 0, 0, batches

    def __iter__(self):
        self.begun += 1
        for batch in self.items:
            self.made += 1
            yield batch


class Sized(Again):
    def __len__(self):
        return len(self.items)


def trainer(**options):
    model = neuron.Dense(2, key=jax.random.key(0))
    return neuron.Trainer(model, optimizer=neuron.SGD(0.1), progress=False, **options)


def losses(data, *fits, **options):
    one = trainer()
    for fit in fits:
        one.fit(neuron.DataLoader(data, **options), **fit)
    return one.history["loss"]


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "neuron-reader"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not readers()


@pytest.fixture
def short_chunks(monkeypatch):
    monkeypatch.setattr(feed, "_CHUNK_STEPS", 4)


EXPECTED = losses((x, y), {"epochs": 3}, batch_size=16, sampler=neuron.Sequential())


@pytest.mark.parametrize("kind", [Sized, Again])
@pytest.mark.parametrize("fit", [{"epochs": 3}, {"steps": 18}])
def test_a_stream_trains_as_its_rows_do(kind, fit, short_chunks):
    one = trainer()
    history = one.fit(neuron.DataLoader(kind(batches())), **fit)
    np.testing.assert_array_equal(history["loss"], EXPECTED)
    assert (one.epoch, one.step, one.stopped) == (3, 18, None)
    assert [(row["epoch"], row["step"]) for row in history.epochs] == [(1, 6), (2, 12), (3, 18)]


@pytest.mark.parametrize("kind", [Sized, Again])
@pytest.mark.parametrize("given", [None, 4, 6, 9])
def test_a_fit_goes_on_where_the_last_one_ended(kind, given, short_chunks):
    loader = neuron.DataLoader(kind(batches()), steps_per_epoch=given)
    one = trainer()
    for steps in (1, 4, 1, 5, 7):
        one.fit(loader, steps=steps)
    np.testing.assert_array_equal(one.history["loss"], EXPECTED)


@pytest.mark.parametrize("given", [None, 50])
def test_batches_that_were_taken_are_not_transformed_again(given):
    """Only those of the last chunks that nobody had trained on."""
    made = []

    def noted(rows):
        made.append(float(rows[1][0]))
        return rows

    stream = Sized(batches() * 20)
    loader = neuron.DataLoader(stream, steps_per_epoch=given, host_transform=noted)
    one = trainer()
    one.fit(loader, steps=30)
    assert len(made) == 31  # the first was looked at, and then trained on
    one.fit(loader, steps=3)
    assert len(made) == 34


class Skipping(neuron.Stream):
    """Says from where it was asked to go on."""

    def __init__(self):
        self.asked = []

    def batches(self, epoch):
        return iter(batches())

    def batches_from(self, epoch, first):
        self.asked.append((epoch, first))
        return iter(batches()[first:])


@pytest.mark.parametrize("given", [None, 6, 4])
def test_a_stream_of_ones_own_may_leave_out_what_was_taken(given):
    stream, one = Skipping(), trainer()
    loader = neuron.DataLoader(stream, steps_per_epoch=given)
    for steps in (8, 10):
        one.fit(loader, steps=steps)
    np.testing.assert_array_equal(one.history["loss"], EXPECTED)
    assert (1, 2) in stream.asked


class Position:
    """An iterator that tells where it is, and goes there, as grain's do."""

    def __init__(self, made):
        self.place, self.made = 0, made

    def __iter__(self):
        return self

    def __next__(self):
        if self.place == 600:
            raise StopIteration
        self.made.append(self.place)
        self.place += 1
        return batches()[(self.place - 1) % 6]

    def get_state(self):
        return {"place": self.place}

    def set_state(self, state):
        self.place = state["place"]


class Checkpointable:
    def __init__(self):
        self.made = []

    def __iter__(self):
        return Position(self.made)


def test_a_checkpointable_iterator_goes_on_from_its_state():
    data, one = Checkpointable(), trainer()
    loader = neuron.DataLoader(data)
    one.fit(loader, steps=500)
    data.made.clear()
    one.fit(loader, steps=10)
    # From the last mark on, and not from the start.
    assert data.made[:2] == [448, 449]
    whole = trainer()
    whole.fit(neuron.DataLoader(Checkpointable()), steps=510)
    np.testing.assert_array_equal(one.history["loss"], whole.history["loss"])


def test_epochs_of_a_given_number_of_steps_run_on(short_chunks):
    one = trainer()
    loader = neuron.DataLoader(Again(batches()), steps_per_epoch=4)
    assert len(loader) == 4
    one.fit(loader, epochs=4)
    np.testing.assert_array_equal(one.history["loss"], EXPECTED[:16])
    assert [row["step"] for row in one.history.epochs] == [4, 8, 12, 16]


def test_a_stream_without_an_end_is_evaluated_on_one_epoch():
    class Endless(neuron.Stream):
        def batches(self, epoch):
            return itertools.cycle(batches())

    one = trainer()
    loader = neuron.DataLoader(Endless(), steps_per_epoch=6)
    one.fit(loader, epochs=3, validation=loader)
    np.testing.assert_array_equal(one.history["loss"], EXPECTED)
    assert one.evaluate(loader) == pytest.approx(one.evaluate((x, y)), rel=1e-6)
    assert one.predict(loader).shape == (96,)


def test_a_short_last_batch_counts_by_its_rows(short_chunks):
    expected = losses((x, y), {"epochs": 3}, batch_size=20, sampler=neuron.Sequential())
    for kind in (Sized, Again):
        one = trainer()
        one.fit(neuron.DataLoader(kind(batches(20))), epochs=3)
        np.testing.assert_array_equal(one.history["loss"], expected)
        assert one.epoch == 3


def test_a_short_last_batch_can_be_left_out(short_chunks):
    expected = losses(
        (x, y), {"epochs": 3}, batch_size=20, sampler=neuron.Sequential(), drop_last=True
    )
    for kind in (Sized, Again):
        one = trainer()
        one.fit(neuron.DataLoader(kind(batches(20)), drop_last=True), epochs=3)
        np.testing.assert_array_equal(one.history["loss"], expected)
        assert (one.epoch, one.stopped) == (3, None)


@pytest.mark.parametrize("kind", [Sized, Again])
def test_several_batches_a_step(kind, short_chunks):
    expected = trainer(accumulate=2)
    expected.fit(neuron.DataLoader((x, y), 16, sampler=neuron.Sequential()), epochs=3)
    one = trainer(accumulate=2)
    one.fit(neuron.DataLoader(kind(batches())), steps=4)
    one.fit(neuron.DataLoader(kind(batches())), steps=5)
    np.testing.assert_allclose(one.history["loss"][:3], expected.history["loss"][:3], rtol=1e-6)


def test_one_buffer_for_all_batches():
    """Each batch is written over the last one, as readers of files like to do."""

    class OneBuffer:
        def __iter__(self):
            inputs, targets = np.empty((16, 2), np.float32), np.empty(16, np.float32)
            for a, b in batches():
                inputs[:], targets[:] = a, b
                yield inputs, targets

    loader = neuron.DataLoader(OneBuffer())
    one = trainer()
    one.fit(loader, epochs=3)
    np.testing.assert_array_equal(one.history["loss"], EXPECTED)
    assert one.evaluate(loader) == pytest.approx(one.evaluate((x, y)), rel=1e-6)
    np.testing.assert_allclose(one.predict(loader), one.predict(x), rtol=1e-6)
    several = trainer(accumulate=3)
    several.fit(loader, steps=2)
    whole = trainer(accumulate=3)
    whole.fit(neuron.DataLoader((x, y), 16, sampler=neuron.Sequential()), steps=2)
    np.testing.assert_allclose(several.history["loss"], whole.history["loss"], rtol=1e-5)


@pytest.mark.parametrize("size", [10, 16, 96])
@pytest.mark.parametrize("batch_size", [7, 16, 256])
def test_predictions_do_not_depend_on_the_batches(size, batch_size):
    one = trainer()
    loader = neuron.DataLoader(Again(batches(size)))
    expected = one.predict(x, batch_size=batch_size)
    np.testing.assert_array_equal(one.predict(loader, batch_size=batch_size), expected)


# Generators.


def generator(number=6):
    yield from batches()[:number]


def test_a_generator_is_good_for_one_fit():
    one = trainer()
    loader = neuron.DataLoader(generator())
    one.fit(loader, steps=4)
    np.testing.assert_array_equal(one.history["loss"], EXPECTED[:4])
    for again in (
        lambda: one.fit(loader, steps=1),
        lambda: one.evaluate(loader),
        lambda: one.predict(loader),
    ):
        with pytest.raises(ValueError, match="read before, and a generator can be read once"):
            again()
    assert one.step == 4
    with pytest.raises(ValueError, match="at the end of each epoch; got a generator"):
        one.fit((x, y), epochs=1, validation=neuron.DataLoader(generator()))


def test_a_generator_can_be_evaluated_once():
    one = trainer()
    loader = neuron.DataLoader(generator())
    assert one.evaluate(loader) == pytest.approx(one.evaluate((x, y)), rel=1e-6)
    with pytest.raises(ValueError, match="once only"):
        one.evaluate(loader)


def test_an_error_before_the_first_step_leaves_a_generator_unread():
    one = trainer()
    loader = neuron.DataLoader(generator())
    with pytest.raises(ValueError, match="not both"):
        one.fit(loader, steps=1, epochs=1)
    one.fit(loader, epochs=1)
    np.testing.assert_array_equal(one.history["loss"], EXPECTED[:6])


def test_a_generator_is_closed_with_the_fit():
    closed = []

    def held():
        try:
            yield from itertools.cycle(batches())
        finally:
            closed.append(threading.current_thread().name)

    trainer().fit(neuron.DataLoader(held()), steps=3)
    assert closed == ["neuron-reader"]


# Ends.


@pytest.mark.parametrize(
    ("data", "fit", "reason"),
    [
        (generator, {"steps": 20}, "The data ended at step 6."),
        (generator, {"epochs": 3}, "The data ended at step 6."),
        (lambda: Sized(batches()), {"steps": 6}, None),
    ],
)
def test_a_stream_that_ends_early_says_where(data, fit, reason):
    one = trainer()
    history = one.fit(neuron.DataLoader(data()), **fit)
    assert (one.stopped, one.step, len(history)) == (reason, 6, 6)
    np.testing.assert_array_equal(history["loss"], EXPECTED[:6])


def test_a_stream_that_keeps_not_its_word_says_where():
    class Short(Sized):
        def __len__(self):
            return 8

    one = trainer()
    one.fit(neuron.DataLoader(Short(batches())), epochs=2)
    assert one.stopped == "The data ended after batch 6 of 8 of epoch 1, at step 6."
    assert one.step == 6
    given = trainer()
    given.fit(neuron.DataLoader(generator(), steps_per_epoch=4), epochs=2)
    assert given.stopped == "The data ended after batch 2 of 4 of epoch 2, at step 6."


def test_no_batch_at_all_is_refused():
    for data in (Again([]), iter(()), Sized([])):
        one = trainer()
        with pytest.raises(ValueError, match="at least one batch; got none"):
            one.fit(neuron.DataLoader(data), steps=1)
        assert one.step == 0


# Batches that are not alike.

ODD = {
    "longer": (
        (np.ones((17, 2), np.float32), np.ones(17, np.float32)),
        "17 rows, the first has 16",
    ),
    "wider": ((np.ones((16, 3), np.float32), y[:16]), r"inputs float32\[3\].*inputs float32\[2\]"),
    "of another type": ((np.ones((16, 2), np.int32), y[:16]), r"inputs int32\[2\]"),
    "without targets": ((x[:16],), "targets float32"),
    "of another structure": (({"a": x[:16]}, y[:16]), r"inputs\['a'\]"),
    "with a weight": ((x[:16], y[:16], y[:16] ** 2), "weight float32"),
    "of unequal lengths": ((x[:16], y[:15]), "equally many rows"),
    "of no rows": ((x[:0], y[:0]), "at least one row"),
    "with nan": ((x[:16], np.full(16, np.nan, np.float32)), "targets has nan in row 0 of"),
    "of words": ((np.array(["a"] * 16), y[:16]), "<U1"),
    "a word": ("ab", "dtype <U2"),
    "of four": ((x, x, x, x), "a tuple of 4"),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("kind", [Sized, Again])
def test_another_batch_in_the_middle_is_named(name, kind, short_chunks):
    odd, point = ODD[name]
    data = batches()
    data.insert(4, odd)
    one = trainer()
    with pytest.raises((ValueError, TypeError), match=point) as caught:
        one.fit(neuron.DataLoader(kind(data)), epochs=2)
    told = " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert "batch 4 of epoch 1" in told
    # What came before it was trained on, as far as it had been handed over.
    assert one.step <= 4
    np.testing.assert_array_equal(one.history["loss"], EXPECTED[: one.step]) if one.step else None
    one.fit((x, y), steps=3)


# Errors.


class Mine(Exception):
    pass


@pytest.mark.parametrize("error", [Mine, OSError, KeyboardInterrupt, SystemExit, ValueError])
@pytest.mark.parametrize("at", [0, 5])
def test_an_error_in_the_stream_arrives_as_it_is(error, at, short_chunks):
    def breaks_here():
        yield from batches()[:at]
        raise error("the disk is gone")

    one = trainer()
    with pytest.raises(error, match="the disk is gone") as caught:
        one.fit(neuron.DataLoader(breaks_here()), steps=20)
    assert type(caught.value) is error
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "breaks_here" in frames
    assert one.step == len(one.history) <= at
    if one.step:
        np.testing.assert_array_equal(one.history["loss"], EXPECTED[: one.step])
    one.fit((x, y), steps=3)
    assert np.isfinite(one.model.weight).all()


def test_a_stop_iteration_of_an_iterator_is_its_end_and_elsewhere_an_error():
    class Ending:
        def __init__(self):
            self.left = iter(batches()[:3])

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.left)

    one = trainer()
    one.fit(neuron.DataLoader(Ending()), steps=5)
    assert one.stopped == "The data ended at step 3."

    left = iter(range(3))

    def runs_out(rows):
        next(left)
        return rows

    with pytest.raises(RuntimeError, match="StopIteration"):
        trainer().fit(neuron.DataLoader(Again(batches()), host_transform=runs_out), steps=5)


def test_an_error_in_an_evaluation_arrives_as_it_is():
    class Broken(Again):
        def __iter__(self):
            yield from batches()[:3]
            raise Mine("gone")

    one = trainer()
    for call in (one.evaluate, one.predict):
        with pytest.raises(Mine, match="gone"):
            call(neuron.DataLoader(Broken([])))
    with pytest.raises(Mine, match="gone"):
        one.fit((x, y), epochs=2, validation=neuron.DataLoader(Broken([])))
    # 96 rows by 32.
    assert one.step == 3


# What looks at a run of which nobody knows the end.


def test_an_epoch_of_unknown_length_is_looked_at_where_it_ends(short_chunks):
    class Look(neuron.Callback):
        seen = ()

        def on_epoch_begin(self, trainer):
            self.seen += (("begin", trainer.epoch, trainer.step),)

        def on_validation_end(self, trainer, logs):
            self.seen += (("validation", trainer.epoch, round(logs["val_loss"], 4)),)

        def on_epoch_end(self, trainer, logs):
            self.seen += (("end", trainer.epoch, logs["step"]),)

    looks = []
    for data in (Sized(batches(20)), Again(batches(20))):
        look = Look()
        one = trainer(callbacks=[look], metrics={"r2": neuron.R2()})
        one.fit(neuron.DataLoader(data), epochs=3, validation=(x, y))
        assert one.final_step == (15 if isinstance(data, Sized) else None)
        rows = [{n: v for n, v in row.items() if n != "seconds"} for row in one.history.epochs]
        looks.append((look.seen, rows, one.epoch, one.step))
    assert looks[0] == looks[1]
    assert [seen[:2] for seen in looks[1][0][:3]] == [("begin", 0), ("validation", 1), ("end", 1)]


def test_callbacks_that_want_to_know_the_end_do_without(capsys, caplog):
    callbacks = [neuron.PrintLog(), neuron.ProgressBar(), neuron.EarlyStopping(patience=2)]
    one = trainer(callbacks=callbacks)
    one.fit(neuron.DataLoader(Again(batches() * 40)), epochs=50, validation=(x, y))
    assert "step 100/?" in caplog.text
    assert "val_loss" in caplog.text
    assert f"{one.step} steps" in capsys.readouterr().err
    assert one.stopped
    assert one.epoch < 50


def test_the_length_is_asked_for_where_it_must_be_known():
    loader = neuron.DataLoader(Again(batches()))
    with pytest.raises(TypeError, match="not known: the stream does not say"):
        len(loader)
    with pytest.raises(ValueError, match=r"must know how many batches.*\['late'\]"):
        trainer(metrics={"late": lambda t, p: 0.0}).fit(loader, epochs=1)
    one = trainer(metrics={"late": lambda t, p: float(len(t))})
    one.fit(neuron.DataLoader(Again(batches()), steps_per_epoch=6), epochs=1)
    assert one.history.epochs[0]["late"] == 96


def test_a_model_with_state_takes_whole_batches_only():
    class Normed(eqx.Module):
        norm: eqx.nn.BatchNorm
        out: neuron.Dense

        def __call__(self, x, state):
            x, state = self.norm(x, state)
            return self.out(x), state

    make = lambda: Normed(
        eqx.nn.BatchNorm(2, "batch", mode="batch"), neuron.Dense(2, key=jax.random.key(0))
    )
    model, state = eqx.nn.make_with_state(make)()
    one = neuron.Trainer(model, model_state=state, progress=False)
    with pytest.raises(ValueError, match="batch 4 has 16 rows, the first has 20"):
        one.fit(neuron.DataLoader(Again(batches(20))), epochs=2)
    one.fit(neuron.DataLoader(Again(batches(20)), drop_last=True), epochs=2)
    assert one.stopped is None


# Time.


def test_the_first_step_does_not_wait_for_a_whole_chunk():
    taken, first = threading.Event(), []

    class First(neuron.Callback):
        def on_step_end(self, trainer, logs):
            first.append(trainer.step)
            taken.set()

    def slow():
        """Gives the third batch once a step has been taken, or never."""
        yield from batches()[:1]
        time.sleep(0.3)
        yield from batches()[1:2]
        assert taken.wait(60)
        yield from batches()[2:]

    one = trainer(callbacks=[First()])
    one.fit(neuron.DataLoader(slow(), steps_per_epoch=6), epochs=1)
    assert first == [1, 2, 3, 4, 5, 6]


def test_a_reader_that_does_not_end_is_left_with_a_warning(monkeypatch):
    from neuron.data import prefetch

    monkeypatch.setattr(prefetch, "_PATIENCE", 0.1)
    go = threading.Event()

    def stuck():
        yield from batches()[:3]
        go.wait(60)

    class Stop(neuron.Callback):
        def on_step_end(self, trainer, logs):
            trainer.stop("enough")

    one = trainer(callbacks=[Stop()])
    with pytest.warns(UserWarning, match="has not ended within 0.1 s"):
        one.fit(neuron.DataLoader(stuck(), steps_per_epoch=100), epochs=1)
    assert one.stopped == "enough"
    go.set()
    for thread in readers():
        thread.join(10)


def test_copies_of_a_trainer_are_fed_apart():
    """Else each would begin where the one before it had ended."""
    loader = neuron.DataLoader(Sized(batches()), steps_per_epoch=6)
    one = trainer()
    for _ in range(2):
        other = one.copy()
        other.fit(loader, steps=4)
        np.testing.assert_array_equal(other.history["loss"], EXPECTED[:4])
    one.fit(loader, steps=4)
    np.testing.assert_array_equal(one.history["loss"], EXPECTED[:4])


def test_fits_of_all_lengths_are_one_program():
    traces = []

    class Counting(eqx.Module):
        dense: neuron.Dense

        def __call__(self, x):
            traces.append(x.shape)
            return self.dense(x)

    one = neuron.Trainer(Counting(neuron.Dense(2, key=jax.random.key(0))), progress=False)
    one.fit(neuron.DataLoader(Sized(batches())), steps=1)
    first = len(traces)
    for fit in ({"steps": 3}, {"epochs": 5}):
        one.fit(neuron.DataLoader(Sized(batches())), **fit)
    assert len(traces) == first
