"""What a customer controls of an account, and the audit of everything that was changed of its terms."""

from __future__ import annotations

import re
from typing import Any, Protocol

from tollgate.accounts.audit import Entry
from tollgate.accounts.controls import ControlsPatch, set_controls, soft_limit
from tollgate.accounts.key_store import KeyTable
from tollgate.accounts.rules import Rules
from tollgate.accounts.service import AccountDeps
from tollgate.clock import rfc3339_ms
from tollgate.gate.ports import GateDeps
from tollgate.http.account_requests import ControlsIn
from tollgate.http.idempotency import once
from tollgate.http.pages import cursor, page
from tollgate.http.requests import account_id, idempotency_key, parse
from tollgate.http.routing import Request, Response, Route, json_body
from tollgate.quantities import plain
from tollgate.usage.idempotency_store import IdempotencyTable

_REVISION = re.compile(r"[1-9][0-9]{0,11}", re.ASCII)


class ControlsDeps(Protocol):
    """The part of the manage function's dependencies that these routes need."""

    @property
    def accounts(self) -> AccountDeps: ...
    @property
    def keys(self) -> KeyTable: ...
    @property
    def idempotency(self) -> IdempotencyTable: ...


def put_controls(deps: ControlsDeps, request: Request) -> Response:
    account, raw = account_id(request.params["id"], "id"), json_body(request)
    body = parse(ControlsIn, raw)
    sent = {name: getattr(body, name) for name in ControlsPatch.__slots__ if name in body.model_fields_set}
    key, now = idempotency_key(request.headers, body.idempotency_key), deps.accounts.gate.clock() // 1000
    with once(deps.idempotency, account, "controls", key, raw, now):
        rules = set_controls(deps.accounts, account, ControlsPatch(**sent), who(deps, request))
    return Response(200, controls_answer(deps.accounts.gate, rules))


def get_controls(deps: ControlsDeps, request: Request) -> Response:
    rules = deps.accounts.rules.fresh(account_id(request.params["id"], "id"))
    return Response(200, controls_answer(deps.accounts.gate, rules))


def list_audit(deps: ControlsDeps, request: Request) -> Response:
    limit, before = page(request, _REVISION)
    account = deps.accounts.rules.fresh(account_id(request.params["id"], "id")).account
    found, after = deps.accounts.accounts.audit(account, limit, None if before is None else int(before))
    data = [_entry(entry) for entry in found]
    return Response(200, {"data": data, "next_cursor": None if after is None else cursor(str(after))})


def controls_answer(gate: GateDeps, rules: Rules) -> dict[str, Any]:
    """Controls as the account's and their own answers show them."""
    said, soft = rules.row.controls, soft_limit(gate, rules)
    return {
        "soft_limit": None if soft.amount is None else plain(soft.amount),
        "soft_limit_source": soft.source,
        "hard_limit": None if said.hard_limit is None else plain(said.hard_limit),
        "block_overage": said.block_overage,
        "thresholds": list(rules.plan.thresholds if said.thresholds is None else said.thresholds),
        "currency": rules.plan.currency,
    }


def who(deps: ControlsDeps, request: Request) -> str:
    """The id of the API key that asks, which the dispatcher has let in already. Raises Unauthorized where it was
    revoked since."""
    return deps.keys.authenticate(request.headers["authorization"].partition(" ")[2].strip()).id


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "rev": entry.rev,
        "at": rfc3339_ms(entry.at_ms),
        "by": entry.by,
        "changes": [change._asdict() for change in entry.changes],
    }


ROUTES = (
    Route("PUT", "/v1/accounts/{id}/controls", ("admin",), put_controls, "putControls"),
    Route("GET", "/v1/accounts/{id}/controls", ("read",), get_controls, "getControls"),
    Route("GET", "/v1/accounts/{id}/audit", ("admin",), list_audit, "listAudit"),
)
