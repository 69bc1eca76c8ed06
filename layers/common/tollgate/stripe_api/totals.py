"""Usage totals at Stripe, read and undone: meter event summaries and adjustments.

- `event_summaries` without grouping gives one total for a range of whole minutes, start inclusive [SDK]. It
  lags behind.
- `meter_event_adjustments` cancels one event by its identifier within 24 hours of its receipt; it never changes a
  finalized invoice [SDK].
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

import stripe

from tollgate.billing.sink import SinkUnavailable
from tollgate.quantities import EXACT, ZERO
from tollgate.stripe_api.reading import Connection, StripeRefused, StripeUnavailable

T = TypeVar("T")


class StripeTotals:
    """`spend` is asked before each GET, and raises where the month's reads are spent."""

    def __init__(self, connection: Connection, spend: Callable[[int], None]) -> None:
        self._connection, self._spend = connection, spend
        self._meters: dict[str, str] = {}

    def total(self, customer: str, event_name: str, start: int, end: int) -> Decimal:
        """Units counted in [start, end), whole minutes. Raises LookupError where no meter has the event name or there
        is no such customer, SinkUnavailable where Stripe gives no usable answer."""
        meter = self.meter(event_name)
        self._spend(1)
        page = self._read(
            lambda client: client.v1.billing.meters.event_summaries.list(
                meter, {"customer": customer, "start_time": start, "end_time": end, "limit": 100}
            )
        )
        # The SDK reads the value as a binary fraction; the answer's own text has all its digits.
        if page.last_response is None:
            raise AssertionError("the SDK keeps the answer's text")
        answer = json.loads(page.last_response.body, parse_float=Decimal, parse_int=Decimal)
        total = ZERO
        for summary in answer["data"]:
            total = EXACT.add(total, Decimal(summary["aggregated_value"]))
        return total

    def customer_exists(self, customer: str) -> bool:
        """Raises SinkUnavailable."""
        self._spend(1)
        try:
            found = self._connection.patiently(lambda client: client.v1.customers.retrieve(customer))
        except StripeRefused as refused:
            if refused.missing:
                return False
            raise SinkUnavailable(str(refused)) from refused
        except StripeUnavailable as trouble:
            raise SinkUnavailable(str(trouble)) from trouble
        return not getattr(found, "deleted", False)

    def cancel(self, event_name: str, identifier: str) -> bool:
        """Cancel an event. Repeating it is harmless: one that is cancelled already is refused. Raises
        SinkUnavailable."""
        try:
            self._connection.patiently(
                lambda client: client.v1.billing.meter_event_adjustments.create(
                    {"type": "cancel", "event_name": event_name, "cancel": {"identifier": identifier}}
                )
            )
        except StripeRefused:
            return False
        except StripeUnavailable as trouble:
            raise SinkUnavailable(str(trouble)) from trouble
        return True

    def meter(self, event_name: str) -> str:
        """Stripe's id of the active meter with that event name. Raises as `total`."""
        if event_name not in self._meters:
            self._spend(1)
            listed = self._read(lambda client: client.v1.billing.meters.list({"status": "active", "limit": 100}))
            self._meters |= {meter.event_name: meter.id for meter in listed.auto_paging_iter()}
        if event_name not in self._meters:
            raise LookupError(f"no active meter at Stripe has the event name {event_name}")
        return self._meters[event_name]

    def _read(self, request: Callable[[stripe.StripeClient], T]) -> T:
        try:
            return self._connection.patiently(request)
        except (StripeRefused, StripeUnavailable) as trouble:
            if isinstance(trouble, StripeRefused) and trouble.missing:
                raise LookupError(str(trouble)) from trouble  # asking again would not help
            raise SinkUnavailable(str(trouble)) from trouble
