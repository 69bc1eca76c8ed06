"""Planning the write that takes units from a gate: what the last seen item means, row by row of the design's table.

Pure. `plan_take` looks at the gate as last seen (or at nothing) and says what to do next; `reserve.py` does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from tollgate.accounts.rules import BREAKER, RuledLimit, Rules, by_slot
from tollgate.gate import funding, money, parts, seats, steps
from tollgate.gate.hold import Hold, expiry_of, meter_units, unpack
from tollgate.gate.item import Gate, GateWrite, HoldWrite
from tollgate.gate.limits import refusing_order, resets_at
from tollgate.gate.recurring import due
from tollgate.gate.steps import UNSEEN, Seen, Sight
from tollgate.quantities import EXACT, ZERO
from tollgate.usage.outcome import ACCOUNT

MAX_HOLDS = 500
RECLAIM_AT_ONCE = 25


class Wanted(NamedTuple):
    """What one request wants from one gate. `hold` is as a first write would make it."""

    subject: str
    per: str
    key: str
    hold: Hold
    limits: Sequence[RuledLimit]
    forced: bool = False
    """Usage that has happened: no cap refuses it."""
    member: str | None = None
    """Who asks."""


class Send(NamedTuple):
    write: GateWrite
    hold: Hold


class Live(NamedTuple):
    """This key holds already: a retry. `raw` is the packed hold."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Mismatch:
    """This key holds already, for another body."""


@dataclass(frozen=True, slots=True)
class Stale:
    """The gate has seen newer rules than these."""


class NeedsRecount(NamedTuple):
    """A recount is under way, or a counter must be seeded before anything is taken from it; the slots that count."""

    needed: dict[int, Decimal]


@dataclass(frozen=True, slots=True)
class CreditsDue:
    """The plan gives credits that are not on the gate yet."""


class Reclaim(NamedTuple):
    """Expired holds stand in the way."""

    keys: tuple[str, ...]


class Refuse(NamedTuple):
    """One refusal: a limit, or money (`short`); neither: too many open holds."""

    limit: RuledLimit | None
    requested: Decimal
    remaining: Decimal
    short: funding.Short | None = None


Plan = Send | Live | Mismatch | Stale | NeedsRecount | CreditsDue | Reclaim | Refuse | funding.Look


def plan_take(rules: Rules, wanted: Wanted, seen: Seen, now: int, recalled: Gate | None = None) -> Plan:
    """What to do next for `wanted`, given the gate as last seen; `now` in epoch seconds. `recalled`: money and credits
    as a guess for a gate that was not read."""
    hold = wanted.hold
    if isinstance(seen, Sight):
        guess = money.guessed(rules, wanted.per, wanted.subject, recalled, now)
        if wanted.per == ACCOUNT and (
            due(rules, guess, now, wanted.member) or seats.seatless(rules, guess, now, wanted.member)
        ):
            return funding.Look()
        units = meter_units(hold.groups)
        funded = funding.take(
            rules, wanted.per, guess, units, now, forced=wanted.forced, certain=False, member=wanted.member
        )
        if not isinstance(funded, funding.Taking):
            return funding.Look()
        return _send(rules, wanted, UNSEEN, hold, {}, None, now, funded)
    if seen is not None:
        if seen.rev < 0:
            return NeedsRecount(by_slot(hold.groups))
        if seen.rev > rules.rev:
            return Stale()
    before: dict[int, Decimal] = {}
    old = None if seen is None else seen.holds.get(wanted.key)
    # Also before a hold is found again: it must name the counters that began after it.
    needed = money.begun_from(rules, wanted.per, seen) | by_slot(hold.groups)
    unseeded = steps.unseeded(rules, seen, needed, now)
    if old is not None:
        found = unpack(old)
        if found.fingerprint != hold.fingerprint:
            return Mismatch()
        if found.expires_at > now:
            return NeedsRecount(needed) if unseeded else Live(old)
        before = found.units()
        if any(units > hold.units().get(slot, ZERO) for slot, units in before.items()):
            # It was extended, or its commit grew it and may have put its row: its outcome says what becomes of it.
            return Reclaim((wanted.key,))
        if not wanted.forced and seen is not None and not funding.stands(rules, wanted.per, seen, found, now):
            return Reclaim((wanted.key,))
        # A renewal keeps the incarnation, and who pays: the reservation id given out for it stays good.
        hold = hold._replace(
            incarnation=found.incarnation, origin_ms=found.origin_ms, keyed=found.keyed, parts=found.parts
        )
    if unseeded:
        return NeedsRecount(needed)
    if wanted.per == ACCOUNT and due(rules, seen, now, wanted.member):
        return CreditsDue()
    units = meter_units(hold.groups)
    gate = Gate(wanted.subject, rules.rev, {}, {}) if seen is None else seen
    short: funding.Short | None = None
    if old is not None:
        if not wanted.forced:
            short = funding.past_promise(rules, wanted.per, gate, units, now)
        for slot, known in meter_units(unpack(old).groups).items():
            units[slot] = max(units.get(slot, ZERO) - known, ZERO)
    funded = funding.take(rules, wanted.per, seen, units, now, forced=wanted.forced, member=wanted.member)
    refusal = _refusal(rules, wanted, gate, before, now)
    if isinstance(funded, funding.Short):
        short = funded
    if short is not None:
        refusal = _later(refusal, short, rules, gate, now)
    if refusal is not None:
        keys = expired_keys(gate, now, except_key=wanted.key, slot=_slot(refusal))
        return Reclaim(keys) if keys else refusal
    assert isinstance(funded, funding.Taking)
    return _send(rules, wanted, seen, hold, before, old, now, funded)


def _later(refusal: Refuse | None, short: funding.Short, rules: Rules, gate: Gate, now: int) -> Refuse:
    """Of a limit and money that do not fit, the one that resets last; money before the breaker."""
    own = Refuse(None, short.requested, short.remaining, short)
    if refusal is None or refusal.limit is None:
        return own if refusal is None else refusal
    if refusal.limit.source == BREAKER:
        return own
    counter = refusal.limit.counter
    resets = resets_at(rules, counter, gate.counts.get(counter.slot), now)
    return refusal if short.resets_at is not None and resets > short.resets_at else own


def _send(
    rules: Rules,
    wanted: Wanted,
    seen: Seen,
    hold: Hold,
    before: dict[int, Decimal],
    old: bytes | None,
    now: int,
    funded: funding.Taking,
) -> Send:
    if wanted.per == ACCOUNT and funded.parts:
        hold = hold._replace(parts=parts.more_parts(hold.parts, funded.parts))
    return Send(_write(rules, wanted, seen, hold, before, old, now, funded), hold)


def _slot(refusal: Refuse) -> int | None:
    return None if refusal.limit is None else refusal.limit.counter.slot


def _refusal(rules: Rules, wanted: Wanted, gate: Gate, before: dict[int, Decimal], now: int) -> Refuse | None:
    """The one reason to refuse: of all limits that do not fit, the one that resets last; the breaker after them all."""
    if wanted.key not in gate.holds and len(gate.holds) >= MAX_HOLDS and not wanted.forced:
        return Refuse(None, Decimal(1), ZERO)
    if wanted.forced:
        return None
    units = wanted.hold.units()
    worst: tuple[int, Refuse] | None = None
    for ruled in wanted.limits:
        if ruled.maximum is None:
            continue
        slot = ruled.counter.slot
        asked = units.get(slot, ZERO)
        count = gate.counts.get(slot)
        taken = steps.taken_now(rules, ruled.counter, count, now) - before.get(slot, ZERO)
        if taken + asked <= ruled.maximum:
            continue
        when = refusing_order(rules, ruled, count, now)
        if worst is None or when > worst[0]:
            worst = (when, Refuse(ruled, asked, max(ruled.maximum - taken, ZERO)))
    return None if worst is None else worst[1]


def _write(
    rules: Rules,
    wanted: Wanted,
    seen: Seen,
    hold: Hold,
    before: dict[int, Decimal],
    old: bytes | None,
    now: int,
    funded: funding.Taking,
) -> GateWrite:
    caps: dict[int, Decimal] = {}
    if not wanted.forced:
        for ruled in wanted.limits:
            if ruled.maximum is not None:
                slot = ruled.counter.slot
                caps[slot] = min(ruled.maximum, caps[slot]) if slot in caps else ruled.maximum
    after = hold.units()
    counters = []
    for slot in sorted(set(after) | set(before)):
        change = EXACT.subtract(after.get(slot, ZERO), before[slot]) if slot in before else after[slot]
        count = steps.seen_count(seen, slot)
        counters.append(steps.take(rules, rules.counters[slot], count, now, change, change, caps.get(slot)))
    rev = rules.rev if isinstance(seen, Sight) else None if seen is None else seen.rev
    return GateWrite(
        subject=wanted.subject,
        rev=rev,
        new_rev=rules.rev,
        counters=tuple(counters),
        holds=(HoldWrite(wanted.key, old, hold.pack()),),
        max_holds=None if old is not None or wanted.forced or seen is None else MAX_HOLDS,
        money=funded.money,
        grants=funded.grants,
        grants_known=funded.grants_known,
    )


def expired_keys(gate: Gate, now: int, except_key: str = "", slot: int | None = None) -> tuple[str, ...]:
    """Up to 25 expired holds, oldest first; with `slot`, only such as keep units of that counter."""
    expired = sorted(
        (expiry_of(raw), key) for key, raw in gate.holds.items() if key != except_key and expiry_of(raw) <= now
    )
    found = []
    for _, key in expired:
        if slot is None or unpack(gate.holds[key]).units().get(slot, ZERO) > 0:
            found.append(key)
            if len(found) == RECLAIM_AT_ONCE:
                break
    return tuple(found)
