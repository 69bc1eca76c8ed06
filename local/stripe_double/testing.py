"""For tests: a Stripe account in the test's own process, its clock in the test's hands, and the official SDK in front
of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
import stripe

from local.stripe_double.server import running
from local.stripe_double.state import Double
from local.stripe_double.wire import API_VERSION

NOON = 1_795_176_000
"""2026-11-20T12:00:00Z, where a test's clock stands until it is moved."""


def sdk(url: str, key: str = "sk_test_double", *, retries: int = 0, timeout: float = 10) -> stripe.StripeClient:
    """The official client, set up against a double at `url`; `timeout` in seconds."""
    return stripe.StripeClient(
        key,
        base_addresses={"api": url, "meter_events": url},
        stripe_version=API_VERSION,
        max_network_retries=retries,
        http_client=stripe.RequestsClient(timeout=timeout),
    )


@dataclass
class Account:
    """A double that is being served, and ways to use it."""

    double: Double
    url: str
    client: stripe.StripeClient

    @property
    def now(self) -> int:
        """The double's time, epoch seconds."""
        return self.double.clock.now()

    def advance(self, seconds: int) -> None:
        with self.double.lock:
            self.double.clock.advance(seconds * 1000)

    def customer(self) -> str:
        """A new customer's id."""
        return self.client.v1.customers.create({}).id

    def meter(self, event_name: str = "ai_credits", formula: str = "sum", **more: Any) -> str:
        """A new meter's id."""
        params: Any = {
            "display_name": event_name,
            "event_name": event_name,
            "default_aggregation": {"formula": formula},
            **more,
        }
        return self.client.v1.billing.meters.create(params).id

    def send(
        self, customer: str, value: str = "1", event_name: str = "ai_credits", **more: Any
    ) -> stripe.billing.MeterEvent:
        """One meter event. `idempotency_key` goes into the request's options, all else into its parameters."""
        options: Any = {"idempotency_key": more.pop("idempotency_key")} if "idempotency_key" in more else {}
        payload = {"stripe_customer_id": customer, "value": value}
        params: Any = {"event_name": event_name, "payload": payload, **more}
        return self.client.v1.billing.meter_events.create(params, options)

    def total(self, meter: str, customer: str, start: int, end: int) -> float | None:
        """The one ungrouped summary's value; None where there is none."""
        found = self.client.v1.billing.meters.event_summaries.list(
            meter, {"customer": customer, "start_time": start, "end_time": end}
        ).data
        return found[0].aggregated_value if found else None

    def control(self, name: str, body: Any = None) -> Any:
        """POST to one of the double's controls; what it answers. Raises requests.HTTPError."""
        answer = requests.post(f"{self.url}/_double/{name}", json=body, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def look(self, name: str, **query: str) -> Any:
        """GET one of the double's controls; what it answers. Raises requests.HTTPError."""
        answer = requests.get(f"{self.url}/_double/{name}", params=query, timeout=10)
        answer.raise_for_status()
        return answer.json()


@contextmanager
def account(now: int = NOON, **settings: Any) -> Iterator[Account]:
    """An account whose clock stands still at `now` (epoch seconds) until advanced; `settings` are Double's."""
    double = Double(lambda: now * 1000, **{"latency_seconds": 0, **settings})
    with running(double) as url:
        yield Account(double, url, sdk(url))
