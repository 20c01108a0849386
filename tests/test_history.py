"""History: exact rows, and files that give it back."""

import csv
import io
import json

import jax
import numpy as np
import pytest

import neuron


rng = np.random.default_rng(2)
X = rng.normal(size=(50, 2)).astype(np.float32)
Y = (X @ np.array([3.0, 4.0]) + 5).astype(np.float32)


@pytest.fixture
def history():
    trainer = neuron.Trainer(
        neuron.Dense(2, key=jax.random.key(1)),
        neuron.RootMeanSquaredError(),
        neuron.SGD(0.05),
        progress=False,
    )
    return trainer.fit(neuron.DataLoader((X, Y), 20), steps=14, validation=(X, Y))


def test_rows_and_steps(history):
    assert len(history) == 14
    assert history["loss"].dtype == np.float32
    assert [row["epoch"] for row in history.epochs] == [1, 2, 3, 4]
    assert [row["step"] for row in history.epochs] == [3, 6, 9, 12]
    assert list(history.epochs[0]) == [
        "epoch",
        "step",
        "loss",
        "val_loss",
        "learning_rate",
        "seconds",
    ]
    assert all(row["seconds"] > 0 for row in history.epochs)


def test_an_epochs_loss_is_finished_once_over_all_its_rows():
    history = neuron.History(lambda means, steps: {"loss": np.sqrt(means)})
    sums, weights = np.float32([4, 9, 16, 1, 1]), np.float32([2, 2, 1, 1, 0])
    loss = np.sqrt(sums / np.maximum(weights, 1))
    columns = {"loss": loss, "loss_sum": sums, "loss_weight": weights}
    cut = [slice(0, 1), slice(1, 4), slice(4, 5)]
    step = 1  # the first epoch, of 3 steps, began a step before
    for part in cut:
        history.record(
            {name: values[part] for name, values in columns.items()},
            1.0,
            step=step,
            epoch=step // 3,
            position=step % 3,
            steps_per_epoch=3,
        )
        step += part.stop - part.start
    assert [row["epoch"] for row in history.epochs] == [1, 2]
    assert history.epochs[1]["loss"] == pytest.approx(np.sqrt((16 + 1 + 1) / 2))


def test_an_epoch_that_began_before_the_record_has_a_row_of_what_is_recorded():
    history = neuron.History()
    one = np.ones(2, np.float32)
    columns = {"loss": one, "loss_sum": one, "loss_weight": one}
    history.record(columns, 1.0, step=13, epoch=4, position=1, steps_per_epoch=3)
    assert [(row["epoch"], row["step"]) for row in history.epochs] == [(5, 15)]


def test_json_gives_everything_back(history, tmp_path):
    path = tmp_path / "history.json"
    text = history.to_json(path)
    assert path.read_text() == text
    for again in (neuron.History.from_json(text), neuron.History.from_json(path)):
        assert again.epochs == history.epochs
        assert again.names == history.names
        for name in history.names:
            assert again[name].dtype == history[name].dtype
            np.testing.assert_array_equal(again[name], history[name])
        assert again.to_json() == text


def test_json_is_strict_where_losses_are_not_finite():
    history = neuron.History()
    loss = np.float32([1, np.nan, np.inf, -np.inf])
    columns = {"loss": loss, "loss_sum": loss, "loss_weight": np.ones(4, np.float32)}
    history.record(columns, 1.0, step=0, epoch=0, position=0, steps_per_epoch=2)

    def refuse(constant):
        raise AssertionError(constant)

    text = history.to_json()
    json.loads(text, parse_constant=refuse)
    np.testing.assert_array_equal(neuron.History.from_json(text)["loss"], loss)


def test_csv_has_one_line_an_epoch(history, tmp_path):
    rows = list(csv.DictReader(io.StringIO(history.to_csv(tmp_path / "history.csv"))))
    assert len(rows) == 4
    assert float(rows[-1]["val_loss"]) == history.epochs[-1]["val_loss"]
    assert (tmp_path / "history.csv").read_text() == history.to_csv()


def test_repr_says_how_it_went(history):
    text = repr(history)
    assert text.startswith("History(14 steps, 4 epochs, loss ")
    assert f"{history['loss'][-1]:.4g}" in text
    assert repr(neuron.History()) == "History(no steps yet)"


def test_plot_draws_steps_epochs_and_validation(history):
    import matplotlib

    matplotlib.use("Agg")
    axes = history.plot()
    assert [line.get_label() for line in axes.get_lines()] == [
        "loss of each step",
        "mean of each epoch",
        "validation",
    ]
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), history["loss"])
    assert history.plot(axes) is axes
    matplotlib.pyplot.close("all")


def test_plot_without_matplotlib_names_the_extra(history, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"neuron-equinox\[plot\]"):
        history.plot()
