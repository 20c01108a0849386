"""The public surface: what `neuron.<name>` is."""

import ast
import importlib
import inspect
import pathlib
import re

import pytest

import neuron


INDEX = ast.parse(pathlib.Path(neuron.__file__).read_text())
IMPORTS = [node for node in INDEX.body if isinstance(node, ast.ImportFrom)]
PUBLIC = sorted(alias.asname or alias.name for node in IMPORTS for alias in node.names)
MODULES = {node.module for node in IMPORTS}
each_name = pytest.mark.parametrize("name", PUBLIC)


def test_the_index_holds_a_docstring_exports_and_the_version():
    first, *rest, last = INDEX.body
    assert first.value.value == neuron.__doc__
    assert rest == IMPORTS
    assert ast.unparse(last) == f"__version__ = {neuron.__version__!r}"
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev)\d+)?", neuron.__version__)


@pytest.mark.parametrize("node", IMPORTS, ids=ast.unparse)
def test_a_line_exports_one_name(node):
    # `from neuron.x import Y as Y`: the spelling by which type checkers know an export.
    (alias,) = node.names
    assert alias.name == alias.asname
    assert re.fullmatch(r"neuron\.[a-z]+", node.module)


def test_nothing_else_is_public():
    # Rooms are attributes of the package because they were imported; every other name is exported.
    rooms = {path.stem for path in pathlib.Path(neuron.__file__).parent.iterdir()}
    # The hook that checks annotations leaves its own name behind.
    public = {name for name in vars(neuron) if not name.startswith("_")} - {"jaxtyping"}
    public -= rooms - set(PUBLIC)
    assert public == set(PUBLIC)
    assert len(PUBLIC) == len(set(PUBLIC))


@each_name
def test_is_what_its_room_defines(name):
    thing = getattr(neuron, name)
    # A room that is a folder defines it in one of its files.
    room = ".".join(thing.__module__.split(".")[:2])
    assert room in MODULES
    assert getattr(importlib.import_module(room), name) is thing
    assert thing.__name__ == name


@each_name
def test_has_a_docstring_of_its_own(name):
    doc = vars(getattr(neuron, name)).get("__doc__") or getattr(neuron, name).__doc__
    assert len(doc) > 10
    # A dataclass without a docstring is given its signature as one.
    assert not doc.startswith(f"{name}(")
    assert doc.strip().split("\n\n")[0].rstrip().endswith((".", ":"))


@each_name
def test_its_methods_have_docstrings(name):
    thing = getattr(neuron, name)
    for method, function in inspect.getmembers(thing, inspect.isfunction):
        if function.__module__.startswith("neuron") and not method.startswith("_"):
            assert inspect.getdoc(function), method


def functions_of(name):
    """The syntax of a public function, or of the methods that a public class writes out."""
    thing = getattr(neuron, name)
    source = inspect.getsource(importlib.import_module(thing.__module__))
    (node,) = [n for n in ast.parse(source).body if getattr(n, "name", None) == name]
    return [n for n in ast.walk(node) if isinstance(n, ast.FunctionDef)]


@each_name
def test_arguments_are_documented_in_their_order(name):
    for node in functions_of(name):
        many, rest = ([a] if a else [] for a in (node.args.vararg, node.args.kwarg))
        arguments = [a.arg for a in (*node.args.args, *many, *node.args.kwonlyargs, *rest)]
        arguments = [name for name in arguments if name not in ("self", "cls")]
        doc = ast.get_docstring(node) or ""
        # An error is made by the trainer alone.
        if node.name == "__init__" and arguments and not name.endswith("Error"):
            assert "**Arguments:**" in doc
        if "**Arguments:**" in doc:
            listed = re.search(r"\*\*Arguments:\*\*\n\n((?:[- ].*\n?)+)", doc)[1]
            heads = re.findall(r"^- ((?:`\w+`(?:, )?)+)", listed, re.MULTILINE)
            assert re.findall(r"\w+", " ".join(heads)) == arguments


@pytest.mark.parametrize("room", sorted(MODULES | {"neuron"}))
def test_a_room_says_what_it_is(room):
    doc = importlib.import_module(room).__doc__
    assert doc.split("\n\n")[0].strip().endswith(".")
