"""The scheduled look at accounts that were just active: tells the thresholds that a crash kept from being told.

A threshold is told after the gate's write that passes it; a crash between the two leaves a gate that is past its mark
and an outbox that does not know. Which accounts may be so is what the markers say: every row has one, and it stands for
some minutes, until its window is sealed. Whoever is told already is told once, as the alert's id is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tollgate.alerts.outbox import Outbox
from tollgate.alerts.texts import alert_of
from tollgate.alerts.thresholds import standing
from tollgate.clock import Clock
from tollgate.gate.item import Gate
from tollgate.gate.ports import RulesSource
from tollgate.usage.markers import SHARDS, Marker

PAGE = 100
"""Gates of one read."""


class Marked(Protocol):
    def of_shard(self, shard: int) -> Iterable[Marker]: ...


class Gates(Protocol):
    def read_all(self, subjects: Sequence[str]) -> Mapping[str, Gate]: ...


@dataclass(frozen=True, slots=True)
class BackstopDeps:
    gates: Gates
    rules: RulesSource
    markers: Marked
    outbox: Outbox
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
        active = sorted({marker.account for marker in deps.markers.of_shard((first + number) % SHARDS)})
        for begin in range(0, len(active), PAGE):
            if not in_time():
                looked.left = True
                return looked
            _look_at(deps, active[begin : begin + PAGE], looked)
    return looked


def _look_at(deps: BackstopDeps, accounts: Sequence[str], looked: Looked) -> None:
    found = {}
    for account in accounts:
        try:
            rules = deps.rules.get(account)  # of an account that became another one: that one's
        except Exception as error:  # noqa: BLE001 - kept, and raised by the caller once the others are done
            looked.failures.append(error)
            continue
        found[rules.account] = rules
    gates = deps.gates.read_all(list(found))
    now_ms = deps.clock()
    for account, rules in found.items():
        looked.accounts += 1
        gate = gates.get(account)
        if gate is None or gate.rev < 0 or gate.closed or gate.rev > rules.rev:
            continue  # being recounted, or ahead of these rules: the next run looks
        for crossing in standing(rules, gate, None, now_ms // 1000):
            looked.told += deps.outbox.put(alert_of(rules, crossing, now_ms))
