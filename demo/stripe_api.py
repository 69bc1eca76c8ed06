"""Stripe's official API, as far as the demo needs it: customers, meters, event summaries. And the double's counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx

from demo.api import NoStack, Reply, StackLost, send

API_VERSION = "2026-10-28.endive"
_MINUTE = 60


@dataclass(frozen=True, slots=True)
class Sent:
    """What reached Stripe for some customers, as the double counts it."""

    batches: int
    """Different identifiers."""
    events: int
    """Meter events that Stripe counts."""
    uncounted: Mapping[str, int]
    """Meter events that Stripe took and does not count, by reason."""


class Stripe:
    """A Stripe account in test mode, real or the double. Threads may share it; close it."""

    def __init__(self, base_url: str, key: str, transport: httpx.BaseTransport | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._client = httpx.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {key}", "Stripe-Version": API_VERSION},
            timeout=40,
            trust_env=not self.base_url.startswith(("http://127.0.0.1", "http://localhost")),
            transport=transport,
        )

    def close(self) -> None:
        self._client.close()

    def _call(self, method: str, path: str, key: str | None = None, **parts: Any) -> Any:
        """The body of the answer. Raises StackLost with Stripe's own message."""
        headers = {} if key is None else {"Idempotency-Key": key}
        reply: Reply = send(self._client, method, path, headers=headers, **parts)
        if not reply.ok:
            message = reply.body.get("error", {}).get("message") if isinstance(reply.body, dict) else None
            raise StackLost(f"Stripe at {self.base_url} answers {method} {path} with {reply.status}: {message}")
        return reply.body

    def double_lag_seconds(self) -> int | None:
        """How long the double keeps events out of its summaries; None: this is no double.

        Raises NoStack where nothing answers.
        """
        try:
            health = self._client.get("/_double/health", timeout=10)
        except httpx.TransportError:
            raise NoStack(
                f"No Stripe answers at {self.base_url}; start the stack with `make run` in another terminal, "
                "or name Stripe by --stripe-url and --stripe-key."
            ) from None
        return int(health.json()["lag_seconds"]) if health.is_success else None

    def create_customer(self, name: str, account: str) -> str:
        """A new customer; its id. `account` is the Tollgate account that it will pay for."""
        form = {"name": name, "metadata[tollgate_account]": account}
        return str(self._call("POST", "/v1/customers", f"demo-{account}", data=form)["id"])

    def meters(self) -> dict[str, str]:
        """Ids of the active meters by event name."""
        found: dict[str, str] = {}
        query: dict[str, str] = {"status": "active", "limit": "100"}
        while True:
            page = self._call("GET", "/v1/billing/meters", params=query)
            found |= {row["event_name"]: row["id"] for row in page["data"]}
            if not page["has_more"]:
                return found
            query["starting_after"] = page["data"][-1]["id"]

    def total(self, meter: str, customer: str, start: int, end: int) -> Decimal:
        """The sum of the event summaries from `start` to `end` (epoch seconds, whole minutes, `end` exclusive)."""
        query = {"customer": customer, "start_time": str(start), "end_time": str(end), "limit": "100"}
        total = Decimal(0)
        while True:
            page = self._call("GET", f"/v1/billing/meters/{meter}/event_summaries", params=query)
            for row in page["data"]:
                total += row["aggregated_value"]
            if not page["has_more"]:
                return total
            query["starting_after"] = page["data"][-1]["id"]

    # -- the double's own counts -------------------------------------------------------------------------------------

    def sent(self, customers: Collection[str]) -> Sent:
        """What the double has taken for these customers. Raises StackLost where this is no double."""
        mine = [row for row in self._call("GET", "/_double/meter_events")["data"] if row["customer"] in customers]
        return Sent(
            batches=len({row["identifier"] for row in mine}),
            events=sum(1 for row in mine if row["counted"]),
            uncounted=Counter(str(row["reason"]) for row in mine if not row["counted"]),
        )

    def meter_event_calls(self) -> Counter[str]:
        """Calls that sent a meter event since the double's start, by status. Raises StackLost without a double."""
        query = {"method": "POST", "path": "/v1/billing/meter_events"}
        seen = self._call("GET", "/_double/requests", params=query)
        return Counter({status: int(count) for status, count in seen["by_status"].items()})


def summary_range(started: int, now: int) -> tuple[int, int]:
    """Whole minutes around a run from `started` to `now` (epoch seconds). A batch's timestamp is the first minute of
    its seal window, moved inside the billing period: up to a window before what it counts, or a minute after.
    """
    return (started // _MINUTE - 60) * _MINUTE, (now // _MINUTE + 5) * _MINUTE
