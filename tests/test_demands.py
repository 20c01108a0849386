"""What models, objectives and metrics ask of batches, asked directly."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron
from neuron.demands import check_batches, check_held_out, wants_whole, whole_blocks
from neuron.objectives import as_objective
from neuron.step import Scoring


x = np.arange(20, dtype=np.float32).reshape(10, 2)
y = np.arange(10, dtype=np.float32)
model = neuron.Dense(2, key=jax.random.key(0))


class Apart(neuron.Objective):
    """Each example away from the mean of its batch."""

    coupled = True

    def __call__(self, model, model_state, example, *, key):
        output, model_state = neuron.apply(model, model_state, example.inputs, key=key)
        others = neuron.whole_batch(model, output)
        return neuron.Terms((output - jnp.mean(others)) ** 2), model_state


def scoring(objective=None, **metrics):
    objective = as_objective(neuron.MeanSquaredError()) if objective is None else objective
    return Scoring(objective, metrics, None)


class Endless:
    def __iter__(self):
        while True:
            yield x[:4], y[:4]


@pytest.mark.parametrize(("batch_size", "fine"), [(10, True), (5, True), (4, False), (3, False)])
def test_a_coupled_objective_takes_whole_batches(batch_size, fine):
    loader = neuron.DataLoader((x, y), batch_size)
    ask = [
        lambda: check_batches(scoring(Apart()), model, loader, batch_size),
        lambda: check_held_out("evaluate", scoring(Apart()), loader, batch_size),
        lambda: list(whole_blocks(scoring(Apart()), loader.blocks(), batch_size)),
    ]
    for question in ask:
        if fine:
            question()
        else:
            with pytest.raises(ValueError, match=r"whole batches only.*as Apart does"):
                question()
    check_batches(scoring(), model, loader, batch_size)


def test_statistics_take_two_rows():
    norm = eqx.nn.BatchNorm(2, "batch", mode="batch")
    for batch_size, fine in ((5, True), (3, False), (1, False)):
        loader = neuron.DataLoader((x, y), batch_size)
        if fine:
            check_batches(scoring(), norm, loader, batch_size)
        else:
            with pytest.raises(ValueError, match="at least 2 rows"):
                check_batches(scoring(), norm, loader, batch_size)


def test_metrics_of_all_rows_take_epochs_with_an_end():
    keeping = scoring(auc=neuron.ROCAUC())
    endless = neuron.DataLoader(Endless())
    with pytest.raises(ValueError, match=r"how many batches an epoch has.*\['auc'\]"):
        check_batches(keeping, model, endless, 4)
    check_batches(scoring(), model, endless, 4)
    check_batches(keeping, model, neuron.DataLoader(Endless(), steps_per_epoch=3), 4)


def test_why_a_batch_must_be_whole():
    assert wants_whole(scoring(), None) is None
    _, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(2, "batch", mode="batch")
    assert wants_whole(scoring(), state) == "a model has state"
    assert "as Apart does" in wants_whole(scoring(Apart()), None)
