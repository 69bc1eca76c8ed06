"""The sink on Stripe's billing meters (meter events v1, stripe-python 16).

Each send is one HTTP call: the client never retries by itself. What an answer means:

- 400 `An event already exists with identifier <id>.`, without a code: a duplicate, the batch is there [observed].
- 401, 403 (key wrong or rotated), 409 (lock, key in use), 429: refused for now.
- other 4xx: refused for good, as it stands.
- 5xx, no answer, a broken answer: nothing is known. A v1 500 may follow an effect.
- no connection: nothing was sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final

import stripe

from tollgate.billing.sink import Accepted, Duplicate, NotSent, Refused, SendResult, SinkEvent, SinkUnavailable, Unknown
from tollgate.errors import StripeUnavailable
from tollgate.quantities import EXACT, ZERO, plain

_RETRYABLE: Final = frozenset({401, 403, 409, 429})
_REASONS: Final = (
    ("No active meter", "no_active_meter"),
    ("cannot be more than 35 days in past", "timestamp_too_old"),
    ("cannot be in future", "timestamp_in_future"),
    ("digits", "too_many_digits"),
)
"""Messages of refusals without a code, and the reason that they stand for."""


class StripeSink:
    """Sink on Stripe. `connect` makes a client; it is asked again after a 401, as the key may have been rotated. It may
    raise StripeUnavailable: nothing is sent then."""

    def __init__(self, connect: Callable[[], stripe.StripeClient]) -> None:
        self._connect = connect
        self._client: stripe.StripeClient | None = None
        self._meters: dict[str, str] = {}

    def send(self, event: SinkEvent) -> SendResult:
        try:
            self._stripe().v1.billing.meter_events.create(
                {
                    "event_name": event.event_name,
                    "identifier": event.identifier,
                    "timestamp": event.timestamp,
                    "payload": {"stripe_customer_id": event.customer, "value": plain(event.value)},
                },
                {"idempotency_key": event.idempotency_key},
            )
        except StripeUnavailable as error:
            return NotSent(error.message)  # there is no client to send with
        except stripe.StripeError as error:
            return self._failed(error, event.identifier)
        return Accepted()

    def customer_exists(self, customer: str) -> bool:
        try:
            found = self._stripe().v1.customers.retrieve(customer)
        except StripeUnavailable as error:
            raise SinkUnavailable(error.message) from error
        except stripe.StripeError as error:
            if error.http_status == 404:
                return False
            raise self._unavailable(error) from error
        return not getattr(found, "deleted", False)

    def total(self, customer: str, event_name: str, start: int, end: int) -> Decimal:
        """Raises LookupError where no meter has the event name, SinkUnavailable where Stripe gives no answer."""
        try:
            meter = self._meter(event_name)
            page = self._stripe().v1.billing.meters.event_summaries.list(
                meter, {"customer": customer, "start_time": start, "end_time": end, "limit": 100}
            )
        except StripeUnavailable as error:
            raise SinkUnavailable(error.message) from error
        except stripe.StripeError as error:
            raise self._unavailable(error) from error
        # The SDK reads the value as a binary fraction; the answer's own text has all its digits.
        total = ZERO
        for summary in _exact(page)["data"]:
            total = EXACT.add(total, Decimal(summary["aggregated_value"]))
        return total

    def _stripe(self) -> stripe.StripeClient:
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _failed(self, error: stripe.StripeError, identifier: str) -> SendResult:
        status, message = error.http_status, error.user_message or str(error)
        if status is None:
            if isinstance(error, stripe.APIConnectionError) and _never_connected(error):
                return NotSent(_brief(message))
            return Unknown(_brief(message))
        if not 400 <= status < 500:
            return Unknown(f"status {status}: {_brief(message)}")
        if status == 400 and message.startswith(f"An event already exists with identifier {identifier}"):
            return Duplicate()
        if status == 401:
            self._client = None
        return Refused(status, _code(error, message), _brief(message), status in _RETRYABLE)

    def _unavailable(self, error: stripe.StripeError) -> SinkUnavailable:
        if error.http_status == 401:
            self._client = None
        return SinkUnavailable(f"status {error.http_status}: {_brief(error.user_message or str(error))}")

    def _meter(self, event_name: str) -> str:
        if event_name not in self._meters:
            meters = self._stripe().v1.billing.meters.list({"status": "active", "limit": 100})
            self._meters |= {meter.event_name: meter.id for meter in meters.auto_paging_iter()}
        if event_name not in self._meters:
            raise LookupError(f"no active meter at Stripe has the event name {event_name}")
        return self._meters[event_name]


def _code(error: stripe.StripeError, message: str) -> str:
    if error.code:
        return str(error.code)
    return next((reason for text, reason in _REASONS if text in message), f"status_{error.http_status}")


def _brief(message: str) -> str:
    return " ".join(message.split())[:300]


def _exact(answer: Any) -> Any:
    return json.loads(answer.last_response.body, parse_float=Decimal, parse_int=Decimal)


def _never_connected(error: BaseException) -> bool:
    """Whether no connection came about: then nothing was sent. Known by the causes' class names, as the HTTP library
    under the SDK is not ours to import."""
    return any(
        type(cause).__name__ in ("NewConnectionError", "ConnectTimeoutError", "ConnectTimeout", "NameResolutionError")
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    pending: list[object] = [error]
    seen: set[int] = set()
    while pending:
        cause = pending.pop()
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        # urllib3's MaxRetryError carries its cause as `reason`, and requests wraps it as an argument.
        pending += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
