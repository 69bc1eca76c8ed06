"""The state machine: every call of the gate's services, answered by the product and by the reference, and compared.

After each step the gates themselves are compared too: holds, and every counter with its window. Where the design leaves
a choice (which expired holds are ended in passing, what a broken-off call got done) the reference follows what the
gates show, and only within what the design allows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.model import endings, shapes
from tests.model.endings import Done, Longer, Report, Sent
from tests.model.follow import (
    BrokenOff,
    Died,
    assert_same,
    counter_name,
    follow,
    follow_begun,
    follow_first_pass,
    more_than_none,
)
from tests.model.reference import (
    Account,
    Binding,
    Failed,
    Grant,
    Recorded,
    Refused,
    Shown,
    Ticket,
    needed,
    with_plan,
)
from tests.model.rows import ROWS
from tests.model.shapes import ACCOUNTS, SKEWS_MS, STARTS_MS, WEIGHINGS, ZONES, Asked, Body, plan_of
from tests.model.stores import Cut, CutAfter, Process, WeighedWorld
from tests.support.gate import SECRET
from tests.support.memory import no_step
from tollgate.accounts.rules import AccountRow, Frozen, Item, Rules
from tollgate.accounts.rules import with_plan as row_with_plan
from tollgate.errors import TollgateError
from tollgate.gate import taking
from tollgate.gate.apply_rules import apply_rules
from tollgate.gate.commit import Commit, Committed, commit
from tollgate.gate.extend import Extended, extend
from tollgate.gate.item import Gate
from tollgate.gate.limits import LimitState
from tollgate.gate.record import Reported, record
from tollgate.gate.recount import recount
from tollgate.gate.release import release
from tollgate.gate.reservation_id import Reservation, decode, encode
from tollgate.gate.reserve import Asked as AskedCall
from tollgate.gate.reserve import Denied, Granted, reserve
from tollgate.gate.sweep import Swept, sweep_gate
from tollgate.ids import fingerprint, key_hash
from tollgate.quantities import ZERO
from tollgate.windows import Calendar, window_at

KEYS = 5
MAX_HOLDS_SMALL = 3
DIED = object()
"""The process died before it could answer."""


def weigh(body: Sequence[Asked]) -> Callable[[Rules], list[Item]]:
    return lambda rules: [rules.item(one.meter, Decimal(one.quantity), one.dims) for one in body]


def shown(states: Sequence[LimitState]) -> tuple[Shown, ...]:
    found = []
    for state in states:
        assert state.ruled.maximum is not None
        assert state.remaining == max(state.ruled.maximum - state.used - state.held, ZERO)
        found.append(
            Shown(
                state.ruled.limit.id,
                state.member,
                state.window_start,
                state.resets_at,
                state.used,
                state.held,
                state.ruled.maximum,
            )
        )
    return tuple(found)


def answered(call: Callable[[], Any]) -> Any:
    """The answer, or the problem's code."""
    try:
        return call()
    except TollgateError as error:
        return Failed(error.code)


class GateMachine(RuleBasedStateMachine):
    @initialize(
        start=st.sampled_from(STARTS_MS),
        zone=st.sampled_from(ZONES),
        shape=shapes.plan_shapes(),
        small=st.integers(0, 3),
    )
    def begin(self, start: int, zone: str, shape: Any, small: int) -> None:
        self.max_holds = MAX_HOLDS_SMALL if small == 0 else 500
        self.saved = taking.MAX_HOLDS, taking.plan_take
        taking.MAX_HOLDS = self.max_holds
        taking.plan_take = ROWS.counting(taking.plan_take)
        plan = plan_of(shape, 1)
        self.shapes = [shape]
        meters = WEIGHINGS[shape[2]]
        self.world = WeighedWorld(start, dict(WEIGHINGS[0]), plan)
        self.world.meters_of[1] = meters
        self.processes = [Process(self.world, skew) for skew in SKEWS_MS]
        self.started = start
        self.accounts: dict[str, Account] = {}
        for name in ACCOUNTS:
            empty = AccountRow(name, 1, plan.id, 1, 0, Calendar.of(zone), (), ())
            self.world.rows[name] = row_with_plan(empty, plan, meters, 0)
            first = Binding(plan, meters, Calendar.of(zone), None, dict.fromkeys(needed(plan, meters), 0))
            self.accounts[name] = Account(name, first, self.max_holds)
        self.requests: list[tuple[str, str | None, int, Body, int]] = []
        self.open: list[tuple[Ticket, Reservation]] = []
        self.reported: list[tuple[str, Report]] = []
        self.usage_ids = 0

    def teardown(self) -> None:
        if not hasattr(self, "saved"):
            return
        try:
            if sys.exc_info()[0] is None:  # a step that failed has said what there is to say
                self._everything_ends()
        finally:
            taking.MAX_HOLDS, taking.plan_take = self.saved

    # -- reserve ---------------------------------------------------------------------------------------------------

    @rule(
        process=shapes.processes,
        name=shapes.accounts,
        member=shapes.members,
        key=st.integers(0, KEYS - 1),
        body=shapes.bodies,
        ttl=shapes.ttls,
    )
    def reserve(self, process: int, name: str, member: str | None, key: int, body: Body, ttl: int) -> None:
        self._reserve(process, name, member, key, body, ttl)

    @rule(
        process=shapes.processes,
        member=shapes.members,
        body=shapes.bodies,
    )
    def reserve_under_a_new_key(self, process: int, member: str | None, body: Body) -> None:
        self._reserve(process, "acme", member, KEYS + len(self.requests), body, 300)

    @precondition(lambda self: self.requests)
    @rule(process=shapes.processes, at=st.integers(0, 50))
    def reserve_again(self, process: int, at: int) -> None:
        self._reserve(process, *self.requests[-1 - at % len(self.requests)])

    @precondition(lambda self: self.requests)
    @rule(process=shapes.processes, at=st.integers(0, 50), body=shapes.bodies, member=shapes.members)
    def reserve_with_another_body(self, process: int, at: int, body: Body, member: str | None) -> None:
        name, _, key, _, ttl = self.requests[-1 - at % len(self.requests)]
        self._reserve(process, name, member, key, body, ttl)

    @rule(
        process=shapes.processes,
        member=shapes.members,
        key=st.integers(0, KEYS - 1),
        body=shapes.bodies,
        writes=st.integers(1, 2),
    )
    def reserve_cut_short(self, process: int, member: str | None, key: int, body: Body, writes: int) -> None:
        """The process dies after a write; a retry, or the expiry, deals with what it left."""
        self.processes[process].rules.forget("acme")
        self._reserve(process, "acme", member, key, body, 60, cut=writes)

    def _reserve(
        self, at: int, name: str, member: str | None, key: int, body: Body, ttl: int, cut: int | None = None
    ) -> None:
        self.requests.append((name, member, key, body, ttl))
        process, account = self.processes[at], self.accounts[name]
        hashed = key_hash("reservation", f"key {key}")
        digest = fingerprint(repr((name, member, body)).encode())
        origin = self.started - 1000 + key if key % 2 else None
        asked = AskedCall(name, member, hashed, origin, digest, ttl, weigh(body))
        known = account.known = process.rules.known(name) or account.rev
        learning = Learning(self.world)
        answer = self._cut(
            learning if cut is None else CutAfter("gate.write", cut), lambda: reserve(process.deps, asked)
        )
        if answer is DIED:
            follow(account, self.world, process.now_ms, BrokenOff(hashed, digest, body, ttl))
            return
        if known < account.rev:
            follow_first_pass(account, self.world, learning.gates, member, hashed, process.now_ms)
        follow_begun(account, self.world, process.now_ms)
        expected = account.reserve(process.now_ms, member, hashed, digest, body, ttl)
        if isinstance(answer, Granted):
            assert isinstance(expected, Grant), (answer, expected)
            for per, hold in expected.holds.items():
                hold.inc = hold.inc or answer.holds[per].incarnation
                units = {counter_name(account, slot): value for slot, value in answer.holds[per].units().items()}
                assert_same("units", more_than_none(units), more_than_none(hold.units))
                assert_same("incarnation", answer.holds[per].incarnation, hold.inc)
                assert_same("expiry", answer.holds[per].expires_at, hold.expires_at)
            assert_same("gates", set(answer.holds), set(expected.holds))
            assert_same("limits", shown(answer.limits), expected.shown)
            assert_same("floor", answer.floor_ms // 1000, expected.floor)
            assert_same("items", [item.units for item in answer.items], [item.units for item in expected.items])
            ticket = Ticket(
                name,
                member,
                hashed,
                {per: hold.inc for per, hold in expected.holds.items()},
                {per: dict(hold.units) for per, hold in expected.holds.items()},
                dict(expected.holds["account"].by_meter),
                expected.floor,
                digest,
                body,
                expected.items,
            )
            made = Reservation(
                name, member, hashed, {p: h.pack() for p, h in answer.holds.items()}, answer.floor_ms, answer.items
            )
            self.open.append((ticket, decode(encode(made, SECRET), SECRET)))
        elif isinstance(answer, Denied):
            limit = None if answer.state is None else answer.state.ruled.limit.id
            got = Refused(
                answer.code, limit, answer.requested, answer.remaining, answer.resets_at, shown(answer.limits)
            )
            assert_same("refusal", got, expected)
            if answer.state is not None:
                assert answer.state in answer.limits
        elif known < account.rev and isinstance(expected, Refused) and expected.limit is None:
            # Before it learnt that it is refused anyway, it met another body's hold on the member's gate.
            there = account.gate(member).holds.get(hashed)
            assert_same("problem", answer, Failed("idempotency_mismatch"))
            assert there is not None
            assert there.body != digest
        else:
            assert_same("problem", answer, expected)
        self._follow(account, process)

    # -- commit ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.open)
    @rule(
        process=shapes.processes,
        at=st.integers(0, 50),
        how=st.sampled_from(
            ("as reserved", "as reserved", "another amount", "another amount", "cached", "other items")
        ),
        quantity=st.sampled_from(("0", "0.5", "1", "2", "4", "9", "40")),
        dims=shapes.dimensions,
        body=shapes.bodies,
        commit_key=st.sampled_from((None, None, "c1", "c2")),
        conflicts=st.integers(0, 1),
        cut=st.sampled_from((None, None, None, 0, 1)),
    )
    def commit(
        self,
        process: int,
        at: int,
        how: str,
        quantity: str,
        dims: tuple[tuple[str, str], ...],
        body: Body,
        commit_key: str | None,
        conflicts: int,
        cut: int | None,
    ) -> None:
        """`cut`: the process dies after the row, or after the first gate write that follows it."""
        ticket, reservation = self._reservation(at)
        used: Body | None = None
        if how == "another amount":
            used = tuple(Asked(one.meter, quantity, one.dimensions) for one in ticket.body)
        elif how == "other items":
            used = tuple(Asked(one.meter, one.quantity, dims) for one in body)
        self._commit(process, ticket, reservation, used, how == "cached", commit_key, conflicts, cut)

    def _commit(
        self,
        at: int,
        ticket: Ticket,
        reservation: Reservation,
        used: Body | None,
        cached: bool,
        commit_key: str | None,
        conflicts: int = 0,
        cut: int | None = None,
    ) -> None:
        process, account = self.processes[at], self.accounts[ticket.account]
        if cut is not None:
            process.rules.forget(ticket.account)
        known = account.known = process.rules.known(ticket.account) or account.rev
        digest = fingerprint(repr((used, cached)).encode())
        body = ticket.body if used is None else used

        def measure(rules: Rules) -> list[Item]:
            found = weigh(body)(rules)
            return [replace(item, units=ZERO) for item in found] if cached else found

        request = Commit(reservation, measure, cached, commit_key=commit_key, fingerprint=digest)
        process.outcomes.conflicts = conflicts
        sent = Sent(used, cached, known, commit_key, digest)
        before = self._row(ticket)
        answer = self._cut(None if cut is None else CutAfterRow(cut), lambda: commit(process.deps, request))
        process.outcomes.conflicts = 0
        row = self._row(ticket)
        incs = {} if row is None else dict(row.incarnations)
        if answer is DIED:
            where: Any = "before the row" if row is before else "after the row"
            endings.commit(account, process.now_ms, ticket, sent, incs, cut=where)
            follow(account, self.world, process.now_ms, Died(ticket, sent))
            return
        expected = endings.commit(account, process.now_ms, ticket, sent, incs)
        if isinstance(answer, Committed):
            assert isinstance(expected, Done), (answer, expected)
            event, want = answer.event, expected.event
            assert_same("duplicate", answer.duplicate, expected.duplicate)
            assert_same("late", event.late, want.late)
            assert_same("over_reserved", event.over_reserved, want.over_reserved)
            assert_same("units", [i.units for i in event.items], [i.units for i in want.items])
            assert_same("time", event.recorded_s, want.at)
            assert_same("plan version", event.plan_version, want.version)
            assert_same("member", event.member, want.member)
            assert event == row
            if shown(answer.limits) != expected.shown(known):
                follow_begun(account, self.world, process.now_ms)
                assert_same("limits", shown(answer.limits), expected.shown(account.rev))
        else:
            assert_same("problem", answer, expected)
        self._follow(account, process)

    def _row(self, ticket: Ticket) -> Any:
        found = [
            row
            for (name, _, key), row in self.world.outcomes.items()
            if name == ticket.account and key == ticket.key and not hasattr(row, "why")
        ]
        assert len(found) <= 1, "one key counts once"
        return found[0] if found else None

    def _reservation(self, at: int) -> tuple[Ticket, Reservation]:
        return self.open[-1 - at % len(self.open)]

    # -- release, extend -------------------------------------------------------------------------------------------

    @precondition(lambda self: self.open)
    @rule(
        process=shapes.processes,
        at=st.integers(0, 50),
        release_key=st.sampled_from((None, None, "r1")),
        cut=st.sampled_from((False, False, True)),
    )
    def release(self, process: int, at: int, release_key: str | None, cut: bool) -> None:
        ticket, reservation = self._reservation(at)
        caller, account = self.processes[process], self.accounts[ticket.account]
        if cut:
            caller.rules.forget(ticket.account)
        known = account.known = caller.rules.known(ticket.account) or account.rev
        answer = self._cut(
            CutAfter("outcome.put_void") if cut else None,
            lambda: shown(release(caller.deps, reservation, release_key)),
        )
        died = answer is DIED
        expected = endings.release(account, caller.now_ms, ticket, known, release_key, cut=died)
        if not died:
            assert_same("release", answer, expected)
        self._follow(account, caller)

    @precondition(lambda self: self.open)
    @rule(
        process=shapes.processes,
        at=st.integers(0, 50),
        ttl=st.sampled_from((None, 5, 300, 900)),
        quantity=st.sampled_from((None, "1", "3", "6", "20")),
        more=st.sampled_from((None, None, Asked("tokens", "2"), Asked("credits", "1"))),
    )
    def extend(self, process: int, at: int, ttl: int | None, quantity: str | None, more: Asked | None) -> None:
        ticket, reservation = self._reservation(at)
        caller, account = self.processes[process], self.accounts[ticket.account]
        body: Body | None = None
        if quantity is not None:
            body = tuple(Asked(one.meter, quantity, one.dimensions) for one in ticket.body)
            body = body if more is None else (*body, more)
        if body is None and ttl is None:
            ttl = 60
        expires_at = None if ttl is None else caller.now_ms // 1000 + ttl
        known = account.known = caller.rules.known(ticket.account) or account.rev
        learning = Learning(self.world)
        answer = self._cut(
            learning, lambda: extend(caller.deps, reservation, expires_at, None if body is None else weigh(body))
        )
        if known < account.rev:
            follow_first_pass(account, self.world, learning.gates, ticket.member, ticket.key, caller.now_ms)
        expected = endings.extend(account, caller.now_ms, ticket, expires_at, body)
        if isinstance(answer, Extended):
            refused = answer.refused
            got = Longer(
                answer.expires_at,
                "frozen" if answer.frozen else None if refused is None else "limit_reached",
                None if refused is None or refused.limit is None else refused.limit.limit.id,
                None if refused is None else refused.requested,
                None if refused is None else refused.remaining,
                shown(answer.limits),
            )
            assert_same("extend", got, expected)
        else:
            assert_same("problem", answer, expected)
        self._follow(account, caller)

    # -- usage -----------------------------------------------------------------------------------------------------

    @rule(
        process=shapes.processes,
        name=shapes.accounts,
        events=st.lists(st.tuples(shapes.members, shapes.asked, st.booleans()), min_size=1, max_size=3),
        repeat=st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=2),
    )
    def usage(self, process: int, name: str, events: Any, repeat: Any) -> None:
        """New ids, and ids sent before: as they were, or with other content."""
        batch: list[Report] = []
        for member, one, cached in events:
            self.usage_ids += 1
            batch.append(self._report(name, f"u{self.usage_ids}", member, one, cached))
        known = [report for owner, report in self.reported if owner == name] + batch
        for at, same in repeat:
            old = known[-1 - at % len(known)]
            batch.append(old if same else self._report(name, old.id, old.member, Asked("credits", "7"), False))
        self.reported += [(name, report) for report in batch]
        self._usage(process, name, batch)

    def _report(self, name: str, id: str, member: str | None, one: Asked, cached: bool) -> Report:
        return Report(id, member, one, cached, fingerprint(repr((name, id, member, one, cached)).encode()))

    def _usage(self, at: int, name: str, batch: Sequence[Report]) -> None:
        process, account = self.processes[at], self.accounts[name]
        known = account.known = process.rules.known(name) or account.rev
        sent = [
            Reported(
                report.id,
                key_hash("usage", report.id),
                self.started + int(report.id[1:]) if int(report.id[1:]) % 2 else None,
                report.digest,
                name,
                report.member,
                report.one.meter,
                Decimal(report.one.quantity),
                report.one.dims,
                cached=report.cached,
            )
            for report in batch
        ]
        answer = answered(lambda: record(process.deps, sent))
        expected = endings.record(account, process.now_ms, batch, known)
        assert len(answer) == len(expected)
        for got, want in zip(answer, expected, strict=True):
            code = None if got.error is None else got.error.code
            assert_same("usage", (got.status, got.units, code), (want.status, want.units, want.code))
            if got.over_limits or want.over:
                assert got.over_limits in want.over.values(), (got.over_limits, want.over)
        self._follow(account, process)

    # -- time ------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((1, 2, 3, 10, 61, 200, 1800, 3600, 18_000, 86_400)))
    def time_passes(self, seconds: int) -> None:
        self.world.now_ms += seconds * 1000

    @rule(
        counter=st.sampled_from(["minute", "hour", "hour", "day", "day", "week", "month"]),
        offset_ms=st.integers(-4, 4).map(lambda half: half * 500),
        name=st.sampled_from(ACCOUNTS),
    )
    def time_passes_to_a_boundary(self, counter: str, offset_ms: int, name: str) -> None:
        from tollgate.windows import WindowKind

        calendar = self.accounts[name].now_bound.calendar
        end = window_at(WindowKind(counter), calendar, self.world.now_ms // 1000).end
        assert end is not None
        self.world.now_ms = max(self.world.now_ms, end * 1000 + offset_ms)

    @rule(later=st.sampled_from((-1, 0, 1, 1, 200)))
    def time_passes_to_an_expiry(self, later: int) -> None:
        expiries = [
            hold.expires_at
            for account in self.accounts.values()
            for gate in account.gates.values()
            for hold in gate.holds.values()
        ]
        if expiries:
            self.world.now_ms = max(self.world.now_ms, (min(expiries) + later) * 1000)

    # -- rules -----------------------------------------------------------------------------------------------------

    @rule(process=shapes.processes, name=shapes.accounts, shape=shapes.plan_shapes())
    def another_plan(self, process: int, name: str, shape: Any) -> None:
        self.shapes.append(shape)
        version = len(self.shapes)
        self.world.plans[version] = plan_of(shape, version)
        self.world.meters_of[version] = WEIGHINGS[shape[2]]
        self._move(process, name, version)

    @precondition(lambda self: len(self.shapes) > 1)
    @rule(process=shapes.processes, name=shapes.accounts, at=st.integers(0, 50))
    def back_to_a_plan(self, process: int, name: str, at: int) -> None:
        self._move(process, name, 1 + at % len(self.shapes))

    @rule(process=shapes.processes, name=shapes.accounts, cap=st.sampled_from(shapes.CAPS), at=st.integers(0, 20))
    def one_limit_changed(self, process: int, name: str, cap: str, at: int) -> None:
        """A limit lowered, raised or added on the plan that the account is on."""
        limits, unlimited, weighing = self.shapes[self.accounts[name].now_bound.plan.version - 1]
        template = shapes.POOL[at % len(shapes.POOL)]
        if template.concurrent is None:
            template = replace(template, max=Decimal(cap))
        kept = tuple(limit for limit in limits if limit.id != template.id)
        self.another_plan_of(process, name, ((*kept, template), unlimited, weighing))

    def another_plan_of(self, process: int, name: str, shape: Any) -> None:
        self.shapes.append(shape)
        version = len(self.shapes)
        self.world.plans[version] = plan_of(shape, version)
        self.world.meters_of[version] = WEIGHINGS[shape[2]]
        self._move(process, name, version)

    def _move(self, at: int, name: str, version: int) -> None:
        process, account = self.processes[at], self.accounts[name]
        plan, meters = self.world.plans[version], self.world.meters_of[version]
        now = process.now_ms // 1000
        row = row_with_plan(self.world.rows[name], plan, meters, now)
        self._changed(process, account, row, with_plan(account.now_bound, plan, meters, now))

    @rule(process=shapes.processes, name=shapes.accounts, zone=st.sampled_from(ZONES))
    def another_timezone(self, process: int, name: str, zone: str) -> None:
        caller, account = self.processes[process], self.accounts[name]
        row = self.world.rows[name]
        since = max(caller.now_ms // 1000, row.calendar.segments[-1].since)
        calendar = row.calendar.moved(since, zone)
        self._changed(caller, account, replace(row, calendar=calendar), replace(account.now_bound, calendar=calendar))

    @rule(process=shapes.processes, name=shapes.accounts, frozen=st.sampled_from((True, False, False)))
    def freeze_or_unfreeze(self, process: int, name: str, frozen: bool) -> None:
        caller, account = self.processes[process], self.accounts[name]
        row, reason = self.world.rows[name], "unpaid" if frozen else None
        state = None if reason is None else Frozen(reason, 0)
        self._changed(caller, account, replace(row, frozen=state), replace(account.now_bound, frozen=reason))

    def _changed(self, process: Process, account: Account, row: AccountRow, bound: Binding) -> None:
        """As the accounts service does it: the rules row with the next revision, then the gate."""
        self.world.rows[account.name] = replace(row, rev=row.rev + 1)
        account.bindings.append(bound)
        account.known = account.rev
        there = account.name in self.world.gates
        apply_rules(process.deps, process.deps.rules.fresh(account.name))
        if there:
            counters = [counter for counter in bound.kept if counter.per == "account"]
            account.seed_where_needed(account.gate(None), counters, process.now_ms // 1000)
        self._follow(account, process)

    # -- upkeep ----------------------------------------------------------------------------------------------------

    @rule(process=shapes.processes, audit=st.booleans())
    def sweep(self, process: int, audit: bool) -> None:
        self._sweep(process, audit)

    def _sweep(self, at: int, audit: bool) -> None:
        process = self.processes[at]
        for subject in sorted(self.world.gates):
            account = self.accounts[subject.partition("#")[0]]
            account.known = process.rules.known(account.name) or account.rev
            swept = Swept()
            sweep_gate(process.deps, self.world.gates[subject], swept, audit=audit)
            assert_same("repaired", swept.repaired, [])
            gate = account.gate(subject.partition("#")[2] or None)
            now = process.now_ms // 1000
            if gate.recounting:  # finished first, while the expired holds still stand
                account.seed_where_needed(gate, (), now)
            for hold in gate.expired(now):
                account.reclaim(gate, hold, now)
            self._follow(account, process)

    @rule(process=shapes.processes, name=st.sampled_from(ACCOUNTS), member=shapes.members)
    def recount(self, process: int, name: str, member: str | None) -> None:
        caller, account = self.processes[process], self.accounts[name]
        subject = name if member is None else f"{name}#{member}"
        gate = self.world.gates.get(subject)
        if gate is None:
            return
        account.known = caller.rules.known(name) or account.rev
        found = recount(caller.deps, caller.deps.rules.get(name), subject, member)
        for slot in found.changed:
            assert slot not in gate.counts, f"a recount of {subject} found {found.changed}"
        self._follow(account, caller)

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _cut(self, hook: Callable[[str], None] | None, call: Callable[[], Any]) -> Any:
        """The answer or the problem of a call that dies where `hook` says; DIED where it did."""
        self.world.step = hook or no_step
        try:
            return call()
        except Cut:
            return DIED
        except TollgateError as error:
            return Failed(error.code)
        finally:
            self.world.step = no_step

    def _follow(self, account: Account, process: Process) -> None:
        follow(account, self.world, process.now_ms)

    def _everything_ends(self) -> None:
        """All holds expire and are swept: no hold stays, and counters equal events."""
        for _ in range(4):
            expiries = [
                hold.expires_at
                for account in self.accounts.values()
                for gate in account.gates.values()
                for hold in gate.holds.values()
            ]
            self.world.now_ms = max([self.world.now_ms, *((expiry + 3) * 1000 for expiry in expiries)])
            self._sweep(0, audit=True)
        for subject, gate in self.world.gates.items():
            assert not gate.holds, f"{subject} was left with holds"
        for account in self.accounts.values():
            rows = {event.at.key for event in self.world.events(account.name)}
            known = [event for event in account.outcomes.values() if isinstance(event, Recorded)]
            assert_same("rows", len(self.world.events(account.name)), len(rows))
            assert_same("rows", len(rows), len(known) + len(account.usage))


class Learning:
    """Keeps the gates as they were when the process first read the rules again."""

    def __init__(self, world: WeighedWorld) -> None:
        self.world = world
        self.gates: dict[str, Gate] = {}

    def __call__(self, name: str) -> None:
        if name == "rules.fresh" and not self.gates:
            self.gates = dict(self.world.gates)


class CutAfterRow:
    """Cuts a commit before its first call after the row (0), or after the first gate write that follows it (1)."""

    def __init__(self, writes: int) -> None:
        self.writes, self.put = writes, False

    def __call__(self, name: str) -> None:
        if self.put and self.writes == 0:
            raise Cut
        if self.put and name == "gate.write":
            self.writes -= 1
        if name == "outcome.put_event":
            self.put = True
