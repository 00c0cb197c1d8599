"""How the package's modules depend on each other: no import runs up, none in a circle, and no two
modules share a name."""

import ast
import graphlib

import pytest
from conftest import ROOT

PACKAGE = ROOT / "python" / "active_convolution"
FLOORS = [  # each may import from those before it, and from itself
    ["errors"],
    ["command", "files", "geometry"],
    ["caffe"],
    ["check", "data", "networks"],
    ["training"],
    ["look", "export"],
    ["paper"],
    ["cli"],
]


def modules(package=PACKAGE):
    """{dotted name below the package: path}; a package's own __init__ is "<package>.__init__"."""
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in package.rglob("*.py")
    }


def imported(name, source, known):
    """The modules among ``known`` that the text ``source`` of the module ``name`` imports, wherever
    in it that stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            above = name.split(".")[: -node.level] if node.level else None
            parts = (node.module or "").split(".") if node.module else []
            if above is None:
                if parts[:1] != ["active_convolution"]:
                    continue
                above, parts = [], parts[1:]
            base = ".".join(above + parts)
            found |= {".".join(filter(None, (base, alias.name))) for alias in node.names} | {base}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("active_convolution.") for alias in node.names}
    return found & known


@pytest.fixture(scope="module")
def graph():
    """{module: the modules that it imports}"""
    files = modules()
    return {
        name: imported(name, path.read_text(encoding="utf-8"), set(files))
        for name, path in files.items()
    }


def floor(name):
    unit = name.split(".")[0]
    return next(index for index, units in enumerate(FLOORS) if unit in units)


def test_every_module_has_a_floor(graph):
    units = {name.split(".")[0] for name in graph} - {"__init__", "__main__"}
    assert units - {"cli"} == {unit for units in FLOORS for unit in units} - {"cli"}


def test_no_import_runs_up_or_across(graph):
    wrong = [
        f"{name} imports {other}"
        for name, others in graph.items()
        if not name.startswith("__")
        for other in others
        if floor(other) > floor(name)
        or floor(other) == floor(name)
        and other.split(".")[0] != name.split(".")[0]
    ]
    assert not wrong
    assert sum(map(len, graph.values())) > 100, "the graph is there"


def test_no_imports_run_in_a_circle(graph):
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(graph)


def test_no_two_modules_share_a_name(graph):
    last = [name.split(".")[-1] for name in graph if not name.split(".")[0] == "cli"]
    names = [name for name in last if not name.startswith("__")] + [
        path.name for path in PACKAGE.iterdir() if path.is_dir()
    ]
    assert {name for name in names if names.count(name) > 1 and name != "__pycache__"} == set()


def test_no_two_classes_share_a_name():
    names = [
        node.name
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert {name for name in names if names.count(name) > 1} == set()


@pytest.mark.parametrize(
    "source, expected",
    [
        ("from .. import errors", {"errors"}),
        ("from ..b import c, d", {"b.c"}),
        ("from .x import y", {"a.x"}),
        ("def f():\n    from ..b.c import g", {"b.c"}),
        ("import active_convolution.errors", {"errors"}),
        ("from active_convolution.b import c", {"b.c"}),
        ("import os\nfrom json import errors", set()),
    ],
)
def test_imports_are_found(source, expected):
    assert imported("a.m", source, {"errors", "b.c", "a.x"}) == expected
