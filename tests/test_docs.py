"""Every block of Python in the README and the docs runs, top to bottom, page by page."""

import pathlib
import re

import pytest

import neuron


ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
WITH_CODE = [page for page in PAGES if BLOCK.search(page.read_text())]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    # Some write files.
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": page.stem}
    for block in BLOCK.findall(page.read_text()):
        exec(compile(block, str(page), "exec"), namespace)


def test_pages_with_code_are_found():
    assert {page.name for page in WITH_CODE} >= {"README.md", "index.md", "tour.md", "extending.md"}


def test_every_room_has_a_page_and_a_test():
    # A room is a file, or a folder with an index.
    files = {path.stem for path in (ROOT / "neuron").glob("*.py")} - {"__init__"}
    rooms = files | {path.parent.name for path in (ROOT / "neuron").glob("*/__init__.py")}
    assert {path.stem for path in (ROOT / "docs" / "api").glob("*.md")} == rooms
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    assert rooms <= tests


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_version_is_one():
    assert re.fullmatch(r"\d+\.\d+\.\d+", neuron.__version__)
