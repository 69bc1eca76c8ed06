"""docs/architecture.md names files and functions; they must exist."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tollgate.errors import TollgateError

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "layers" / "common" / "tollgate"
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tollgate/[a-z_/]+\.py)(?::([A-Za-z_.]+))?`", TEXT)))


def names(path: Path) -> set[str]:
    """Top-level names of a module, and `Class.method`."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_named_places_exist(path: str, name: str) -> None:
    file = ROOT / "layers" / "common" / path
    assert file.is_file()
    assert not name or name in names(file), f"{path} has no {name}"


def test_the_table_names_many_places() -> None:
    assert len(NAMED) > 25


def error_classes() -> Iterator[type[TollgateError]]:
    """TollgateError and everything below it, wherever in the package it stands."""
    for file in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        if module != "tollgate.cold_start":  # for a function's start only: it changes how the process collects garbage
            importlib.import_module(module)
    pending = [TollgateError]
    while pending:
        kind = pending.pop()
        yield kind
        pending += [below for below in kind.__subclasses__() if below.__module__.startswith("tollgate.")]


def test_the_error_table_is_what_the_classes_say() -> None:
    classes = {
        (kind.code, kind.status, f"{kind.__module__.replace('.', '/')}.py:{kind.__name__}")
        for kind in error_classes()
        if "code" in vars(kind)
    }
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \| `([\w/.:]+)` \|", TEXT, re.M)
    assert {(code, int(status), place) for code, status, place in rows} == classes
    assert len({code for code, _, _ in rows}) == len(rows), "a code of two classes"


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/**/*.md")) + [ROOT / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
