"""Trees. What a compiled program is handed, and what is compiled into it."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from helpers import tree_allclose

from neuron.trees import Static, arrays_of, on_entry, paths, refuse_ties, refuse_unhashable


DEVICE = jax.devices()[0]


class Part(eqx.Module):
    weight: object
    act: object = None
    size: object = eqx.field(static=True, default=3)


def test_statics_are_equal_by_value():
    one = Static(Part(jnp.ones(2), jnp.tanh, (1, 2)))
    assert one == Static(Part(jnp.zeros(5, int), jnp.tanh, (1, 2)))
    assert hash(one) == hash(Static(Part(jnp.zeros(5, int), jnp.tanh, (1, 2))))


@pytest.mark.parametrize(
    "other",
    [
        Part(jnp.ones(2), jnp.sin, (1, 2)),
        Part(jnp.ones(2), jnp.tanh, (1, 3)),
        Part(jnp.ones(2), None, (1, 2)),
        Part(None, jnp.tanh, (1, 2)),
        Part(1.0, jnp.tanh, (1, 2)),
        Part([jnp.ones(2)], jnp.tanh, (1, 2)),
        Part(jnp.ones(2), jnp.ones(2), (1, 2)),
    ],
)
def test_statics_differ_where_anything_but_arrays_does(other):
    one = Static(Part(jnp.ones(2), jnp.tanh, (1, 2)))
    assert one != Static(other)
    assert one != other


def test_equal_statics_share_a_compiled_program():
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def call(static, arrays):
        traces.append(static)
        part = static.combine(arrays)
        return part.act(part.weight) * part.size

    for weight, size in [(0.5, 3), (0.25, 3), (0.25, 4)]:
        part = Part(jnp.array(weight), jnp.tanh, size)
        assert np.isclose(call(Static(part), arrays_of(part)), np.tanh(weight) * size)
    assert len(traces) == 2


def test_combine_puts_arrays_back_where_they_were():
    tree = {"b": [Part(jnp.ones(2), jnp.tanh), None, 3], "a": (jnp.zeros(1), "text")}
    static, arrays = Static(tree), arrays_of(tree)
    assert [a.shape for a in arrays] == [(1,), (2,)]
    assert eqx.tree_equal(static.combine(arrays), tree)
    other = static.combine([jnp.full(1, 7.0), jnp.full(2, 8.0)])
    assert other["a"][0].tolist() == [7]
    assert other["b"][0].weight.tolist() == [8, 8]
    assert other["b"][0].act is jnp.tanh
    assert other["b"][1:] == [None, 3]
    assert other["a"][1] == "text"


@pytest.mark.parametrize(
    ("tree", "path", "kind"),
    [
        (Part(jnp.ones(1), size=[1, 2]), ".size", "list"),
        ([Part(None), Part(Part(jnp.ones(1), size={"a": 1}))], "[1].weight.size", "dict"),
        ({"p": (0, Part(jnp.ones(1), act={1, 2}))}, "['p'][1].act", "set"),
    ],
)
def test_what_is_unhashable_is_refused_by_path(tree, path, kind):
    with pytest.raises(TypeError, match=r"`Some\(model\)` must have hashable static") as caught:
        refuse_unhashable("Some(model)", tree)
    assert f"got {kind} " in str(caught.value)
    assert f"at `{path}`" in str(caught.value)


def test_what_is_hashable_may_be_compiled_in():
    refuse_unhashable("Some(model)", Part([np.ones(1), 2.0, "a"], {"f": jnp.tanh}, size=(1, "b")))


@pytest.mark.parametrize(
    ("leaf", "dtype"),
    [
        (np.arange(3.0), jnp.float32),
        (np.arange(3), jnp.int32),
        (np.float64(3), jnp.float32),
        (np.ones((), bool), jnp.bool),
        (np.ones(2, np.float16), jnp.float16),
        (jnp.ones(2), jnp.float32),
    ],
)
def test_on_entry_arrays_are_jaxs_own(leaf, dtype):
    (entered,) = on_entry([leaf], DEVICE)
    assert isinstance(entered, jax.Array)
    assert entered.dtype == dtype
    assert not entered.weak_type
    assert entered.devices() == {DEVICE}
    # Or a program would be compiled for this array, and once more for its own results.
    assert entered.committed
    assert entered.tolist() == leaf.tolist()


def test_on_entry_doubles_stay_doubles_under_x64(x64):
    entered = on_entry([np.arange(3.0), np.arange(3)], DEVICE)
    assert [a.dtype for a in entered] == [jnp.float64, jnp.int64]


def test_on_entry_weak_types_become_strong():
    loose = jnp.asarray(2.0)
    for weak in (loose, jax.device_put(loose, DEVICE)):
        assert weak.weak_type
        (entered,) = on_entry([weak], DEVICE)
        assert not entered.weak_type
        assert entered.dtype == weak.dtype
        assert entered == 2


def test_on_entry_the_rest_is_left_alone():
    at_home = jax.device_put(jnp.ones(3), DEVICE)
    tree = Part([at_home, 1.5, None, "text"], jnp.tanh)
    entered = on_entry(tree, DEVICE)
    assert eqx.tree_equal(entered, tree)
    assert entered.weight[0] is at_home


def test_on_entry_takes_random_keys():
    key = jr.key(3)
    entered = on_entry(Part(np.ones(1), key), DEVICE)
    assert (jr.key_data(entered.act) == jr.key_data(key)).all()


def test_on_entry_does_not_share_numpys_memory():
    # Aligned as the arrays are whose memory JAX takes over.
    memory = np.zeros(1024 + 64, np.uint8)
    start = -memory.ctypes.data % 64
    mine = memory[start : start + 1024].view(np.float32)
    (entered,) = on_entry([mine], DEVICE)
    mine += 1
    assert not entered.any()


def test_paths_read_as_one_would_type_them():
    tree = {"net": [Part(jnp.ones(1)), Part(jnp.zeros(2), 5)]}
    found = dict(paths(tree))
    assert list(found) == ["['net'][0].weight", "['net'][1].weight", "['net'][1].act"]
    assert found["['net'][1].act"] == 5
    assert tree_allclose(found["['net'][1].weight"], jnp.zeros(2))


@pytest.mark.parametrize("numpy", [np, jnp])
def test_ties_are_refused_by_path(numpy):
    shared = numpy.ones(3)
    tree = [Part(shared), Part(numpy.ones(3), act=shared)]
    with pytest.raises(ValueError, match=r"`Some\(model\)` must hold each array once") as caught:
        refuse_ties("Some(model)", tree)
    assert "`[0].weight` and `[1].act`" in str(caught.value)
    assert "equinox.nn.Shared" in str(caught.value)


def test_equal_arrays_are_no_ties():
    refuse_ties("Some(model)", [jnp.ones(3), jnp.ones(3), np.ones(3), np.ones(3)])
    refuse_ties("Some(model)", [1.0, 1.0, None, None, jnp.tanh, jnp.tanh, "a", "a"])
