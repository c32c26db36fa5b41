"""The house stays easy to see: imports only go down, nothing runs code from data, the wheel holds what it must."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "edgekit"

LAYERS = [
    {"arrays", "errors"},
    {"records", "clock", "digest"},
    {"specs", "results"},
    {"manifest", "storage"},
    {"container", "stamps", "targets", "formats", "installed", "requirements"},
    {"releases", "bundle", "preprocess", "postprocess", "runtimes"},
    {"inputs", "flow", "sides"},
    {"batch"},
    {"stream", "generation"},
    {"engine"},
    {"predictor"},
    {"golden_decisions"},
    {"golden"},
    {"packaging", "compression", "devices", "profiling", "export"},
    {"operations"},
    {"cli"},
    {"__main__"},
]
"""Lowest first; a module may import what stands on a lower line (`__init__` of the package is exempt)."""

ALSO_ALLOWED = {("runtimes", "formats"), ("packaging", "formats"), ("compression", "formats")}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        dotted = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        found[dotted.removesuffix(".__init__")] = path
    return found


def imports_of(path: Path, known: dict[str, Path]) -> set[str]:
    """Every module of the package that a file imports anywhere, TYPE_CHECKING and functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "edgekit"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module and node.module.split(".")[0] == "edgekit":
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    found.add(full if full in known else node.module)
    return found


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def rank(name: str) -> int:
    for index, names in enumerate(LAYERS):
        if name in names:
            return index
    pytest.fail(f"'{name}' is in no layer: give it a place in LAYERS")


def upward(known: dict[str, Path], edges: dict[str, set[str]]) -> list[str]:
    bad = []
    for module, targets in edges.items():
        if module == "edgekit":
            continue
        for target in targets:
            mine, theirs = part(module), part(target)
            same = mine == theirs or (mine, theirs) in ALSO_ALLOWED or target == "edgekit"
            if not same and rank(theirs) >= rank(mine):
                bad.append(f"{module} imports {target}")
    return bad


def cycles(edges: dict[str, set[str]]) -> list[str]:
    found, done = [], set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        if module in trail:
            found.append(" -> ".join((*trail[trail.index(module) :], module)))
            return
        if module in done:
            return
        for target in sorted(edges.get(module, ())):
            if target not in (module, "edgekit"):
                visit(target, (*trail, module))
        done.add(module)

    for module in edges:
        if module != "edgekit":
            visit(module, ())
    return found


def test_no_upward_import_and_no_cycle() -> None:
    """DESIGN: lower layers never import higher ones, siblings not each other; TYPE_CHECKING imports count."""
    known = modules()
    edges = {name: imports_of(path, known) for name, path in known.items()}
    assert upward(known, edges) == []
    assert cycles(edges) == []


def test_the_import_test_can_fail() -> None:
    """The two checks above see an upward arrow and a cycle when there is one."""
    known = {"edgekit.errors": Path("a"), "edgekit.predictor": Path("b")}
    edges = {"edgekit.errors": {"edgekit.predictor"}, "edgekit.predictor": {"edgekit.errors"}}
    assert upward(known, edges) == ["edgekit.errors imports edgekit.predictor"]
    assert cycles(edges) != []


def test_nothing_runs_code_from_data() -> None:
    """R6: no way to run code that came as data, anywhere in the package."""
    words = re.compile(r"\b(pickle|importlib|marshal|shelve)\b|\b(eval|exec)\s*\(|shell\s*=\s*True")
    found = []
    for path in PACKAGE.rglob("*.py"):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if words.search(line.replace("allow_pickle=False", "")):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found == []


def test_the_wheel_lists_every_package() -> None:
    """What is in the tree is in the wheel: pyproject's list is the tree's."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    there = {p.parent.relative_to(ROOT).as_posix().replace("/", ".") for p in PACKAGE.rglob("__init__.py")}
    assert {p for p in listed if "._data." not in p} == there
    assert {"edgekit._data.models", "edgekit._data.targets"} <= set(listed)


def test_files_stay_small() -> None:
    """STYLE 10: past 400 lines a file holds a second idea."""
    long = {p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text("utf-8").splitlines())) > 420}
    assert long == {}
