"""A subset of the rows, drawn by any sampler, and epochs that are as long as it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import batches, is_whole_epoch, one_epoch, orders

import neuron


ROWS = np.array([3, 14, 15, 92, 65, 35, 89])


@pytest.mark.parametrize("epoch", [0, 1])
def test_it_is_the_other_sampler_over_its_rows(epoch):
    for inner in (neuron.Shuffle(2), neuron.Sequential(), neuron.Bootstrap(4)):
        subset = neuron.Subset(ROWS, inner)
        places = batches(inner, range(3), 3, 7, epoch)
        expected = np.where(places < 0, -1, ROWS[places])
        drawn = batches(subset, range(3), 3, 100, epoch)
        assert drawn.dtype == np.int32
        assert (drawn == expected).all()


def test_by_default_it_shuffles():
    rows = one_epoch(neuron.Subset(ROWS), 3, 100)
    assert sorted(rows[:7]) == sorted(ROWS)
    assert (rows[7:] == -1).all()


def test_a_subset_of_a_subset_counts_within_it():
    subset = neuron.Subset([1, 2], neuron.Subset([6, 0], neuron.Sequential()))
    # The inner one has two rows to draw from, and 6 is none of them.
    with pytest.raises(ValueError, match=r"below the number of rows; got 6 for 2 rows\."):
        subset.check(1, 10)
    subset = neuron.Subset([8, 6, 4], neuron.Subset([2, 0], neuron.Sequential()))
    subset.check(2, 10)
    assert one_epoch(subset, 2, 10)[:2].tolist() == [4, 8]
    assert subset.epoch_rows(10) == 2


def test_a_row_that_is_listed_twice_counts_as_two():
    sample = [1, 1, 1, 0]
    assert sorted(orders(neuron.Subset(sample), [5], 4)[0].tolist()) == [0, 1, 1, 1]
    rows = batches(neuron.Subset(sample, neuron.Bootstrap(1)), range(100), 400, 2)
    # 6 standard deviations of 40,000 draws at three in four.
    assert abs(np.sum(rows == 1) - 30_000) < 6 * np.sqrt(40_000 * 3 / 16)


# ── how long an epoch is ──


def loader(sampler, batch_size=3, **options):
    x = np.arange(100, dtype=np.float32)
    return neuron.DataLoader((x[:, None], x), batch_size, sampler=sampler, **options)


def test_an_epoch_is_as_many_steps_as_the_subset_needs():
    assert neuron.Shuffle().epoch_rows(100) == 100
    subset = neuron.Subset(ROWS)
    assert subset.epoch_rows(100) == 7
    assert len(loader(subset)) == 3
    assert len(loader(subset, drop_last=True)) == 2
    assert loader(subset).smallest_batch() == 1
    assert loader(subset, drop_last=True).smallest_batch() == 3
    assert len(loader(subset).in_groups(2)) == 2
    assert loader(subset).rows == 7
    assert loader(subset).cut.rows == 100
    assert "3 steps an epoch" in repr(loader(subset))


def test_a_batch_is_at_most_the_subset():
    with pytest.raises(ValueError, match=r"as Shuffle does; got batch_size=8 for 7 rows\."):
        loader(neuron.Subset(ROWS), 8)
    with pytest.raises(ValueError, match=r"batch_size=9 for 7 rows\."):
        loader(neuron.Subset(ROWS)).in_groups(3)
    inner = neuron.Subset(ROWS, neuron.Bootstrap())
    assert len(loader(inner, 8)) == 1
    with pytest.raises(ValueError, match=r"at least one batch; got batch_size=8 for 7 rows\."):
        loader(inner, 8, drop_last=True)


def test_a_fit_sees_the_subset_alone_and_counts_its_epochs():
    # Every other row is not finite in the loss, so that one of them would stop the run.
    x = np.full((100, 1), 1e30, np.float32)
    x[ROWS] = np.arange(7)[:, None]
    data = neuron.DataLoader((x, x[:, 0]), 3, sampler=neuron.Subset(ROWS))
    trainer = neuron.Trainer(
        neuron.Dense(1, key=jax.random.key(0)), optimizer=neuron.SGD(0.0), progress=False
    )
    history = trainer.fit(data, epochs=2)
    assert history["loss"].shape == (6,)
    weight, bias = np.asarray(trainer.model.weight)[0], np.asarray(trainer.model.bias)[0]
    exact = np.mean((weight * np.arange(7) + bias - np.arange(7)) ** 2)
    np.testing.assert_allclose([row["loss"] for row in history.epochs], exact, rtol=1e-5)


class Counting(eqx.Module):
    weight: jax.Array

    def __call__(self, x):
        TRACES.append("model")
        return self.weight @ x


TRACES = []


def test_other_rows_as_many_are_no_retrace():
    trainer = neuron.Trainer(Counting(jnp.ones(1)), progress=False)
    trainer.fit(loader(neuron.Subset(ROWS)), steps=4)
    TRACES.clear()
    trainer.fit(loader(neuron.Subset(ROWS[::-1] - 2, neuron.Shuffle(9))), steps=4)
    assert TRACES == []


# ── what can not be meant ──


def test_indices_must_be_below_the_number_of_rows():
    neuron.Subset(ROWS).check(7, 93)
    with pytest.raises(ValueError, match=r"below the number of rows; got 92 for 92 rows\."):
        neuron.Subset(ROWS).check(7, 92)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: neuron.Subset([]), ValueError, r"not be empty; got shape \(0,\)"),
        (lambda: neuron.Subset(3), ValueError, r"got shape \(\)"),
        (lambda: neuron.Subset([0, -1]), ValueError, "at least 0; got -1 in place 1"),
        (lambda: neuron.Subset([2**31]), ValueError, "below 2.31; got 2147483648"),
        (lambda: neuron.Subset([True, False]), TypeError, r"dtype bool.*np.flatnonzero\(mask\)"),
        (lambda: neuron.Subset([0.5]), TypeError, "whole numbers; got dtype float64"),
        (lambda: neuron.Subset([0], "shuffle"), TypeError, "a neuron.Sampler.*got 'shuffle'"),
        (lambda: neuron.Subset([0], neuron.Shuffle), TypeError, "a neuron.Sampler"),
    ],
)
def test_arguments_that_can_not_be_meant_are_refused(unchecked, make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_it_prints_as_what_it_is():
    subset = neuron.Subset(ROWS, neuron.Bootstrap(5))
    assert repr(subset) == "Subset(7 indices, sampler=Bootstrap(seed=5))"
    assert is_whole_epoch(one_epoch(neuron.Subset(jnp.arange(5)), 2, 5), 5)
