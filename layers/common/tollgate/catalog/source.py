"""YAML as data, with the line of every value; duplicate keys and self-containing anchors are refused.

PyYAML reads YAML 1.1. Of its surprises, octal (`010`), hexadecimal, sexagesimal (`12:30`) numbers and dates stay text
here, so that they are refused where a number is meant instead of changing silently. `on`, `off`, `yes` and `no` remain
booleans, as in every other reader of YAML 1.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from tollgate.catalog.errors import Path

MAX_VALUES = 100_000
"""Aliases can make a small file unfold to any size; no honest catalogue comes near this."""

_KEPT_AS_TEXT = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:timestamp"})
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """SafeLoader with plain decimal integers only."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _KEPT_AS_TEXT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789"))


@dataclass(slots=True)
class Source:
    """A parsed file: its data, the line (from 1) of each path, and mistakes as (path, line, reason)."""

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    mistakes: list[tuple[Path, int | None, str]] = field(default_factory=list)

    def line(self, path: Path) -> int | None:
        """The line of a path, or of the nearest thing around it that stands in the file."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None


def read(text: str) -> Source:
    """Parse one YAML document. Mistakes of form are in `mistakes`, not raised; after a fatal one `data` is None."""
    source = Source()
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is not None and _survey(root, (), frozenset(), source):
                source.data = loader.construct_document(root)
        finally:
            loader.dispose()
    except RecursionError:
        source.mistakes.append(((), None, "nested too deeply"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        reason = error.problem or str(error)
        source.mistakes.append(((), None if mark is None else mark.line + 1, f"not readable as YAML: {reason}"))
    except yaml.YAMLError as error:  # a character that YAML forbids; has no line
        source.mistakes.append(((), None, f"not readable as YAML: {' '.join(str(error).split())}"))
    return source


def _survey(node: yaml.Node, path: Path, around: frozenset[int], source: Source) -> bool:
    """Note the lines of a node and all below it; False where the document must not be unfolded."""
    line = node.start_mark.line + 1
    source.lines.setdefault(path, line)
    if id(node) in around:
        source.mistakes.append((path, line, "an anchor must not contain itself"))
        return False
    if len(source.lines) > MAX_VALUES:
        source.mistakes.append(((), line, f"more than {MAX_VALUES} values"))
        return False
    inside = around | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        return all(_survey(entry, (*path, index), inside, source) for index, entry in enumerate(node.value))
    if isinstance(node, yaml.MappingNode):
        return _survey_mapping(node, path, inside, source)
    return True


def _survey_mapping(node: yaml.MappingNode, path: Path, inside: frozenset[int], source: Source) -> bool:
    seen: dict[str, int] = {}
    merged: list[yaml.Node] = []
    for key, value in node.value:
        if key.tag == _MERGE:
            merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
            continue
        name, line = str(key.value), key.start_mark.line + 1
        if name in seen:
            source.mistakes.append(((*path, name), line, f"given twice; the first time on line {seen[name]}"))
            continue
        seen[name] = line
        source.lines.setdefault((*path, name), line)
        if not _survey(value, (*path, name), inside, source):
            return False
    # After the own keys, because those win over merged ones.
    return all(_survey(entry, path, inside, source) for entry in merged)
