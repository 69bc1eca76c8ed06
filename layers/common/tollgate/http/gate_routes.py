"""The request-time calls: reservations and usage. Each handler parses, calls one service, answers."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

from tollgate.accounts.rules import Item, Rules
from tollgate.clock import rfc3339
from tollgate.errors import FieldError, IdempotencyMismatch, Invalid, ReservationTooLarge, TollgateError
from tollgate.gate.commit import Commit, Committed, commit
from tollgate.gate.ending import outcome_at
from tollgate.gate.extend import Extended, extend
from tollgate.gate.hold import Hold, incarnation_of, unpack
from tollgate.gate.ports import GateDeps, subject_of
from tollgate.gate.record import Recorded, Reported, record
from tollgate.gate.release import release
from tollgate.gate.reservation_id import Reservation, decode, encode
from tollgate.gate.reserve import Asked, Denied, Granted, denied_by_share, reserve
from tollgate.gate.shown import with_counters
from tollgate.http import answers, refusals
from tollgate.http.idempotency import digest, once
from tollgate.http.requests import (
    CommitIn,
    EventIn,
    ExtendIn,
    Measured,
    ReleaseIn,
    ReservationIn,
    UsageIn,
    UsedItemIn,
    idempotency_key,
    parse,
)
from tollgate.http.routing import Request, Response, Route, json_body
from tollgate.ids import key_hash, uuid7_time_of, uuid_text
from tollgate.quantities import ZERO, plain
from tollgate.usage.idempotency_store import IdempotencyTable
from tollgate.usage.outcome import ACCOUNT, Event, Outcome

MAX_AGE_MS = 35 * 86_400_000
MAX_AHEAD_MS = 5 * 60_000
ALWAYS_FITS = 1_000
"""Characters of dimensions that need no closer look."""
MAX_PACKED_DIMENSIONS = 3_600
"""Bytes of compressed dimensions: 4,800 of the 7,000 characters of an id; the rest of it never needs 2,200."""


class GateApiDeps(NamedTuple):
    gate: GateDeps
    idempotency: IdempotencyTable
    secret: bytes
    """Signs reservation ids."""


# -- reserve ---------------------------------------------------------------------------------------------------------


def post_reservation(deps: GateApiDeps, request: Request) -> Response:
    raw = json_body(request)
    body = parse(ReservationIn, raw)
    wanted = body.wanted()
    key = idempotency_key(request.headers, body.idempotency_key)
    _check_fits(wanted)
    now_ms = deps.gate.clock()
    name = uuid_text(deps.gate.incarnate(now_ms)) if key is None else key
    asked = Asked(
        account=body.account,
        member=body.member,
        key=key_hash("reservation", name),
        origin_ms=uuid7_time_of(name),
        fingerprint=digest(raw),
        ttl_seconds=body.ttl_seconds,
        weigh=_weighed(wanted, single=body.items is None),
    )
    found = reserve(deps.gate, asked)
    if isinstance(found, Denied):
        before = _recorded_before(deps, asked) if body.commit and key is not None else None
        return before or Response(200, _counted(deps, refusals.denied(found, deps.gate.clock() // 1000)))
    reservation = _reservation(found)
    answer = answers.granted(found, encode(reservation, deps.secret))
    if body.commit:
        done = commit(deps.gate, Commit(reservation, lambda rules: found.items, fingerprint=digest(raw)))
        if done.duplicate and done.event.fingerprint != digest(raw):
            raise IdempotencyMismatch  # the key is spent; the hold of this call is given back by the commit
        answer |= answers.committed(done)
    return Response(201, answer)


def post_estimate(deps: GateApiDeps, request: Request) -> Response:
    """The answer of a reservation in advance, with its cost; nothing is reserved."""
    from tollgate.gate.estimate import estimate  # with the first one: most gates answer none

    body = parse(ReservationIn, json_body(request))
    wanted = body.wanted()
    idempotency_key(request.headers, body.idempotency_key)  # checked, and not needed: nothing is written
    found = estimate(deps.gate, body.account, body.member, _weighed(wanted, single=body.items is None))
    answer: dict[str, Any] = {
        "units": plain(found.units),
        "cost": plain(found.quote.cost),
        "currency": found.rules.plan.currency,
        "funding": {
            "included": plain(found.quote.included),
            "credits": plain(found.quote.credits),
            "overage": plain(found.quote.overage),
        },
        "allowed": found.denied is None,
    }
    if found.denied is not None:
        answer["denial"] = refusals.denial(found.denied, deps.gate.clock() // 1000)
    return Response(200, answer)


def _counted(deps: GateApiDeps, answer: dict[str, Any]) -> dict[str, Any]:
    """A refusal, counted by the limit that made it; where none did, by its code. Both are the catalogue's and ours: no
    account adds any."""
    denial = answer["denial"]
    deps.gate.count("Refusals", denial["limit"] or denial["code"], 1)
    return answer


def _recorded_before(deps: GateApiDeps, asked: Asked) -> Response | None:
    """The first answer again, where this very call (reserve and commit in one) was recorded and the cap is now used
    up, perhaps by itself: a lost answer must not turn into a refusal. Raises IdempotencyMismatch."""
    event = deps.gate.outcomes.find(asked.account, asked.key, asked.origin_ms)
    if not isinstance(event, Event):
        return None
    if event.fingerprint != asked.fingerprint:
        raise IdempotencyMismatch
    rules = deps.gate.rules.get(asked.account)
    holds = {
        per: Hold(
            incarnation, event.recorded_s, event.at.origin_ms, asked.fingerprint, (), keyed=asked.origin_ms is not None
        )
        for per, incarnation in event.incarnations.items()
    }
    items = [Item(item.meter, item.quantity, item.units, item.dimensions) for item in event.items]
    again = Granted(rules, asked, items, holds, event.recorded_ms, ())
    done = Committed(event, duplicate=True, limits=())
    return Response(201, answers.granted(again, encode(_reservation(again), deps.secret)) | answers.committed(done))


def _check_fits(wanted: Sequence[Measured]) -> None:
    """Refuse dimensions that no reservation id can carry before anything is held. Raises ReservationTooLarge."""
    if sum(len(name) + len(text) for one in wanted for name, text in one.dimensions.items()) <= ALWAYS_FITS:
        return
    text = json.dumps([one.dimensions for one in wanted], separators=(",", ":"), ensure_ascii=False)
    if len(zlib.compress(text.encode(), 6)) > MAX_PACKED_DIMENSIONS:
        raise ReservationTooLarge


def _weighed(wanted: Sequence[Measured], *, single: bool) -> Callable[[Rules], list[Item]]:
    def weigh(rules: Rules) -> list[Item]:
        found = [
            rules.item(one.meter, one.quantity, one.dimensions, "meter" if single else f"items.{index}.meter")
            for index, one in enumerate(wanted)
        ]
        rules.check_width(found)
        return found

    return weigh


def _reservation(found: Granted) -> Reservation:
    asked = found.asked
    member = asked.member
    holds = {per: hold.pack() for per, hold in found.holds.items()}
    return Reservation(asked.account, member, asked.key, holds, found.floor_ms, tuple(found.items), found.taken)


# -- commit, release, extend, get ------------------------------------------------------------------------------------


def post_commit(deps: GateApiDeps, request: Request) -> Response:
    reservation = decode(request.params["id"], deps.secret)
    raw = _optional_body(request)
    body = parse(CommitIn, raw)
    key = idempotency_key(request.headers, body.idempotency_key)
    done = commit(
        deps.gate,
        Commit(
            reservation=reservation,
            weigh=_used(reservation, body),
            cached=body.cached,
            provider_cost=body.provider_cost,
            metadata=body.metadata,
            commit_key=None if key is None else key_hash("commit", key),
            fingerprint=digest(raw),
        ),
    )
    return Response(200, answers.committed(done))


def _used(reservation: Reservation, body: CommitIn) -> Callable[[Rules], list[Item]]:
    """What was used: the reserved amounts where nothing is said, 0 units where the app's own cache answered."""
    if body.quantity is not None and body.items is not None:
        raise Invalid("Send either `quantity` or `items`.", (FieldError("items", "conflict"),))
    if body.quantity is not None and len(reservation.items) > 1:
        raise Invalid(
            "This reservation has several items; send `items` with a quantity each.", (FieldError("quantity", "items"),)
        )
    more = body.dimensions or {}

    def measured() -> list[tuple[str, str, Decimal, dict[str, str]]]:
        if body.items is not None:
            return [
                (f"items.{index}.meter", one.meter, one.quantity, {**_reserved_dimensions(reservation, one), **more})
                for index, one in enumerate(body.items)
            ]
        return [
            (
                "meter",
                item.meter,
                item.quantity if body.quantity is None else body.quantity,
                {**item.dimensions, **more},
            )
            for item in reservation.items
        ]

    rows = measured()
    for path, _, _, dimensions in rows:
        if len(dimensions) > 10:
            raise Invalid("At most 10 dimensions, the reserved ones included.", (FieldError(path, "too_many"),))

    def weigh(rules: Rules) -> list[Item]:
        found = [rules.item(meter, quantity, dimensions, path) for path, meter, quantity, dimensions in rows]
        if body.items is not None:  # what is as reserved was let in, and is taken however plans changed
            rules.check_width(found)
        return [replace(item, units=ZERO) for item in found] if body.cached else found

    return weigh


def _reserved_dimensions(reservation: Reservation, used: UsedItemIn) -> dict[str, str]:
    if used.dimensions is not None:
        return dict(used.dimensions)
    return next((dict(item.dimensions) for item in reservation.items if item.meter == used.meter), {})


def post_release(deps: GateApiDeps, request: Request) -> Response:
    reservation = decode(request.params["id"], deps.secret)
    body = parse(ReleaseIn, _optional_body(request))
    key = idempotency_key(request.headers, body.idempotency_key)
    limits = release(deps.gate, reservation, None if key is None else key_hash("release", key))
    return Response(200, {"id": request.params["id"], "status": "released", "limits": answers.limit_states(limits)})


def post_extend(deps: GateApiDeps, request: Request) -> Response:
    reservation = decode(request.params["id"], deps.secret)
    raw = _optional_body(request)
    body = parse(ExtendIn, raw)
    now = deps.gate.clock() // 1000
    expires_at = _extended_expiry(body, now)
    weigh = _totals(reservation, body)
    if expires_at is None and weigh is None:
        raise Invalid("Send `expires_at` or `ttl_seconds`, or a new total.", (FieldError("ttl_seconds", "missing"),))
    key = idempotency_key(request.headers, body.idempotency_key)
    with once(deps.idempotency, reservation.account, "extend", key, raw, now):
        found = extend(deps.gate, reservation, expires_at, weigh)
    allowed = found.refused is None and found.short is None and not found.frozen
    answer: dict[str, Any] = {"id": request.params["id"], "allowed": allowed}
    if key is not None and not answer["allowed"]:
        deps.idempotency.forget(reservation.account, "extend", key)  # refusals are not remembered
    measured = reservation.items if weigh is None or not answer["allowed"] else weigh(found.rules)
    answer |= {
        "units": plain(sum((item.units for item in measured), ZERO)),
        "items": answers.items(measured),
        "expires_at": rfc3339(found.expires_at),
        "limits": answers.limit_states(found.limits),
    }
    if found.short is not None:
        answer["limits"].append(answers.shared_state(found.short.state))
    if not answer["allowed"]:
        answer["denial"] = refusals.denial(_denied(found, reservation), now)
        _counted(deps, answer)
    return Response(200, answer)


def _denied(found: Extended, reservation: Reservation) -> Denied:
    if found.short is not None:
        return denied_by_share(found.rules, found.short)
    if found.stopped is not None:
        return found.stopped
    refusal, frozen = found.refused, found.rules.row.frozen
    if refusal is None:
        requested = sum((item.units for item in reservation.items), ZERO)
        reason = None if frozen is None else frozen.reason
        return Denied("frozen", found.rules, requested, ZERO, None, None, found.limits, reason)
    short = refusal.short
    if short is not None:
        return Denied(
            short.code,
            found.rules,
            short.requested,
            short.remaining,
            None,
            short.resets_at,
            found.limits,
            short=short,
            per=found.refused_by,
        )
    state = next(state for state in found.limits if state.ruled is refusal.limit)
    return Denied(
        "limit_reached", found.rules, refusal.requested, refusal.remaining, state, state.resets_at, found.limits
    )


def _extended_expiry(body: ExtendIn, now: int) -> int | None:
    if body.expires_at is not None and body.ttl_seconds is not None:
        raise Invalid("Send either `expires_at` or `ttl_seconds`.", (FieldError("ttl_seconds", "conflict"),))
    if body.ttl_seconds is not None:
        return now + body.ttl_seconds
    if body.expires_at is None:
        return None
    expires_at = body.expires_at // 1000
    if not now < expires_at <= now + 86_400:
        raise Invalid("`expires_at` lies in the future, at most a day ahead.", (FieldError("expires_at", "range"),))
    return expires_at


def _totals(reservation: Reservation, body: ExtendIn) -> Callable[[Rules], list[Item]] | None:
    if body.quantity is not None and body.items is not None:
        raise Invalid("Send either `quantity` or `items`.", (FieldError("items", "conflict"),))
    if body.items is not None:
        return _weighed(body.items, single=False)
    if body.quantity is None:
        return None
    if len(reservation.items) > 1:
        raise Invalid(
            "This reservation has several items; send `items` with a total each.", (FieldError("quantity", "items"),)
        )
    only, total = reservation.items[0], body.quantity
    return lambda rules: [rules.item(only.meter, total, only.dimensions)]


def get_reservation(deps: GateApiDeps, request: Request) -> Response:
    reservation = decode(request.params["id"], deps.secret)
    gate_deps, packed = deps.gate, reservation.holds[ACCOUNT]
    there = gate_deps.outcomes.get(outcome_at(gate_deps, reservation.account, reservation.key, unpack(packed)))
    rules = gate_deps.rules.get(reservation.account)
    gate = gate_deps.gates.read(subject_of(rules.account, ACCOUNT, None))
    if gate is not None and gate.closed:  # it became another account, and this process did not know
        rules = gate_deps.rules.fresh(reservation.account)
        gate = gate_deps.gates.read(subject_of(rules.account, ACCOUNT, None))
    gate = with_counters(gate_deps, rules, gate, None, ())
    name = rules.hold_name(reservation.account, reservation.key)
    raw = None if gate is None else gate.holds.get(name)
    hold = unpack(raw) if raw is not None and incarnation_of(raw) == incarnation_of(packed) else None
    answer: dict[str, Any] = {
        "id": request.params["id"],
        "status": _status(there, hold is not None, hold.expires_at if hold else 0, gate_deps.clock() // 1000),
        "account": reservation.account,
        "member": reservation.member,
        "units": plain(sum((item.units for item in reservation.items), ZERO)),
        "items": answers.items(reservation.items),
        "expires_at": rfc3339(hold.expires_at if hold else unpack(packed).expires_at),
    }
    if isinstance(there, Event):
        answer["event_ids"] = answers.event_ids(there)
        answer["used_units"] = plain(there.units)
    return Response(200, answer)


def _status(there: Outcome | None, held: bool, expires_at: int, now: int) -> str:
    if isinstance(there, Event):
        return "committed"
    if held:
        return "open" if expires_at > now else "expired"
    if there is not None and there.why == "released":
        return "released"
    return "expired"


# -- usage -----------------------------------------------------------------------------------------------------------


def post_usage(deps: GateApiDeps, request: Request) -> Response:
    raw = json_body(request)
    body = parse(UsageIn, raw)
    now_ms = deps.gate.clock()
    key = idempotency_key(request.headers, body.idempotency_key)
    reported: list[Reported] = []
    results: dict[int, dict[str, Any]] = {}
    places: list[int] = []
    for index, one in enumerate(body.events):
        try:
            reported.append(_reported(one, now_ms))
            places.append(index)
        except TollgateError as error:
            event_id = one.get("id") if isinstance(one, dict) and isinstance(one.get("id"), str) else None
            results[index] = _rejected(event_id, error)
    named = {event.account for event in reported}
    scope = named.pop() if len(named) == 1 else "*"  # a key of a batch over several accounts belongs to none of them
    with once(deps.idempotency, scope, "usage", key, raw, now_ms // 1000):
        for index, found in zip(places, record(deps.gate, reported), strict=True):
            results[index] = _recorded(found)
    return Response(200, {"results": [results[index] for index in range(len(body.events))]})


def _reported(raw: Any, now_ms: int) -> Reported:
    event = parse(EventIn, raw)
    occurred = event.occurred_at
    if occurred is not None and not now_ms - MAX_AGE_MS <= occurred <= now_ms + MAX_AHEAD_MS:
        raise Invalid(
            "`occurred_at` is over 35 days old or over 5 minutes ahead.", (FieldError("occurred_at", "range"),)
        )
    return Reported(
        id=event.id,
        key=key_hash("usage", event.id),
        origin_ms=uuid7_time_of(event.id),
        fingerprint=digest(raw),
        account=event.account,
        member=event.member,
        meter=event.meter,
        quantity=event.quantity,
        dimensions=event.dimensions,
        occurred_ms=occurred,
        cached=event.cached,
        provider_cost=event.provider_cost,
        metadata=event.metadata,
    )


def _recorded(found: Recorded) -> dict[str, Any]:
    if found.error is not None:
        return _rejected(found.id, found.error)
    assert found.units is not None
    assert found.waived is not None
    return {
        "id": found.id,
        "status": found.status,
        "units": plain(found.units),
        "waived": plain(found.waived),
        "over_limits": list(found.over_limits),
    }


def _rejected(event_id: str | None, error: TollgateError) -> dict[str, Any]:
    return {
        "id": event_id,
        "status": "rejected",
        "units": "0",
        "waived": "0",
        "over_limits": [],
        "error": {
            "code": error.code,
            "detail": error.detail,
            "errors": [{"path": field.path, "code": field.code} for field in error.errors],
            "retryable": error.retryable,
        },
    }


def _optional_body(request: Request) -> Any:
    return json_body(request) if request.body.strip() else {}


ROUTES = (
    Route("POST", "/v1/reservations", ("usage",), post_reservation, "createReservation"),
    Route("GET", "/v1/reservations/{id}", ("usage", "read"), get_reservation, "getReservation"),
    Route("POST", "/v1/reservations/{id}/commit", ("usage",), post_commit, "commitReservation"),
    Route("POST", "/v1/reservations/{id}/release", ("usage",), post_release, "releaseReservation"),
    Route("POST", "/v1/reservations/{id}/extend", ("usage",), post_extend, "extendReservation"),
    Route("POST", "/v1/usage", ("usage",), post_usage, "recordUsage"),
    Route("POST", "/v1/estimates", ("usage", "read"), post_estimate, "createEstimate"),
)
