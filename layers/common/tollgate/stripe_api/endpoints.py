"""Webhook destinations at Stripe (stripe-python 16): snapshots through webhook endpoints of the v1 API, thin events
through event destinations of the v2 API. The port of `webhooks.connect`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, Final

import stripe

from tollgate.stripe_api.reading import Connection
from tollgate.webhooks.connect import MARK, STACK, Destination, Wanted

_URL: Final = "webhook_endpoint.url"
_SECRET: Final = "webhook_endpoint.signing_secret"
_PAGE: Final = 100


class StripeDestinations:
    """`Port` on Stripe. A creation has an Idempotency-Key of its own: repeated after a lost answer, it gives the same
    secret."""

    def __init__(self, connection: Connection) -> None:
        self._stripe = connection

    def all(self) -> list[Destination]:
        return [*self._stripe.patiently(_snapshots), *self._stripe.patiently(_thin)]

    def create(self, wanted: Wanted, stack: str) -> tuple[Destination, str]:
        options: Any = {"idempotency_key": f"tollgate-connect-{uuid.uuid4().hex}"}
        shared = {"enabled_events": sorted(wanted.events), "metadata": {STACK: stack}}
        text = f"Tollgate, stack {stack}"
        if wanted.payload == "snapshot":
            params: Any = {**shared, "url": wanted.url, "description": text, "api_version": wanted.version}
            endpoint = self._stripe.patiently(lambda client: client.v1.webhook_endpoints.create(params, options))
            return _endpoint(endpoint), str(endpoint.secret)
        thin: Any = {
            **shared,
            "name": text,
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "webhook_endpoint": {"url": wanted.url},
            "include": [_URL, _SECRET],
        }
        made = self._stripe.patiently(lambda client: client.v2.core.event_destinations.create(thin, options))
        assert made.webhook_endpoint is not None, "it was made as one, and asked for"
        return _destination(made), str(made.webhook_endpoint.signing_secret)

    def update(self, found: Destination, wanted: Wanted) -> None:
        events: Any = sorted(wanted.events)
        if found.payload == "snapshot":
            params: Any = {"url": wanted.url, "enabled_events": events, "disabled": False}
            self._stripe.patiently(lambda client: client.v1.webhook_endpoints.update(found.id, params))
            return
        thin: Any = {"enabled_events": events, "webhook_endpoint": {"url": wanted.url}}
        self._stripe.patiently(lambda client: client.v2.core.event_destinations.update(found.id, thin))
        if not found.enabled:
            # A crash before this leaves it disabled with the right events: the next run enables it.
            self._stripe.patiently(lambda client: client.v2.core.event_destinations.enable(found.id))

    def mark(self, found: Destination, mark: str) -> None:
        params: Any = {"metadata": {MARK: mark}}
        if found.payload == "snapshot":
            self._stripe.patiently(lambda client: client.v1.webhook_endpoints.update(found.id, params))
        else:
            self._stripe.patiently(lambda client: client.v2.core.event_destinations.update(found.id, params))

    def remove(self, found: Destination) -> None:
        if found.payload == "snapshot":
            self._stripe.patiently(lambda client: client.v1.webhook_endpoints.delete(found.id))
        else:
            self._stripe.patiently(lambda client: client.v2.core.event_destinations.delete(found.id))


def _snapshots(client: stripe.StripeClient) -> list[Destination]:
    return [_endpoint(one) for one in client.v1.webhook_endpoints.list({"limit": _PAGE}).auto_paging_iter()]


def _thin(client: stripe.StripeClient) -> list[Destination]:
    listed = client.v2.core.event_destinations.list({"limit": _PAGE, "include": [_URL]})
    # Others deliver snapshots, or to Amazon and Azure.
    found: Iterator[Any] = listed.auto_paging_iter()
    return [_destination(one) for one in found if one.type == "webhook_endpoint" and one.event_payload == "thin"]


def _endpoint(found: stripe.WebhookEndpoint) -> Destination:
    metadata = found.metadata.to_dict()
    return Destination(
        id=found.id,
        payload="snapshot",
        url=found.url,
        events=frozenset(found.enabled_events),
        version=found.api_version,
        enabled=found.status == "enabled",
        stack=metadata.get(STACK),
        mark=metadata.get(MARK),
    )


def _destination(found: Any) -> Destination:
    metadata = {} if found.metadata is None else found.metadata.to_dict()
    return Destination(
        id=found.id,
        payload="thin",
        url="" if found.webhook_endpoint is None else str(found.webhook_endpoint.url),
        events=frozenset(found.enabled_events),
        version=None,
        enabled=found.status == "enabled",
        stack=metadata.get(STACK),
        mark=metadata.get(MARK),
    )
