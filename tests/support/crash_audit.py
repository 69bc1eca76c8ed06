"""What must be true of the world: while things go wrong (`caps`), and once everything has come to rest (`audit`).

It reads the tables and the Stripe double's own books, and adds up by itself. Of the product it uses what reads a row,
and the windows of counters.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from tests.support.crash_world import SEAL_S, World
from tests.support.prices import charge
from tollgate import wiring
from tollgate.accounts.rules import Rules, windowed_end
from tollgate.accounts.store import RulesTable
from tollgate.alerts.texts import alert_of
from tollgate.alerts.thresholds import standing
from tollgate.billing.batch import FLUSHED, PARKED, Batch
from tollgate.billing.batch_store import batch_of
from tollgate.billing.sealed import SealedWindow
from tollgate.billing.sealed_store import sealed_of
from tollgate.gate.hold import expiry_of
from tollgate.gate.item import Gate
from tollgate.gate.store import gate_of
from tollgate.ids import key_hash
from tollgate.usage.grant_store import GrantTable
from tollgate.usage.outcome import Event
from tollgate.usage.store import event_of, sort_key

ZERO: Final = Decimal(0)
Name = tuple[str, str]
"""(account, meter)"""


class Wrong(AssertionError):
    """A promise is broken; says which."""


def hold_true(right: object, *facts: object) -> None:
    """Raises Wrong with the facts unless `right`."""
    if not right:
        raise Wrong(*facts)


@dataclass
class Promise:
    """An answer that a client got: what it says was recorded stays recorded."""

    call: str
    body: Any

    @property
    def text(self) -> str:
        return f"{self.call} {json.dumps(self.body, sort_keys=True, default=str)}"

    def note(self, world: World) -> None:
        """Raises Wrong where what it promises is not there already: it was promised when it was answered."""
        if isinstance(self.body, Mapping):
            _kept(self.body, _rows(world))


def caps(world: World, over: Collection[str]) -> None:
    """No gate is past a cap, nor has it less than nothing. Raises Wrong."""
    source = rules_source(world)
    for gate in gates(world):
        account, _, member = gate.subject.partition("#")
        for slot, count in gate.counts.items():
            hold_true(ZERO <= count.held <= count.taken, "negative", gate.subject, slot, count)
        if account in over or gate.rev < 0:
            continue
        rules = source.fresh(account)
        for ruled in rules.limits:
            if (ruled.limit.per == "member") != bool(member) or ruled.maximum is None:
                continue
            kept = gate.counts.get(ruled.counter.slot)
            if kept is not None:
                hold_true(kept.taken <= ruled.maximum, "cap exceeded", gate.subject, ruled.limit.id, kept)


def audit(
    world: World, promises: Sequence[Promise], used: Mapping[Name, Decimal], complete: bool, replanned: Collection[str]
) -> None:
    """Everything at rest. Raises Wrong."""
    events = _rows(world)
    _events_once(events)
    for promise in promises:
        if isinstance(promise.body, Mapping):
            _kept(promise.body, events)
    totals: dict[Name, Decimal] = defaultdict(Decimal)
    for event in events:
        for item in event.items:
            totals[event.at.account, item.meter] += item.units
    for name in {*totals, *used}:
        most = used.get(name, ZERO)
        right = totals[name] == most if complete else totals[name] <= most
        hold_true(right, "units recorded", name, totals[name], "expected", most, "complete", complete)
    _gates(world, events)
    _money(world, events, replanned)
    _credits(world, events)
    _billing(world, events, replanned)
    hold_true(not world.dead_letters, "dead letters", world.dead_letters)


# --- events and promises ----------------------------------------------------------------------------------------------


def _rows(world: World) -> list[Event]:
    return [event_of(row) for row in world.rows("events") if row.get("kind") == {"S": "event"}]


def _events_once(events: Sequence[Event]) -> None:
    seen: set[tuple[str, str]] = set()
    for event in events:
        name = (event.at.account, event.at.key)
        hold_true(name not in seen, "one key, two events", name)
        seen.add(name)


def _kept(body: Mapping[str, Any], events: Sequence[Event]) -> None:
    """What an answer calls recorded is there once, with the units it names."""
    for event_id in body.get("event_ids") or ():
        name = event_id.removeprefix("evt_").rpartition(".")[0]
        found = [event for event in events if sort_key(event.at) == name]
        hold_true(len(found) == 1, "acknowledged, and not there once", event_id, len(found))
        hold_true(found[0].units == Decimal(body.get("used_units", body["units"])), "other units", body, found[0])
    for result in body.get("results") or ():
        if result["status"] in ("recorded", "duplicate"):
            found = [event for event in events if event.at.key == key_hash("usage", result["id"])]
            hold_true(found, "acknowledged, and not there", result)
            hold_true(any(event.units == Decimal(result["units"]) for event in found), "other units", result, found)


# --- thresholds -------------------------------------------------------------------------------------------------------


def told(world: World) -> None:
    """Each mark that a gate shows to be passed stands in the outbox once, and nothing there twice. Raises Wrong."""
    messages = [json.loads(row["message"]["S"]) for row in world.rows("billing", "outbox")]
    ids = [message["id"] for message in messages]
    hold_true(len(ids) == len(set(ids)), "told twice", ids)
    source = rules_source(world)
    for gate in gates(world):
        account, _, member = gate.subject.partition("#")
        rules = source.fresh(account)
        for crossing in standing(rules, gate, member or None, world.now):
            wanted = alert_of(rules, crossing, member or None, world.now * 1000).id
            hold_true(wanted in ids, "passed, and nobody was told", wanted, ids)


# --- gates ------------------------------------------------------------------------------------------------------------


def rules_source(world: World) -> RulesTable:
    source = world.__dict__.get("_rules")
    if source is None:
        source = world.__dict__["_rules"] = wiring.rules_table(os.environ)
    source._cache.clear()  # worlds come and go: a row of the same revision may be another one
    found: RulesTable = source
    return found


def gates(world: World) -> list[Gate]:
    return [gate_of(row) for row in world.rows("gates")]


def _gates(world: World, events: Sequence[Event]) -> None:
    source = rules_source(world)
    for gate in gates(world):
        account, _, member = gate.subject.partition("#")
        hold_true(gate.rev > 0, "a gate was left frozen", gate.subject)
        left = {key: expiry_of(raw) - world.now for key, raw in gate.holds.items()}
        hold_true(not left, "holds left", gate.subject, left)
        rules = source.fresh(account)
        mine = [event for event in events if event.at.account == account and (not member or event.member == member)]
        for counter in rules.counters:
            if (counter.key.per == "member") != bool(member):
                continue
            count = gate.counts.get(counter.slot)
            expected = ZERO
            if counter.kind is not None:
                start = 0 if count is None else count.window
                end = windowed_end(counter, start, rules.row.calendar)
                if count is None:
                    start, end = _window(rules, counter.slot, world.now)
                for event in mine:
                    if start <= event.recorded_s and (end is None or event.recorded_s < end):
                        expected += sum(
                            (item.units for item in event.items if counter.takes(item.meter, item.dimensions)), ZERO
                        )
            taken = ZERO if count is None else count.taken
            if count is None and counter.since:
                continue  # seeded before anything is taken from it
            hold_true(taken == expected, "counter and events", gate.subject, counter.key, count, "events", expected)
            hold_true(count is None or count.held == ZERO, "held in the end", gate.subject, counter.key, count)


def _window(rules: Rules, slot: int, now: int) -> tuple[int, int | None]:
    counter = rules.counters[slot]
    assert counter.kind is not None
    if counter.kind.hours is not None:
        return now - counter.kind.hours * 3600 + 1, None
    window = rules.window(counter, now)
    return window.start, window.end


# --- money and credits ------------------------------------------------------------------------------------------------


def _money(world: World, events: Sequence[Event], replanned: Collection[str]) -> None:
    """Paid positions equal rows, the spend is what they come to, and no period of one plan is billed past its cap."""
    source = rules_source(world)
    for gate in gates(world):
        rules, mine = source.fresh(gate.subject.partition("#")[0]), []
        if "#" in gate.subject:
            continue
        mine = [event for event in events if event.at.account == gate.subject]
        cap = rules.plan.spend_cap
        if cap is not None and gate.subject not in replanned:
            periods: dict[int, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
            for event in mine:
                for item in event.items:
                    periods[rules.period_start(event.recorded_s)][item.meter] += item.billable
            for period, units in periods.items():
                bill = sum((charge(price, units[price.meter]) for price in rules.plan.prices), ZERO)
                hold_true(bill <= cap, "billed past the cap", gate.subject, period, bill, cap)
        if gate.money is None:
            hold_true(not rules.plan.prices or not mine, "usage without money", gate, mine)
            continue
        sums = {slot: [ZERO, ZERO, ZERO] for slot in gate.money.paid}
        for event in mine:
            start = rules.period_start(event.recorded_s)
            hold_true(start <= gate.money.period, "money was not rolled over", gate.subject, event)
            for item in event.items if start == gate.money.period else ():
                slot = rules.row.meters.index(item.meter)
                if slot in sums:
                    found = (item.billable, item.credit_funded, item.waived)
                    sums[slot] = [one + more for one, more in zip(sums[slot], found, strict=True)]
        for slot, paid in gate.money.paid.items():
            hold_true(not paid.held, "money held in the end", gate.subject, paid)
            equal = [paid.taken, paid.credited, paid.waived] == sums[slot]
            hold_true(equal, "money and rows", gate.subject, slot, paid, sums[slot])
        if gate.rev == rules.rev and rules.plan.prices:
            spend = sum(
                (charge(p, gate.money.paid[rules.row.meters.index(p.meter)].taken) for p in rules.plan.prices), ZERO
            )
            hold_true(gate.money.spend == spend, "spend and positions", gate.subject, gate.money, spend)


def _credits(world: World, events: Sequence[Event]) -> None:
    """Every unit that was given is left, was burned by a row, taken back, or has ended."""
    table = GrantTable(os.environ["TOLLGATE_EVENTS_TABLE"])
    burned: dict[tuple[str, int], Decimal] = defaultdict(Decimal)
    for event in events:
        for item in event.items:
            total = sum((units for _, units in item.credits), ZERO)
            hold_true(total == item.credit_funded and item.waived >= 0 and item.billable >= 0, "split", event)
            for number, units in item.credits:
                burned[event.at.account, number] += units
    there = {gate.subject: gate.grants for gate in gates(world)}
    for account in {*there, *(account for account, _ in burned)}:
        rows = table.rows(account) if "#" not in account else []
        hold_true(len({(row.source, row.source_id) for row in rows}) == len(rows), "one source gave twice", rows)
        for row in rows:
            used, grant = burned.pop((account, row.number), ZERO), there.get(account, {}).get(row.number)
            if grant is not None:
                hold_true(grant.left >= 0, "less than nothing is left", grant)
                sums = row.units + grant.carried, grant.unused + used + grant.clawed
                hold_true(row.pending is not None or row.clawed == grant.clawed, "taken back", row, grant)
            elif row.ended is not None:
                sums = row.units + row.ended.carried, row.ended.left + used + row.clawed
            else:
                sums = ZERO, used + row.clawed  # a crash kept it from the gate
            hold_true(sums[0] == sums[1], "credits do not add up", row, grant, used)
    hold_true(not burned, "burned credits that were not given", burned)


# --- billing ----------------------------------------------------------------------------------------------------------


def _billing(world: World, events: Sequence[Event], replanned: Collection[str]) -> None:
    """Rows -> sealed windows -> batches -> what the double counts: the same units at each step, exactly once."""
    source = rules_source(world)
    recorded: dict[tuple[str, int, str], Decimal] = defaultdict(Decimal)
    for event in events:
        for item in event.items:
            recorded[event.at.account, event.recorded_s // SEAL_S * SEAL_S, item.meter] += item.billable
    sealed: dict[tuple[str, int, str], Decimal] = defaultdict(Decimal)
    wanted: dict[tuple[str, int, str], Decimal] = defaultdict(Decimal)
    windows: list[SealedWindow] = [sealed_of(row) for row in world.rows("billing", "sealed#")]
    for window in windows:
        for meter, amount in window.total.meters.items():
            name = (window.account, window.window_start, meter)
            sealed[name] += amount.billable
            if amount.event_name is not None:
                wanted[name] += amount.billable
            if window.account not in replanned and amount.billable:
                priced = meter in source.fresh(window.account).priced_meters()
                hold_true(priced == (amount.event_name is not None), "priced and not billed, or the reverse", name)
    hold_true(_some(recorded) == _some(sealed), "rows and sealed windows", recorded, sealed)
    batches: list[Batch] = [batch_of(row) for row in world.rows("billing", "batch#")]
    batched: dict[tuple[str, int, str], Decimal] = defaultdict(Decimal)
    for batch in batches:
        if batch.repaired_by is None:  # else its successor holds the units
            batched[batch.account, batch.window_start, batch.meter] += batch.units
    hold_true(_some(wanted) == _some(batched), "sealed windows and batches", wanted, batched)
    _sent(world, batches)


def _sent(world: World, batches: Sequence[Batch]) -> None:
    outbox = [json.loads(row["message"]["S"]) for row in world.rows("billing", "outbox")]
    counted = world.counted()
    by_identifier = {row["identifier"]: row for row in counted}
    hold_true(len(by_identifier) == len(counted), "one identifier counted twice", counted)
    known = {batch.identifier for batch in batches}
    hold_true(set(by_identifier) <= known, "Stripe counts what no batch holds", set(by_identifier) - known)
    totals: dict[tuple[str, str, int], Decimal] = defaultdict(Decimal)
    for batch in batches:
        row = by_identifier.get(batch.identifier or "")
        if batch.state == FLUSHED:
            hold_true(row is not None, "flushed, and Stripe does not count it", batch)
            assert row is not None
            right = (row["customer"], row["event_name"], Decimal(row["value"])) == (
                batch.customer,
                batch.event_name,
                batch.units,
            )
            hold_true(right and batch.period_start <= row["timestamp"] < batch.period_end, "another event", row, batch)
            totals[row["customer"], row["event_name"], batch.period_start] += batch.units
            continue
        hold_true(batch.state in PARKED and batch.reason, "neither flushed nor parked", batch)
        hold_true(row is None or batch.state == "unconfirmed", "parked, and counted", batch, row)
        told = [m for m in outbox if m["account"] == batch.account and m["kind"] == batch.state]
        hold_true(any(m["reason"] == batch.reason for m in told), "parked in silence", batch, outbox)
    ids = [message["id"] for message in outbox]
    hold_true(len(ids) == len(set(ids)), "one trouble told twice", ids)


def _some(totals: Mapping[Any, Decimal]) -> dict[Any, Decimal]:
    return {name: total for name, total in totals.items() if total}
