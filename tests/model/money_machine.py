"""The state machine of money and credits: every call answered by the gate and by the reference, and compared.

Two processes without skew take turns, each with what it last saw of the gate. After each step the gate itself is
compared: paid positions, spend, closed periods, what is left of each grant, and who pays for each open hold.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.model.money_reference import FOREVER, METERS, PAID, ZERO, Account, Hold, Row, Short, Terms, month
from tests.support.gate import NOON, assert_consistent
from tests.support.memory import World
from tollgate.accounts.rules import Item, Rules
from tollgate.catalog.model import GrantRule, Meter, Plan, Price, Tier
from tollgate.errors import AlreadyReleased
from tollgate.gate.apply_rules import apply_rules
from tollgate.gate.commit import Commit, commit
from tollgate.gate.extend import Extended, extend
from tollgate.gate.grants import OUTLIVED_S, claw_back, give
from tollgate.gate.hold import unpack
from tollgate.gate.ports import GateDeps
from tollgate.gate.record import Reported, record
from tollgate.gate.release import release
from tollgate.gate.reservation_id import Reservation
from tollgate.gate.reserve import Asked, Denied, Granted, reserve
from tollgate.gate.sweep import Swept, sweep_gate
from tollgate.ids import fingerprint, key_hash
from tollgate.usage.grant import GrantRow, Pending
from tollgate.usage.outcome import Event

MET: Counter[str] = Counter()
"""What the runs met."""
WANTED: Final = (
    "granted whole by included units",
    "granted by credits",
    "granted by overage",
    "granted by all three",
    "refused: spend_cap",
    "refused: overage_blocked",
    "refused: credits_exhausted",
    "refused extension",
    "commit waived in part",
    "commit less than reserved",
    "late commit",
    "usage waived",
    "clawed back less than wanted",
    "credits carried over",
    "a new period with open holds",
    "another plan with open holds",
    "a grant off the gate",
)

AI, TOKENS = Meter("ai_credits", "AI credits", "credit"), Meter("tokens", "Tokens", "token", scale=0)
_PER_UNIT = Price("ai_credits", "per_unit", unit_price=Decimal("0.02"))
_TIERED = Price(
    "ai_credits",
    "graduated",
    tiers=(
        Tier(Decimal(100), Decimal(0), ZERO),
        Tier(Decimal(500), Decimal("0.01"), ZERO),
        Tier(None, Decimal("0.007"), Decimal("0.50")),
    ),
)
_PACKAGES = Price("tokens", "package", package_size=Decimal(1000), package_price=Decimal("0.04"), round="up")
_VOLUME = Price(
    "tokens", "volume", tiers=(Tier(Decimal(1000), Decimal("0.002"), ZERO), Tier(None, Decimal("0.001"), ZERO))
)


def _plan(*prices: Price, cap: str | None = None, **more: Any) -> Plan:
    made = Plan("pro", 1, "Pro", prices=prices, spend_cap=None if cap is None else Decimal(cap))
    return replace(made, **more)


def _credits(units: int, most: int | None = None) -> tuple[GrantRule, ...]:
    return (GrantRule("ai_credits", Decimal(units), "period", None if most is None else Decimal(most)),)


PLANS: Final = (
    Terms(_plan(_PER_UNIT, _PACKAGES, cap="3"), Decimal(3)),
    Terms(_plan(_TIERED, _VOLUME, cap="5"), Decimal("4.995")),
    Terms(_plan(_TIERED, _PACKAGES, overage="off", grants=_credits(60, 40)), None),
    Terms(_plan(_PACKAGES, grants=_credits(50)), None),
    Terms(_plan(_PER_UNIT, _PACKAGES, cap="1", grants=_credits(30, 100)), Decimal(1)),
    Terms(_plan(_TIERED, _PACKAGES, cap="2", grants=_credits(20, 20)), Decimal(2)),
)
amounts = st.sampled_from([1, 3, 40, 99, 100, 101, 250, 999, 1000, 1001])
wants = st.one_of(
    st.fixed_dictionaries({"ai_credits": amounts}),
    st.fixed_dictionaries({"ai_credits": amounts}),
    st.fixed_dictionaries({"tokens": amounts}),
    st.fixed_dictionaries({"ai_credits": amounts, "tokens": amounts}),
)
processes = st.integers(0, 1)
plans = st.integers(0, len(PLANS) - 1)


class MoneyMachine(RuleBasedStateMachine):
    @initialize(plan=plans)
    def begin(self, plan: int) -> None:
        self.versions = 1
        terms = PLANS[plan]
        self.world = World(NOON, {meter.id: meter for meter in (AI, TOKENS)}, terms.plan)
        self.processes: list[GateDeps] = [self.world.deps(), self.world.deps()]
        self.reference = Account(terms)
        self.open: list[Granted] = []
        self.committed: set[str] = set()
        self.calls = 0

    # -- calls -----------------------------------------------------------------------------------------------------

    @rule(process=processes, wanted=wants, ttl=st.sampled_from([5, 300, 90_000]))
    def reserve(self, process: int, wanted: dict[str, int], ttl: int) -> None:
        key, units = self._key(), _units(wanted)
        asked = Asked("acme", None, key, None, fingerprint(key.encode()), ttl, _weigh(wanted))
        answer = reserve(self.processes[process], asked)
        expected = self.reference.reserve(key, units, self._now, ttl)
        if isinstance(answer, Granted):
            assert isinstance(expected, Hold), (answer, expected)
            self.open.append(answer)
            self._count_granted(expected)
        else:
            self._same_refusal(answer, expected)
        self._compare()

    def _same_refusal(self, answer: Denied, expected: Hold | Short) -> None:
        assert isinstance(expected, Short), (answer, expected)
        got = (answer.code, answer.requested, answer.remaining, answer.resets_at)
        assert got == tuple(expected), (got, expected)
        MET[f"refused: {expected.code}"] += 1

    @precondition(lambda self: self.open)
    @rule(process=processes, at=st.integers(0, 50))
    def reserve_again(self, process: int, at: int) -> None:
        """A retry is answered as before."""
        held = self.open[-1 - at % len(self.open)]
        hold = self.reference.holds.get(held.asked.key)
        if hold is None or hold.expires_at <= self._now:
            return
        answer = reserve(self.processes[process], held.asked)
        assert isinstance(answer, Granted)
        self._compare()

    @precondition(lambda self: self.open)
    @rule(
        process=processes,
        at=st.integers(0, 50),
        factor=st.sampled_from([None, None, "0.5", "1", "3"]),
        more=st.sampled_from([0, 0, 0, 40, 250]),
    )
    def commit(self, process: int, at: int, factor: str | None, more: int) -> None:
        held = self.open[-1 - at % len(self.open)]
        key = held.asked.key
        used = {item.meter: item.quantity for item in held.items}
        if factor is not None:
            used = {m: (n * Decimal(factor)).to_integral_value() + more for m, n in used.items()}
            used = {m: max(n, Decimal(1)) for m, n in used.items()}
        request = Commit(_reservation(held), _weigh(used))
        done = commit(self.processes[process], request)
        assert done.duplicate == (key in self.committed)
        if key not in self.committed:
            self.committed.add(key)
            hold = self.reference.holds.get(key)
            if hold is None:
                MET["late commit"] += 1
                rows = self.reference.use(used, self._now)
            else:
                less = any(units < hold.wanted[meter] for meter, units in used.items())
                MET["commit less than reserved"] += less
                rows = self.reference.commit(key, used, self._now)
            assert done.event.late == (hold is None)
            MET["commit waived in part"] += any(0 < row.waived < row.units for row in rows)
            _same_rows(done.event, rows)
        self._compare()

    @precondition(lambda self: self.open)
    @rule(process=processes, at=st.integers(0, 50))
    def release(self, process: int, at: int) -> None:
        held = self.open[-1 - at % len(self.open)]
        if held.asked.key in self.committed:
            return
        there = held.asked.key in self.reference.holds
        try:
            release(self.processes[process], _reservation(held))
        except AlreadyReleased:
            assert not there
        if there:
            self.reference.give_back(held.asked.key)
        self._compare()

    @precondition(lambda self: self.open)
    @rule(process=processes, at=st.integers(0, 50), more=amounts, ttl=st.sampled_from([5, 300]))
    def extend(self, process: int, at: int, more: int, ttl: int) -> None:
        held = self.open[-1 - at % len(self.open)]
        hold = self.reference.holds.get(held.asked.key)
        if hold is None or hold.expires_at <= self._now:
            return
        total = {item.meter: hold.wanted[item.meter] + more for item in held.items}
        answer = extend(self.processes[process], _reservation(held), self._now + ttl, _weigh(total))
        expected = self.reference.extend(held.asked.key, total, self._now, self._now + ttl)
        self._same_extension(answer, expected)
        self._compare()

    def _same_extension(self, answer: Extended, expected: Hold | Short) -> None:
        if isinstance(expected, Hold):
            assert answer.refused is None, (answer.refused, expected)
            assert answer.expires_at == expected.expires_at
            return
        MET["refused extension"] += 1
        assert answer.refused is not None, expected
        short = answer.refused.short
        assert short is not None
        assert (short.code, short.requested, short.remaining, short.resets_at) == tuple(expected)

    @rule(process=processes, wanted=wants)
    def usage(self, process: int, wanted: dict[str, int]) -> None:
        """`POST /v1/usage`: one event for each meter, in one request."""
        sent = []
        for meter, quantity in wanted.items():
            key = self._key()
            digest = fingerprint(key.encode())
            sent.append(Reported(key, key, None, digest, "acme", None, meter, Decimal(quantity), {}))
        results = record(self.processes[process], sent)
        rows = self.reference.use(_units(wanted), self._now)
        MET["usage waived"] += any(row.waived for row in rows)
        waived = {row.meter: row.waived for row in rows}
        assert [(one.status, one.waived) for one in results] == [("recorded", waived[one.meter]) for one in sent]
        for event in self.world.events("acme"):
            if event.usage_id in {one.id for one in sent}:
                _same_rows(event, [row for row in rows if row.meter == event.items[0].meter])
        self._compare()

    # -- credits ---------------------------------------------------------------------------------------------------

    @rule(
        process=processes,
        name=st.sampled_from("abcdef"),
        units=amounts,
        priority=st.sampled_from([10, 50, 90]),
        lasts=st.sampled_from([None, 100, 90_000]),
    )
    def buy(self, process: int, name: str, units: int, priority: int, lasts: int | None) -> None:
        if name in self.reference.bought:
            return
        ends = FOREVER if lasts is None else self._now + lasts
        row = GrantRow("acme", 0, "ai_credits", Decimal(units), "shop", name, priority, 0, ends, self.world.now_ms)
        for _ in range(2):  # told twice, given once
            give(self.processes[process], self.world.rules("acme"), row)
        self.reference.buy(name, Decimal(units), priority, ends)
        self._compare()

    @precondition(lambda self: self.reference.bought)
    @rule(process=processes, at=st.integers(0, 50), units=amounts)
    def claw_back(self, process: int, at: int, units: int) -> None:
        name = sorted(self.reference.bought)[at % len(self.reference.bought)]
        self.calls += 1
        wanted = Pending("shop", f"refund {self.calls}", Decimal(units), ZERO, self.world.now_ms)
        expected = self.reference.claw_back(name, Decimal(units), self.world.now_ms // 1000)
        for _ in range(2):
            rules = self.world.rules("acme")
            _, done = claw_back(self.processes[process], rules, "ai_credits", ("shop", name), wanted)
            assert done.taken == expected
        MET["clawed back less than wanted"] += expected < units
        self._compare()

    # -- time, plans, upkeep ---------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 6, 90, 301, 4_000, 90_001]))
    def time_passes(self, seconds: int) -> None:
        self.world.now_ms += seconds * 1000

    @rule(months=st.sampled_from([1, 1, 1, 3]), late=st.sampled_from([0, 1, 86_400]))
    def time_passes_to_a_month(self, months: int, late: int) -> None:
        MET["a new period with open holds"] += bool(self.reference.holds)
        for _ in range(months):
            self.world.now_ms = month(self._now)[1] * 1000
        self.world.now_ms += late * 1000

    @rule(process=processes, plan=plans)
    def another_plan(self, process: int, plan: int) -> None:
        MET["another plan with open holds"] += bool(self.reference.holds)
        self.versions += 1
        terms = PLANS[plan]
        self.world.move_to("acme", replace(terms.plan, version=self.versions))
        apply_rules(self.processes[process], self.processes[process].rules.fresh("acme"))
        for deps in self.processes:
            deps.rules.fresh("acme")
        self.reference.move(terms, self._now)
        self._compare()

    @rule(process=processes)
    def sweep(self, process: int) -> None:
        """Twice, with the time between that grants need to go."""
        for _ in range(2):
            gate = self.world.gates.get("acme")
            if gate is None:
                return
            swept = Swept()
            sweep_gate(self.processes[process], gate, swept, audit=True)
            assert not swept.repaired
            self._follow_ended()
            self.world.now_ms += OUTLIVED_S * 1000
        self._compare()

    # -- comparing -------------------------------------------------------------------------------------------------

    @property
    def _now(self) -> int:
        return self.world.now_ms // 1000

    def _key(self) -> str:
        self.calls += 1
        return key_hash("reservation", f"key {self.calls}")

    def _follow_ended(self) -> None:
        """Expired holds are ended in passing; used-up and ended grants leave the gate. Which of them is open."""
        gate = self.world.gates["acme"]
        for key in [key for key in self.reference.holds if key not in gate.holds]:
            assert self.reference.holds[key].expires_at <= self._now, "a living hold was ended"
            self.reference.give_back(key)
        for number in [number for number in self.reference.grants if number not in gate.grants]:
            gone = self.reference.ended[number] = self.reference.grants.pop(number)
            assert gone.ends <= self._now or not gone.left, "usable credits were taken off"
            MET["a grant off the gate"] += 1

    def _compare(self) -> None:
        gate, known = self.world.gates.get("acme"), self.reference
        if gate is None:
            assert known.period is None
            assert not known.grants
            return
        if gate.grants.keys() - known.grants.keys():
            known.give_due(self._now)  # also a call that needs none may bring what is due
        self._follow_ended()
        assert set(gate.holds) == set(known.holds)
        for key, raw in gate.holds.items():
            hold = unpack(raw)
            assert hold.expires_at >= known.holds[key].expires_at  # a commit that grew it let it live longer
            parts = [(METERS[p.meter_slot], p.source, p.units) for p in hold.parts]
            assert parts == _merged(known.holds[key]), (parts, known.holds[key])
        if gate.money is None:
            assert known.period is None
        else:
            assert gate.money.period == known.period
            found = {METERS[slot]: paid for slot, paid in gate.money.paid.items()}
            assert set(found) >= set(known.taken)
            for meter, paid in found.items():
                want = [known.taken.get(meter, ZERO), known.held(meter)]
                want += [known.credited.get(meter, ZERO), known.waived.get(meter, ZERO)]
                assert list(paid) == want, (meter, paid, want)
            assert gate.money.spend == known.spend()
            assert list(gate.money.past) == known.past
        got = {n: (g.left, g.carried, g.clawed, g.moved, g.ends) for n, g in gate.grants.items()}
        assert got == {n: (g.left, g.carried, g.clawed, g.moved, g.ends) for n, g in known.grants.items()}
        MET["credits carried over"] += any(grant.carried for grant in known.grants.values())
        assert_consistent(self.world, "acme")

    def _count_granted(self, hold: Hold) -> None:
        if not hold.parts:
            return
        sources = [source for _, source, _ in hold.parts]
        credited = any(isinstance(source, int) for source in sources)
        paid = sources.count(PAID) > len({meter for meter, source, _ in hold.parts if source == PAID})
        MET["granted by credits"] += credited
        MET["granted by all three"] += credited and paid
        whole = sum((units for meter, _, units in hold.parts if meter == "ai_credits"), ZERO)
        free = whole and self.reference.taken.get("ai_credits", ZERO) <= self.reference.terms.included("ai_credits")
        MET["granted whole by included units"] += bool(free and not credited)
        MET["granted by overage"] += not credited and not free


def _merged(hold: Hold) -> list[tuple[str, int, Decimal]]:
    """Parts meter by meter, neighbours of one source added up."""
    found: list[tuple[str, int, Decimal]] = []
    for meter in METERS:
        for at, source, units in hold.parts:
            if at != meter or not units:
                continue
            name = source if isinstance(source, int) else -1 if source == PAID else -2
            if found and found[-1][:2] == (meter, name):
                found[-1] = (meter, name, found[-1][2] + units)
            else:
                found.append((meter, name, units))
    return found


def _same_rows(event: Event, rows: list[Row]) -> None:
    wanted = {row.meter: row for row in rows}
    assert len(event.items) == len(wanted)
    for item in event.items:
        row = wanted[item.meter]
        assert (item.units, dict(item.credits), item.waived) == (row.units, row.credits, row.waived), (item, row)
        assert item.priced
        assert item.billable == row.units - sum(row.credits.values(), ZERO) - row.waived


def _units(wanted: dict[str, int]) -> dict[str, Decimal]:
    return {meter: Decimal(quantity) for meter, quantity in wanted.items()}


def _weigh(wanted: dict[str, int] | dict[str, Decimal]) -> Any:
    def weigh(rules: Rules) -> list[Item]:
        return [rules.item(meter, Decimal(quantity), {}) for meter, quantity in wanted.items()]

    return weigh


def _reservation(held: Granted) -> Reservation:
    asked = held.asked
    holds = {per: hold.pack() for per, hold in held.holds.items()}
    return Reservation(asked.account, asked.member, asked.key, holds, held.floor_ms, tuple(held.items))
