"""What would change for accounts that move to a plan's next version: field by field, named as in `catalog.yaml`.

Entries of lists are named by what they are (their id, their meter, what a weight is for), so that an insertion moves
nothing. Where entries only changed places, which can matter (the first weight that matches wins), that is a change too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tollgate.catalog.frozen import PlanVersion, plan_to_json
from tollgate.catalog.model import Meter, Plan

_Value = str | list[str]
"""The JSON text of a leaf, or the names of a list's entries."""


class Change(NamedTuple):
    """`before` None: the field is new; `after` None: it is gone. Values are JSON texts."""

    path: str
    before: str | None
    after: str | None


def changes(before: PlanVersion | None, after: Plan | None, meters: Iterable[Meter]) -> list[Change]:
    """The fields that differ between a published version and a plan with the meters of its catalogue, by path. A side
    that is None has no fields. Meters that the catalogue has and the plan does not name count, as a version keeps all.
    """
    old = {} if before is None else _fields(plan_to_json(before.plan, before.meters.values()))
    new = {} if after is None else _fields(plan_to_json(after, meters))
    paths = [*old, *(path for path in new if path not in old)]
    return [change for path in paths if (change := _change(path, old.get(path), new.get(path))) is not None]


def _change(path: str, before: _Value | None, after: _Value | None) -> Change | None:
    if isinstance(before, list) and isinstance(after, list):
        old = [name for name in before if name in after]
        new = [name for name in after if name in before]
        moved = [place for place, (one, other) in enumerate(zip(old, new, strict=True)) if one != other]
        if not moved:
            return None
        part = slice(moved[0], moved[-1] + 1)
        return Change(f"{path.removesuffix('[]')} (order)", _text(old[part]), _text(new[part]))
    if before == after or isinstance(before, list) or isinstance(after, list):
        return None
    return Change(path, before, after)


def _fields(text: str) -> Mapping[str, _Value]:
    stored = json.loads(text)
    return dict([*_flat(stored["plan"], ""), *_flat(stored["meters"], "meters")])


def _flat(value: Any, path: str) -> Iterator[tuple[str, _Value]]:
    """Leaves by path, as JSON texts; beside them, for each list of named entries, the names in their order."""
    if isinstance(value, dict):
        for name, inner in value.items():
            # What an entry is named by needs no line of its own.
            if not (path.endswith("]") and (name == "id" or (name == "when" and path.endswith(f"[{_for(inner)}]")))):
                yield from _flat(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        names = _names(value)
        yield f"{path}[]", names
        for name, entry in zip(names, value, strict=True):
            yield from _flat(entry, f"{path}[{name}]")
    else:
        yield path, _text(value)


def _names(entries: list[dict[str, Any]]) -> list[str]:
    """What the entries are called: by their number where they have no name of their own."""
    names = [entry.get("id", entry.get("meter", _for(entry.get("when")))) for entry in entries]
    return [str(index) if name is None or names.count(name) > 1 else str(name) for index, name in enumerate(names)]


def _for(when: dict[str, list[str]] | None) -> str | None:
    """A condition in a word: `direction=input,model=a|b`, `all` where there is none."""
    if when is None:
        return None
    return ",".join(f"{dimension}={'|'.join(values)}" for dimension, values in when.items()) or "all"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
