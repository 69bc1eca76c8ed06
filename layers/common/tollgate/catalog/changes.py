"""What would change for accounts that move to a plan's next version: field by field, named as in `catalog.yaml`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tollgate.catalog.frozen import PlanVersion, plan_to_json
from tollgate.catalog.model import Meter, Plan


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
    return [Change(path, old.get(path), new.get(path)) for path in paths if old.get(path) != new.get(path)]


def _fields(text: str) -> Mapping[str, str]:
    stored = json.loads(text)
    return dict([*_flat(stored["plan"], ""), *_flat(stored["meters"], "meters")])


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Leaves by path; entries of lists by their id or meter where they have one, so that an insertion moves nothing."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if not (path.endswith("]") and name == "id"):
                yield from _flat(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        names = [entry.get("id", entry.get("meter")) for entry in value]
        for index, (name, entry) in enumerate(zip(names, value, strict=True)):
            yield from _flat(entry, f"{path}[{index if name is None or names.count(name) > 1 else name}]")
    else:
        yield path, json.dumps(value, ensure_ascii=False)
