"""The gate's ports in memory: the real services run on them in the interleaving, model and mutant suites.

Gate writes are applied by `tollgate.gate.apply` (a test holds it against the DynamoDB expressions on a real engine);
outcome rows by the few rules of `OutcomeStore`. `step` is called before each call: a scheduler or a cut hangs there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from tollgate.accounts.identify import joined
from tollgate.accounts.rules import AccountRow, Rules, compile_rules, with_plan
from tollgate.catalog.model import BreakerRule, Meter, Plan
from tollgate.gate.apply import applied, closed, recounted
from tollgate.gate.item import Gate, GateWrite, Recounted, Written
from tollgate.gate.ports import GateDeps
from tollgate.gate.shares import Known
from tollgate.ids import uuid7
from tollgate.usage.grant import Clawback, Ended, GrantRow, Pending
from tollgate.usage.outcome import Event, Outcome, OutcomeKey, Void
from tollgate.windows import Calendar

Step = Callable[[str], None]


def no_step(name: str) -> None:
    """Runs straight through."""


@dataclass
class World:
    """All state: gates, outcomes, dedupe rows, rules; and the clock (epoch ms)."""

    now_ms: int
    meters: dict[str, Meter]
    plan: Plan
    gates: dict[str, Gate] = field(default_factory=dict)
    outcomes: dict[tuple[str, int, str], Outcome] = field(default_factory=dict)
    origins: dict[tuple[str, str], int] = field(default_factory=dict)
    grants: dict[str, list[GrantRow]] = field(default_factory=dict)
    """By account, in the order of their numbers."""
    rows: dict[str, AccountRow] = field(default_factory=dict)
    plans: dict[int, Plan] = field(default_factory=dict)
    compiled: dict[int, tuple[AccountRow, Rules]] = field(default_factory=dict)
    """Rules by the identity of their row: rows are immutable, and compiling is slow beside a call."""
    step: Step = no_step
    counter: int = 0
    calls: int = 0
    shared: dict[str, Decimal] = field(default_factory=dict)
    """Shards of shared limits by name."""
    breaker: BreakerRule | None = None

    def __post_init__(self) -> None:
        self.plans[self.plan.version] = self.plan

    def clock(self) -> int:
        return self.now_ms

    def deps(self, skew_ms: int = 0, cache: dict[str, Rules] | None = None) -> GateDeps:
        """The dependencies of one process, with its own rules cache and clock skew."""
        shared = MemoryShared(self)
        return GateDeps(
            gates=MemoryGates(self),
            outcomes=MemoryOutcomes(self),
            markers=MemoryMarkers(),
            rules=MemoryRules(self, {} if cache is None else cache),
            clock=lambda: self.now_ms + skew_ms,
            incarnate=self.incarnate,
            nonce=self.nonce,
            pause=lambda tried: None,
            grants=MemoryGrants(self),
            shared=lambda: shared,
        )

    def incarnate(self, now_ms: int) -> bytes:
        self.counter += 1
        return uuid7(now_ms, self.counter.to_bytes(10, "big"))

    def nonce(self) -> bytes:
        self.counter += 1
        return self.counter.to_bytes(4, "big")

    def called(self, name: str) -> None:
        self.calls += 1
        self.step(name)

    def row(self, account: str) -> AccountRow:
        if account not in self.rows:
            empty = AccountRow(account, 1, self.plan.id, self.plan.version, 0, Calendar.of("UTC"), (), ())
            self.rows[account] = with_plan(empty, self.plan, self.meters, 0)
        return self.rows[account]

    def known(self, account: str) -> AccountRow:
        """The row that binds an id: of the account that it became, where it became another one."""
        row = self.row(account)
        return row if row.merged_into is None else self.row(row.merged_into)

    def identify(self, account: str, into: str) -> None:
        """The transaction of the accounts service."""
        became, grown = joined(self.row(account), self.row(into))
        self.rows[account], self.rows[into] = became, grown

    def move_to(self, account: str, plan: Plan) -> None:
        """A change of plan as the accounts service writes it: the rules row with the next revision."""
        self.plans[plan.version] = plan
        row = self.row(account)
        self.rows[account] = replace(with_plan(row, plan, self.meters, self.now_ms // 1000), rev=row.rev + 1)

    def rules(self, account: str) -> Rules:
        row = self.known(account)
        found = self.compiled.get(id(row))
        if found is None or found[0] is not row:
            rules = compile_rules(row, self.plans[row.plan_version], self.meters, self.breaker)
            found = self.compiled[id(row)] = (row, rules)
        return found[1]

    def events(self, account: str) -> list[Event]:
        """Events that stand under one id."""
        return [row for (owner, _, _), row in self.outcomes.items() if owner == account and isinstance(row, Event)]


class MemoryGates:
    def __init__(self, world: World) -> None:
        self._world = world
        self._last: dict[str, Gate] = {}

    def write(self, write: GateWrite, *, retry: bool = True) -> Written:
        self._world.called("gate.write")
        return self.answered(self.apply(write))

    def apply(self, write: GateWrite) -> Written:
        """What the write does when it arrives."""
        before = self._world.gates.get(write.subject)
        after = applied(before, write)
        if after is None:
            return Written(False, before)
        self._world.gates[write.subject] = after
        return Written(True, after)

    def answered(self, written: Written) -> Written:
        """The answer of a write reaches this process, which remembers the gate."""
        self._remember(written.gate)
        return written

    def read(self, subject: str) -> Gate | None:
        self._world.called("gate.read")
        return self._remember(self._world.gates.get(subject))

    def read_all(self, subjects: Sequence[str]) -> Mapping[str, Gate]:
        return {subject: gate for subject in subjects if (gate := self.read(subject)) is not None}

    def recall(self, subject: str) -> Gate | None:
        return self._last.get(subject)

    def _remember(self, gate: Gate | None) -> Gate | None:
        if gate is not None and (gate.money is not None or gate.grants):
            self._last[gate.subject] = replace(gate, counts={}, holds={})
        return gate

    def finish_recount(self, write: Recounted) -> bool:
        self._world.called("gate.finish_recount")
        after = recounted(self._world.gates.get(write.subject), write)
        if after is None:
            return False
        self._world.gates[write.subject] = after
        return True

    def close(self, subject: str) -> Gate:
        self._world.called("gate.close")
        self._world.gates[subject] = closed(self._world.gates.get(subject), subject)
        return self._world.gates[subject]


class MemoryShared:
    def __init__(self, world: World) -> None:
        self._world = world
        self.known = Known()

    def add(self, name: str, units: Decimal, most: Decimal | None, ends: int | None) -> tuple[bool, Decimal]:
        self._world.called("shared.add")
        before = self._world.shared.get(name)
        if most is not None and before is not None and before > most - units:
            return False, before
        after = self._world.shared[name] = (before or Decimal(0)) + units
        return True, after

    def take_off(self, name: str, units: Decimal) -> Decimal | None:
        self._world.called("shared.take_off")
        before = self._world.shared.get(name)
        if before is None or before < units:
            return None
        self._world.shared[name] = before - units
        return self._world.shared[name]

    def counts(self, names: list[str]) -> list[Decimal]:
        self._world.called("shared.counts")
        return [self._world.shared.get(name, Decimal(0)) for name in names]


class MemoryOutcomes:
    def __init__(self, world: World) -> None:
        self._world = world

    def origin(self, account: str, key: str, proposed_ms: int) -> int:
        self._world.called("outcome.origin")
        return self._world.origins.setdefault((account, key), proposed_ms)

    def find(self, account: str, key: str, origin_ms: int | None) -> Outcome | None:
        self._world.called("outcome.find")
        found = self._world.origins.get((account, key)) if origin_ms is None else origin_ms
        return None if found is None else self._there(OutcomeKey(account, found, key))

    def put_event(self, event: Event) -> Outcome | None:
        self._world.called("outcome.put_event")
        return self.apply_event(event)

    def apply_event(self, event: Event) -> Outcome | None:
        there = self._there(event.at)
        if isinstance(there, Event) or (there is not None and there.blocks(event.incarnations)):
            return there
        self._put(event)
        return None

    def put_void(self, void: Void) -> Outcome | None:
        self._world.called("outcome.put_void")
        return self.apply_void(void)

    def apply_void(self, void: Void) -> Outcome | None:
        there = self._there(void.at)
        if isinstance(there, Event):
            return there
        if there is None:
            self._put(void)
            return None
        newer = {per: own for per, own in void.incarnations.items() if there.incarnations.get(per, b"") < own}
        if not newer:
            return there
        self._put(void._replace(incarnations={**there.incarnations, **newer}))
        return None

    def get(self, at: OutcomeKey) -> Outcome | None:
        self._world.called("outcome.get")
        return self._there(at)

    def events_between(self, account: str, first_ms: int, last_ms: int) -> Iterator[Event]:
        self._world.called("outcome.events_between")
        return iter([event for event in self._world.events(account) if first_ms <= event.at.origin_ms <= last_ms])

    def commit_late(self, event: Event, over: Void, writes: Sequence[GateWrite]) -> bool:
        self._world.called("outcome.commit_late")
        there = self._there(event.at)
        if not isinstance(there, Void) or there.incarnations != over.incarnations:
            return False
        after = [applied(self._world.gates.get(write.subject), write) for write in writes]
        if any(gate is None for gate in after):
            return False
        self._put(event)
        for gate in after:
            assert gate is not None
            self._world.gates[gate.subject] = gate
        return True

    def _there(self, at: OutcomeKey) -> Outcome | None:
        return self._world.outcomes.get((at.account, at.origin_ms, at.key))

    def _put(self, outcome: Outcome) -> None:
        at = outcome.at
        self._world.outcomes[at.account, at.origin_ms, at.key] = outcome


class MemoryGrants:
    """Grant rows; the same rules as the table's conditions."""

    def __init__(self, world: World) -> None:
        self._world = world

    def open(self, row: GrantRow) -> GrantRow:
        self._world.called("grants.open")
        there = self._by_source(row.account, row.source, row.source_id)
        if there is not None:
            return there
        rows = self._world.grants.setdefault(row.account, [])
        rows.append(row._replace(number=len(rows)))
        return rows[-1]

    def rows(self, account: str) -> list[GrantRow]:
        self._world.called("grants.rows")
        return list(self._world.grants.get(account, ()))

    def get(self, account: str, number: int) -> GrantRow | None:
        self._world.called("grants.get")
        rows = self._world.grants.get(account, [])
        return rows[number] if number < len(rows) else None

    def by_source(self, account: str, source: str, source_id: str) -> GrantRow | None:
        self._world.called("grants.by_source")
        return self._by_source(account, source, source_id)

    def begin_clawback(self, row: GrantRow, pending: Pending) -> bool:
        self._world.called("grants.begin_clawback")
        now = self._now(row)
        if now.pending is not None or len(now.clawbacks) != len(row.clawbacks):
            return False
        self._put(now._replace(pending=pending))
        return True

    def end_clawback(self, row: GrantRow, done: Clawback) -> bool:
        self._world.called("grants.end_clawback")
        now = self._now(row)
        if now.pending is None or now.pending.source_id != done.source_id or len(now.clawbacks) != len(row.clawbacks):
            return False
        self._put(now._replace(pending=None, clawbacks=(*now.clawbacks, done)))
        return True

    def end(self, row: GrantRow, ended: Ended) -> None:
        self._world.called("grants.end")
        if self._now(row).ended == row.ended:
            self._put(self._now(row)._replace(ended=ended))

    def _by_source(self, account: str, source: str, source_id: str) -> GrantRow | None:
        rows = self._world.grants.get(account, ())
        return next((row for row in rows if (row.source, row.source_id) == (source, source_id)), None)

    def _now(self, row: GrantRow) -> GrantRow:
        return self._world.grants[row.account][row.number]

    def _put(self, row: GrantRow) -> None:
        self._world.grants[row.account][row.number] = row


class MemoryMarkers:
    def ensure(self, account: str, recorded_ms: int, origins_ms: Iterable[int], *, again: bool = False) -> None:
        """Nothing to find later: `ranges` covers all time."""

    def ranges(self, account: str, since_s: int) -> list[tuple[int, int]]:
        return [(0, (1 << 48) - 1)]


class MemoryRules:
    """One process's rules: cached until `fresh` is asked, as for 60 s."""

    def __init__(self, world: World, cache: dict[str, Rules]) -> None:
        self._world, self._cache = world, cache

    def get(self, account: str, accept: object = None) -> Rules:
        return self._cache[account] if account in self._cache else self.fresh(account)

    def fresh(self, account: str) -> Rules:
        self._world.called("rules.fresh")
        self._cache[account] = self._world.rules(account)
        return self._cache[account]

    def stored(self, account: str) -> AccountRow:
        self._world.called("rules.stored")
        return self._world.row(account)
