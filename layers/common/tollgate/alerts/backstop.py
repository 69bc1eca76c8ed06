"""The scheduled look at accounts that were just active: tells the thresholds that a crash kept from being told.

A threshold is told after the gate's write that passes it; a crash between the two leaves a gate that is past its mark
and an outbox that does not know. Which accounts may be so is what the markers say: every row has one, and it stands for
some minutes, until its window is sealed. Whoever is told already is told once, as the alert's id is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tollgate.alerts.telling import KnowingOutbox, tell_standing
from tollgate.clock import Clock
from tollgate.gate.item import Gate
from tollgate.gate.ports import RulesSource, subject_of
from tollgate.usage.markers import SHARDS, Marker, coalesced
from tollgate.usage.outcome import MEMBER, Event

PAGE = 100
"""Gates of one read."""


class Marked(Protocol):
    def of_shard(self, shard: int) -> Iterable[Marker]: ...


class Gates(Protocol):
    def read_all(self, subjects: Sequence[str]) -> Mapping[str, Gate]: ...


class Rows(Protocol):
    def events_between(self, account: str, first_ms: int, last_ms: int) -> Iterable[Event]: ...


@dataclass(frozen=True, slots=True)
class BackstopDeps:
    gates: Gates
    rules: RulesSource
    markers: Marked
    rows: Rows
    outbox: KnowingOutbox
    clock: Clock


@dataclass(slots=True)
class Looked:
    """What one run did. `left`: whether time ran out before all had a look."""

    accounts: int = 0
    told: int = 0
    left: bool = False
    failures: list[Exception] = field(default_factory=list)


def look(deps: BackstopDeps, in_time: Callable[[], bool] = lambda: True) -> Looked:
    """Look at all accounts that have markers. A failure keeps no other account from its look: it is in the answer, and
    the caller must raise it."""
    looked = Looked()
    first = deps.clock() // 60_000 % SHARDS  # each run begins elsewhere: where time runs out, everyone has a turn
    for number in range(SHARDS):
        active: dict[str, list[Marker]] = {}
        for marker in deps.markers.of_shard((first + number) % SHARDS):
            active.setdefault(marker.account, []).append(marker)
        for account, markers in sorted(active.items()):
            if not in_time():
                looked.left = True
                return looked
            try:
                looked.told += _look_at(deps, account, markers)
                looked.accounts += 1
            except Exception as error:  # noqa: BLE001 - kept, and raised by the caller once the others are done
                error.add_note(account)
                looked.failures.append(error)
    return looked


def _look_at(deps: BackstopDeps, account: str, markers: Iterable[Marker]) -> int:
    rules = deps.rules.get(account)  # of an account that became another one: that one's
    members: dict[str, None] = {}
    if any(ruled.limit.per == MEMBER for ruled in rules.limits) or rules.member_terms is not None:
        for first_ms, last_ms in coalesced(marker.ids_ms for marker in markers):
            rows = deps.rows.events_between(account, first_ms, last_ms)
            members.update(dict.fromkeys(row.member for row in rows if row.member is not None))
    subjects = {rules.account: None} | {subject_of(rules.account, MEMBER, member): member for member in members}
    names, told = list(subjects), 0
    for begin in range(0, len(names), PAGE):
        for subject, gate in deps.gates.read_all(names[begin : begin + PAGE]).items():
            if gate.rev < 0 or gate.closed or gate.rev > rules.rev:
                continue  # being recounted, or ahead of these rules: the next run looks
            told += tell_standing(deps.outbox, rules, gate, subjects[subject], deps.clock())
    return told
