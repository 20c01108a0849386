"""The run: one traced step, calls of any length, and two ways to compile it."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuron
from neuron import run
from neuron.kernel import equations
from neuron.objectives import Supervised
from neuron.rows import Cut
from neuron.run import loop, program
from neuron.run.program import program_for
from neuron.state import initial_state
from neuron.step import Scoring, Task
from neuron.trees import arrays_of, on_entry
from neuron.types import Batch


rng = np.random.default_rng(6)
X = rng.normal(size=(60, 2)).astype(np.float32)
Y = (X @ np.array([3.0, 4.0]) + 5).astype(np.float32)
DEVICE = jax.devices()[0]


def parts(model=None, sampler=None, rate=0.05, batch_size=7):
    model = neuron.Dense(2, key=jax.random.key(0)) if model is None else model
    params, frozen = eqx.partition(model, eqx.is_inexact_array)
    optimizer = neuron.SGD(rate, momentum=0.9)
    task = Task(
        frozen,
        Scoring(Supervised(neuron.RootMeanSquaredError()), {}, None),
        optimizer,
        None,
        sampler or neuron.Shuffle(1),
        np.zeros(2, np.uint32),
        Cut(60, batch_size, -(-60 // batch_size)),
        batch_size,
        False,
    )
    state = initial_state(params, None, optimizer.init(params))
    return (
        run.copied(on_entry(state, DEVICE)),
        on_entry(task, DEVICE),
        on_entry(Batch(X, Y), DEVICE),
    )


@pytest.mark.parametrize("width", [2, 10, 20])
def test_one_kernel_and_many_agree(monkeypatch, width):
    """To rounding: sums over a row may be added in another order."""
    x = rng.normal(size=(60, width)).astype(np.float32)
    state, task, _ = parts(neuron.Dense(width, key=jax.random.key(0)))
    data = on_entry(Batch(x, x.sum(1)), DEVICE)
    one = run.Run(run.copied(state), task, data)
    assert one.program.one_kernel
    _, ours = one.take(50)
    many = run.Run(run.copied(state), task, data)
    monkeypatch.setattr(many.program, "one_kernel", False)
    _, theirs = many.take(50)
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-3)
    for ours, theirs in zip(jax.tree.leaves(one.state), jax.tree.leaves(many.state), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_matrix_product_is_not_forced_into_one_kernel():
    mlp = eqx.nn.MLP(2, "scalar", 8, 1, key=jax.random.key(0))
    assert not run.Run(*parts(mlp)).program.one_kernel


@pytest.mark.parametrize("microbatch", [7, 1], ids=["whole", "row by row"])
def test_what_nobody_uses_is_not_computed(microbatch):
    """An example's key, where the model takes none: a loop over rows would be handed it."""

    def drawn(model):
        state, task, data = parts(model)
        traced = program_for(state, dataclasses.replace(task, microbatch=microbatch), data).traced
        return any(e.primitive.name.startswith("random") for e in equations(traced.jaxpr))

    dense = neuron.Dense(2, key=jax.random.key(0))
    assert not drawn(dense)
    assert drawn(eqx.nn.Sequential([dense, eqx.nn.Dropout(0.5)]))


def test_a_jax_that_keeps_dead_code_computes_the_same(monkeypatch):
    trees = parts()
    make = lambda: program.Program(*program._structure(*trees), DEVICE)
    live = make()
    monkeypatch.setattr(program, "dce_jaxpr", None)
    dead = make()
    size = lambda made: len(list(equations(made.traced.jaxpr)))
    assert size(live) < size(dead)
    arguments = *map(arrays_of, trees), jnp.arange(7)
    one, other = (jax.tree.leaves(made.step(*arguments)) for made in (live, dead))
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_one_kernel_can_not_hold_falls_back(monkeypatch, capfd):
    """A matrix product, smuggled past the decision: the compiler refuses, the run goes on."""
    monkeypatch.setattr(program, "fits_one_kernel", lambda *_: True)
    mlp = eqx.nn.MLP(2, "scalar", 9, 1, key=jax.random.key(0))
    forced = run.Run(*parts(mlp))
    assert forced.program.one_kernel
    taken, _ = forced.take(20)
    assert taken == 20
    assert not forced.program.one_kernel


def test_a_step_copies_neither_weights_nor_moments():
    """The loop works on its buffers in place; a select between old and new had them copied."""
    model = eqx.nn.MLP(2, "scalar", 211, 2, key=jax.random.key(0))
    state, task, data = parts(model)
    adam = neuron.Adam()
    task = on_entry(dataclasses.replace(task, optimizer=adam), DEVICE)
    state = dataclasses.replace(state, opt_state=adam.init(state.params))
    one = run.Run(run.copied(on_entry(state, DEVICE)), task, data)
    arguments = (one._state, one._records, one._task, one._data, np.int32(3))
    program = loop.loop.lower(one.program, False, *arguments).compile().as_text()
    assert "f32[211,211]" in program
    assert not [line for line in program.splitlines() if "= f32[211,211]{1,0} copy(" in line]


def test_equal_structures_share_a_program():
    program = program_for(*parts())
    assert program_for(*parts(rate=0.5, sampler=neuron.Shuffle(9))) is program
    assert program_for(*parts(batch_size=8)) is not program
    assert program_for(*parts(sampler=neuron.Bootstrap(1))) is not program


def test_indices_are_those_of_the_sampler_across_epochs():
    state, task, data = parts()
    program = program_for(state, task, data)
    state = dataclasses.replace(
        state, epoch=jnp.array([3, 2**32 - 1], jnp.uint32), position=jnp.array(7, jnp.uint32)
    )
    drawn = program.draw(jax.tree.leaves(state), jax.tree.leaves(task), 12)
    epochs = [(3, 2**32 - 1)] * 2 + [(4, 0)] * 9 + [(4, 1)]
    places = [7, 8, *range(9), 0]
    for row, epoch, place in zip(drawn, epochs, places, strict=True):
        expected = task.sampler.indices(
            jnp.array(epoch, jnp.uint32), jnp.array(place, jnp.uint32), 7, 60
        )
        np.testing.assert_array_equal(row, expected)


def test_take_is_bounded_by_the_buffer():
    one = run.Run(*parts())
    taken, records = one.take(10 * run.CAPACITY)
    assert taken == run.CAPACITY == len(records["loss"])
    assert one.take(0) == (0, {name: pytest.approx([]) for name in records})


def test_other_numbers_are_used_at_once():
    state, task, data = parts()
    one = run.Run(state, task, data)
    one.take(5)
    before = np.asarray(one.state.params.weight)
    still = dataclasses.replace(task.optimizer, learning_rate=jnp.zeros(()))
    one.use(on_entry(dataclasses.replace(task, optimizer=still), DEVICE))
    one.take(5)
    np.testing.assert_array_equal(one.state.params.weight, before)


def test_copies_are_copies():
    tree = {"a": jnp.ones(3), "b": None, "f": jnp.tanh}
    copy = run.copied(tree)
    tree["a"].delete()
    np.testing.assert_array_equal(copy["a"], np.ones(3))
    assert copy["f"] is jnp.tanh
