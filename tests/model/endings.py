"""The reference's commit, release, extend and usage: how reservations end, over `reference.Account`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Literal, NamedTuple

from tests.model.reference import (
    FORCED_S,
    LINGER_S,
    NEVER,
    RECLAIM_AT_ONCE,
    ZERO,
    Account,
    Binding,
    Counter,
    Failed,
    GateState,
    Hold,
    Recorded,
    Shown,
    Ticket,
    Used,
    Voided,
    by_meter,
    counter_of,
    maximum_of,
    shrinks,
)
from tests.model.shapes import Asked


class Done(NamedTuple):
    """An answered commit. `shown`: its limits under the revision that the process answers from."""

    event: Recorded
    duplicate: bool
    shown: Callable[[int], tuple[Shown, ...]]


class Sent(NamedTuple):
    """A commit as sent. `known`: the revision that the process knows; it weighs under that one."""

    body: Sequence[Asked] | None
    cached: bool
    known: int
    commit_key: str | None
    digest: bytes


def weighed(bound: Binding, ticket: Ticket, sent: Sent) -> tuple[Used, ...]:
    items = bound.weigh(ticket.body if sent.body is None else tuple(sent.body))
    return tuple(Used(item.meter, ZERO, item.dims) if sent.cached else item for item in items)


def commit(
    account: Account,
    now_ms: int,
    ticket: Ticket,
    sent: Sent,
    row_incs: Mapping[str, bytes],
    cut: Literal["before the row", "after the row"] | None = None,
) -> Done | Failed:
    """`row_incs`: the incarnations in the product's row (a hold made by the commit itself has a new one).
    `cut`: where the process died; what it got done on the gates is left to whoever looks at them."""
    now, bound = now_ms // 1000, account.bound(sent.known)
    items = weighed(bound, ticket, sent)
    there = account.outcomes.get(ticket.key)
    try:
        over, made = _cover(account, now, ticket, bound, items)
        if isinstance(there, Voided) and there.blocks(ticket.incs) and cut is None:
            # The late commit looks at the gates, which tell of newer rules.
            _, made = _cover(account, now, ticket, account.now_bound, items)
    except InTheWay:
        return Failed("busy")
    incs = dict(ticket.incs)
    if made is not None:
        incs["member"] = made or row_incs.get("member", b"\xff" * 16)
    if cut == "before the row":
        return Failed(cut)
    if isinstance(there, Recorded):
        event, duplicate = there, True
    else:
        gone = any(account.own(ticket, per) is None for per in ticket.incs)
        late = there is not None and there.blocks(incs) and gone
        event = Recorded(
            ticket.key, ticket.member, items, max(now, ticket.floor), incs, sent.digest, bound.plan.version,
            sent.commit_key, late, over,
        )  # fmt: skip
        account.outcomes[ticket.key] = event
        duplicate = False
        if cut is not None:
            return Done(event, False, lambda rev: ())
    gates = [account.gate(None if per == "account" else ticket.member) for per in sorted({*ticket.incs, *incs})]
    for gate in gates:
        hold = gate.holds.get(ticket.key)
        mine = hold is not None and hold.inc == incs[gate.per]
        if event.incs.get(gate.per) == incs[gate.per]:
            if mine or not duplicate:
                _settle_beside(account, gate, event, now, mine)
        elif mine:
            del gate.holds[ticket.key]
    if duplicate and sent.commit_key is not None and event.commit_key == sent.commit_key and event.body != sent.digest:
        return Failed("idempotency_mismatch")
    begin_shown(account, gates, items, now)
    return Done(event, duplicate, lambda rev: _shown(account, rev, gates, items, now))


def begin_shown(account: Account, gates: Sequence[GateState], items: Sequence[Used], now: int) -> None:
    """Counters that the answer's limits need begin before they are shown, under the rules that the process knows."""
    for gate in gates:
        limits = account.bound(account.known).limits_for(items, gate.per)
        account.seed_where_needed(gate, [counter_of(limit) for limit in limits], now)


def _shown(
    account: Account, rev: int, gates: Sequence[GateState], items: Sequence[Used], now: int
) -> tuple[Shown, ...]:
    return tuple(one for gate in reversed(gates) for one in account.show(account.bound(rev), gate, items, now))


def _settle_beside(account: Account, gate: GateState, event: Recorded, now: int, mine: bool) -> None:
    """Settle on a gate; another incarnation's hold under the same key stays."""
    other = None if mine else gate.holds.get(event.key)
    account.settle(gate, event, now)
    if other is not None:
        gate.holds[event.key] = other


def _cover(
    account: Account, now: int, ticket: Ticket, bound: Binding, items: Sequence[Used]
) -> tuple[bool, bytes | None]:
    """Before the row, holds grow to what was used. Returns whether that is more than was held; and, where the member's
    gate takes part though the reservation had nothing there, the hold of this key there (b"" for a new one)."""
    over, made = False, None
    for per in ("account", "member"):
        if per == "member" and ticket.member is None:
            continue
        wanted = bound.on_counters(items, per, jobs=False)
        gate = account.gate(None if per == "account" else ticket.member)
        if per not in ticket.incs:
            if wanted:
                account.seed_where_needed(gate, wanted, now)
                made = _hold_anyhow(account, gate, ticket, wanted, items, now)
            continue
        said = ticket.units[per]
        if any(units > said.get(counter, ZERO) for counter, units in wanted.items()):
            bound = account.now_bound  # the gate tells of newer rules, and the member's gate is asked under those
            hold = account.own(ticket, per)
            lacking = {} if hold is None else _lacking(hold, wanted)
            if hold is not None and lacking:
                account.seed_where_needed(gate, lacking, now)
                lacking = _lacking(hold, wanted)
            if hold is not None and lacking:
                _grow(hold, wanted, items)
                hold.expires_at = max(hold.expires_at, now + LINGER_S)
                account.enter(gate, lacking, now)
                over = True
        elif per == "account":
            used = by_meter(item for item in items if not bound.on_counters([item], per, jobs=False))
            over = any(units > ticket.by_meter.get(meter, ZERO) for meter, units in used.items())
    return over, made


class InTheWay(Exception):
    """A try of another body under this key died here and left a hold: busy, until that expires."""


def _hold_anyhow(
    account: Account,
    gate: GateState,
    ticket: Ticket,
    wanted: Mapping[Counter, Decimal],
    items: Sequence[Used],
    now: int,
) -> bytes:
    """A gate that took no part in the reservation now counts its usage: on the hold of this key that is there, which
    grows, else on a new one (b"", ended by the same call)."""
    hold = gate.holds.get(ticket.key)
    if hold is not None and hold.expires_at > now and hold.body != ticket.digest:
        raise InTheWay
    if hold is not None and hold.expires_at <= now and (hold.body != ticket.digest or shrinks(hold, wanted)):
        account.reclaim(gate, hold, now)
        hold = None
    if hold is None:
        account.enter(gate, wanted, now)
        return b""
    if hold.expires_at <= now:
        hold.expires_at, hold.by_meter = now + FORCED_S, by_meter(items)
        account.enter(gate, wanted, now)
    elif _lacking(hold, wanted):
        hold.expires_at = max(hold.expires_at, now + LINGER_S)
        account.enter(gate, _lacking(hold, wanted), now)
    _grow(hold, wanted, items)
    return hold.inc


def _lacking(hold: Hold, wanted: Mapping[Counter, Decimal]) -> dict[Counter, Decimal]:
    return {c: units - hold.units.get(c, ZERO) for c, units in wanted.items() if units > hold.units.get(c, ZERO)}


def _grow(hold: Hold, wanted: Mapping[Counter, Decimal], items: Sequence[Used]) -> None:
    hold.units = {counter: units for counter, units in hold.units.items() if units or counter in wanted}
    for counter, units in wanted.items():
        hold.units[counter] = max(units, hold.units.get(counter, ZERO))
    for meter, units in by_meter(items).items():
        hold.by_meter[meter] = max(units, hold.by_meter.get(meter, ZERO))


def release(
    account: Account, now_ms: int, ticket: Ticket, known: int, release_key: str | None, cut: bool = False
) -> tuple[Shown, ...] | Failed:
    now = now_ms // 1000
    there = account.void(ticket.key, ticket.incs, "released", release_key)
    if cut:
        return Failed("cut")
    for gate in account.subjects(ticket):
        hold = account.own(ticket, gate.per)
        if hold is None:
            continue
        if gate.recounting:  # finished first, while the hold still stands
            account.seed_where_needed(gate, (), now)
        if isinstance(there, Recorded) and there.incs.get(gate.per) == hold.inc:
            account.settle(gate, there, now)
        else:
            del gate.holds[ticket.key]
    if isinstance(there, Recorded):
        return Failed("already_committed")
    if (
        isinstance(there, Voided)
        and there.why == "released"
        and (release_key is None or there.release_key != release_key)
    ):
        return Failed("already_released")
    begin_shown(account, account.subjects(ticket), ticket.items, now)
    return _shown(account, known, account.subjects(ticket), ticket.items, now)


class Longer(NamedTuple):
    """An answered extend. `code`: why it was refused."""

    expires_at: int
    code: str | None
    limit: str | None
    requested: Decimal | None
    remaining: Decimal | None
    shown: tuple[Shown, ...]


def extend(
    account: Account, now_ms: int, ticket: Ticket, expires_at: int | None, body: Sequence[Asked] | None
) -> Longer | Failed:
    now, bound = now_ms // 1000, account.now_bound
    account.known = account.rev  # both gates are asked under the newest rules
    items = None if body is None else bound.weigh(tuple(body))
    shown_items = ticket.items if items is None else items
    undo: list[tuple[Hold, dict[Counter, Decimal], dict[str, Decimal], int]] = []
    expiry = 0
    for gate in reversed(account.subjects(ticket)):
        hold = account.own(ticket, gate.per)
        if hold is None:
            _take_back(undo)
            committed = isinstance(account.outcomes.get(ticket.key), Recorded)
            return Failed("already_committed" if committed else "already_released")
        wanted = {} if items is None else bound.on_counters(items, gate.per, jobs=True)
        if gate.recounting:
            account.seed_where_needed(gate, (), now)
        if any(units > hold.units.get(counter, ZERO) for counter, units in wanted.items()):
            account.seed_where_needed(gate, _lacking(hold, wanted), now)
        lacking = _lacking(hold, wanted)
        block: tuple[str, str | None, Decimal | None, Decimal | None] | None = None
        later = hold.expires_at if expires_at is None else max(hold.expires_at, expires_at)
        changed: set[Counter] = set()
        if lacking or later != hold.expires_at:
            changed = set(lacking) | (set(hold.units) if hold.expires_at <= now else set())
            if bound.frozen is not None and (lacking or hold.expires_at <= now):
                block = ("frozen", None, None, None)
            else:
                block = _fits(account, gate, hold, changed, lacking, now)
        if block is not None:
            _take_back(undo)
            begin_shown(account, [gate], shown_items, now)
            return Longer(hold.expires_at, *block, account.show(bound, gate, shown_items, now))
        if lacking or later != hold.expires_at:
            undo.append((hold, dict(hold.units), dict(hold.by_meter), hold.expires_at))
            account.enter(gate, changed, now)
            if lacking:
                assert items is not None
                _grow(hold, wanted, items)
            hold.expires_at = later
        expiry = hold.expires_at
    gates = account.subjects(ticket)
    begin_shown(account, gates[::-1], shown_items, now)
    return Longer(expiry, None, None, None, None, _shown(account, account.rev, gates, shown_items, now))


def _take_back(undo: Sequence[tuple[Hold, dict[Counter, Decimal], dict[str, Decimal], int]]) -> None:
    for hold, units, meters, expires_at in undo:
        hold.units, hold.by_meter, hold.expires_at = units, meters, expires_at


def _fits(
    account: Account, gate: GateState, hold: Hold, changed: set[Counter], more: Mapping[Counter, Decimal], now: int
) -> tuple[str, str | None, Decimal | None, Decimal | None] | None:
    """The limit that the extension does not fit: the one that resets last. Expired holds in its way are reclaimed."""
    bound = account.now_bound
    while True:
        worst: tuple[int, str, Decimal, Decimal, Counter] | None = None
        for limit in bound.plan.limits:
            counter, most = counter_of(limit), maximum_of(limit)
            if limit.per != gate.per or counter not in changed:
                continue
            taken, asked = account.taken(gate, counter, now), more.get(counter, ZERO)
            if taken + asked <= most:
                continue
            end = account.view(gate, counter, now, bound)[1]
            resets = NEVER if end is None else end
            if worst is None or resets > worst[0]:
                worst = (resets, limit.id, asked, max(most - taken, ZERO), counter)
        if worst is None:
            return None
        in_way = [h for h in gate.expired(now) if h is not hold and h.units.get(worst[4], ZERO) > 0]
        if not in_way:
            return ("limit_reached", worst[1], worst[2], worst[3])
        for one in in_way[:RECLAIM_AT_ONCE]:
            account.reclaim(gate, one, now)


class Report(NamedTuple):
    """One usage event as sent."""

    id: str
    member: str | None
    one: Asked
    cached: bool
    digest: bytes


class Result(NamedTuple):
    status: str
    units: Decimal | None
    code: str | None
    over: dict[int, tuple[str, ...]]
    """By the revision that the process answers from."""


def record(account: Account, now_ms: int, reports: Sequence[Report], known: int) -> list[Result]:
    now, bound = now_ms // 1000, account.bound(known)
    results: dict[int, Result] = {}
    taken: list[tuple[int, Report, Used]] = []
    for index, report in enumerate(reports):
        item = bound.weigh((report.one,))[0]
        if report.cached:
            item = Used(item.meter, ZERO, item.dims)
        needs = [limit for limit in bound.limits_for([item], "member") if limit.concurrent is None]
        if needs and report.member is None:
            results[index] = Result("rejected", None, "member_required", {})
        else:
            taken.append((index, report, item))
    if not taken:
        return [results[index] for index in range(len(reports))]
    floor = 0
    members = sorted({r.member for _, r, i in taken if r.member and bound.on_counters([i], "member", jobs=True)})
    gates = [account.gate(None), *(account.gate(member) for member in members)]
    for gate in gates:
        items = [item for _, report, item in taken if gate.member is None or report.member == gate.member]
        # The account's gate comes first and tells of newer rules; the members' holds are made under those.
        on = (bound if gate.member is None else account.now_bound).on_counters(items, gate.per, jobs=False)
        account.seed_where_needed(gate, on, now)
        account.enter(gate, on, now)
        floor = max([floor, *(gate.windows[counter] for counter in on)])
    new: list[tuple[int, Report, Used]] = []
    for index, report, item in taken:
        there = account.usage.get(report.id)
        if there is None:
            event = Recorded(
                f"usage {report.id}", report.member, (item,), max(now, floor), {}, report.digest, bound.plan.version
            )
            account.usage[report.id] = event
            new.append((index, report, item))
        elif there.body == report.digest:
            results[index] = Result("duplicate", there.units, None, {})
        else:
            results[index] = Result("rejected", None, "idempotency_mismatch", {})
    for _, report, _ in new:
        for member in dict.fromkeys((None, report.member)):
            account.settle(account.gate(member), account.usage[report.id], now)
    for index, report, item in new:
        over: dict[int, tuple[str, ...]] = {}
        for rev in sorted({known, account.rev}):
            then = account.bound(rev)
            own = report.member is not None and any(
                limit.concurrent is None for limit in then.limits_for([item], "member")
            )
            if rev == account.rev:
                account.known = rev
                begin_shown(account, [account.gate(member) for member in (None, report.member)[: 1 + own]], [item], now)
            narrow = account.show(then, account.gate(report.member), [item], now) if own else ()
            wide = account.show(then, account.gate(None), [item], now)
            over[rev] = tuple(one.id for one in (*narrow, *wide) if one.used + one.held > one.maximum)
        results[index] = Result("recorded", item.units, None, over)
    return [results[index] for index in range(len(reports))]


__all__ = ["Done", "Longer", "Report", "Result", "Sent", "commit", "extend", "record", "release"]
