"""The controls of event delivery, beside those in `controls`."""

from __future__ import annotations

from local.stripe_double.endpoints import SNAPSHOT, THIN, Endpoint, check_events, check_url
from local.stripe_double.errors import ApiError
from local.stripe_double.ids import derived_id
from local.stripe_double.state import Double
from local.stripe_double.wire import API_VERSION, JsonObject

_ENDPOINT = {"url", "secret", "payload", "enabled_events"}


def register(double: Double, body: JsonObject) -> JsonObject:
    """An endpoint whose secret is chosen by the caller, which Stripe's API does not allow; a reset leaves it.

    `{url, secret, payload: snapshot|thin, enabled_events? (all)}` → `{id}`. The same address and payload again takes
    the old one's place.
    """
    url, secret, payload = (str(body.get(name, "")) for name in ("url", "secret", "payload"))
    events = body.get("enabled_events", ["*"])
    if payload not in (SNAPSHOT, THIN) or not secret or not isinstance(events, list) or set(body) - _ENDPOINT:
        raise ValueError("an endpoint is {url, secret, payload: snapshot|thin, enabled_events?}")
    try:
        check_url(url, "url")
        check_events([str(name) for name in events], payload)
    except ApiError as problem:
        raise ValueError(problem.message) from problem
    now_ms = double.clock.now_ms()
    endpoint = Endpoint(
        id=derived_id("we" if payload == SNAPSHOT else "ed_test", url),
        url=url,
        enabled_events=[str(name) for name in events],
        secret=secret,
        payload=payload,
        created_ms=now_ms,
        api_version=API_VERSION if payload == SNAPSHOT else None,
        name="local",
        updated_ms=now_ms,
        standing=True,
    )
    double.endpoints.add(endpoint)
    return {"id": endpoint.id}


def delivery(double: Double, body: JsonObject) -> JsonObject:
    """See `deliveries.Deliveries.set`."""
    unknown = set(body) - {"paused", "order", "seed", "rules"}
    if unknown:
        raise ValueError(f"unknown fields: {', '.join(sorted(unknown))}")
    return double.deliveries.set(body)


def deliveries(double: Double, query: JsonObject) -> JsonObject:
    """See `deliveries.Deliveries.listing`."""
    unknown = set(query) - {"event", "endpoint", "type", "state"}
    if unknown:
        raise ValueError(f"unknown fields: {', '.join(sorted(unknown))}")
    return {"data": double.deliveries.listing(query)}


def send(double: Double, body: JsonObject) -> JsonObject:
    """`{ids}`: see `deliveries.Deliveries.send`."""
    if set(body) != {"ids"}:
        raise ValueError("send takes {ids}")
    return {"sent": double.deliveries.send(body["ids"])}
