"""Imports run downward only, and the lowest rooms need nothing but torch."""

from __future__ import annotations

import ast
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import harness

ROOT = Path(harness.__file__).parent
# The picture of the house: which rooms a room may import, apart from `errors` and `base`.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "base": set(),
    "demo": set(),
    "kernels": set(),
    "results": set(),
    "outliers": {"results"},
    "statistics": {"kernels", "results"},
    "probes": {"kernels", "results"},
    "data": {"demo", "results", "statistics"},
    "models": {"demo", "outliers", "results"},
    "scoring": {"kernels", "models", "results", "statistics"},
    "writing": {"models", "outliers", "results", "scoring", "statistics"},
    "evaluation": {
        *("data", "models", "outliers", "probes", "results", "scoring", "statistics", "writing")
    },
    "report": {"data", "results", "scoring"},
    "tracking": {"data", "evaluation", "outliers", "probes", "report", "results", "scoring"},
    "cli": {"data", "evaluation", "probes", "report", "tracking"},
    "__main__": {"cli"},
}
BASE = {"errors", "base"}
SOURCES = sorted(ROOT.rglob("*.py"))


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path, *, typing_only: bool = False) -> list[str]:
    """Dotted names that a file imports, those for type checking left out."""
    tree = parsed(path)
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped |= set(ast.walk(node))
    names = []
    for node in ast.walk(tree):
        if node in skipped and not typing_only:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [
                f"{node.module}.{alias.name}" if node.module == "harness" else node.module
                for alias in node.names
            ]
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_only_those_below_them(path: Path) -> None:
    own = layer(path)
    if own == "__init__":
        return
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "harness" and len(parts) > 1 and parts[1] in ALLOWED:
            assert parts[1] in ALLOWED[own] | BASE | {own}, f"{path} imports {name}"


def test_every_room_is_in_the_picture() -> None:
    assert {layer(path) for path in SOURCES} - {"__init__"} == set(ALLOWED)


def test_no_room_leads_back_to_itself() -> None:
    TopologicalSorter(ALLOWED).prepare()  # raises where there is a cycle


@pytest.mark.parametrize(
    ("room", "needs"),
    [
        ("outliers", {"numpy", "safetensors", "jsonargparse"}),
        ("probes", {"numpy", "jsonargparse"}),
        ("kernels", {"numpy", "numba", "triton"}),
    ],
)
def test_the_lowest_rooms_need_little_but_torch(room: str, needs: set[str]) -> None:
    allowed = set(sys.stdlib_module_names) | {"torch", "harness"} | needs
    for path in (ROOT / room).glob("*.py"):
        roots = {name.split(".")[0] for name in imported(path, typing_only=True)}
        assert roots <= allowed, path


@pytest.mark.parametrize("library", ["transformers", "datasets", "pyarrow", "scipy", "matplotlib"])
def test_heavy_libraries_are_imported_where_they_are_used(library: str) -> None:
    for path in SOURCES:
        body = parsed(path).body
        top = [node for node in body if isinstance(node, ast.ImportFrom | ast.Import)]
        names = [getattr(node, "module", None) or node.names[0].name for node in top]
        assert not [name for name in names if name.split(".")[0] == library], path
