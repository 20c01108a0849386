"""The floors of the house, and the one address of each dangerous thing."""

import ast
import functools
import pathlib
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest


ROOT = pathlib.Path(__file__).parent.parent
GROUND = {
    "types", "average", "counters", "trees", "errors", "layers", "losses", "metrics", "models",
    "objectives", "optimizers", "rows", "samplers", "selection", "state", "kernel", "convolutions",
    "step", "run",
    "evaluation", "summaries", "labels", "hyperparameters", "members",
}  # fmt: skip
UPPER = {
    "data", "history", "checkpoint", "callbacks", "interrupts", "slices", "place", "plotting", "driving",
    "trainer", "finder", "population", "demands", "splits", "preprocessing", "clock", "exports", "origin", "extras",
    "resampling", "intervals", "scores", "comparison",
    "unrolling", "sweeps", "folds", "bootstrapping",
}  # fmt: skip
COMPILING = {
    "run",
    "evaluation",
    "kernel",
    "convolutions",
    "rows",
    "samplers",
    "exports",
}
# What may be imported beside neuron itself, and the ground floor's share of the standard library.
# Equinox prints modules by `wadler_lindig`, and asks a module of one's own for its words.
LIBRARIES = {"jax", "equinox", "jaxtyping", "wadler_lindig", "numpy", "neuron"}
PURE = {
    "abc", "collections", "dataclasses", "fnmatch", "functools", "inspect", "math", "operator",
    "typing",
}  # fmt: skip


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in sorted((ROOT / "neuron").rglob("*.py"))}


def room_of(module):
    """A room is a file, or a folder of files; the index is none."""
    return module.split(".")[1] if "." in module else "__init__"


def on(floor):
    return pytest.mark.parametrize("file", [file for file in FILES if room_of(file) in floor])


each_file = pytest.mark.parametrize("file", FILES)


@functools.cache
def tree_of(file):
    return ast.parse(FILES[file].read_text())


def is_for_types(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def nodes(node):
    """All nodes below one, but for what is there for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if not is_for_types(child):
            yield child
            yield from nodes(child)


def imported(file):
    """Every name that a file imports, wherever in it, with its module."""
    for node in nodes(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the package"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(file):
    return {name.split(".")[0] for name in imported(file)}


def files_of_neuron(file):
    """The files that a file looks into."""
    for name in imported(file):
        if name in FILES:
            yield name
        elif name.split(".")[0] == "neuron":
            yield name.rpartition(".")[0]


def rooms(file):
    """The other rooms that a file looks into."""
    return {room_of(other) for other in files_of_neuron(file)} - {room_of(file)}


def names_used(file):
    """Dotted names as they are written, and the ones that are imported from a module."""
    yield from imported(file)
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def test_every_room_is_on_a_floor():
    assert set(map(room_of, FILES)) == GROUND | UPPER | {"__init__"}
    assert not GROUND & UPPER


@on(GROUND)
def test_the_ground_floor_knows_nothing_above_it(file):
    # The index is above it as well.
    assert rooms(file) <= GROUND


@on(GROUND)
def test_the_ground_floor_is_pure(file):
    assert packages(file) <= LIBRARIES | PURE


@on(UPPER)
def test_the_upper_floor_needs_jax_and_the_standard_library(file):
    optional = {
        "callbacks": {"tqdm"},
        "checkpoint": {"safetensors", "ml_dtypes"},
        "plotting": {"matplotlib"},
        "splits": {"narwhals"},
        "data": {"narwhals", "pyarrow"},
        "exports": {"flatbuffers", "jax2onnx", "onnxruntime"},
    }
    optional = optional.get(room_of(file), set())
    assert packages(file) - sys.stdlib_module_names <= LIBRARIES | optional


def test_no_file_is_entered_through_itself():
    # Raises CycleError, with the cycle.
    TopologicalSorter({file: set(files_of_neuron(file)) for file in FILES}).prepare()
    by_room = {}
    for file in FILES:
        by_room.setdefault(room_of(file), set()).update(rooms(file))
    TopologicalSorter(by_room).prepare()


@each_file
def test_a_room_that_is_a_folder_is_entered_through_its_index(file):
    for other in files_of_neuron(file):
        assert room_of(other) == room_of(file) or other.count(".") < 2


@each_file
def test_nobody_knows_what_a_layer_is(file):
    assert file == "neuron" or "layers" not in rooms(file)


@each_file
def test_the_progress_bar_has_one_address(file):
    assert room_of(file) == "callbacks" or "tqdm" not in packages(file)


@each_file
def test_compiling_has_few_addresses(file):
    compilers = {"jax.jit", "jax.pmap", "eqx.filter_jit", "eqx.filter_pmap", "equinox.filter_jit"}
    used = compilers & set(names_used(file))
    assert used <= ({"jax.jit"} if room_of(file) in COMPILING else set())


def test_each_address_compiles():
    assert {room_of(file) for file in FILES if "jax.jit" in names_used(file)} == COMPILING


@each_file
def test_nothing_is_pickled(file):
    assert not packages(file) & {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
    assert "allow_pickle" not in FILES[file].read_text()


@each_file
def test_randomness_on_the_host_has_one_address(file):
    # Nothing there has a state that outlives a call: each column of counts has a seed of its own.
    assert not packages(file) & {"random", "secrets", "uuid"}
    used = [n for n in names_used(file) if n.startswith(("np.random", "numpy.random"))]
    assert room_of(file) == "resampling" or not used


def test_importing_wakes_no_device_and_loads_little():
    program = """
import sys
import neuron
from jax._src import xla_bridge

neuron.SGD(0.1, momentum=0.9), neuron.Adam(), neuron.AdamW()
neuron.Huber(), neuron.CrossEntropy(), neuron.Bootstrap(1), neuron.Shuffle(1)
assert not xla_bridge.backends_are_initialized()
heavy = {"tqdm", "matplotlib", "narwhals", "optax", "sklearn", "beartype"}
loaded = (heavy | {"tensorboardX", "wandb", "mlflow", "jax2onnx"}) & set(sys.modules)
assert not loaded, loaded
import jax
jax.devices()
assert xla_bridge.backends_are_initialized()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=ROOT, check=True)
