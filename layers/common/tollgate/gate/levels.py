"""Levels: what a meter stands at (gigabytes stored, seats), set by the app and not added up.

The gate decides and the row records: one conditional write puts the new level in the place of the one seen, numbers the
change, and carries what its row is made of; then the row is put. Whoever finds a level whose row may be missing (the
next change, the sweep, the same call repeated) puts that row first. So the rows of a meter are numbered without gaps in
the order in which the levels stood, and a crash anywhere loses none of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from tollgate.accounts.rules import Rules
from tollgate.catalog.model import level_meters, weighed
from tollgate.errors import Busy, IdempotencyMismatch
from tollgate.gate.item import Gate, GateWrite, Level, LevelSet
from tollgate.gate.limits import LimitState
from tollgate.gate.money import restated
from tollgate.gate.ports import GateDeps
from tollgate.gate.recount import recount
from tollgate.gate.reserve import Denied
from tollgate.gate.steps import behind
from tollgate.ids import key_hash, uuid7_time_of, uuid_text
from tollgate.quantities import ONE, ZERO
from tollgate.usage.outcome import Event, Outcome, OutcomeKey, UsedItem

TRIES = 40


@dataclass(frozen=True, slots=True)
class Setting:
    """A level as it is asked for. `origin_ms`: the time inside a UUIDv7 key, else None. `member` and `dimensions` are
    for the row: a level is the account's."""

    account: str
    meter: str
    quantity: Decimal | None
    """None: as it stands."""
    key: str
    origin_ms: int | None
    fingerprint: bytes
    member: str | None = None
    dimensions: Mapping[str, str] | None = None


class Standing(NamedTuple):
    """A level: as it stands, or as a change of it left it. `number` 0: it was never set, and is 0."""

    rules: Rules
    meter: str
    number: int
    units: Decimal
    set_ms: int | None
    event: Event | None = None
    """The row of the change."""
    current: Decimal | None = None
    """What stands now, where this is an earlier change."""

    @property
    def limits(self) -> list[LimitState]:
        """The meter's limits with this level."""
        return level_states(self.rules, self.meter, self.units)

    @property
    def maximum(self) -> Decimal | None:
        """The lowest of the limits' maxima; None: unlimited."""
        maxima = (state.ruled.maximum for state in self.limits)
        return min((most for most in maxima if most is not None), default=None)


class Refused(NamedTuple):
    """A level that was not raised; `standing` is what stands instead."""

    denied: Denied
    standing: Standing


def level_states(rules: Rules, meter: str, units: Decimal) -> list[LimitState]:
    """The limits of a level meter at a level of `units`. Their window never ends."""
    return [
        LimitState(ruled, None, 0, None, units, ZERO) for ruled in rules.level_limits if meter in ruled.limit.meters
    ]


def standing(rules: Rules, gate: Gate | None, meter: str) -> Standing:
    """What a meter stands at on a gate as read. Raises UnknownMeter, NoLevelMeter."""
    rules.level_meter(meter)
    level = _level(rules, gate, meter)
    if level is None:
        return Standing(rules, meter, 0, ZERO, None)
    return Standing(rules, meter, level.number, level.units, level.at_ms)


def _level(rules: Rules, gate: Gate | None, meter: str) -> Level | None:
    return None if gate is None else gate.levels.get(rules.row.meters.index(meter))


def set_level(deps: GateDeps, asked: Setting) -> Standing | Refused:
    """Set a level, once for each key. Of two at once the later one stands; each answer says what its own change left.

    Lowering is always allowed. Raises UnknownAccount, UnknownMeter, NoLevelMeter, QuantityTooLarge,
    IdempotencyMismatch, Busy.
    """
    deps.rules.get(asked.account, lambda rules: _wanted(rules, asked))  # an unknown account is made by it
    rules = deps.rules.fresh(asked.account)
    gate = deps.gates.read(rules.account)
    for tried in range(TRIES):
        if tried > 2:
            deps.pause(tried - 2)
        if gate is not None and gate.rev > rules.rev:
            rules = deps.rules.fresh(asked.account)
        if gate is not None and gate.closed:  # it became another account
            gate = deps.gates.read(rules.account)
            continue
        if (gate is not None and gate.rev < 0) or behind(rules, gate):
            recount(deps, rules, rules.account, None, {})
            gate = deps.gates.read(rules.account)
            continue
        rules.level_meter(asked.meter)  # else it may have no number in the row
        before = _level(rules, gate, asked.meter)
        units = _wanted(rules, asked, before)
        # First the row of the change before: a key whose change was replaced is then found among the rows.
        if before is not None and before.open:
            row = _recorded(deps, rules.account, asked.meter, before)
            if row.at.key == asked.key:
                return _again(rules, asked, row, before)
        there = _found(deps, rules, asked)
        if isinstance(there, Event):
            return _again(rules, asked, there, before)
        denied = _refusal(rules, asked.meter, ZERO if before is None else before.units, units)
        if denied is not None:
            return Refused(denied, standing(rules, gate, asked.meter))
        now_ms = deps.clock()
        level = _next(deps, rules, asked, before, units, now_ms)
        write = GateWrite(
            rules.account,
            None if gate is None else gate.rev,
            rules.rev,
            money=restated(rules, "account", gate, now_ms // 1000),
            level=LevelSet(
                rules.row.meters.index(asked.meter),
                0 if before is None else before.number,
                level,
                first=gate is None or not gate.levels,
            ),
        )
        written = deps.gates.write(write)
        if written.applied and written.gate is not None:
            # A crash here leaves a level without its row: this call repeated, the next change or the sweep puts it.
            row = _recorded(deps, rules.account, asked.meter, level)
            _close(deps, written.gate, write.level)
            return Standing(rules, asked.meter, level.number, units, level.at_ms, row)
        gate = written.gate
    raise Busy


def _found(deps: GateDeps, rules: Rules, asked: Setting) -> Outcome | None:
    """The change that this key made, of this account or of one that became it."""
    for account in rules.homes:
        there = deps.outcomes.find(account, asked.key, asked.origin_ms)
        if isinstance(there, Event):
            return there
    return None


def settle_levels(deps: GateDeps, rules: Rules, gate: Gate) -> Gate:
    """Put the rows that a crash kept from a gate's levels; returns the gate as it is then."""
    for slot, level in sorted(gate.levels.items()):
        if level.open:
            _recorded(deps, rules.account, rules.row.meters[slot], level)
            gate = _close(deps, gate, LevelSet(slot, level.number - 1, level))
    return gate


def price_levels(deps: GateDeps, rules: Rules) -> None:
    """Where the plan has come to price a level that stands, or a billing period began before that was known, set it to
    what it is: else the sink would hear of it only with its next change, or the next period. Raises Busy."""
    priced = level_meters(rules.meters) & rules.priced_meters()
    gate = deps.gates.read(rules.account) if priced else None
    for meter in sorted(priced):
        level = _level(rules, gate, meter)
        heard = level is None or (level.priced and level.at_ms >= rules.row.calendar.last_begun * 1000)
        if level is not None and level.units and not heard:
            name = uuid_text(deps.incarnate(deps.clock()))
            set_level(deps, Setting(rules.account, meter, None, key_hash("level", name), uuid7_time_of(name), b""))


def _wanted(rules: Rules, asked: Setting, before: Level | None = None) -> Decimal:
    """The level in units: rounded to the meter's scale, never weighed."""
    meter = rules.level_meter(asked.meter)
    if asked.quantity is None:
        return ZERO if before is None else before.units
    return weighed(meter, asked.quantity, ONE)


def _again(rules: Rules, asked: Setting, row: Event, now: Level | None) -> Standing:
    """The answer of the change that this key made before."""
    if row.fingerprint != asked.fingerprint:
        raise IdempotencyMismatch
    item = row.items[0]
    assert item.level is not None
    current = None if now is None else now.units
    return Standing(rules, item.meter, item.level, item.units, row.recorded_ms, row, current)


def _refusal(rules: Rules, meter: str, before: Decimal, units: Decimal) -> Denied | None:
    """Why a level may not be raised; the lowest of the limits in its way."""
    if units <= before:
        return None
    limits = level_states(rules, meter, before)
    frozen = rules.row.frozen
    if frozen is not None:
        return Denied("frozen", rules, units, ZERO, None, None, limits, frozen.reason)
    if not rules.covers(meter):
        return Denied("not_in_plan", rules, units, ZERO, None, None, limits)
    past = [(most, state) for state in limits if (most := state.ruled.maximum) is not None and units > most]
    if not past:
        return None
    most, state = min(past, key=lambda one: one[0])
    return Denied("limit_reached", rules, units, max(most - before, ZERO), state, None, limits)


# -- the row -----------------------------------------------------------------------------------------------------------


def _next(deps: GateDeps, rules: Rules, asked: Setting, before: Level | None, units: Decimal, now_ms: int) -> Level:
    at_ms = now_ms if before is None else max(now_ms, before.at_ms)
    origin_ms = asked.origin_ms
    if origin_ms is None:
        origin_ms = deps.outcomes.origin(rules.account, asked.key, at_ms)
    made_of: dict[str, Any] = {
        "o": origin_ms,
        "k": asked.key,
        "f": asked.fingerprint.hex(),
        "q": str(units if asked.quantity is None else asked.quantity),
    }
    if_any = {
        "m": asked.member,
        "d": dict(asked.dimensions or {}),
        "p": rules.plan.id,
        "v": rules.plan.version,
    }
    made_of |= {name: value for name, value in if_any.items() if value}
    text = json.dumps(made_of, separators=(",", ":"))
    priced = asked.meter in rules.priced_meters()
    return Level(1 if before is None else before.number + 1, units, at_ms, priced, text)


def _row(account: str, meter: str, level: Level) -> Event:
    said = json.loads(level.open)
    item = UsedItem(
        meter,
        Decimal(said["q"]),
        level.units,
        said.get("d", {}),
        priced=level.priced,
        level=level.number,
    )
    return Event(
        at=OutcomeKey(account, said["o"], said["k"]),
        incarnations={},  # no hold
        recorded_ms=level.at_ms,
        items=(item,),
        member=said.get("m"),
        plan=said["p"],
        plan_version=said.get("v", 0),
        fingerprint=bytes.fromhex(said["f"]),
    )


def _recorded(deps: GateDeps, account: str, meter: str, level: Level) -> Event:
    """The row of a change, put where it is not there yet."""
    row = _row(account, meter, level)
    deps.markers.ensure(account, row.recorded_ms, {row.at.origin_ms})
    there = deps.outcomes.put_event(row)
    if deps.clock() - row.recorded_ms >= deps.seal_grace_ms // 2:
        # Its window may have been sealed before the row was put: the marker makes seal look at it once more.
        deps.markers.ensure(account, row.recorded_ms, {row.at.origin_ms}, again=True)
    return there if isinstance(there, Event) else row


def _close(deps: GateDeps, gate: Gate, done: LevelSet | None) -> Gate:
    """The row stands, so the gate need not keep what it is made of. Only for the gate's size: where another write came
    between, the next change or the sweep does it."""
    if gate.rev < 0 or done is None:
        return gate
    closed = LevelSet(done.slot, done.new.number, done.new._replace(open=""))
    return deps.gates.write(GateWrite(gate.subject, gate.rev, gate.rev, level=closed)).gate or gate
