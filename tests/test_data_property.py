"""Whatever comes in trains to a finite model or is refused by one of the documented errors."""

import contextlib
import faulthandler
import warnings

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import neuron


REFUSALS = (ValueError, TypeError, neuron.NonFiniteLossError)
calm = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow], database=None
)


@pytest.fixture(autouse=True)
def watched(unchecked):
    """A test that hangs shows where, and ends."""
    faulthandler.dump_traceback_later(300, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def without_warnings():
    """NumPy's, of numbers out of range, and that double precision is narrowed."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def trains_or_is_refused(make, features=2):
    """The loader is made by `make`; what was refused, or `None`."""
    model = neuron.Dense(features, key=jax.random.key(0))
    trainer = neuron.Trainer(model, optimizer=neuron.SGD(1e-3), progress=False)
    refused = None
    with without_warnings():
        try:
            trainer.fit(make(), steps=3)
        except REFUSALS as error:
            refused = error
    for leaf in jax.tree.leaves(trainer.state.params):
        assert np.isfinite(leaf).all()
    assert trainer.step == len(trainer.history)
    if refused is None:
        assert trainer.step == 3 or trainer.stopped
    return refused


dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(),
    hnp.complex_number_dtypes(),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
    hnp.byte_string_dtypes(max_len=3),
    hnp.unicode_string_dtypes(max_len=3),
    hnp.array_dtypes(max_size=2),
)
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
any_array = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shapes))
rows = st.integers(1, 9)


@given(any_array, st.one_of(st.none(), any_array), st.integers(1, 6))
@calm
def test_any_array(inputs, targets, batch_size):
    data = (inputs,) if targets is None else (inputs, targets)
    refused = trains_or_is_refused(lambda: neuron.DataLoader(data, batch_size))
    if refused is not None:
        assert str(refused).startswith("`")


@given(
    rows.flatmap(
        lambda n: st.tuples(
            hnp.arrays(st.sampled_from([">f4", "f4", "i2", ">u4", "u1", "?", "f2"]), (n, 2)),
            hnp.arrays("f4", n),
            st.one_of(st.none(), hnp.arrays("f4", n, elements=st.floats(0, 4, width=32))),
        )
    ),
    st.integers(1, 6),
    st.sampled_from(["device", "host"]),
    st.booleans(),
)
@settings(calm, max_examples=20)  # each shape and type is a program
def test_rows_that_could_be_meant(data, batch_size, placement, drop_last):
    data = tuple(part for part in data if part is not None)
    refused = trains_or_is_refused(
        lambda: neuron.DataLoader(data, batch_size, placement=placement, drop_last=drop_last)
    )
    if refused is not None:
        known = ("finite", "batch_size", "weight above 0", "at least one batch", "step")
        assert any(word in str(refused) for word in known), refused


class Again:
    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


numbers = st.floats(-10, 10, width=32)
good = st.tuples(hnp.arrays("f4", (3, 2), elements=numbers), hnp.arrays("f4", 3, elements=numbers))
batch = st.one_of(
    good,
    st.tuples(any_array, any_array),
    any_array,
    st.none(),
    st.text(max_size=3),
    st.lists(st.floats(), max_size=3),
    st.dictionaries(st.sampled_from(["inputs", "targets", "weight", "x"]), any_array),
)


@given(st.lists(batch, max_size=5), st.sampled_from([list, Again, iter]))
@calm
def test_any_batches(batches, kind):
    """As a list they are examples, of which the rows are stacked."""
    trains_or_is_refused(lambda: neuron.DataLoader(kind(batches), 2 if kind is list else None))


@given(
    st.lists(good, min_size=1, max_size=6),
    st.one_of(st.none(), st.integers(1, 4)),
    st.booleans(),
    st.one_of(st.none(), batch),
)
@calm
def test_good_batches_and_a_last_one(batches, given_steps, drop_last, last):
    batches = [*batches, last] if last is not None else batches
    loader = lambda: neuron.DataLoader(
        Again(batches), steps_per_epoch=given_steps, drop_last=drop_last
    )
    refused = trains_or_is_refused(loader)
    if last is None:
        assert refused is None


@given(
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), any_array
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.tuples(inner, inner),
            st.dictionaries(st.text(max_size=2), inner, max_size=2),
        ),
        max_leaves=6,
    )
)
@calm
def test_anything_at_all(data):
    trains_or_is_refused(lambda: neuron.DataLoader(data))
