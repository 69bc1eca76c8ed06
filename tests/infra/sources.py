"""What the shipped code imports and which environment names it mentions, read from its syntax and never run."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.infra.translated import ROOT

COMMON = ROOT / "layers/common"
ENVIRONMENT_NAME = re.compile(r"^TOLLGATE_[A-Z][A-Z_]*$")


@dataclass
class Reach:
    """Everything that loading one function's `app.py` can import."""

    files: set[Path] = field(default_factory=set)
    third_party: set[str] = field(default_factory=set)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(file: Path) -> set[str]:
    """Dotted names a file imports anywhere at run time; for `from a import b` both `a` and `a.b`.

    Imports inside functions count too: a lazy import is still one that the function can reach.
    """
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(file.read_text())]
    while pending:
        node = pending.pop()
        if _is_type_checking(node):
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        pending.extend(ast.iter_child_nodes(node))
    return found


def _local_files(name: str, folders: list[Path]) -> list[Path]:
    """Files that importing a dotted name runs: its packages' __init__ and itself, where they are ours."""
    files = []
    parts = name.split(".")
    for folder in folders:
        for length in range(1, len(parts) + 1):
            path = folder.joinpath(*parts[:length])
            files += [file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()]
    return files


def reach(entry: Path) -> Reach:
    """Follow imports from a function's app.py through its own folder and the common layer."""
    folders = [entry.parent, COMMON]
    result = Reach()
    pending = [entry]
    while pending:
        file = pending.pop()
        if file in result.files:
            continue
        result.files.add(file)
        for name in imports(file):
            local = _local_files(name, folders)
            pending += local
            top = name.partition(".")[0]
            if not local and top not in sys.stdlib_module_names and not (COMMON / top).exists():
                result.third_party.add(top)
    return result


def environment_names(file: Path) -> set[str]:
    """TOLLGATE_* string constants of a file."""
    return {
        node.value
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ENVIRONMENT_NAME.match(node.value)
    }


def pins(layer: str) -> dict[str, str]:
    """Distribution (normalized name) -> version, from a layer's requirements.txt.

    Raises ValueError for a line that pins nothing.
    """
    found = {}
    for line in (ROOT / "layers" / layer / "requirements.txt").read_text().splitlines():
        line = line.partition("#")[0].strip()
        if not line:
            continue
        name, separator, version = line.partition("==")
        if not separator:
            raise ValueError(f"layers/{layer}/requirements.txt: {line!r} is not pinned with ==")
        found[normalized(name)] = version
    return found


def normalized(distribution: str) -> str:
    """A distribution's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
