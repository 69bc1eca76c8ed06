"""Webhook endpoints: made, listed, changed, rotated and deleted."""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from typing import Annotated, Any, Final, Protocol

from pydantic import BeforeValidator, Field, StrictBool

from tollgate.accounts.service import AccountDeps
from tollgate.clock import rfc3339, rfc3339_ms
from tollgate.errors import Busy, Conflict, FieldError, IdempotencyMismatch, Invalid, NotFound
from tollgate.http.idempotency import digest
from tollgate.http.pages import cursor, page
from tollgate.http.requests import Body, Key, idempotency_key, parse, whole
from tollgate.http.routing import Request, Response, Route, json_body
from tollgate.notify.addresses import BadUrl, Resolve, checked, place_of
from tollgate.notify.channel_store import ChannelTable
from tollgate.notify.endpoint import MOST, MOST_OVERLAP_S, OVERLAP_S, Endpoint
from tollgate.notify.signing import new_secret
from tollgate.usage.idempotency_store import IdempotencyTable

_ID: Final = re.compile(r"whe_[0-9a-f]{16}", re.ASCII)
_TRIES: Final = 5
Url = Annotated[str, Field(strict=True, min_length=1, max_length=2048, examples=["https://example.com/hooks"])]
Kind = Annotated[str, Field(strict=True, pattern=r"^[a-z0-9_.*?-]{1,64}$", examples=["breaker*"])]
Events = Annotated[
    list[Kind], Field(min_length=1, max_length=20, description="Kinds of messages, `*` for any part of one.")
]
Description = Annotated[str, Field(strict=True, max_length=256)]


class EndpointIn(Body):
    url: Annotated[Url, Field(description="https; none of its host's addresses may be private.")]
    events: Events = ["*"]
    description: Description = ""
    idempotency_key: Key | None = None


class EndpointPatch(Body):
    """Absent fields stay as they are."""

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    enabled: StrictBool | None = None
    idempotency_key: Key | None = None


class RotateIn(Body):
    overlap_seconds: Annotated[
        int,
        Field(ge=0, le=MOST_OVERLAP_S, description="How long the old secret signs besides the new one."),
        BeforeValidator(whole),
    ] = OVERLAP_S
    idempotency_key: Key | None = None


class SecretShown(Conflict):
    code = "secret_already_shown"

    def __init__(self) -> None:
        super().__init__(
            "This was done under this Idempotency-Key, and its secret is shown once. If it is lost, rotate the "
            "endpoint's secret under a new Idempotency-Key."
        )


class TooManyEndpoints(Conflict):
    code = "too_many_endpoints"

    def __init__(self) -> None:
        super().__init__(f"There are {MOST} webhook endpoints, and no more are possible: delete one.")


class EndpointDeps(Protocol):
    """The part of the manage function's dependencies that these routes need."""

    @property
    def accounts(self) -> AccountDeps: ...
    @property
    def idempotency(self) -> IdempotencyTable: ...
    @property
    def channels(self) -> ChannelTable: ...
    @property
    def resolve(self) -> Resolve: ...
    @property
    def private_webhooks(self) -> bool: ...


def post_endpoint(deps: EndpointDeps, request: Request) -> Response:
    raw = json_body(request)
    body = parse(EndpointIn, raw)
    named = idempotency_key(request.headers, body.idempotency_key)
    _check(deps, body.url)
    if len(deps.channels.endpoints()) >= MOST:
        raise TooManyEndpoints
    _claim(deps, "webhook_endpoints", named, raw)
    made = Endpoint(
        id=f"whe_{secrets.token_hex(8)}",
        url=body.url,
        events=tuple(body.events),
        description=body.description,
        created_ms=deps.accounts.gate.clock(),
        secret=new_secret(),
    )
    deps.channels.put_endpoint(made, 0)
    return Response(201, {**_shown(deps, made), "secret": made.secret})


def list_endpoints(deps: EndpointDeps, request: Request) -> Response:
    limit, before = page(request, re.compile(r"\d{13}#whe_[0-9a-f]{16}"))
    found = [one for one in deps.channels.endpoints() if before is None or _place(one) < before]
    after = _place(found[limit - 1]) if len(found) > limit else None
    data = [_shown(deps, one) for one in found[:limit]]
    return Response(200, {"data": data, "next_cursor": None if after is None else cursor(after)})


def get_endpoint(deps: EndpointDeps, request: Request) -> Response:
    return Response(200, _shown(deps, _known(deps, request)))


def put_endpoint(deps: EndpointDeps, request: Request) -> Response:
    body = parse(EndpointPatch, json_body(request))
    idempotency_key(request.headers, body.idempotency_key)  # checked, and not needed: it sets what it says
    if body.url is not None:
        _check(deps, body.url)

    def changed(there: Endpoint) -> Endpoint:
        disabled = there.disabled if body.enabled is None else None if body.enabled else "by the operator"
        return replace(
            there,
            url=there.url if body.url is None else body.url,
            events=there.events if body.events is None else tuple(body.events),
            description=there.description if body.description is None else body.description,
            disabled=disabled,
        )

    return Response(200, _shown(deps, _change(deps, request, changed)))


def rotate_endpoint(deps: EndpointDeps, request: Request) -> Response:
    raw = json_body(request) if request.body.strip() else {}
    body = parse(RotateIn, raw)
    named = idempotency_key(request.headers, body.idempotency_key)
    endpoint = _known(deps, request)
    _claim(deps, f"rotate {endpoint.id}", named, raw)
    secret, now = new_secret(), deps.accounts.gate.clock() // 1000
    done = _change(deps, request, lambda there: there.rotated(secret, now, body.overlap_seconds))
    return Response(200, {**_shown(deps, done), "secret": secret})


def delete_endpoint(deps: EndpointDeps, request: Request) -> Response:
    """What waits for it is skipped."""
    idempotency_key(request.headers, None)  # accepted, and not needed: deleting twice is deleting once
    name = request.params["id"]
    if not _ID.fullmatch(name):
        raise NotFound("No such webhook endpoint; GET /v1/webhook_endpoints lists them.")
    deps.channels.delete_endpoint(name)
    return Response(200, {"id": name, "deleted": True})


def _known(deps: EndpointDeps, request: Request) -> Endpoint:
    name = request.params["id"]
    if not _ID.fullmatch(name):
        raise NotFound("No such webhook endpoint; GET /v1/webhook_endpoints lists them.")
    return deps.channels.endpoint(name)


def _change(deps: EndpointDeps, request: Request, changed: Any) -> Endpoint:
    for _ in range(_TRIES):
        before = _known(deps, request)
        after: Endpoint = changed(before)
        if deps.channels.put_endpoint(after, before.rev):
            return after
    raise Busy


def _check(deps: EndpointDeps, url: str) -> None:
    """Refuse what no webhook may go to. In the local stack receivers are on the machine: no name is looked up."""
    try:
        place = place_of(url, private=deps.private_webhooks)
        if not deps.private_webhooks:
            checked(place, deps.resolve, private=False)
    except BadUrl as bad:
        raise Invalid(f"`url`: {bad.reason}.", (FieldError("url", bad.code),)) from None


def _claim(deps: EndpointDeps, route: str, named: str | None, raw: Any) -> None:
    """A repeat must not make a second secret, nor can it show the first one again: it is refused. A crash after the
    claim leaves a name that made nothing, or something whose secret nobody knows: the repeat says to rotate it."""
    if named is None:
        return
    now = deps.accounts.gate.clock() // 1000
    deps.idempotency.claim("*", route, named, digest(raw, 16), now)
    try:
        deps.idempotency.claim("*", f"{route}.made", named, secrets.token_bytes(16), now)
    except IdempotencyMismatch:
        raise SecretShown from None


def _place(endpoint: Endpoint) -> str:
    return f"{endpoint.created_ms:013d}#{endpoint.id}"


def _shown(deps: EndpointDeps, endpoint: Endpoint) -> dict[str, Any]:
    both = len(endpoint.signers(deps.accounts.gate.clock() // 1000)) == 2
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "events": list(endpoint.events),
        "description": endpoint.description,
        "enabled": endpoint.disabled is None,
        "disabled_reason": endpoint.disabled,
        "old_secret_until": rfc3339(endpoint.old_until) if both else None,
        "created_at": rfc3339_ms(endpoint.created_ms),
    }


ROUTES = (
    Route("POST", "/v1/webhook_endpoints", ("admin",), post_endpoint, "createWebhookEndpoint"),
    Route("GET", "/v1/webhook_endpoints", ("admin",), list_endpoints, "listWebhookEndpoints"),
    Route("GET", "/v1/webhook_endpoints/{id}", ("admin",), get_endpoint, "getWebhookEndpoint"),
    Route("PUT", "/v1/webhook_endpoints/{id}", ("admin",), put_endpoint, "putWebhookEndpoint"),
    Route("POST", "/v1/webhook_endpoints/{id}/rotate", ("admin",), rotate_endpoint, "rotateWebhookEndpoint"),
    Route("DELETE", "/v1/webhook_endpoints/{id}", ("admin",), delete_endpoint, "deleteWebhookEndpoint"),
)
