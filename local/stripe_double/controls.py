r"""The double's own controls under `/_double/`: no key, no part of Stripe's API; the local stack and tests use them.

| call | answer |
| --- | --- |
| `GET /_double/health` | `{status, api_version, now, lag_seconds}` |
| `POST /_double/clock` `{advance_seconds}` | `{now, now_ms, offset_seconds}`; time moves by this much |
| `POST /_double/faults` `{faults: [...]}` | `{faults: n}`; see `faults.Faults.replace` |
| `POST /_double/settings` `{lag_seconds?, latency_seconds?, late_checks?, tier_lines?}` | the settings in force |
| `GET /_double/meter_events?identifier=&customer=&event_name=` | `{data: [...]}`, see `meter_events.listing` |
| `GET /_double/requests?path=&method=` | `{count, by_status, recent}` |
| `POST /_double/endpoints` `{url, secret, payload, enabled_events?}` | `{id}`; see `delivery_controls.register` |
| `POST /_double/delivery` `{paused?, order?, seed?, rules?}` | what holds now; see `deliveries.Deliveries.set` |
| `GET /_double/deliveries?event=&endpoint=&type=&state=` | `{data: [...]}`, oldest first |
| `POST /_double/deliveries/send` `{ids}` | `{sent}`; these now, in this order, also when paused; twice: again |
| `POST /_double/checkout/{id}/complete` `{email?, name?}` | the session; see `checkout_sessions.complete` |
| `POST /_double/disputes` `{charge\|payment_intent, amount?, reason?}` | the dispute; see `disputes.opened` |
| `POST /_double/disputes/{id}/close` `{status: won\|lost}` | the dispute; see `disputes.closed` |
| `POST /_double/payments` `{customer?, outcome?, after_retries?}` | a customer's payments `succeed`, `fail` or
`require_action` from now on; what becomes of a subscription after the last retry: `canceled`, `unpaid`, `past_due` |
| `POST /_double/collect` `{invoice}` | another attempt at payment now: `{status}` of the invoice |
| `POST /_double/give_up` `{invoice, subscription_status}` | no more attempts; the subscription is `canceled`, `unpaid`
or stays `past_due` |
| `POST /_double/reset` | forgets everything but clock, settings and the endpoints made here |
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.stripe_double import checkout_sessions, delivery_controls, disputes, invoicing
from local.stripe_double.clock import SECOND_MS
from local.stripe_double.faults import BadFault
from local.stripe_double.invoice_objects import Invoice
from local.stripe_double.meter_events import listing
from local.stripe_double.payments import GIVE_UP
from local.stripe_double.settle import settle
from local.stripe_double.state import Double
from local.stripe_double.wire import API_VERSION, JsonObject, to_json

_MAX_ADVANCE_SECONDS = 10 * 366 * 86_400


class BadControl(Exception):
    """A control request that cannot be carried out; the message says why."""


Control = Callable[[Double, JsonObject], JsonObject]


def health(double: Double, _: JsonObject) -> JsonObject:
    return {
        "status": "ok",
        "api_version": API_VERSION,
        "now": double.clock.now(),
        "lag_seconds": double.lag_ms // SECOND_MS,
    }


def clock(double: Double, body: JsonObject) -> JsonObject:
    _only(body, {"advance_seconds"})
    seconds = body.get("advance_seconds")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= _MAX_ADVANCE_SECONDS:
        raise BadControl(f"advance_seconds must be a number in 0..{_MAX_ADVANCE_SECONDS}")
    double.clock.advance(round(seconds * SECOND_MS))
    settle(double)
    return {
        "now": double.clock.now(),
        "now_ms": double.clock.now_ms(),
        "offset_seconds": double.clock.offset_ms / SECOND_MS,
    }


def faults(double: Double, body: JsonObject) -> JsonObject:
    _only(body, {"faults"})
    return {"faults": double.faults.replace(body.get("faults"), double.clock.now_ms())}


def settings(double: Double, body: JsonObject) -> JsonObject:
    _only(body, {"lag_seconds", "latency_seconds", "late_checks", "tier_lines"})
    tier_lines = body.get("tier_lines")
    if not isinstance(tier_lines, bool | None):
        raise BadControl("tier_lines must be true or false")
    lag, latency, late = body.get("lag_seconds"), body.get("latency_seconds"), body.get("late_checks")
    if not isinstance(lag, int | None) or not isinstance(latency, int | float | None):
        raise BadControl("lag_seconds must be a whole number, latency_seconds a number")
    if not isinstance(late, list | None):
        raise BadControl("late_checks must be a list of codes")
    double.configure(
        lag_seconds=lag,
        latency_seconds=latency,
        late_checks=None if late is None else frozenset(str(code) for code in late),
        tier_lines=tier_lines,
    )
    return {
        "lag_seconds": double.lag_ms // SECOND_MS,
        "latency_seconds": double.latency_seconds,
        "late_checks": sorted(double.late_checks),
        "tier_lines": double.tier_lines,
    }


def meter_events(double: Double, query: JsonObject) -> JsonObject:
    _only(query, {"identifier", "customer", "event_name"})
    return {"data": listing(double, query)}


def requests(double: Double, query: JsonObject) -> JsonObject:
    _only(query, {"method", "path"})
    return double.requests.view(query.get("method"), query.get("path"))


def payments(double: Double, body: JsonObject) -> JsonObject:
    _only(body, {"customer", "outcome", "after_retries"})
    customer, outcome, after = body.get("customer"), body.get("outcome"), body.get("after_retries")
    if (customer is None) != (outcome is None):
        raise BadControl("customer and outcome go together")
    if after is not None and after not in GIVE_UP:
        raise BadControl(f"after_retries must be one of {', '.join(GIVE_UP)}")
    if customer is not None:
        double.payments.set(str(customer), str(outcome))
    if after is not None:
        double.payments.give_up = after
    return {"status": "ok"}


def collect(double: Double, body: JsonObject) -> JsonObject:
    _only(body, {"invoice"})
    invoice = _open_invoice(double, body)
    invoicing.attempt(double, invoice)
    return {"status": invoice.status}


def give_up(double: Double, body: JsonObject) -> JsonObject:
    _only(body, {"invoice", "subscription_status"})
    status = body.get("subscription_status")
    if status not in GIVE_UP:
        raise BadControl(f"subscription_status must be one of {', '.join(GIVE_UP)}")
    invoicing.give_up(double, _open_invoice(double, body), status)
    return {"status": "ok"}


def _open_invoice(double: Double, body: JsonObject) -> Invoice:
    invoice = double.invoices.find(str(body.get("invoice")))
    if invoice is None or invoice.status != "open":
        raise BadControl("invoice must name an open invoice")
    return invoice


def reset(double: Double, body: JsonObject) -> JsonObject:
    _only(body, set())
    double.reset()
    return {"status": "ok"}


def routes(double: Double) -> list[Route]:
    """The routes over this state."""
    table: list[tuple[str, str, Control]] = [
        ("GET", "health", health),
        ("POST", "clock", clock),
        ("POST", "faults", faults),
        ("POST", "settings", settings),
        ("GET", "meter_events", meter_events),
        ("GET", "requests", requests),
        ("POST", "payments", payments),
        ("POST", "collect", collect),
        ("POST", "give_up", give_up),
        ("POST", "reset", reset),
        ("POST", "endpoints", delivery_controls.register),
        ("POST", "delivery", delivery_controls.delivery),
        ("GET", "deliveries", delivery_controls.deliveries),
        ("POST", "deliveries/send", delivery_controls.send),
        ("POST", "checkout/{id}/complete", checkout_sessions.complete),
        ("POST", "disputes", disputes.opened),
        ("POST", "disputes/{id}/close", disputes.closed),
    ]
    return [
        Route(f"/_double/{name}", _endpoint(double, control), methods=[method], name=name)
        for method, name, control in table
    ]


def _endpoint(double: Double, control: Control) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            given = dict(request.query_params) if request.method != "POST" else _body(await request.body())
            given |= request.path_params
            with double.lock:
                settle(double)
                answer, status = control(double, given), 200
        except (BadControl, BadFault, ValueError) as error:
            answer, status = {"error": {"type": "bad_control", "message": str(error)}}, 400
        return Response(to_json(answer), status, media_type="application/json")

    return endpoint


def _body(raw: bytes) -> JsonObject:
    if not raw:
        return {}
    body = json.loads(raw)
    if not isinstance(body, dict):
        raise BadControl("the body must be a JSON object")
    return body


def _only(given: JsonObject, known: set[str]) -> None:
    unknown = set(given) - known
    if unknown:
        raise BadControl(f"unknown fields: {', '.join(sorted(unknown))}")
