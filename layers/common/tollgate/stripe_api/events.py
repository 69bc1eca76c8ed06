"""Events, read from Stripe: the list of what was delivered, or should have been, and thin events with their data."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import stripe

from tollgate.clock import parse_rfc3339, rfc3339
from tollgate.stripe_api.reading import Connection, StripeRefused
from tollgate.webhooks.meter_errors import MeterErrors

_THIN_TYPES = ["v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"]


class StripeEvents:
    """Stripe keeps events for 30 days [docs]."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def since(self, second: int, most: int = 100_000) -> Iterator[dict[str, Any]]:
        """Snapshot events created at epoch second `second` or later, newest first, page by page, as they were
        delivered; then thin ones. Raises StripeUnavailable, StripeRefused."""
        after: str | None = None
        seen = 0
        while True:
            params: dict[str, Any] = {"created": {"gte": second}, "limit": 100}
            if after is not None:
                params["starting_after"] = after
            page = self._connection.patiently(partial(_listed, params))
            yield from page["data"]
            seen += len(page["data"])
            if not page.get("has_more") or not page["data"] or seen >= most:
                break
            after = page["data"][-1]["id"]
        yield from self._thin_since(second)

    def _thin_since(self, second: int) -> Iterator[dict[str, Any]]:
        found = self._connection.patiently(
            lambda client: [
                one.to_dict()
                for one in client.v2.core.events.list(
                    {"types": _THIN_TYPES, "created": {"gte": rfc3339(second)}, "limit": 100}
                ).auto_paging_iter()
            ]
        )
        yield from found

    def meter_errors(self, event: str) -> MeterErrors:
        """The data of a thin event about meter events that were not counted. Raises as `event_name`."""
        raw = self._connection.once(lambda client: client.v2.core.events.retrieve(event).to_dict())
        data = raw["data"]
        reason = data["reason"]
        samples = [
            _sampled(sample.get("request") or {})
            for kind in reason["error_types"]
            for sample in kind.get("sample_errors", ())
        ]
        related = raw.get("related_object")
        return MeterErrors(
            event=raw["id"],
            meter=related["id"] if related else None,
            first_ms=_ms(data["validation_start"]),
            last_ms=_ms(data["validation_end"]),
            total=int(reason["error_count"]),
            codes=tuple(sorted({str(kind["code"]) for kind in reason["error_types"]})),
            samples=tuple((code, found) for found, code in zip(samples, _codes(reason), strict=True)),
            summary=str(data.get("developer_message_summary") or ""),
        )

    def event_name(self, meter: str) -> str:
        """The event name of a meter. Raises StripeUnavailable, StripeRefused."""
        return str(self._connection.once(lambda client: client.v1.billing.meters.retrieve(meter).event_name))

    def customer_exists(self, customer: str) -> bool:
        """Whether a customer is there and not deleted. Raises StripeUnavailable, StripeRefused."""
        try:
            found = self._connection.once(lambda client: client.v1.customers.retrieve(customer))
        except StripeRefused as refused:
            if refused.missing:
                return False
            raise
        return not getattr(found, "deleted", False)


def _listed(params: Any, client: stripe.StripeClient) -> dict[str, Any]:
    page: dict[str, Any] = client.v1.events.list(params).to_dict()
    return page


def _codes(reason: dict[str, Any]) -> list[str]:
    return [str(kind["code"]) for kind in reason["error_types"] for _ in kind.get("sample_errors", ())]


def _sampled(request: dict[str, Any]) -> str:
    """Our identifier in a sample: documentation shows it as `identifier`, samples also as `idempotency_key`, which
    begins with it [docs, SDK differ]."""
    return str(request.get("identifier") or request.get("idempotency_key") or "").partition(":")[0]


def _ms(value: Any) -> int:
    """A time of a v2 object, which the SDK may have read already, in epoch milliseconds."""
    return parse_rfc3339(value) if isinstance(value, str) else int(value.timestamp()) * 1000
