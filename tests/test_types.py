"""The words that several rooms use."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jaxtyping import Array

import neuron
from neuron.types import Printable, hyperparameter, whole_number


def positive(value):
    return hyperparameter("Some(number=...)", value, "above 0", lambda v: v > 0)


class Part(Printable):
    rate: np.ndarray | Array
    act: object = None
    sizes: Array | None = None


def test_annotations_are_checked():
    with pytest.raises(jaxtyping.TypeCheckError):
        neuron.Dense(2, key=jax.random.key(0))(jnp.ones((2, 2)))


def test_batch_needs_inputs_only():
    batch = neuron.Batch(jnp.ones(2))
    assert batch.targets is None
    assert batch.weight is None
    assert len(jax.tree.leaves(batch)) == 1
    assert len(jax.tree.leaves(neuron.Batch(*np.ones((3, 2))))) == 3


@pytest.mark.parametrize("kind", [float, np.float16, np.float32, np.float64, jnp.float32, np.array])
def test_hyperparameter_is_a_double_on_the_host(kind):
    value = positive(kind(0.1))
    assert isinstance(value, np.ndarray)
    assert value.dtype == np.float64
    assert value.shape == ()
    assert value == float(kind(0.1))


def test_hyperparameter_takes_integers():
    assert positive(3) == positive(np.int8(3)) == 3


@pytest.mark.parametrize("value", [0, -0.1, float("nan"), float("inf"), np.float32("-inf")])
def test_hyperparameter_refuses_what_breaks_the_rule(value):
    with pytest.raises(ValueError, match=rf"`Some\(number=...\)` must be above 0; got {value:g}\."):
        positive(value)


@pytest.mark.parametrize(
    "value", ["0.1", None, True, np.True_, 1j, np.complex64(1), [0.1], np.array([0.1])]
)
def test_hyperparameter_refuses_what_is_no_number(unchecked, value):
    with pytest.raises(TypeError, match=r"`Some\(number=...\)` must be one real number; got"):
        positive(value)


def test_hyperparameter_may_be_traced():
    # So a learning rate can be differentiated and vmapped.
    assert jax.grad(lambda v: 3 * positive(v))(2.0) == 3
    assert jax.vmap(lambda v: 3 * positive(v))(jnp.arange(2.0)).tolist() == [0, 3]


def test_whole_number():
    assert whole_number("Some(size=...)", 3, least=3) == 3
    assert type(whole_number("Some(size=...)", np.int64(3), least=1)) is int
    with pytest.raises(ValueError, match=r"`Some\(size=...\)` must be at least 3; got 2\."):
        whole_number("Some(size=...)", 2, least=3)


@pytest.mark.parametrize("value", [2.0, True, None, "2", np.float32(2)])
def test_whole_number_refuses_other_types(value):
    with pytest.raises(TypeError, match=r"`Some\(size=...\)` must be a whole number; got"):
        whole_number("Some(size=...)", value, least=1)


def test_prints_its_numbers():
    assert repr(Part(np.asarray(0.25))) == "Part(rate=0.25)"
    assert repr(Part(jnp.float32(0.25), positive)) == "Part(rate=0.25, act=positive)"


def test_prints_what_is_no_number_as_it_is():
    sizes = jnp.arange(2)
    assert repr(Part(np.asarray(1.0), sizes=sizes)) == f"Part(rate=1, sizes={sizes!r})"


def test_prints_while_it_is_traced():
    # Errors quote their module from inside a trace.
    texts = []
    jax.jit(lambda part: texts.append(repr(part)))(Part(jnp.ones(())))
    assert texts[0].startswith("Part(rate=")
