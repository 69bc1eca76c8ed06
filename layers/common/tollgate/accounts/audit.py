"""What changed of an account's rules, who changed it, and when: one entry for each revision that says something of it.

Pure. The entry is written in the same transaction as the revision (`store.AccountTable.update`), so that there is no
change without its entry, and no entry without its change, wherever a process dies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tollgate.accounts.rules import AccountRow
from tollgate.clock import rfc3339
from tollgate.quantities import plain

SCHEDULE = "schedule"
"""Who changed what was due: a plan at the end of a period, an override at its `until`."""


class Change(NamedTuple):
    """One field, as answers show it; None: there was, or is, none."""

    field: str
    before: Any
    after: Any


class Entry(NamedTuple):
    """`rev`: the revision that these changes made. `by`: the id of an API key, SCHEDULE, or None where nobody said."""

    rev: int
    at_ms: int
    by: str | None
    changes: tuple[Change, ...]


def entry(before: AccountRow | None, after: AccountRow, by: str | None, at_ms: int) -> Entry | None:
    """The entry for a change of the rules row (`before` None: a new account); None where it changes nothing that is
    kept account of."""
    found = []
    for field, shown in FIELDS.items():
        was, now = None if before is None else shown(before), shown(after)
        if was != now:
            found.append(Change(field, was, now))
    return Entry(after.rev, at_ms, by, tuple(found)) if found else None


def controls(row: AccountRow) -> dict[str, Any] | None:
    """The customer's controls as they were said; None where nothing was."""
    said = row.controls
    shown = {
        "soft_limit": None if said.soft_limit is None else plain(said.soft_limit),
        "hard_limit": None if said.hard_limit is None else plain(said.hard_limit),
        "block_overage": said.block_overage,
        **({} if said.thresholds is None else {"thresholds": list(said.thresholds)}),
    }
    return None if all(value is None for value in shown.values()) else shown


def _plan(row: AccountRow) -> Any:
    return {"id": row.plan, "version": row.plan_version}


def _next_plan(row: AccountRow) -> Any:
    following = row.next_plan
    if following is None:
        return None
    return {"id": following.plan, "version": following.version, "at": rfc3339(following.at)}


def _overrides(row: AccountRow) -> Any:
    return None if row.overrides is None else json.loads(row.overrides)


def _frozen(row: AccountRow) -> Any:
    return None if row.frozen is None else {"reason": row.frozen.reason, "since": rfc3339(row.frozen.since)}


def _aliases(row: AccountRow) -> Any:
    return list(row.merged) or None


FIELDS: Mapping[str, Callable[[AccountRow], Any]] = {
    "plan": _plan,
    "next_plan": _next_plan,
    "overrides": _overrides,
    "controls": controls,
    "frozen": _frozen,
    "aliases": _aliases,
}
"""What is kept account of, in the order of an entry."""
