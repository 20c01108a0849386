"""Files of models: what is in them, who else reads them, and what is refused."""

import json
import pathlib
import subprocess
import sys
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
import safetensors
import safetensors.numpy
from jaxtyping import Array

import neuron
from neuron.checkpoint.configuration import described
from neuron.checkpoint.format import decode, encode
from neuron.checkpoint.leaves import Leaves
from neuron.checkpoint.plain import packed, unpacked


def mlp(width=4, seed=0):
    return eqx.nn.MLP(2, "scalar", width, 1, key=jax.random.key(seed))


class Parts(eqx.Module):
    """A model with all that a file may hold, and what it may not."""

    weight: Array
    half: Array
    whole: Array
    flags: np.ndarray
    empty: Array
    key: Array
    inside: dict
    rate: float
    count: int
    on: bool
    activation: object
    name: str = eqx.field(static=True)

    def __init__(self, fill):
        self.weight = jnp.full((2, 3), fill, jnp.float32)
        self.half = jnp.full(3, fill, jnp.bfloat16)
        self.whole = jnp.full((), int(fill), jnp.int32)
        self.flags = np.array([fill > 1, False])
        self.empty = jnp.zeros((0, 3))
        self.key = jax.random.key(int(fill))
        self.inside = {"a.b": jnp.full(2, fill), "a": [jnp.full(1, fill)]}
        self.rate, self.count, self.on = float(fill), int(fill), fill > 1
        self.activation, self.name = jax.nn.relu, "parts"


def same(a, b):
    """Structure, types and bits."""
    leaves = jax.tree.leaves(a), jax.tree.leaves(b)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(*leaves, strict=True):
        assert type(one) is type(other)
        if isinstance(one, Array) and jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        if isinstance(one, Array | np.ndarray):
            assert one.dtype == other.dtype
            assert one.shape == other.shape
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
        else:
            assert one == other
    return True


def test_a_model_comes_back(tmp_path):
    model, path = Parts(2), tmp_path / "model.safetensors"
    neuron.save(path, model)
    assert same(neuron.load(path, like=Parts(1)), model)
    assert same(neuron.load(str(path), like=model), model)


@pytest.mark.parametrize("value", [np.nan, -np.inf, -0.0, 1e-45])
def test_every_bit_of_a_number_comes_back(tmp_path, value):
    neuron.save(tmp_path / "m", [jnp.array(value, jnp.float32), value])
    array, number = neuron.load(tmp_path / "m", like=[jnp.zeros(()), 1.0])
    assert np.asarray(array).tobytes() == np.float32(value).tobytes()
    assert np.float64(number).tobytes() == np.float64(value).tobytes()


def test_a_state_goes_with_its_model(tmp_path):
    pair = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, axis_name="batch", mode="batch")
    changed = jax.tree.map(
        lambda leaf: leaf + 1 if eqx.is_array(leaf) and leaf.ndim else leaf, pair
    )
    neuron.save(tmp_path / "m", changed)
    assert same(neuron.load(tmp_path / "m", like=pair), changed)


def test_the_file_is_the_same_for_the_same_model(tmp_path):
    neuron.save(tmp_path / "a", Parts(2))
    program = f"""
import sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import neuron, test_checkpoint
neuron.save({str(tmp_path / "b")!r}, test_checkpoint.Parts(2))
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=".")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_other_programs_read_it(tmp_path):
    model = mlp()
    neuron.save(tmp_path / "m.safetensors", model)
    with safetensors.safe_open(tmp_path / "m.safetensors", "np") as file:
        assert sorted(file.keys()) == [
            f"layers[{n}].{k}" for n in (0, 1) for k in ("bias", "weight")
        ]
        weight = file.get_tensor("layers[0].weight")
        facts = json.loads(file.metadata()["neuron"])
    np.testing.assert_array_equal(weight, model.layers[0].weight)
    assert facts["format"] == 1
    assert facts["kind"] == "model"
    assert len(facts["sha256"]) == 64
    assert facts["versions"]["jax"] == jax.__version__


def test_memory_of_any_order_is_written_right(tmp_path):
    array = np.arange(12, dtype=">f4").reshape(3, 4)
    for turned in (array.T, array[:, ::2], np.asfortranarray(array)):
        neuron.save(tmp_path / "m", [turned])
        (back,) = neuron.load(tmp_path / "m", like=[np.zeros(turned.shape, np.float32)])
        np.testing.assert_array_equal(back, turned)


def test_what_does_not_fit_is_named(tmp_path):
    path = tmp_path / "m"
    neuron.save(path, {"a": jnp.zeros(2), "b": jnp.zeros(3), "n": 1, "k": jax.random.key(0)})
    like = {"a": jnp.zeros(4), "c": jnp.zeros(3), "n": 1.0, "k": jnp.zeros(2, jnp.uint32)}
    with pytest.raises(neuron.CheckpointError) as caught:
        neuron.load(path, like=like)
    text = str(caught.value)
    assert str(path) in text
    assert "`['a']` has shape (4,) here, (2,) there" in text
    assert "`['c']` is missing" in text
    assert "`['b']` is in the file alone" in text
    assert "`['n']` is float here, int there" in text
    assert "`['k']` holds no random keys here, random keys of threefry2x32 there" in text


def test_not_strict_takes_what_fits_and_says_what_does_not(tmp_path):
    neuron.save(tmp_path / "m", {"a": jnp.ones(2), "b": jnp.ones(3), "c": jnp.ones(1)})
    like = {"a": jnp.zeros(2), "b": jnp.zeros(4), "d": jnp.zeros(1)}
    with pytest.warns(UserWarning, match="but for") as caught:
        loaded = neuron.load(tmp_path / "m", like=like, strict=False)
    text = str(caught[0].message)
    assert "`['b']` has shape" in text
    assert "`['d']` is missing" in text
    assert "alone" in text
    assert same(loaded, like | {"a": jnp.ones(2)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        neuron.load(tmp_path / "m", like={n: jnp.zeros(k) for n, k in zip("abc", (2, 3, 1), strict=False)},
                    strict=False)  # fmt: skip


def test_single_and_double_precision_are_told_apart(tmp_path, x64):
    neuron.save(tmp_path / "m", jnp.zeros(2, jnp.float64))
    with pytest.raises(neuron.CheckpointError, match="float32 here, float64 there"):
        neuron.load(tmp_path / "m", like=jnp.zeros(2, jnp.float32))


REFUSED_AT_SAVE = {
    "complex128": (np.zeros(2, np.complex128), "complex128"),
    "int4": (np.zeros(2, ml_dtypes.int4), "int4"),
    "objects": (np.array([None]), "object"),
    "text": (np.array(["a"]), "<U1"),
    "dates": (np.array(["2020-01-01"], "datetime64[D]"), "datetime64"),
    "records": (np.zeros(2, [("a", "f4")]), "'a'"),
}


@pytest.mark.parametrize("case", REFUSED_AT_SAVE)
def test_types_that_a_file_can_not_hold_are_refused(tmp_path, case):
    array, shown = REFUSED_AT_SAVE[case]
    with pytest.raises(neuron.CheckpointError, match="must be of a type that the format has") as e:
        neuron.save(tmp_path / "m", {"x": array})
    assert shown in str(e.value)
    assert "['x']" in str(e.value)
    assert not list(tmp_path.iterdir())


def test_reserved_and_double_names_are_refused(tmp_path):
    with pytest.raises(neuron.CheckpointError, match="__metadata__"):
        encode({"__metadata__": np.zeros(1)}, {})

    @jax.tree_util.register_pytree_with_keys_class
    class Twice:
        def tree_flatten_with_keys(self):
            key = jax.tree_util.GetAttrKey("same")
            return [(key, jnp.zeros(1)), (key, jnp.ones(1))], None

        @classmethod
        def tree_unflatten(cls, static, leaves):
            return cls()

    with pytest.raises(neuron.CheckpointError, match="`same`"):
        neuron.save(tmp_path / "m", Twice())


def test_a_model_named_like_the_digest_is_no_way_in(tmp_path):
    with pytest.raises(neuron.CheckpointError, match="one SHA-256"):
        neuron.save(tmp_path / "m", {f'","sha256":"{"0" * 64}"': jnp.zeros(1)})


def test_damage_is_noticed(tmp_path):
    path = tmp_path / "m"
    neuron.save(path, mlp())
    content = path.read_bytes()
    for place in (0, 9, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(neuron.CheckpointError):
            neuron.load(path, like=mlp())
    for damaged in (b"", content[:-1], content + b"\0", b"PK\3\4" + content, b"{}"):
        path.write_bytes(damaged)
        with pytest.raises(neuron.CheckpointError, match=str(path)):
            neuron.load(path, like=mlp())


def test_only_regular_files_are_read(tmp_path):
    neuron.save(tmp_path / "m", mlp())
    (tmp_path / "link").symlink_to(tmp_path / "m")
    with pytest.raises(neuron.CheckpointError, match="it is a link"):
        neuron.load(tmp_path / "link", like=mlp())
    with pytest.raises(neuron.CheckpointError, match="regular file"):
        neuron.load(tmp_path, like=mlp())
    with pytest.raises(neuron.CheckpointError, match="No such file"):
        neuron.load(tmp_path / "none", like=mlp())


def test_a_file_is_replaced_whole(tmp_path):
    neuron.save(tmp_path / "m", mlp(seed=1))
    with pytest.raises(neuron.CheckpointError):
        neuron.save(tmp_path / "m", np.array([None]))
    assert same(neuron.load(tmp_path / "m", like=mlp()), mlp(seed=1))
    with pytest.raises(neuron.CheckpointError, match="No such file"):
        neuron.save(tmp_path / "none" / "m", mlp())
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_plain_values_come_back():
    value = {
        "none": None, "flag": True, "whole": 1 << 70, "text": 'a"b\n', "bytes": b"\0\xff",
        "floats": [1.5, float("inf"), -0.0], "deep": {"x": {"y": [np.arange(3), {}]}},
        "scalar": np.float32(2),
    }  # fmt: skip
    arrays: dict[str, np.ndarray] = {}
    as_json = json.loads(json.dumps(packed(value, "v", arrays), allow_nan=False))
    back = unpacked(as_json, arrays)
    np.testing.assert_array_equal(back["deep"]["x"].pop("y")[0], np.arange(3))
    assert set(arrays) == {"v.deep.x.y[0]", "v.scalar"}
    value["deep"]["x"].pop("y")
    assert back == value
    assert np.isnan(unpacked(packed(float("nan"), "v", {}), {}))


@pytest.mark.parametrize("value", [object(), {1: 2}, {"$": 1}, {1, 2}, len])
def test_values_that_are_not_plain_are_refused(value):
    with pytest.raises(neuron.CheckpointError, match=r"`v\.x` is"):
        packed({"x": value}, "v", {})


def test_facts_and_arrays_come_back():
    arrays = {'é"\\': np.arange(3), "": np.float32(2).reshape(())}
    back, facts = decode(encode(arrays, {"a": [1, {"b": "ü"}]}), "it")
    assert back.keys() == arrays.keys()
    assert facts["a"] == [1, {"b": "ü"}]
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)


def test_leaves_of_one_path():
    leaves = Leaves.of({"a": jnp.zeros(1), "ab": jnp.ones(1)}, "x")
    assert set(leaves.arrays) == {"x['a']", "x['ab']"}
    assert set(leaves.under("x").arrays) == {"['a']", "['ab']"}
    assert set(Leaves.of(mlp(), "x").under("x.layers").arrays) > {"[0].weight"}


def test_parts_are_described_alike_in_every_process_and_apart_where_they_differ():
    alike = [described(neuron.Adam(1e-3)), described(neuron.Adam(1e-3))]
    assert len(set(alike)) == 1
    assert "0x" not in alike[0]
    weights = np.linspace(0, 1, 100)
    different = [
        neuron.Adam(1e-3), neuron.Adam(1e-2), neuron.SGD(1e-3), neuron.Huber(1.0), neuron.Huber(2.0),
        neuron.Weighted(weights), neuron.Weighted(weights[::-1]), optax.adam, jax.nn.relu, len,
        {"a": 1}, {"a": 2}, (1, 2), [1, 2], "x", None, 1.0, True, jax.random.key(0),
        jax.random.key(1), jnp.zeros(3), jnp.zeros(4), mlp(), mlp(5),
    ]  # fmt: skip
    texts = [described(part) for part in different]
    assert len(set(texts)) == len(texts)
    assert not any("0x" in text for text in texts)
    assert described(mlp(seed=0), contents=False) == described(mlp(seed=1), contents=False)
