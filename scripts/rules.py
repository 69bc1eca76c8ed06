"""The project's own lint rules: its invariants as far as source text can show them.

    python scripts/rules.py

1. no-float           no float near quantities or money (invariant 6)
2. stores-only        DynamoDB, SQS and SSM calls only in store modules
3. pure-domain        the domain knows neither Lambda, HTTP, pydantic nor boto3
4. no-local           the product imports nothing of the local stack, demo, bench or tests
5. own-arithmetic     the local stack imports none of the product's rating or billing code
6. no-cycles          no circles between the product's modules
7. no-places          nothing committed names a place of one machine
8. stripe-at-edge     only `tollgate/stripe_api/`, the sink and functions import `stripe`; the domain sees own records

A line that must break a rule says why: `# rule-ok: <rule> <reason>`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "layers" / "common" / "tollgate"
SDK = ("botocore", "boto3", "pynamodb", "tollgate.dynamo")
STORES = re.compile(r"(^|_)(store|dynamo|secrets|stripe_sink|queue_store)\.py$")
EDGES = ("tollgate/http/", "tollgate/catalog/")
OUTSIDE = ("local", "demo", "bench", "tests", "tollgate_cli")
SEED_MAY = ("tollgate.wiring", "tollgate.accounts.key_store", "tollgate.catalog.schema")
PLACES = re.compile(r"/(root|home|work)/[a-z]|/Users/[a-z]")

Finding = tuple[Path, int, str, str]


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def under(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def check(path: Path, tree: ast.AST) -> Iterator[Finding]:
    place = path.relative_to(ROOT).as_posix()
    product = place.startswith(("layers/", "functions/"))
    if product:
        yield from _floats(path, tree)
        yield from _product_imports(path, place, tree)
    if place.startswith("local/"):
        for line, name in imports(tree):
            seeding = place == "local/seed.py" and (name == "tollgate" or under(name, *SEED_MAY))
            if under(name, "tollgate") and not seeding:
                yield path, line, "own-arithmetic", f"imports {name}"


def _floats(path: Path, tree: ast.AST) -> Iterator[Finding]:
    refused = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "float" and node not in refused:
            yield path, node.lineno, "no-float", "uses float"
        elif isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield path, node.lineno, "no-float", f"float literal {node.value}"


def _product_imports(path: Path, place: str, tree: ast.AST) -> Iterator[Finding]:
    store = bool(STORES.search(path.name))
    for line, name in imports(tree):
        if under(name, *OUTSIDE):
            yield path, line, "no-local", f"imports {name}"
        if place.startswith("functions/"):
            continue
        if under(name, *SDK) and not store:
            yield path, line, "stores-only", f"imports {name} outside a store module"
        edge = any(part in place for part in EDGES)
        if under(name, "aws_lambda_powertools") or (under(name, "pydantic", "yaml") and not edge):
            yield path, line, "pure-domain", f"imports {name}"
        if under(name, "stripe") and not (place.endswith("/stripe_sink.py") or "tollgate/stripe_api/" in place):
            yield path, line, "stripe-at-edge", f"imports {name}"
        if under(name, "tollgate.http") and "tollgate/http/" not in place:
            yield path, line, "pure-domain", f"imports {name}"


def cycles() -> Iterator[Finding]:
    graph: dict[str, set[str]] = {}
    files: dict[str, Path] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        files[module] = path
        graph[module] = {name for _, name in imports(ast.parse(path.read_text())) if under(name, "tollgate")}
    graph = {module: {name for name in found if name in files and name != module} for module, found in graph.items()}
    done: set[str] = set()

    def walk(module: str, trail: list[str]) -> Iterator[Finding]:
        if module in trail:
            circle = " -> ".join([*trail[trail.index(module) :], module])
            yield files[module], 1, "no-cycles", circle
            return
        if module in done:
            return
        for name in sorted(graph[module]):
            yield from walk(name, [*trail, module])
        done.add(module)

    for module in sorted(graph):
        yield from walk(module, [])


def places(tracked: list[Path]) -> Iterator[Finding]:
    for path in tracked:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if PLACES.search(line) and path != Path(__file__).resolve():
                yield path, number, "no-places", line.strip()[:80]


def allowed(finding: Finding) -> bool:
    path, line, rule, _ = finding
    lines = path.read_text(encoding="utf-8").splitlines()
    return re.search(rf"# rule-ok: {rule} \S+", lines[line - 1]) is not None


def findings() -> list[Finding]:
    """Every broken rule in the tracked and new files of this checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    tracked = [ROOT / name for name in listed if (ROOT / name).is_file()]
    found: list[Finding] = []
    for path in tracked:
        if path.suffix == ".py":
            found += check(path, ast.parse(path.read_text(encoding="utf-8")))
    found += cycles()
    found += places(tracked)
    return [finding for finding in found if not allowed(finding)]


def main() -> int:
    found = findings()
    for path, line, rule, text in found:
        print(f"{path.relative_to(ROOT)}:{line}: {rule}: {text}")
    print(f"{len(found)} broken rules" if found else "the project's own rules hold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
