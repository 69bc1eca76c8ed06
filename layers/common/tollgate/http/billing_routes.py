"""What needs Stripe: checkout pages, subscriptions, and what an invoice is made of."""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tollgate.billing.invoice_audit import AuditDeps
from tollgate.clock import rfc3339
from tollgate.errors import FieldError, IdempotencyKeyRequired, Invalid
from tollgate.http import audit_routes
from tollgate.http.billing_requests import CheckoutIn, SubscriptionIn
from tollgate.http.idempotency import digest
from tollgate.http.requests import account_id, idempotency_key, parse
from tollgate.http.routing import Request, Response, Route, json_body
from tollgate.subscriptions.checkout import (
    Once,
    Page,
    SaleDeps,
    Subscribed,
    add_metered,
    sell_pack,
    sell_plan,
    subscribe,
)

PRORATION = {
    "create_prorations": "The first period ends at the anchor; what is billed in advance is charged for its part of a "
    "full period.",
    "none": "Nothing is prorated: usage is billed at the end of the period that the subscription is in.",
}


@dataclass(frozen=True, slots=True)
class BillingApiDeps:
    """`loopback`: addresses of this machine may be plain HTTP, in the local stack only."""

    sales: SaleDeps
    audit: AuditDeps
    loopback: bool


def post_checkout(deps: BillingApiDeps, request: Request) -> Response:
    """A page of Stripe's on which the account's customer pays for a plan or a pack."""
    account, raw = account_id(request.params["id"], "id"), json_body(request)
    body = parse(CheckoutIn, raw)
    urls = (_url(deps, body.success_url, "success_url"), _url(deps, body.cancel_url, "cancel_url"))
    # Without a key each request is one of its own: an open page for a plan is replaced, so that only one can be paid.
    once = Once(idempotency_key(request.headers, body.idempotency_key) or secrets.token_hex(16), digest(raw, 16))
    if body.pack is not None:
        if body.seats is not None:
            raise Invalid("Seats go with a plan, not with a pack.", (FieldError("seats", "conflict"),))
        page = sell_pack(deps.sales, account, body.pack, body.plan, urls, once)
    elif body.plan is not None:
        page = sell_plan(deps.sales, account, body.plan, body.seats, urls, once)
    else:
        raise Invalid("Say what is sold: `plan` or `pack`.", (FieldError("plan", "missing"),))
    return Response(201, _page(page))


def post_subscription(deps: BillingApiDeps, request: Request) -> Response:
    """A subscription without a page, or prices for usage on a flat one."""
    account, raw = account_id(request.params["id"], "id"), json_body(request)
    body = parse(SubscriptionIn, raw)
    key = idempotency_key(request.headers, body.idempotency_key)
    if key is None:
        raise IdempotencyKeyRequired("nobody must be subscribed twice")
    once = Once(key, digest(raw, 16))
    if body.subscription is None:
        done = subscribe(deps.sales, account, body.plan, body.seats, once)
    else:
        if body.seats is not None:
            raise Invalid("Seats stay as the subscription has them.", (FieldError("seats", "conflict"),))
        done = add_metered(deps.sales, account, body.plan, body.subscription, once)
    return Response(201 if done.created else 200, _subscribed(done))


def _url(deps: BillingApiDeps, text: str, name: str) -> str:
    """Raises Invalid for anything but an https address; Stripe's page sends the customer there."""
    try:
        parts = urlsplit(text)
        host = parts.hostname
        parts.port  # noqa: B018 - read for its check: a port that is no number raises
    except ValueError:
        host = None
    wrong = host is None or any(ord(letter) <= 0x20 or ord(letter) == 0x7F for letter in text)
    secure = not wrong and parts.scheme == "https"
    if not secure and not (not wrong and deps.loopback and parts.scheme == "http" and _is_loopback(host or "")):
        raise Invalid(f"`{name}` must be an https address.", (FieldError(name, "url"),))
    return text


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _page(page: Page) -> dict[str, Any]:
    return {"url": page.url, "session_id": page.session, "expires_at": rfc3339(page.expires_at)}


def _subscribed(done: Subscribed) -> dict[str, Any]:
    there, plan = done.subscription, done.plan.plan
    start, end = (None, None) if there.period is None else (rfc3339(there.period[0]), rfc3339(there.period[1]))
    return {
        "subscription_id": there.id,
        "status": there.status,
        "plan": {"id": plan.id, "version": plan.version, "name": plan.name},
        "period": {"start": start, "end": end},
        "added": list(done.added),
        "proration": {"behavior": done.proration, "means": PRORATION[done.proration]},
    }


ROUTES = (
    Route("POST", "/v1/accounts/{id}/checkout", ("admin",), post_checkout, "createCheckout"),
    Route("POST", "/v1/accounts/{id}/subscription", ("admin",), post_subscription, "createSubscription"),
    *audit_routes.ROUTES,
)
