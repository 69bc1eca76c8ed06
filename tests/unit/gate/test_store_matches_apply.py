"""What the stores ask of DynamoDB means what the domain says: random writes, on an engine and in memory.

The interleaving and model suites run the services on the memory side; this is what lets them speak for the real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import count

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.gate import daily_plan, world
from tests.support.memory import MemoryGates, MemoryOutcomes, World
from tollgate import dynamo
from tollgate.gate.item import (
    Count,
    CounterWrite,
    Gate,
    GateWrite,
    Grant,
    GrantMove,
    HoldWrite,
    Level,
    LevelSet,
    Money,
    MoneyAdd,
    MoneySet,
    Paid,
    PaidMove,
    Recounted,
    Step,
)
from tollgate.gate.store import GateTable, closing_part, transact_part, update_request
from tollgate.usage.grant import FOREVER
from tollgate.usage.outcome import Event, Outcome, OutcomeKey, UsedItem, Void
from tollgate.usage.store import EventTable

pytestmark = pytest.mark.usefixtures("tables")
QUICK = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
GATES = GateTable("gates")
EVENTS = EventTable("events", lambda write: transact_part("gates", write))
_FRESH = count()
"""Every example has items of its own."""

units = st.sampled_from(["0", "1", "2", "3.5", "0.000001", "123456789012345678.123456", "7"]).map(Decimal)
windows = st.sampled_from([0, 100, 200])
slots = st.integers(0, 3)
keys = st.sampled_from(["AAAAAAAAAAAAAAAA", "b-_-", "c"])
packed = st.sampled_from([b"\x10one", b"\x10two", b"\x11three"])


@st.composite
def counters(draw: st.DrawFn) -> Count:
    held = draw(units)
    return Count(draw(windows), held + draw(units), held)


meters = st.sampled_from([0, 1, 253])
numbers = st.integers(0, 3)
monies = st.builds(
    Money,
    windows,
    units,
    st.dictionaries(meters, st.builds(Paid, units, units, units, units), max_size=2),
    st.lists(units, max_size=3).map(tuple),
)
grants = st.builds(
    Grant,
    meters,
    units,
    st.integers(0, 99),
    windows,
    st.sampled_from([300, FOREVER]),
    st.sampled_from(["", "month"]),
    units,
    units,
    units,
    units,
    st.sampled_from([b"", b"", b"alice-00"]),
)


levels = st.builds(
    Level, st.integers(1, 3), units, st.integers(0, 1 << 41), st.booleans(), st.sampled_from(["", '{"o":1}'])
)


@st.composite
def gates(draw: st.DrawFn) -> Gate:
    frozen = draw(st.sampled_from([False, False, False, True]))
    rev = draw(st.integers(1, 2))
    return Gate(
        f"acme{next(_FRESH)}",
        -rev if frozen else rev,
        draw(st.dictionaries(slots, counters(), max_size=4)),
        draw(st.dictionaries(keys, packed, max_size=3)),
        "nonce" if frozen else None,
        draw(st.one_of(st.none(), monies, monies)),
        draw(st.dictionaries(numbers, grants, max_size=3)),
        draw(st.one_of(st.just({}), st.dictionaries(meters, levels, min_size=1, max_size=2))),
        given=draw(st.sampled_from([0, 1, 2, 300])),
    )


@st.composite
def level_writes(draw: st.DrawFn, gate: Gate, creating: bool) -> LevelSet | None:
    """As they are planned: `first` where the gate as seen has none; what was seen may be out of date."""
    if draw(st.booleans()):
        return None
    slot = draw(meters)
    first = creating or not draw(st.sampled_from([gate.levels, gate.levels, {}]))
    if first:
        return LevelSet(slot, 0, draw(levels), first=True)
    there = gate.levels.get(slot)
    expect = draw(st.sampled_from([0 if there is None else there.number] * 3 + [0, 1]))
    return LevelSet(slot, expect, draw(levels))


@st.composite
def paid_moves(draw: st.DrawFn, slot: int, there: Paid | None) -> PaidMove:
    at = Decimal(5) if there is None else there.taken
    low = draw(st.sampled_from([None, at, at, at - 1, at + 1]))
    high = draw(st.sampled_from([None, at, at, at + 1, at - 1]))
    sign = draw(st.sampled_from([1, 1, -1]))
    taken, held = sign * draw(units), sign * draw(units)
    return PaidMove(slot, taken, held, low, draw(st.booleans()), high, draw(units), draw(units))


@st.composite
def money_writes(draw: st.DrawFn, gate: Gate, creating: bool) -> MoneyAdd | MoneySet | None:
    there = gate.money
    if creating:
        return draw(st.one_of(st.none(), monies.map(lambda money: MoneySet(None, money))))
    if draw(st.booleans()):
        expect = draw(st.sampled_from([there, there, there, None]))
        if expect is not None and draw(st.integers(0, 4)) == 0:
            expect = draw(monies)
        seen = {slot: gate.counts.get(slot) for slot in draw(st.sets(slots, max_size=2))}
        if draw(st.integers(0, 4)) == 0:
            seen[0] = draw(st.one_of(st.none(), counters()))
        return MoneySet(expect, draw(monies), tuple(sorted(seen.items())))
    if there is None:
        return draw(st.sampled_from([None, MoneyAdd(0, (), Decimal(1))]))
    spent = there.spend
    return MoneyAdd(
        draw(st.sampled_from([there.period, there.period, there.period, 100])),
        tuple(draw(paid_moves(slot, there.paid.get(slot))) for slot in sorted(draw(st.sets(meters, max_size=2)))),
        draw(st.sampled_from([Decimal(0), Decimal("0.01"), -spent, Decimal(3)])),
        draw(st.sampled_from([None, spent, spent, spent + 1, spent - Decimal("0.01")])),
    )


@st.composite
def grant_moves(draw: st.DrawFn, number: int, there: Grant | None) -> GrantMove:
    left = Decimal(5) if there is None else there.left
    low = draw(st.sampled_from([None, left, left, left + 1, left - 1]))
    exactly = draw(st.sampled_from([None, None, left, left, left + 1]))
    taken = Decimal(0) if there is None else there.clawed
    clawed = draw(st.sampled_from([None, None, (taken, taken + 1), (Decimal(3), Decimal(4)), (taken, taken)]))
    change, moved = draw(st.sampled_from([-left, Decimal(0), Decimal("2.5")])), draw(units)
    return GrantMove(number, change, low, exactly, clawed, moved)


@st.composite
def counter_writes(draw: st.DrawFn, slot: int, there: Count | None, creating: bool) -> CounterWrite:
    """Mostly such as the planner could send for what is there, so that many of them apply."""
    likely = [Step.FIRST] * 3 if there is None else [Step.ADD, Step.ROLL, Step.BACK]
    step = Step.FIRST if creating else draw(st.sampled_from([*likely, *Step]))
    taken, held = draw(units), draw(units)
    if step is Step.BACK:
        return CounterWrite(slot, step, -taken, -held)
    if step is Step.FIRST:
        return CounterWrite(slot, step, taken, held, draw(windows))
    low = draw(windows) if there is None else draw(st.sampled_from([there.window, there.window, 100]))
    expect = draw(st.sampled_from([(low, low), (low - 50, low + 50), (low + 1, 1 << 40)]))
    sign = draw(st.sampled_from([1, 1, -1]))
    base = Decimal(0) if there is None else there.taken if step is Step.ADD else there.held
    cap = draw(st.sampled_from([None, base + sign * taken, base + sign * taken - Decimal("0.000001"), Decimal(5)]))
    return CounterWrite(slot, step, sign * taken, sign * held, draw(windows), expect, cap)


@st.composite
def hold_writes(draw: st.DrawFn, key: str, there: bytes | None, creating: bool) -> HoldWrite:
    if creating:
        return HoldWrite(key, None, draw(packed))
    expect = draw(st.sampled_from([there, there, there, None, b"\x10one"]))
    return HoldWrite(key, expect, draw(st.one_of(st.none(), st.just(expect), packed)))


@st.composite
def gate_writes(draw: st.DrawFn, gate: Gate) -> GateWrite:
    creating = draw(st.sampled_from([False] * 7 + [True]))
    rev = None if creating else draw(st.sampled_from([gate.rev] * 6 + [1, 2]))
    freeze = draw(st.sampled_from([None, None, None, "other"]))
    new_rev = draw(st.integers(1, 3))
    touched, named = draw(st.sets(slots, max_size=3)), draw(st.sets(keys, max_size=2))
    burned = set() if creating else draw(st.sets(numbers, max_size=2))
    added = draw(st.sets(numbers, max_size=1)) - burned
    gone = set() if creating else draw(st.sets(numbers, max_size=1)) - burned - added
    return GateWrite(
        gate.subject,
        rev,
        -new_rev if freeze else draw(st.sampled_from([rev or new_rev, new_rev])),
        tuple(draw(counter_writes(slot, gate.counts.get(slot), creating)) for slot in sorted(touched)),
        tuple(draw(hold_writes(key, gate.holds.get(key), creating)) for key in sorted(named)),
        None if creating else draw(st.sampled_from([None, None, 2, 3, 500])),
        freeze,
        draw(money_writes(gate, creating)),
        tuple(draw(grant_moves(number, gate.grants.get(number))) for number in sorted(burned)),
        tuple((number, draw(grants)) for number in sorted(added)),
        tuple(
            (
                number,
                draw(st.sampled_from([gate.grants[number].left, Decimal(1)])) if number in gate.grants else Decimal(0),
            )
            for number in sorted(gone)
        ),
        None if creating else draw(st.sampled_from([None, None, gate.given, gate.given, 0, 2])),
        draw(level_writes(gate, creating)),
    )


def number(value: Decimal | int) -> dict[str, str]:
    return {"N": f"{Decimal(value):f}"}


def money_item(money: Money | None) -> dict[str, object]:
    if money is None:
        return {}
    found: dict[str, object] = {
        str(slot): {"M": {"t": number(p.taken), "h": number(p.held), "c": number(p.credited), "w": number(p.waived)}}
        for slot, p in money.paid.items()
    }
    past = {"L": [number(spend) for spend in money.past]}
    return {**found, "id": number(money.period), "s": number(money.spend), "x": past}


def grant_item(grant: Grant) -> dict[str, object]:
    ends = {} if grant.ends == FOREVER else {"e": number(grant.ends)}
    found: dict[str, Decimal | int] = {
        "m": grant.meter,
        "l": grant.left,
        "p": grant.priority,
        "s": grant.starts,
    }
    seldom = (("u", grant.units), ("c", grant.carried), ("k", grant.clawed), ("o", grant.moved))
    found |= {name: value for name, value in seldom if value}
    every = {"r": {"S": grant.every}} if grant.every else {}
    whose = {"f": {"B": grant.whose}} if grant.whose else {}
    return {**{name: number(value) for name, value in found.items()}, **ends, **every, **whose}


def level_item(level: Level) -> dict[str, object]:
    fields: dict[str, object] = {"n": number(level.number), "v": number(level.units), "a": number(level.at_ms)}
    fields |= {"b": {"BOOL": True}} if level.priced else {}
    return {**fields, "o": {"S": level.open}} if level.open else fields


def stored(gate: Gate) -> None:
    """Put a gate item, spelled out here and not by the store."""
    item = {
        "pk": {"S": gate.subject},
        "rev": {"N": str(gate.rev)},
        "w": {
            "M": {
                str(slot): {"M": {"id": {"N": str(c.window)}, "t": {"N": f"{c.taken:f}"}, "held": {"N": f"{c.held:f}"}}}
                for slot, c in gate.counts.items()
            }
        },
        "h": {"M": {key: {"B": raw} for key, raw in gate.holds.items()}},
        "p": {"M": money_item(gate.money)},
        "g": {"M": {str(number): {"M": grant_item(grant)} for number, grant in gate.grants.items()}},
    }
    if gate.levels:
        item["l"] = {"M": {str(slot): {"M": level_item(level)} for slot, level in gate.levels.items()}}
    if gate.given:
        item["c"] = {"N": str(gate.given)}
    if gate.recount is not None:
        item["z"] = {"S": gate.recount}
    dynamo.client().put_item(TableName="gates", Item=item)


def memory() -> World:
    return world(daily_plan(10))


@QUICK
@given(data=st.data())
def test_a_gate_write_does_what_it_means(data: st.DataObject) -> None:
    gate = data.draw(gates())
    there = data.draw(st.sampled_from([True] * 6 + [False]))
    made = memory()
    if there:
        stored(gate)
        made.gates[gate.subject] = gate
    for _ in range(data.draw(st.integers(1, 3))):
        now = made.gates.get(gate.subject, gate)
        write = data.draw(gate_writes(now))
        if "UpdateExpression" not in update_request("gates", write):
            write = write._replace(new_rev=8 if write.rev == 9 else 9)  # moto knows no update without a change
        assert GATES.write(write, retry=data.draw(st.booleans())) == MemoryGates(made).write(write)
        assert GATES.read(gate.subject) == made.gates.get(gate.subject)


@QUICK
@given(data=st.data())
def test_the_end_of_a_recount_does_what_it_means(data: st.DataObject) -> None:
    gate, other = data.draw(gates()), data.draw(gates())
    made = memory()
    stored(gate)
    made.gates[gate.subject] = gate
    write = Recounted(
        gate.subject,
        data.draw(st.sampled_from([gate.rev, gate.rev, -1])),
        data.draw(st.sampled_from(["nonce", "nonce", "other"])),
        data.draw(st.integers(1, 3)),
        other.counts,
        other.holds,
        other.money,
        data.draw(st.integers(0, 2)),
        tuple((number + 100, grant) for number, grant in other.grants.items()),
    )
    for _ in range(2):  # sent again it must not apply again
        assert GATES.finish_recount(write) == MemoryGates(made).finish_recount(write)
        assert GATES.read(gate.subject) == made.gates[gate.subject]


@QUICK
@given(data=st.data())
def test_a_closed_gate_keeps_what_it_had(data: st.DataObject) -> None:
    gate, made = data.draw(gates()), memory()
    if data.draw(st.booleans()):
        stored(gate)
        made.gates[gate.subject] = gate
    for _ in range(2):
        assert GATES.close(gate.subject) == MemoryGates(made).close(gate.subject)
        assert GATES.read(gate.subject) == made.gates[gate.subject]
        assert made.gates[gate.subject].closed


@QUICK
@given(data=st.data())
def test_a_gate_is_closed_with_the_rules_only_while_nothing_is_paid_for(data: st.DataObject) -> None:
    gate = data.draw(gates())
    seen = replace(gate, money=data.draw(gates()).money) if data.draw(st.booleans()) else gate
    stored(gate)
    money, known = gate.money, seen.money
    same = (None if money is None else (money.period, set(money.paid))) == (
        None if known is None else (known.period, set(known.paid))
    )
    unpaid = money is None or not any((money.spend, *(paid.taken for paid in money.paid.values())))
    if not (same and unpaid):
        with pytest.raises(ClientError, match="TransactionCanceledException"):
            dynamo.client().transact_write_items(TransactItems=[closing_part("gates", seen)])
        assert GATES.read(gate.subject) == gate
        return
    dynamo.client().transact_write_items(TransactItems=[closing_part("gates", seen)])
    found = GATES.read(gate.subject)
    assert found is not None
    assert found.closed


incarnations = st.dictionaries(
    st.sampled_from(["account", "member"]), st.sampled_from([bytes([n]) * 16 for n in (1, 2, 3)]), min_size=1
)
used_items = st.builds(
    UsedItem,
    meter=st.sampled_from(["ai_credits", "llm_tokens"]),
    quantity=units,
    units=units,
    dimensions=st.dictionaries(st.sampled_from(["model", "operation"]), st.text(min_size=1, max_size=5), max_size=2),
    credit_funded=units,
    waived=units,
    priced=st.booleans(),
    credits=st.lists(st.tuples(numbers, units), max_size=2).map(tuple),
    level=st.sampled_from([None, None, 1, 12]),
)


@st.composite
def events(draw: st.DrawFn, at: OutcomeKey) -> Event:
    return Event(
        at=at,
        incarnations=draw(incarnations),
        recorded_ms=draw(st.integers(1, 1 << 41)),
        items=tuple(draw(st.lists(used_items, min_size=1, max_size=2))),
        member=draw(st.sampled_from([None, "alice"])),
        plan="pro",
        plan_version=draw(st.integers(1, 3)),
        occurred_ms=draw(st.sampled_from([None, 5])),
        cached=draw(st.booleans()),
        provider_cost=draw(st.sampled_from([None, Decimal("0.0000012")])),
        metadata=draw(st.sampled_from([None, {"run": "r1", "n": 1, "deep": {"a": [1, "2"]}}])),
        token=draw(st.sampled_from([None, "token"])),
        fingerprint=draw(st.sampled_from([b"", b"abcd"])),
        commit_key=draw(st.sampled_from([None, "ck"])),
        call=draw(st.sampled_from([b"", b"call"])),
        late=draw(st.booleans()),
        over_reserved=draw(st.booleans()),
    )


@st.composite
def voids(draw: st.DrawFn, at: OutcomeKey) -> Void:
    why = draw(st.sampled_from(["released", "expired", "refused"]))
    return Void(at, draw(incarnations), why, draw(st.integers(1, 9)), draw(st.sampled_from([None, "rk"])))


@QUICK
@given(data=st.data())
def test_outcomes_are_put_and_raised_as_they_mean(data: st.DataObject) -> None:
    at = OutcomeKey(f"acme{next(_FRESH)}", data.draw(st.integers(0, 1 << 41)), "AAAAAAAAAAAAAAAA")
    outcomes = MemoryOutcomes(memory())
    for _ in range(data.draw(st.integers(1, 6))):
        outcome: Outcome = data.draw(st.one_of(events(at), voids(at), voids(at)))
        if isinstance(outcome, Event):
            assert EVENTS.put_event(outcome) == outcomes.put_event(outcome)
        else:
            assert EVENTS.put_void(outcome) == outcomes.put_void(outcome)
        assert EVENTS.get(at) == outcomes.get(at)
    assert list(EVENTS.events_between(at.account, at.origin_ms, at.origin_ms)) == list(
        outcomes.events_between(at.account, at.origin_ms, at.origin_ms)
    )
    assert not list(EVENTS.events_between(at.account, at.origin_ms + 1, 1 << 42))


@QUICK
@given(data=st.data())
def test_a_late_commit_is_one_transaction(data: st.DataObject) -> None:
    at = OutcomeKey(f"acme{next(_FRESH)}", 1, "AAAAAAAAAAAAAAAA")
    made = memory()
    outcomes = MemoryOutcomes(made)
    there: Outcome | None = data.draw(st.one_of(st.none(), events(at), voids(at), voids(at), voids(at)))
    if isinstance(there, Event):
        assert EVENTS.put_event(there) == outcomes.put_event(there)
    elif there is not None:
        assert EVENTS.put_void(there) == outcomes.put_void(there)
    over = there if isinstance(there, Void) and data.draw(st.booleans()) else data.draw(voids(at))
    writes: list[GateWrite] = []
    for gate in data.draw(st.lists(gates(), max_size=2)):
        stored(gate)
        made.gates[gate.subject] = gate
        writes.append(data.draw(gate_writes(gate)))
    event = data.draw(events(at))
    assert EVENTS.commit_late(event, over, writes) == outcomes.commit_late(event, over, writes)
    assert EVENTS.get(at) == outcomes.get(at)
    assert [GATES.read(write.subject) for write in writes] == [made.gates[write.subject] for write in writes]


@QUICK
@given(proposed=st.lists(st.integers(0, 1 << 41), min_size=1, max_size=4))
def test_the_first_origin_of_a_key_stays(proposed: Sequence[int]) -> None:
    account = f"acme{next(_FRESH)}"
    outcomes = MemoryOutcomes(memory())
    for origin_ms in proposed:
        assert EVENTS.origin(account, "key", origin_ms) == outcomes.origin(account, "key", origin_ms) == proposed[0]
