"""Prepaid credits: given, taken back, and the ledger that says where each of them went."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import dropwhile
from typing import Any, Protocol

from tollgate.accounts.rules import Rules
from tollgate.accounts.service import AccountDeps
from tollgate.clock import rfc3339, rfc3339_ms
from tollgate.errors import FieldError, IdempotencyKeyRequired, Invalid, UnknownMeter
from tollgate.gate.grants import claw_back, give
from tollgate.gate.hold import incarnation_of, unpack
from tollgate.gate.item import Gate
from tollgate.gate.joining import renumbered
from tollgate.gate.ports import GateDeps
from tollgate.gate.recurring import give_due
from tollgate.gate.shown import with_counters
from tollgate.http.answers import event_ids
from tollgate.http.credit_requests import CreditsIn
from tollgate.http.history import newest
from tollgate.http.idempotency import once
from tollgate.http.pages import cursor, page
from tollgate.http.requests import account_id, idempotency_key, parse
from tollgate.http.routing import Request, Response, Route, json_body
from tollgate.quantities import ZERO, plain, quantize
from tollgate.usage.grant import FOREVER, IDENTIFY, PLAN, Clawback, GrantRow, Pending, grant_id
from tollgate.usage.idempotency_store import IdempotencyTable
from tollgate.usage.ledger import Entry, Standing, balanced, balances, burns, fixed_entries
from tollgate.usage.markers import LAST_MS
from tollgate.usage.outcome import ACCOUNT, Event, counts_for
from tollgate.usage.store import EventTable

MAX_READ = 2000
"""Event rows looked at for one page: an account that burns few credits answers a short page and a cursor."""
RESERVED = frozenset({PLAN, IDENTIFY})
_PLAIN = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,12})?", re.ASCII)
_CURSOR = re.compile(r"\[.{1,2000}\]")


class CreditDeps(Protocol):
    """The part of the manage function's dependencies that these routes need."""

    @property
    def accounts(self) -> AccountDeps: ...
    @property
    def events(self) -> EventTable: ...
    @property
    def idempotency(self) -> IdempotencyTable: ...


def post_credits(deps: CreditDeps, request: Request) -> Response:
    """Give credits, or take them back. Repeating it under the same source's id changes nothing more."""
    rules = deps.accounts.rules.fresh(account_id(request.params["id"], "id"))
    raw = json_body(request)
    body = parse(CreditsIn, raw)
    key = idempotency_key(request.headers, body.idempotency_key)
    if key is None:
        raise IdempotencyKeyRequired
    gate, now_ms = deps.accounts.gate, deps.accounts.gate.clock()
    _check(rules, body)
    source_id = key if body.source_id is None else body.source_id
    with once(deps.idempotency, rules.account, "credits", key, raw, now_ms // 1000):
        if body.units < 0:
            assert body.refund_of is not None
            wanted = Pending(body.source, source_id, -body.units, ZERO, now_ms, body.reason)
            row, done = claw_back(gate, rules, body.meter, (body.source, body.refund_of), wanted)
            return Response(200, {"grant": _grant(row), "clawback": _clawback(done)})
        if gate.grants.by_source(rules.account, body.source, source_id) is None:
            _check_begins(body, now_ms // 1000)  # else it was given before that, and is asked for again
        row, new = give(gate, rules, _wanted(rules, body, source_id, now_ms))
    return Response(201 if new else 200, {"grant": _grant(row), "clawback": None})


def _check(rules: Rules, body: CreditsIn) -> None:
    if body.source in RESERVED:
        raise Invalid(f"`{body.source}` is a source of our own; name yours.", (FieldError("source", "reserved"),))
    meter = rules.meters.get(body.meter)
    if meter is None:
        raise UnknownMeter(body.meter, "meter")
    if not body.units:
        raise Invalid("Credits of 0 change nothing.", (FieldError("units", "zero"),))
    if quantize(body.units, meter.scale) != body.units:
        raise Invalid(
            f"`{meter.id}` counts {meter.scale} decimal places; send no more.", (FieldError("units", "too_precise"),)
        )
    if body.units < 0 and body.refund_of is None:
        raise Invalid("Say what is taken back: `refund_of`.", (FieldError("refund_of", "missing"),))
    if body.units > 0 and body.refund_of is not None:
        raise Invalid("`refund_of` goes with negative units.", (FieldError("refund_of", "conflict"),))
    if None not in (body.effective_at, body.expires_at) and (body.effective_at or 0) >= (body.expires_at or 0):
        raise Invalid("`expires_at` comes after `effective_at`.", (FieldError("expires_at", "range"),))


def _check_begins(body: CreditsIn, now: int) -> None:
    if body.expires_at is not None and body.expires_at // 1000 <= now:
        raise Invalid("`expires_at` lies in the past.", (FieldError("expires_at", "past"),))


def _wanted(rules: Rules, body: CreditsIn, source_id: str, now_ms: int) -> GrantRow:
    return GrantRow(
        account=rules.account,
        number=0,
        meter=body.meter,
        units=body.units,
        source=body.source,
        source_id=source_id,
        priority=body.priority,
        # Without a time they begin at 0, not now: the same body sent again asks for the same grant.
        starts=0 if body.effective_at is None else body.effective_at // 1000,
        ends=FOREVER if body.expires_at is None else body.expires_at // 1000,
        created_ms=now_ms,
        reason=body.reason,
    )


def _grant(row: GrantRow) -> dict[str, Any]:
    return {
        "id": grant_id(row.number),
        "meter": row.meter,
        "units": plain(row.units),
        "source": row.source,
        "source_id": row.source_id,
        "reason": row.reason,
        "priority": row.priority,
        "effective_at": rfc3339(max(row.starts, row.created_ms // 1000)),
        "expires_at": None if row.ends == FOREVER else rfc3339(row.ends),
        "created_at": rfc3339_ms(row.created_ms),
    }


def _clawback(done: Clawback) -> dict[str, Any]:
    """`short`: what had been used already, and could not be taken."""
    return {
        "source": done.source,
        "source_id": done.source_id,
        "units": plain(done.wanted),
        "taken": plain(done.taken),
        "short": plain(done.wanted - done.taken),
        "reason": done.reason,
    }


# -- the ledger --------------------------------------------------------------------------------------------------------


def get_ledger(deps: CreditDeps, request: Request) -> Response:
    """Every credit given, burned, taken back or expired, newest first; `meter` filters."""
    rules = deps.accounts.rules.fresh(account_id(request.params["id"], "id"))
    limit, sent = page(request, _CURSOR)
    gate_deps, now = deps.accounts.gate, deps.accounts.gate.clock() // 1000
    gate = with_counters(gate_deps, rules, gate_deps.gates.read(rules.account), None, ())
    gate = give_due(gate_deps, rules, gate)
    rows = gate_deps.grants.rows(rules.account)
    standings = _standings(gate)
    fixed = fixed_entries(rows, standings, now)
    last_ms, before, running = LAST_MS, None, balances(rows, standings, now)
    if sent is not None:
        last_ms, before, running = _continued(sent)
        fixed = [entry for entry in fixed if entry.place < before]
    read = _Counted(newest(deps.events, rules, 0, f"{last_ms:012x}/"))
    by_number = {row.number: row for row in rows}
    burned = burns(_settled(gate_deps, rules, iter(read), gate), by_number)
    if before is not None:
        burned = dropwhile(lambda entry: entry.place >= before, burned)
    data: list[dict[str, Any]] = []
    last: tuple[int, str] | None = None
    more = False
    wanted = request.query.get("meter")
    for entry in balanced(fixed, burned, running):
        unseen = read.stopped_at is not None and entry.place < read.stopped_at  # events between are not read yet
        if len(data) == limit or unseen:
            more = True
            break
        last = entry.place
        running = {**running, entry.meter: entry.balance - entry.units}
        if wanted is None or entry.meter == wanted:
            data.append(_entry(entry))
    if read.stopped_at is not None and len(data) < limit:
        more, last = True, read.stopped_at
    after = _after(last, running) if more and last is not None else None
    return Response(200, {"data": data, "next_cursor": after})


class _Counted:
    """Event rows, at most MAX_READ of them. `stopped_at`: the place of the last one, where there may be more."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self.stopped_at: tuple[int, str] | None = None

    def __iter__(self) -> Iterator[Event]:
        for seen, event in enumerate(self._events, 1):
            yield event
            if seen == MAX_READ:
                self.stopped_at = (event.at.origin_ms, f"e{event.at.key}")
                return


def _standings(gate: Gate | None) -> dict[int, Standing]:
    if gate is None:
        return {}
    held: dict[int, Decimal] = {}
    for raw in gate.holds.values():
        for part in unpack(raw).parts:
            if part.source >= 0:
                held[part.source] = held.get(part.source, ZERO) + part.units
    return {n: Standing(grant.unused, held.get(n, ZERO), grant.carried) for n, grant in gate.grants.items()}


def _settled(deps: GateDeps, rules: Rules, events: Iterator[Event], gate: Gate | None) -> Iterator[Event]:
    """Without events whose hold is still open: those credits count as held, and are burned once it is settled. And
    without those of an account that became this one that were settled before: they burned its credits there."""
    left: dict[str, Gate | None] = {}
    for event in events:
        home = event.at.account
        if _holds(gate, rules.hold_name(home, event.hold_key), event):
            continue
        if home != rules.account and not event.joined:
            if home not in left:
                left[home] = deps.gates.read(home)
            if not _holds(left[home], event.hold_key, event):
                continue
        yield renumbered(deps, rules, event)


def _holds(gate: Gate | None, name: str, event: Event) -> bool:
    raw = None if gate is None else gate.holds.get(name)
    return raw is not None and counts_for(event, ACCOUNT, event.hold_key, incarnation_of(raw))


def _continued(sent: str) -> tuple[int, tuple[int, str], dict[str, Decimal]]:
    try:
        at_ms, name, running = json.loads(sent)
        found = {str(meter): _balance(units) for meter, units in running.items()}
        return min(max(int(at_ms), 0), LAST_MS), (int(at_ms), str(name)), found
    except (ValueError, ArithmeticError, AttributeError, TypeError):
        raise Invalid("`cursor` is not one that a list returned.", (FieldError("cursor", "cursor"),)) from None


def _balance(text: str) -> Decimal:
    if not _PLAIN.fullmatch(text):
        raise ValueError(text)
    return Decimal(text)


def _after(place: tuple[int, str], running: dict[str, Decimal]) -> str:
    balances_then = {meter: plain(units) for meter, units in running.items()}
    return cursor(json.dumps([*place, balances_then], separators=(",", ":")))


def _entry(entry: Entry) -> dict[str, Any]:
    event = entry.event
    return {
        "at": rfc3339_ms(entry.at_ms),
        "type": entry.kind,
        "meter": entry.meter,
        "units": plain(entry.units),
        "balance": plain(entry.balance),
        "grant": grant_id(entry.grant.number),
        "event_id": None if event is None else event_ids(event)[entry.item],
        "member": entry.grant.member if event is None else event.member,
        "source": entry.source,
        "source_id": entry.source_id,
        "reason": entry.reason,
    }


ROUTES = (
    Route("POST", "/v1/accounts/{id}/credits", ("admin",), post_credits, "postCredits"),
    Route("GET", "/v1/accounts/{id}/ledger", ("read",), get_ledger, "getLedger"),
)
