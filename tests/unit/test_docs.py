"""docs/architecture.md names files and functions; they must exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tollgate import errors

ROOT = Path(__file__).resolve().parents[2]
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


def test_every_error_code_is_listed() -> None:
    codes = {
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.TollgateError) and kind is not errors.TollgateError
    }
    assert {code for code in codes if f"`{code}`" not in TEXT} <= {"conflict", "account_not_reachable"}


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/**/*.md")) + [ROOT / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
