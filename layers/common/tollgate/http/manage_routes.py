"""Account administration, reads of usage and events, keys. Every other path ends here, too, as a 404."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from tollgate.accounts.identify import bring_members, identify
from tollgate.accounts.key_store import ApiKey, KeyTable
from tollgate.accounts.rules import NextPlan, Rules
from tollgate.accounts.service import ABSENT, AccountDeps, AccountPatch, change_plan, freeze, put_account
from tollgate.alerts.notification_store import NotificationTable
from tollgate.breaker.platform import PlatformStore
from tollgate.breaker.resume import resume
from tollgate.clock import rfc3339, rfc3339_ms
from tollgate.errors import Conflict, FieldError, IdempotencyMismatch, Invalid, NotFound
from tollgate.http import (
    answers,
    breaker_routes,
    controls_routes,
    credit_routes,
    endpoint_routes,
    level_routes,
    margin_routes,
    member_routes,
    notification_routes,
    pages,
    plans_routes,
    reconcile_routes,
    usage_routes,
)
from tollgate.http.account_requests import AccountIn, FreezeIn, IdentifyIn, KeyIn, PlanIn, UnfreezeIn
from tollgate.http.controls_routes import controls_answer, who
from tollgate.http.history import newest
from tollgate.http.idempotency import digest, once
from tollgate.http.override_requests import check_overrides, overrides_text, readable
from tollgate.http.requests import Body, account_id, idempotency_key, moment_ms, parse
from tollgate.http.routing import Request, Response, Route, json_body
from tollgate.notify.addresses import Resolve, resolve
from tollgate.notify.channel_store import ChannelTable
from tollgate.usage.idempotency_store import IdempotencyTable
from tollgate.usage.markers import LAST_MS
from tollgate.usage.member_store import MemberTable
from tollgate.usage.outcome import Event
from tollgate.usage.store import EventTable, sort_key

MAX_READ = 2000
"""Rows looked at for one page of events: a filter that matches little answers a short page and a cursor."""


MOST_MEMBERS = 25
"""Members whose gates follow before an identify answers; the others' do when they are asked for, or swept."""
_KEY_ID = re.compile(r"key_[0-9a-f]{16}")


class KeyAlreadyMade(Conflict):
    code = "key_already_made"

    def __init__(self) -> None:
        super().__init__(
            "A key was asked for under this Idempotency-Key, and its secret is shown once. If it is lost, revoke that "
            "key (GET /v1/keys lists them) and create another under a new Idempotency-Key."
        )


@dataclass(frozen=True, slots=True)
class ManageApiDeps:
    accounts: AccountDeps
    events: EventTable
    keys: KeyTable
    idempotency: IdempotencyTable
    mode: str
    openapi: Callable[[], str]
    customer_mapped: Callable[[Rules], None]
    """Called after an account got a Stripe customer: batches that waited for one go on."""
    members: MemberTable
    runs: reconcile_routes.RunReader
    link_secret: Callable[[], bytes]
    """Signed the links by which accounts are resumed."""
    platform: PlatformStore
    notifications: NotificationTable
    channels: ChannelTable
    margins: margin_routes.MarginReader
    book: margin_routes.BookReader
    customer_missing: Callable[[Rules], None] = lambda rules: None
    """Called after an account without a Stripe customer was put: the catalogue says whether it gets one now."""
    resolve: Resolve = resolve
    private_webhooks: bool = False
    """The local stack, whose webhooks may stay on the machine."""


# -- accounts --------------------------------------------------------------------------------------------------------


def put(deps: ManageApiDeps, request: Request) -> Response:
    account = account_id(request.params["id"], "id")
    raw = json_body(request)
    body = _parsed(raw)
    sent = {name: getattr(body, name) for name in AccountIn.model_fields if name in body.model_fields_set}
    sent.pop("idempotency_key", None)
    overrides = body.overrides
    if overrides is not None:
        sent["overrides"] = overrides_text(overrides, deps.accounts.gate.clock() // 1000)
        sent["fits"] = lambda plan, meters: check_overrides(overrides, raw, plan, meters)
    patch = AccountPatch(**sent, by=who(deps, request))
    with _once(deps, request, account, "put", body, raw):
        rules, _ = put_account(deps.accounts, account, patch)
    # A crash here leaves batches without their customer: each comes due, and seal releases it.
    if rules.row.stripe_customer_id is not None and patch.stripe_customer_id is not ABSENT:
        deps.customer_mapped(rules)
    # A crash here leaves an account without a customer that was to have one: it gets it as it buys something.
    if rules.row.stripe_customer_id is None and patch.stripe_customer_id is ABSENT:
        deps.customer_missing(rules)
    return Response(200, _account(deps, rules))


def _parsed(raw: Any) -> AccountIn:
    try:
        return parse(AccountIn, raw)
    except Invalid as error:
        raise readable(error, raw) from None


def get(deps: ManageApiDeps, request: Request) -> Response:
    return Response(200, _account(deps, _known(deps, request)))


def list_accounts(deps: ManageApiDeps, request: Request) -> Response:
    limit, before = pages.page(request, re.compile(r"\d{13}#[A-Za-z0-9._:@|+-]{1,64}"))
    found, after = deps.accounts.accounts.page(limit, before)
    data = [_account(deps, deps.accounts.rules.fresh(account)) for account in found]
    return Response(200, {"data": data, "next_cursor": None if after is None else pages.cursor(after)})


def post_freeze(deps: ManageApiDeps, request: Request) -> Response:
    account, raw = account_id(request.params["id"], "id"), json_body(request)
    body = parse(FreezeIn, raw)
    with _once(deps, request, account, "freeze", body, raw):
        rules = freeze(deps.accounts, account, body.reason, who(deps, request))
    return Response(200, _account(deps, rules))


def post_unfreeze(deps: ManageApiDeps, request: Request) -> Response:
    account = account_id(request.params["id"], "id")
    body = parse(UnfreezeIn, json_body(request) if request.body.strip() else {})
    idempotency_key(request.headers, body.idempotency_key)  # checked, and not needed: a second one finds nothing to do
    return Response(200, _account(deps, resume(deps.accounts, account, body.grace, who(deps, request))))


def post_identify(deps: ManageApiDeps, request: Request) -> Response:
    account, raw = account_id(request.params["id"], "id"), json_body(request)
    body = parse(IdentifyIn, raw)
    with _once(deps, request, account, "identify", body, raw):
        rules = identify(deps.accounts, account, body.into, who(deps, request))
        members, _ = deps.members.page(account, MOST_MEMBERS, None)
        bring_members(deps.accounts, rules, [row.member for row in members])
    return Response(200, _account(deps, rules))


def post_plan(deps: ManageApiDeps, request: Request) -> Response:
    account, raw = account_id(request.params["id"], "id"), json_body(request)
    body = parse(PlanIn, raw)
    _known(deps, request)
    with _once(deps, request, account, "plan", body, raw):
        later = body.when == "period_end"
        rules = change_plan(deps.accounts, account, body.plan, at_period_end=later, by=who(deps, request))
    return Response(200, _account(deps, rules))


def _known(deps: ManageApiDeps, request: Request) -> Rules:
    return deps.accounts.rules.fresh(account_id(request.params["id"], "id"))


def _once(
    deps: ManageApiDeps, request: Request, account: str, route: str, body: Body, raw: Any
) -> AbstractContextManager[None]:
    key = idempotency_key(request.headers, getattr(body, "idempotency_key", None))
    return once(deps.idempotency, account, route, key, raw, deps.accounts.gate.clock() // 1000)


def _account(deps: ManageApiDeps, rules: Rules) -> dict[str, Any]:
    row, frozen = rules.row, rules.row.frozen
    return {
        "id": row.account,
        "plan": _plan_name(rules),
        "next_plan": _next_plan(row.next_plan),
        "timezone": row.calendar.timezone,
        "stripe_customer_id": row.stripe_customer_id,
        "email": row.email,
        "name": row.name,
        "overrides": None if row.overrides is None else json.loads(row.overrides),
        "controls": controls_answer(deps.accounts.gate, rules),
        "frozen": None if frozen is None else {"reason": frozen.reason, "since": rfc3339(frozen.since)},
        "aliases": list(row.merged),
        "created_at": rfc3339(row.created_at),
        "rev": row.rev,
    }


def _next_plan(following: NextPlan | None) -> dict[str, Any] | None:
    if following is None:
        return None
    return {"id": following.plan, "version": following.version, "at": rfc3339(following.at)}


def _plan_name(rules: Rules) -> dict[str, Any]:
    return {"id": rules.plan.id, "version": rules.plan.version, "name": rules.plan.name}


# -- usage and events ------------------------------------------------------------------------------------------------


def get_events(deps: ManageApiDeps, request: Request) -> Response:
    """Usage events by the time of their ids, newest first. Filters: from, to, meter, member, dimension.<name>."""
    rules = _known(deps, request)
    limit, cursor = pages.page(request, re.compile(r"[0-9a-f]{12}\.[A-Za-z0-9_-]{16}\.\d(\.\d{1,3})?"))
    first_ms, last_ms = _moment(request, "from", 0), _moment(request, "to", LAST_MS)
    last, skip = f"{last_ms:012x}/", (0, -1)
    if cursor is not None:
        origin, key, place, alias = (*cursor.split("."), "0")[:4]
        last, skip = f"{origin}.{key}", (int(alias), int(place))
    data: list[dict[str, Any]] = []
    after: str | None = None
    rows = newest(deps.events, rules, first_ms, last)
    for read, (row, index, shown) in enumerate(_flat(rows)):
        home = rules.homes.index(row.at.account)
        here = f"{sort_key(row.at)}.{index}" + (f".{home}" if home else "")
        if cursor is not None and sort_key(row.at) == last and (home, index) <= skip:
            continue
        if len(data) == limit or read >= MAX_READ:
            break
        after = here
        if _wanted(request, shown):
            data.append(shown)
    else:
        after = None
    return Response(200, {"data": data, "next_cursor": None if after is None else pages.cursor(after)})


def _flat(rows: Iterator[Event]) -> Iterator[tuple[Event, int, dict[str, Any]]]:
    for row in rows:
        for index, shown in enumerate(answers.events(row)):
            yield row, index, shown


def _wanted(request: Request, event: dict[str, Any]) -> bool:
    for name, value in request.query.items():
        if name in ("meter", "member") and event[name] != value:
            return False
        if name.startswith("dimension.") and event["dimensions"].get(name[len("dimension.") :]) != value:
            return False
    return True


def _moment(request: Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    found = moment_ms(text.replace(" ", "+"))  # a plus sign that was not percent-encoded arrives as a space
    if found is None:
        raise Invalid(f"`{name}` is no RFC 3339 time.", (FieldError(name, "time"),))
    return min(max(found, 0), LAST_MS)


# -- keys, plans, service --------------------------------------------------------------------------------------------


def post_key(deps: ManageApiDeps, request: Request) -> Response:
    raw = json_body(request)
    body = parse(KeyIn, raw)
    named = idempotency_key(request.headers, body.idempotency_key)
    if named is not None:
        _claim_key(deps, named, raw)
    key, secret = deps.keys.create(body.name, deps.mode, body.scopes)
    return Response(201, {**_key(key), "secret": secret})


def _claim_key(deps: ManageApiDeps, named: str, raw: Any) -> None:
    """A repeated creation must neither make a second key nor can it show the first one's secret again: it is refused.

    Two claims: the first tells another body from the same one; the second, tied to nothing, tells a repeat. A crash
    after them leaves a name that has made no key, or one that nobody knows the secret of: the repeat is refused, and
    says to look and to take another name.
    """
    now = deps.accounts.gate.clock() // 1000
    deps.idempotency.claim("*", "keys", named, digest(raw, 16), now)
    try:
        deps.idempotency.claim("*", "keys.made", named, secrets.token_bytes(16), now)
    except IdempotencyMismatch:
        raise KeyAlreadyMade from None


def list_keys(deps: ManageApiDeps, request: Request) -> Response:
    limit, before = pages.page(request, re.compile(r"\d{13}#key_[0-9a-f]{16}"))
    found = [key for key in deps.keys.list() if before is None or _place(key) < before]
    after = _place(found[limit - 1]) if len(found) > limit else None
    data = [_key(key) for key in found[:limit]]
    return Response(200, {"data": data, "next_cursor": None if after is None else pages.cursor(after)})


def _place(key: ApiKey) -> str:
    """Where a key stands in the list."""
    return f"{key.created_ms:013d}#{key.id}"


def delete_key(deps: ManageApiDeps, request: Request) -> Response:
    idempotency_key(request.headers, None)  # accepted, and not needed: revoking twice is revoking once
    if not _KEY_ID.fullmatch(request.params["id"]):
        raise NotFound("No such key; GET /v1/keys lists them.")
    deps.keys.revoke(request.params["id"])
    return Response(200, {"id": request.params["id"], "revoked": True})


def _key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "mode": key.mode,
        "scopes": list(key.scopes),
        "prefix": key.prefix,
        "created_at": rfc3339_ms(key.created_ms),
        "revoked_at": None if key.revoked_ms is None else rfc3339_ms(key.revoked_ms),
    }


def get_health(deps: ManageApiDeps, request: Request) -> Response:
    return Response(200, {"status": "ok"})


def get_openapi(deps: ManageApiDeps, request: Request) -> Response:
    return Response(200, deps.openapi())


ROUTES = (
    Route("PUT", "/v1/accounts/{id}", ("admin",), put, "putAccount"),
    Route("GET", "/v1/accounts/{id}", ("read",), get, "getAccount"),
    Route("GET", "/v1/accounts", ("admin",), list_accounts, "listAccounts"),
    Route("POST", "/v1/accounts/{id}/freeze", ("admin",), post_freeze, "freezeAccount"),
    Route("POST", "/v1/accounts/{id}/unfreeze", ("admin",), post_unfreeze, "unfreezeAccount"),
    Route("POST", "/v1/accounts/{id}/identify", ("admin",), post_identify, "identifyAccount"),
    Route("POST", "/v1/accounts/{id}/plan", ("admin",), post_plan, "changePlan"),
    *usage_routes.ROUTES,
    Route("GET", "/v1/accounts/{id}/events", ("read",), get_events, "listEvents"),
    Route("POST", "/v1/keys", ("admin",), post_key, "createKey"),
    Route("GET", "/v1/keys", ("admin",), list_keys, "listKeys"),
    Route("DELETE", "/v1/keys/{id}", ("admin",), delete_key, "revokeKey"),
    *breaker_routes.ROUTES,
    *controls_routes.ROUTES,
    *credit_routes.ROUTES,
    *level_routes.ROUTES,
    *member_routes.ROUTES,
    *plans_routes.ROUTES,
    *notification_routes.ROUTES,
    *endpoint_routes.ROUTES,
    *reconcile_routes.ROUTES,
    *margin_routes.ROUTES,
    Route("GET", "/v1/health", (), get_health, "getHealth"),
    Route("GET", "/v1/openapi.json", (), get_openapi, "getOpenapi"),
)
