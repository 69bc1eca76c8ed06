"""Usage without a reservation: it has happened, so no cap refuses it.

The same path as reserve and commit, forced: for each request, account and gate one hold under a random token, rows that
carry the token, and a settle that counts only the rows this request put. What a crash leaves: before the holds, dedupe
rows; after them, holds that expire long after the function is dead: whoever reclaims them settles the rows that
carry their token. The caller repeats the request, and ids that are recorded count once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

from tollgate.accounts.rules import MOST_COUNTERS, ONE_PER_RESERVATION, Group, Item, Rules, by_slot
from tollgate.errors import IdempotencyMismatch, MemberRequired, QuantityTooLarge, TollgateError
from tollgate.gate.ending import end_hold
from tollgate.gate.force import take_forced
from tollgate.gate.hold import Hold
from tollgate.gate.item import Gate
from tollgate.gate.limits import Taken, states
from tollgate.gate.parts import Split, Splitter
from tollgate.gate.ports import GateDeps, subject_of
from tollgate.gate.reserve import trip_if_over
from tollgate.gate.shown import known_to, with_counters
from tollgate.gate.used import used_item
from tollgate.ids import key_hash
from tollgate.quantities import ZERO
from tollgate.usage.outcome import ACCOUNT, MEMBER, Event, OutcomeKey

OUTLIVES_FUNCTION_S = 900
"""Expiry of a batch's hold: Lambda's longest timeout, so its function is dead when it is reclaimed."""


class Reported(NamedTuple):
    """One usage event as sent. `origin_ms`: the time inside a UUIDv7 id, else None."""

    id: str
    key: str
    origin_ms: int | None
    fingerprint: bytes
    account: str
    member: str | None
    meter: str
    quantity: Decimal
    dimensions: Mapping[str, str]
    occurred_ms: int | None = None
    cached: bool = False
    provider_cost: Decimal | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """`status`: recorded, duplicate or rejected (then `error` says why)."""

    id: str
    status: str
    units: Decimal | None = None
    waived: Decimal | None = None
    over_limits: tuple[str, ...] = ()
    error: TollgateError | None = None


def record(deps: GateDeps, events: Sequence[Reported]) -> list[Recorded]:
    """Record a batch; results in the order sent. One bad event spoils no other. Raises Busy."""
    results: dict[int, Recorded] = {}
    by_account: dict[str, list[int]] = {}
    for index, event in enumerate(events):
        by_account.setdefault(event.account, []).append(index)
    for account, indexes in by_account.items():
        _record_account(deps, account, [(index, events[index]) for index in indexes], results)
    return [results[index] for index in range(len(events))]


@dataclass(frozen=True, slots=True)
class _Weighed:
    index: int
    event: Reported
    item: Item
    origin_ms: int
    member: str | None
    """The member whose gate counts it, where one does."""


def _record_account(
    deps: GateDeps, account: str, events: Sequence[tuple[int, Reported]], results: dict[int, Recorded]
) -> None:
    try:
        rules = deps.rules.get(account, lambda rules: _accept(rules, events))
    except _NoneFits as none:
        for index, event in events:
            results[index] = Recorded(event.id, "rejected", error=none.errors[index])
        return
    except TollgateError as error:
        for index, event in events:
            results[index] = Recorded(event.id, "rejected", error=error)
        return
    now_ms = deps.clock()
    weighed: list[_Weighed] = []
    for index, event in events:
        try:
            weighed.append(_weigh(deps, rules, index, event, now_ms))
        except TollgateError as error:
            results[index] = Recorded(event.id, "rejected", error=error)
    if not weighed:
        return
    if rules.own_seats and len({one.event.member for one in weighed}) > 1:
        # A hold has one payer's seat, so each member's usage is a batch of its own.
        for member in dict.fromkeys(one.event.member for one in weighed):
            own = [(one.index, one.event) for one in weighed if one.event.member == member]
            _record_account(deps, account, own, results)
        return
    narrow = _narrow(rules, weighed)
    if len(narrow) > 1:
        for batch in narrow:
            _record_account(deps, account, [(one.index, one.event) for one in batch], results)
        return
    token = key_hash("token", deps.incarnate(now_ms).hex())
    try:
        holds, floor_ms, held_by, newest = _hold(deps, rules, account, token, weighed, now_ms)
    except QuantityTooLarge as error:
        # What it comes to has more digits than the store: one event spoils no other, so each is tried alone.
        if len(weighed) == 1:
            results[weighed[0].index] = Recorded(weighed[0].event.id, "rejected", error=error)
        else:
            for one in weighed:
                _record_account(deps, account, [(one.index, one.event)], results)
        return
    now_ms = max(now_ms, floor_ms)
    deps.markers.ensure(account, now_ms, {one.origin_ms for one in weighed})
    taken, past = _count_shared(deps, rules, [one.item for one in weighed])
    call = deps.nonce()
    share = Splitter(holds[None].parts)
    new: list[Event] = []
    put: dict[int, Event] = {}
    keys: set[str] = set()
    for one in weighed:
        slot = held_by.row.meters.index(one.item.meter)
        row = _row(rules, one, holds, share.take(slot, one.item.units, keep=True), token, now_ms, call)
        row = replace(row, joined=held_by.account != account)
        there = deps.outcomes.put_event(row)
        if there is None or (isinstance(there, Event) and there.call == call and one.event.key not in keys):
            share.take(slot, one.item.units)
            new.append(row)  # put now, or by this very call and its answer lost inside the SDK
            put[one.index] = row
            keys.add(one.event.key)
        elif isinstance(there, Event) and there.fingerprint == row.fingerprint:
            results[one.index] = Recorded(one.event.id, "duplicate", there.units, there.waived)
        else:
            results[one.index] = Recorded(one.event.id, "rejected", error=IdempotencyMismatch())
    if taken and len(new) < len(weighed):
        from tollgate.gate import shared

        fresh = [one.item for one in weighed if one.index in put]
        shared.give_unused_back(deps, rules, taken, [one.item for one in weighed], fresh)
    if deps.clock() - now_ms >= deps.seal_grace_ms // 2:
        deps.markers.ensure(account, now_ms, {one.origin_ms for one in weighed}, again=True)
    gates: dict[str | None, Gate | None] = {}
    for member, hold in holds.items():
        per = ACCOUNT if member is None else MEMBER
        # Of a member's rows only those that took part in its hold: the others were weighed under rules without it.
        counted = [row for row in new if (member is None or row.member == member) and per in row.incarnations]
        gates[member] = end_hold(
            deps, newest, account, per, member, token, hold.incarnation, counted, guess=hold.pack()
        )
    newest = known_to(deps, newest, account, gates.values())
    cost = sum((row.provider_cost for row in new if row.provider_cost is not None), ZERO)
    if cost:
        deps.breaker().spent(cost)
    trip_if_over(deps, newest, gates.get(None), [one.item for one in weighed])
    for one in weighed:
        if one.index in put:
            row = put[one.index]
            over = _over_limits(deps, newest, one, gates)
            if past:
                over += _over_shared(rules, one.item, past, now_ms)
            results[one.index] = Recorded(one.event.id, "recorded", row.units, row.waived, over)


def _narrow(rules: Rules, weighed: Sequence[_Weighed]) -> list[list[_Weighed]]:
    """Batches that one write can count, by meter where they are several."""
    if len(rules.counters) <= MOST_COUNTERS:
        return [list(weighed)]
    found: list[list[_Weighed]] = []
    met: list[set[int]] = []
    for one in sorted(weighed, key=lambda one: one.item.meter):
        slots = [set(by_slot(rules.groups([one.item], per))) for per in (ACCOUNT, MEMBER)]
        if found and all(len(own | more) <= MOST_COUNTERS for own, more in zip(met, slots, strict=True)):
            found[-1].append(one)
            met = [own | more for own, more in zip(met, slots, strict=True)]
        else:
            found.append([one])
            met = slots
    return found


def _count_shared(deps: GateDeps, rules: Rules, items: Sequence[Item]) -> tuple[list[Taken], frozenset[str]]:
    """Count on the limits that accounts share, before the rows: a crash in between counts too much. Returns what was
    counted, and the counters that are past their maximum."""
    if not rules.plan.shared_limits:
        return [], frozenset()
    from tollgate.gate import shared  # with the first such plan: the gate starts without it
    from tollgate.gate.shares import wanted

    return shared.force(deps, wanted(rules, items, deps.clock() // 1000))


def _over_shared(rules: Rules, item: Item, past: frozenset[str], now_ms: int) -> tuple[str, ...]:
    from tollgate.gate.shares import wanted

    return tuple(share.limit.id for share in wanted(rules, [item], now_ms // 1000) if share.base in past)


class _NoneFits(Exception):
    """No event of an unknown account can be recorded under the default plan."""

    def __init__(self, errors: Mapping[int, TollgateError]) -> None:
        self.errors = errors


def _accept(rules: Rules, events: Sequence[tuple[int, Reported]]) -> None:
    """Raises _NoneFits where every event would be rejected."""
    errors: dict[int, TollgateError] = {}
    for index, event in events:
        try:
            _measured(rules, event)
        except TollgateError as error:
            errors[index] = error
    if len(errors) == len(events):
        raise _NoneFits(errors)


def _measured(rules: Rules, event: Reported) -> tuple[Item, bool]:
    """What an event counts, and whether its member's gate takes part. Raises UnknownMeter, QuantityTooLarge,
    MemberRequired, TooManyCounters."""
    item = rules.item(event.meter, event.quantity, event.dimensions)
    rules.check_width([item])
    if event.cached:
        item = Item(item.meter, item.quantity, Decimal(0), item.dimensions)
    # Open reservations are no concern of usage that has happened.
    limits = [ruled for ruled in rules.limits_for([item], "member") if ruled.limit.concurrent is None]
    if limits and event.member is None:
        raise MemberRequired(limits[0].limit.id)
    return item, event.member is not None and any(group.slots for group in rules.groups([item], MEMBER))


def _weigh(deps: GateDeps, rules: Rules, index: int, event: Reported, now_ms: int) -> _Weighed:
    item, counted = _measured(rules, event)
    origin = event.origin_ms
    if origin is None:
        origin = deps.outcomes.origin(event.account, event.key, now_ms)
    return _Weighed(index, event, item, origin, event.member if counted else None)


def _hold(
    deps: GateDeps, rules: Rules, account: str, token: str, weighed: Sequence[_Weighed], now_ms: int
) -> tuple[dict[str | None, Hold], int, Rules, Rules]:
    """One forced hold on the account gate (None) and on each member gate that takes part; the start (ms) of the
    latest window they were counted in, before which nothing of them may be recorded; the rules by whose slots the
    account's hold is; and the rules in force in the end (the holds may name counters that older rules do not know)."""
    floor = 0
    held_by: Rules | None = None
    origins = [one.origin_ms for one in weighed]
    holds: dict[str | None, Hold] = {}
    members = sorted({one.member for one in weighed if one.member is not None})
    everyone = {one.event.member for one in weighed}
    payer = everyone.pop() if len(everyone) == 1 else None
    for member in (None, *members):
        per = ACCOUNT if member is None else MEMBER
        items = [one.item for one in weighed if member is None or one.member == member]
        hold = Hold(
            incarnation=deps.incarnate(now_ms),
            expires_at=now_ms // 1000 + OUTLIVES_FUNCTION_S,
            origin_ms=now_ms,
            fingerprint=deps.nonce(),
            groups=(),
            id_range=(min(origins), max(origins)),
            keyed=False,
        )
        needed = partial(_counting, items=items, per=per)
        of = payer if member is None else member
        holds[member], gate, rules = take_forced(deps, rules, account, per, of, token, hold, needed)
        held_by = held_by or rules
        for slot in holds[member].units():
            floor = max(floor, gate.counts[slot].window)
    assert held_by is not None
    return holds, floor * 1000, held_by, rules


def _counting(rules: Rules, items: Sequence[Item], per: str) -> tuple[Group, ...]:
    return tuple(group for group in rules.groups(items, per) if group.meter_slot != ONE_PER_RESERVATION)


def _row(
    rules: Rules,
    one: _Weighed,
    holds: Mapping[str | None, Hold],
    split: Split,
    token: str,
    now_ms: int,
    call: bytes,
) -> Event:
    event = one.event
    incarnations = {ACCOUNT: holds[None].incarnation}
    if one.member is not None:
        incarnations[MEMBER] = holds[one.member].incarnation
    return Event(
        at=OutcomeKey(event.account, one.origin_ms, event.key),
        incarnations=incarnations,
        recorded_ms=now_ms,
        items=(used_item(one.item, split),),
        member=event.member,
        plan=rules.plan.id,
        plan_version=rules.plan.version,
        occurred_ms=event.occurred_ms,
        cached=event.cached,
        provider_cost=event.provider_cost,
        metadata=event.metadata,
        usage_id=event.id,
        token=token,
        fingerprint=event.fingerprint,
        call=call,
    )


def _over_limits(deps: GateDeps, rules: Rules, one: _Weighed, gates: dict[str | None, Gate | None]) -> tuple[str, ...]:
    """The limits that are past their maximum with this usage. `gates`: as the batch left them; a member's that newer
    rules limit, and that took no part, is read and added."""
    now = deps.clock() // 1000
    found: list[str] = []
    for per, member in ((MEMBER, one.event.member), (ACCOUNT, None)):
        limits = rules.limits_for([one.item], per)
        if per == MEMBER and (member is None or all(ruled.limit.concurrent is not None for ruled in limits)):
            continue
        if member not in gates:
            gates[member] = deps.gates.read(subject_of(rules.account, per, member))
        gates[member] = with_counters(deps, rules, gates[member], member, limits)
        shown = states(rules, limits, gates[member], member, now)
        found += [state.ruled.limit.id for state in shown if state.over]
    return tuple(found)
