"""Examples and batches as other libraries have them, and plain classes of the same protocols."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import line

import neuron


# Lists of Python's numbers are in double precision.
pytestmark = pytest.mark.filterwarnings("ignore:The data is float64")

x, y = line(96)


def trained(data, batch_size=None, fits=({"epochs": 2},), **options):
    trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), progress=False)
    loader = neuron.DataLoader(data, batch_size, **options)
    for fit in fits:
        trainer.fit(loader, **fit)
    assert trainer.stopped is None
    return np.concatenate([trainer.history["loss"], trainer.predict(loader)])


SHUFFLED = trained((x, y), 16)
IN_ORDER = trained((x, y), 16, sampler=neuron.Sequential())


class Examples:
    """A dataset of the plainest kind."""

    def __init__(self, make=lambda row: (x[row], y[row])):
        self.make, self.asked = make, []

    def __len__(self):
        return len(x)

    def __getitem__(self, place):
        assert type(place) is int
        self.asked.append(place)
        return self.make(place)


class Fetching(Examples):
    def __getitems__(self, places):
        assert all(type(place) is int for place in places)
        return [self.make(place) for place in places]

    def __getitem__(self, place):
        raise AssertionError("several are asked for at once")


class Columns:
    """Columns by name, as Hugging Face has them."""

    column_names = ("point", "value")

    def __init__(self, format=None):
        self.format = format

    def __len__(self):
        return len(x)

    def with_format(self, type):
        return Columns(type)

    def __getitem__(self, places):
        assert self.format == "numpy"
        assert type(places) is list
        return {"point": x[places], "value": y[places]}


named = lambda rows: (rows["point"], rows["value"])


@pytest.mark.parametrize("placement", ["auto", "host"])
@pytest.mark.parametrize(
    "data",
    [
        Examples(),
        Examples(lambda row: {"inputs": x[row].tolist(), "targets": float(y[row])}),
        Examples(lambda row: [x[row].tolist(), y[row]]),
        Examples(lambda row: neuron.Batch(jnp.asarray(x[row]), y[row])),
        Fetching(),
        [(a, b) for a, b in zip(x, y, strict=True)],
    ],
    ids=["tuples", "dicts of lists", "lists", "batches", "several at once", "a list"],
)
def test_examples_by_number(data, placement):
    np.testing.assert_array_equal(trained(data, 16, placement=placement), SHUFFLED)


def test_an_example_is_made_once_a_batch():
    data = Examples()
    loader = neuron.DataLoader(data, 96, placement="host", sampler=neuron.Bootstrap(1))
    trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), progress=False)
    loader.sample()
    data.asked.clear()
    trainer.fit(loader, steps=1)
    # Of 96 draws with replacement about 63 % are distinct.
    assert len(data.asked) == len(set(data.asked)) < 80


def test_columns_by_name_are_told_apart_on_the_host():
    np.testing.assert_array_equal(trained(Columns(), 16, host_transform=named), SHUFFLED)
    with pytest.raises(TypeError, match=r"a dict of \['point', 'value'\].*host_transform"):
        trained(Columns(), 16)


@pytest.mark.parametrize(
    ("make", "point"),
    [
        (lambda row: (x[row, : 1 + (row != 50)], y[row]), r"row 50 is .*\(1,\).*row \d+ is"),
        (lambda row: (x[row], y[row]) if row != 50 else (x[row],), r"alike; row 50"),
        (lambda row: (x[row], y[row] if row != 50 else np.nan), "nan in row 50"),
        (lambda row: (x[row], "a"), "targets has dtype <U1"),
        (lambda row: {"a": x[row]}, r"a dict of \['a'\]"),
        (lambda row: (x[row], x[row], x[row], x[row]), "a tuple of 4"),
        (lambda row: None, "must have inputs"),
    ],
)
@pytest.mark.parametrize("placement", ["auto", "host"])
def test_an_example_that_is_unlike_is_named(make, point, placement):
    with pytest.raises((ValueError, TypeError), match=point):
        trained(Examples(make), 16, placement=placement, sampler=neuron.Sequential())


def test_as_many_examples_as_were_asked_for():
    class Odd(Fetching):
        def __getitems__(self, places):
            return super().__getitems__(places)[1:]

    with pytest.raises(ValueError, match=r"Odd.__getitems__` must give as many .* 15 for 16"):
        trained(Odd(), 16, placement="host")


def test_the_error_of_an_example_arrives_as_it_is():
    class Mine(Exception):
        pass

    def make(row):
        if row == 70:
            raise Mine("a broken picture")
        return x[row], y[row]

    for placement in ("auto", "host"):
        with pytest.raises(Mine, match="a broken picture"):
            trained(Examples(make), 16, placement=placement)


def test_a_pass_is_told_its_number():
    class Epochal:
        told = ()

        def set_epoch(self, epoch):
            self.told += (epoch,)

        def __iter__(self):
            yield x[:16], y[:16]
            yield x[16:32], y[16:32]

    data = Epochal()
    trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), progress=False)
    loader = neuron.DataLoader(data)
    trainer.fit(loader, steps=4)
    assert data.told == (0, 1)
    trainer.fit(loader, steps=1)
    assert data.told == (0, 1, 2)


# PyTorch.


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is an extra of the tests")


def torch_data(torch):
    return torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))


def test_a_dataset_of_torch(torch):
    data = torch_data(torch)
    np.testing.assert_array_equal(trained(data, 16), SHUFFLED)
    subset = torch.utils.data.Subset(data, range(96))  # has __getitems__
    np.testing.assert_array_equal(trained(subset, 16, placement="host"), SHUFFLED)


def test_tensors_are_arrays(torch):
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    np.testing.assert_array_equal(trained(tensors, 16), SHUFFLED)
    alone = neuron.DataLoader(tensors[0], 16).sample()
    np.testing.assert_array_equal(alone.inputs, x)
    with pytest.raises(ValueError, match="requires grad"):
        neuron.DataLoader((torch.ones(8, 2, requires_grad=True), np.ones(8, np.float32)), 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_of_torch(torch, workers):
    options = {"num_workers": workers, "multiprocessing_context": "spawn" if workers else None}
    loader = torch.utils.data.DataLoader(torch_data(torch), batch_size=16, **options)
    np.testing.assert_array_equal(trained(loader), IN_ORDER)
    if workers:
        import multiprocessing

        assert not multiprocessing.active_children()


def test_a_stream_of_torch_has_no_length(torch):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from zip(torch.from_numpy(x), torch.from_numpy(y), strict=True)

    loader = torch.utils.data.DataLoader(Stream(), batch_size=16)
    np.testing.assert_array_equal(trained(loader), IN_ORDER)
    fits = ({"steps": 5}, {"steps": 7})
    np.testing.assert_array_equal(trained(loader, fits=fits), IN_ORDER)
    # Without torch's loader there are examples, and no batches.
    with pytest.raises(ValueError, match="rows along a first axis; targets has shape"):
        trained(Stream())


# Hugging Face.


def test_a_dataset_of_hugging_face():
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    data = datasets.Dataset.from_dict({"point": x.tolist(), "value": y.tolist()})
    for placement in ("auto", "host"):
        got = trained(data, 16, host_transform=named, placement=placement)
        np.testing.assert_array_equal(got, SHUFFLED)
    stream = data.to_iterable_dataset().batch(16)
    got = trained(stream, host_transform=lambda r: (np.array(r["point"]), np.array(r["value"])))
    np.testing.assert_array_equal(got, IN_ORDER)


# grain.


@pytest.fixture
def grain():
    return pytest.importorskip("grain", reason="grain is not installed")


def test_a_map_dataset_of_grain(grain):
    data = grain.MapDataset.source([(a, b) for a, b in zip(x, y, strict=True)])
    np.testing.assert_array_equal(trained(data, 16), SHUFFLED)
    np.testing.assert_array_equal(trained(data, 16, placement="host"), SHUFFLED)


def test_an_iterable_dataset_of_grain_goes_on_where_it_was(grain):
    made = []

    def noted(pair):
        made.append(pair)
        return pair

    pairs = [(a, b) for a, b in zip(x, y, strict=True)] * 40
    data = grain.MapDataset.source(pairs).map(noted).to_iter_dataset().batch(16)
    whole = trained(data, fits=({"steps": 210},))
    cut = trained(data, fits=({"steps": 200}, {"steps": 10}))
    np.testing.assert_array_equal(whole, cut)
    trainer = neuron.Trainer(neuron.Dense(2, key=jax.random.key(0)), progress=False)
    loader = neuron.DataLoader(data)
    trainer.fit(loader, steps=200)
    made.clear()
    trainer.fit(loader, steps=1)
    # grain reads ahead as it likes, but not from the start.
    assert 0 < len(made) < 200 * 16


def test_a_loader_of_grain(grain):
    source = [(a, b) for a, b in zip(x, y, strict=True)]
    loader = grain.DataLoader(
        data_source=source,
        sampler=grain.samplers.SequentialSampler(
            num_records=96, shard_options=grain.sharding.NoSharding()
        ),
        operations=[grain.transforms.Batch(16)],
    )
    np.testing.assert_array_equal(trained(loader), IN_ORDER)


def test_no_reader_is_left():
    assert not [t for t in threading.enumerate() if t.name == "neuron-reader"]
