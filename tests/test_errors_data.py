"""What is wrong with data is said: one row a mistake, with the exact type and the point."""

import fractions
import types

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import neuron


F = np.float32
x, y = np.ones((8, 2), F), np.ones(8, F)
key = jax.random.key(0)
nan = y.copy()
nan[3] = np.nan
V, T = ValueError, TypeError


def load(data, batch_size=None, **options):
    return neuron.DataLoader(data, batch_size, **options)


def train(
    data, batch_size=None, fit=None, loss=neuron.MeanSquaredError(), features="scalar", **options
):
    trainer = neuron.Trainer(neuron.Dense(2, features, key=key), loss, progress=False)
    trainer.fit(load(data, batch_size, **options), **(fit or {"epochs": 1}))
    return trainer


def trainer(**options):
    return neuron.Trainer(neuron.Dense(2, key=key), progress=False, **options)


class Again:
    def __init__(self, *batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


class Sized(Again):
    def __len__(self):
        return len(self.batches)


class Rows(neuron.Source):
    """A source with whatever it is to give."""

    def __init__(self, read, size=8):
        self._read, self._size = read, size

    def __len__(self):
        return self._size

    def read(self, rows):
        return self._read(rows)

    def name(self, row):
        return f"line {row} of a.csv"


class Unhashable:
    __hash__ = None

    def __call__(self, step):
        return x, y


class Likeness:
    """What looks like an array."""

    def __init__(self, shape, dtype=np.dtype(F), rows=None):
        self.shape, self.dtype, self._rows = shape, dtype, rows

    def __getitem__(self, rows):
        return (
            np.ones((len(rows), *self.shape[1:]), self.dtype) if self._rows is None else self._rows
        )


class OnlyLength:
    def __len__(self):
        return 8


class Table:
    """What a table of polars or pyarrow looks like."""

    shape = (8, 2)

    def __arrow_c_stream__(self, requested_schema=None):
        raise NotImplementedError

    def __array__(self):
        return x


class Column:
    """What a column of pandas looks like."""

    shape, dtype, iloc = (8,), np.dtype(F), None

    def __array__(self):
        return y

    def __getitem__(self, rows):
        raise AssertionError("labels, and not places")


def spent(call):
    """A generator that was read, and then what is done with it."""
    loader = load(iter([(x, y)]))
    one = trainer()
    one.fit(loader, epochs=1)
    call(one, loader)


def step(*parts):
    return lambda number: parts


TABLE = [
    # What data is.
    ("nothing", lambda: load(None), T, "a function of the step; got None"),
    ("a number", lambda: load(7), T, "got 7"),
    ("a file's name", lambda: load("rows.csv"), T, r"got 'rows.csv'.*from_files\(path"),
    ("bytes", lambda: load(b"rows"), T, "got b'rows'"),
    ("a class", lambda: load(Again), T, "got <class"),
    ("NumPy's class", lambda: load(np.ndarray), T, "got <class 'numpy.ndarray'>"),
    ("a length alone", lambda: load(OnlyLength()), T, "a dataset with `__len__` and `__getitem__`"),
    ("a namespace", lambda: load(types.SimpleNamespace(x=x)), T, "got namespace"),
    ("a table", lambda: load(Table()), T, r"which columns.*from_dataframe\(table, target="),
    ("a column", lambda: load(Column()), T, "which columns of a table are meant"),
    ("a list of arrays", lambda: load([x, y]), T, "inputs and targets, or as the rows"),
    ("a dict of other names", lambda: load({"x": x, "y": y}), T, r"a dict of \['x', 'y'\]"),
    ("a dict with one name more", lambda: load({"inputs": x, "z": y}), T, r"\['inputs', 'z'\]"),
    ("a dict without inputs", lambda: load({"targets": y}), T, r"a dict of \['targets'\]"),
    ("four arrays", lambda: load((x, y, y, y)), T, "got a tuple of 4"),
    ("no arrays", lambda: load(()), T, "got a tuple of 0"),
    ("an empty list", lambda: load([]), V, "at least one row"),
    ("no file", lambda: load("missing.npy"), FileNotFoundError, "missing.npy"),
    # Arrays.
    ("masked", lambda: load((np.ma.masked_equal(y, 1), y)), V, "inputs has masked ones"),
    ("objects", lambda: load((np.array([fractions.Fraction(1)] * 8), y)), T, "dtype object"),
    ("names of columns", lambda: load((np.zeros(8, [("a", F)]), y)), T, "inputs has dtype"),
    ("durations", lambda: load((np.zeros(8, "m8[s]"), y)), T, "dtype timedelta64"),
    ("bytes as rows", lambda: load((np.array([b"a"] * 8), y)), T, "dtype .S1"),
    ("too large for float32", lambda: load((x, np.full(8, 1e300))), V, "targets has inf in row 0"),
    ("a lazy array too short", lambda: load((Likeness((7, 2)), y)), V, "inputs has 7, targets has 8"),
    ("a lazy array of words", lambda: load((Likeness((8,), np.dtype("U3")), y)), T, "dtype <U3"),
    ("a lazy scalar", lambda: load((Likeness(()), y)), V, r"inputs has shape \(\)"),
    ("an empty lazy array", lambda: load((Likeness((0, 2)),)), V, "at least one row"),
    (
        "a lazy array that gives too much",
        lambda: train((Likeness((8, 2), rows=np.ones((3, 2), F)), y), 4),
        V,
        r"Likeness gave shape \(3, 2\) instead of \(4, 2\)",
    ),
    (
        "a lazy array of weights that are no weights",
        lambda: train((x, y, Likeness((8, 1))), 4),
        V,
        r"one weight a row; weight has shape \(\d, 1\)",
    ),
    # Options.
    ("placement", lambda: load((x, y), 4, placement="gpu"), V, r"\('auto', 'device', 'host'\); got"),
    ("transform", lambda: load((x, y), 4, transform="flip"), T, r"transform=...\)` must be callable"),
    ("host_transform", lambda: load((x, y), host_transform=1), T, "must be callable; got 1"),
    (
        "transformed on the host and placed on the device",
        lambda: load((x, y), placement="device", host_transform=abs),
        V,
        "without `host_transform=`",
    ),
    ("steps of rows", lambda: load((x, y), 4, steps_per_epoch=3), V, "data that is rows; got 3"),
    ("no steps", lambda: load(step(x), steps_per_epoch=0), V, "at least 1; got 0"),
    ("half a step", lambda: load(step(x), steps_per_epoch=0.5), T, "whole number; got 0.5"),
    ("batch size of batches", lambda: load(Again((x, y)), 4), V, r"batch_size=...\)` means nothing"),
    (
        "sampler of batches",
        lambda: load(Again((x, y)), sampler=neuron.Bootstrap()),
        V,
        r"sampler=...\)` means nothing for data that is batches",
    ),
    ("batches placed", lambda: load(Again((x, y)), placement="host"), V, "got 'host'"),
    ("batch size of a function", lambda: load(step(x), 4, steps_per_epoch=2), V, "means nothing"),
    (
        "a function and the host",
        lambda: load(step(x), steps_per_epoch=2, host_transform=abs),
        V,
        "data that is a function",
    ),
    (
        "a function and its last batch",
        lambda: load(step(x), steps_per_epoch=2, drop_last=True),
        V,
        r"drop_last=...\)` means nothing",
    ),
    ("larger than the data", lambda: load(Rows(lambda rows: (x[rows],)), 9), V, "9 for 8 rows"),
    # Functions of the step.
    ("a function without an end", lambda: load(step(x, y)), V, "must come with `steps_per_epoch=`"),
    ("a function of a number", lambda: train(lambda s: s, steps_per_epoch=2), V, r"int32\[\]"),
    (
        "a function of an example",
        lambda: train(step(jnp.ones(2), jnp.ones(())), steps_per_epoch=2),
        V,
        r"rows along a first axis.*float32\[\]",
    ),
    (
        "a function of unequal lengths",
        lambda: train(step(x, y[:7]), steps_per_epoch=2),
        V,
        "inputs has 8, targets has 7",
    ),
    ("a function of a dict", lambda: train(lambda s: {"a": x}, steps_per_epoch=2), T, "a dict of"),
    (
        "a function of nan",
        lambda: train(step(x, jnp.asarray(nan)), steps_per_epoch=2),
        V,
        "targets has nan in row 3 of step 0",
    ),
    (
        "a function that can not be hashed",
        lambda: load(Unhashable(), steps_per_epoch=2),
        T,
        "hashable",
    ),
    # Sources.
    ("a source of nothing", lambda: load(Rows(None, 0)), V, "at least one row and fewer than"),
    ("a source of everything", lambda: load(Rows(None, 1 << 40)), V, "fewer than 2.31; got"),
    (
        "a source of fewer",
        lambda: train(Rows(lambda rows: (x[rows[1:]], y[rows[1:]])), 4),
        V,
        r"Rows.read\(rows\)` must return as many rows as are asked for; got 3 for 4",
    ),
    (
        "a source of nan",
        lambda: train(Rows(lambda rows: (x[rows], nan[rows])), 4),
        V,
        "targets has nan in line 3 of a.csv",
    ),
    (
        "a source of other rows",
        lambda: train(
            Rows(lambda rows: (np.ones((len(rows), 2 + (5 in rows)), F), y[rows])),
            4,
            placement="host",
            sampler=neuron.Sequential(),
        ),
        V,
        r"the batch from line \d of a.csv on has rows of inputs float32\[3\].*the first has",
    ),
    ("a source of a number", lambda: train(Rows(lambda rows: 1.0), 4), V, r"inputs has shape \(\)"),
    ("a source of nothing at all", lambda: train(Rows(lambda rows: None), 4), V, "must have inputs"),
    (
        "a class of a source's row",
        lambda: train(
            Rows(lambda rows: (x[rows], rows.astype(np.int32))),
            4,
            loss=neuron.CrossEntropy(),
            features=3,
        ),
        V,
        "from 0 to 2",
    ),
    # Examples.
    ("examples of other shapes", lambda: train([(x[0], 1), (x[0, :1], 1)], 2), V, "row 1 is"),
    ("examples of other parts", lambda: train([(x[0], F(1)), (x[0],)], 2), V, "row 1 is"),
    ("examples of words", lambda: train([("a", F(1)), ("b", F(1))], 2), T, "inputs has dtype <U1"),
    ("an example of four", lambda: train([(x[0],) * 4] * 4, 2), T, "a tuple of 4"),
    ("examples by name", lambda: train([{"a": x[0]}] * 4, 2), T, r"a dict of \['a'\].*host_transform"),
    # Streams.
    ("no batch", lambda: train(Again()), V, "at least one batch; got none"),
    ("no batch of none", lambda: len(load(Sized())), V, "at least one batch; got none"),
    ("a stream of examples", lambda: train(Again(*zip(x, y, strict=True))), V, r"shape \(\)"),
    (
        "a longer batch",
        lambda: train(Again((x, y), (np.ones((9, 2), F), np.ones(9, F)))),
        V,
        "batch 1 of epoch 1 has 9 rows, the first has 8",
    ),
    (
        "a batch of another type",
        lambda: train(Again((x, y), (x.astype(int), y))),
        V,
        r"batch 1 of epoch 1 has rows of inputs int32\[2\]",
    ),
    (
        "a batch without targets",
        lambda: train(Again((x, y), (x,))),
        V,
        r"batch 1 .* has rows of inputs float32\[2\], the first has .* targets float32\[\]",
    ),
    (
        "a batch with nan",
        lambda: train(Again((x, y), (x, nan))),
        V,
        "targets has nan in row 3 of batch 1 of epoch 1",
    ),
    ("a batch of nothing", lambda: train(Again((x, y), None)), V, "must have inputs"),
    (
        "a class in a later batch",
        lambda: train(
            Again((x, np.zeros(8, int)), (x, np.full(8, 5))), loss=neuron.CrossEntropy(), features=3
        ),
        V,
        "from 0 to 2; got 5",
    ),
    ("a generator again", lambda: spent(lambda t, g: t.fit(g)), V, "Trainer.fit.*read once only"),
    ("and evaluated", lambda: spent(lambda t, g: t.evaluate(g)), V, "Trainer.evaluate.*read before"),
    ("and predicted", lambda: spent(lambda t, g: t.predict(g)), V, "Trainer.predict.*read before"),
    (
        "a generator held out",
        lambda: trainer().fit((x, y), epochs=1, validation=load(iter([(x, y)]))),
        V,
        r"validation=...\)` is read at the end of each epoch; got a generator",
    ),
    ("the length of a stream", lambda: len(load(Again((x, y)))), T, "steps_per_epoch=...\\)`"),
    (
        "a metric of all rows",
        lambda: trainer(metrics={"m": lambda t, p: 0.0}).fit(load(Again((x, y)))),
        V,
        r"how many batches an epoch has where metrics keep all its rows, as \['m'\] do",
    ),
    # Transforms.
    ("a transform of four", lambda: train((x, y), 4, transform=lambda e: (e,) * 4), T, "tuple of 4"),
    (
        "a transform by name",
        lambda: train((x, y), 4, transform=lambda e: {"a": e.inputs}),
        T,
        r"DataLoader\(transform=...\)`.*a dict of \['a'\]",
    ),
    (
        "a transform of weights",
        lambda: train((x, y), 4, transform=lambda e: (e.inputs, e.targets, 2.0)),
        V,
        "a row's weight is the data's own",
    ),
    (
        "a transform to another width",
        lambda: train((x, y), 4, transform=lambda e: (e.inputs[:1], e.targets)),
        V,
        r"x of float32\[1\] here",
    ),
    (
        "a transform on the host of fewer rows",
        lambda: train((x, y), 4, host_transform=lambda b: (b.inputs[1:], b.targets[1:])),
        V,
        r"host_transform=...\)` must return as many rows as are asked for; got 3 for 4",
    ),
    (
        "a transform on the host by name",
        lambda: train((x, y), 4, host_transform=lambda b: {"a": b.inputs}),
        T,
        r"DataLoader\(host_transform=...\)` must be a tuple",
    ),
    (
        "a transform on the host of nan",
        lambda: train((x, y), 4, host_transform=lambda b: (b.inputs, 0 * b.targets / 0)),
        V,
        "targets has nan in row",
    ),
]  # fmt: skip


@pytest.fixture(autouse=True)
def without_runtime_type_checks():
    """As users have it: it is the library that must refuse."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.filterwarnings("ignore:The data is float64", "ignore:invalid value")
@pytest.mark.parametrize(
    ("call", "kind", "point"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_refused(call, kind, point):
    with pytest.raises(Exception, match=point) as caught:
        call()
    assert type(caught.value) is kind


def test_the_table_is_long_enough():
    assert len(TABLE) >= 50
    assert len({row[0] for row in TABLE}) == len(TABLE)
