"""Levels over HTTP: what a level meter of an account stands at, and setting it."""

from __future__ import annotations

from typing import Any, Protocol

from pydantic import Field

from tollgate.accounts.service import AccountDeps
from tollgate.clock import rfc3339_ms
from tollgate.errors import UnknownMeter
from tollgate.gate.levels import Refused, Setting, Standing, set_level, standing
from tollgate.http import answers, refusals
from tollgate.http.idempotency import digest
from tollgate.http.requests import Amount, Body, Dimensions, Id, Key, account_id, idempotency_key, parse
from tollgate.http.routing import Request, Response, Route, json_body
from tollgate.ids import key_hash, uuid7_time_of, uuid_text
from tollgate.quantities import plain


class LevelIn(Body):
    """A level: absolute, never an increment. `member` and `dimensions` are kept with the change's event."""

    level: Amount
    member: Id | None = None
    dimensions: Dimensions = Field(default_factory=dict)
    idempotency_key: Key | None = None


class LevelDeps(Protocol):
    """The part of the manage function's dependencies that these routes need."""

    @property
    def accounts(self) -> AccountDeps: ...


def put_level(deps: LevelDeps, request: Request) -> Response:
    """Set a level. A refusal is an answer, as a reservation's is, and is not remembered under the key."""
    account, meter, raw = account_id(request.params["id"], "id"), request.params["meter"], json_body(request)
    body = parse(LevelIn, raw)
    gate = deps.accounts.gate
    key = idempotency_key(request.headers, body.idempotency_key)
    name = uuid_text(gate.incarnate(gate.clock())) if key is None else key
    found = set_level(
        gate,
        Setting(
            account=account,
            meter=_known(meter),
            quantity=body.level,
            key=key_hash("level", name),
            origin_ms=uuid7_time_of(name),
            fingerprint=digest({**raw, "meter": meter}),
            member=body.member,
            dimensions=body.dimensions,
        ),
    )
    if isinstance(found, Refused):
        shown, said = found.standing, found.denied
        denial = refusals.denial(said, gate.clock() // 1000)
        return Response(200, {"allowed": False, "denial": denial, **_shown(shown)})
    assert found.event is not None
    current = found.units if found.current is None else found.current
    answer = {"allowed": True, **_shown(found)}
    return Response(200, {**answer, "current_level": plain(current), "event_id": answers.event_ids(found.event)[0]})


def get_level(deps: LevelDeps, request: Request) -> Response:
    rules = deps.accounts.rules.fresh(account_id(request.params["id"], "id"))
    gate = deps.accounts.gate.gates.read(rules.account)
    return Response(200, _shown(standing(rules, gate, _known(request.params["meter"]))))


def _known(meter: str) -> str:
    """A meter's id as the path gives it. Raises UnknownMeter where none can be named so."""
    if not 1 <= len(meter) <= 64:
        raise UnknownMeter(meter[:64])
    return meter


def _shown(found: Standing) -> dict[str, Any]:
    """`updated_at` null and `change` 0: it was never set."""
    maximum = found.maximum
    return {
        "account": found.rules.account,
        "meter": found.meter,
        "level": plain(found.units),
        "max": None if maximum is None else plain(maximum),
        "updated_at": None if found.set_ms is None else rfc3339_ms(found.set_ms),
        "change": found.number,
        "limits": answers.limit_states(found.limits),
    }


ROUTES = (
    Route("PUT", "/v1/accounts/{id}/levels/{meter}", ("usage",), put_level, "putLevel"),
    Route("GET", "/v1/accounts/{id}/levels/{meter}", ("read",), get_level, "getLevel"),
)
