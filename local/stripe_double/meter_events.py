"""Billing meter events, v1: create. What is accepted here is what an invoice and the summaries are made of.

A call is checked on receipt. A problem is either refused with a 400, or the event is taken with 200, not counted, and
reported later (`error_reports`). Which problems take which way is known for some only, so `Double.late_checks` can
move those marked [both ways possible] to the late way; an unknown customer is always late [docs].
"""

from __future__ import annotations

import re
import uuid
from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING

from local.stripe_double.clock import DAY_MS
from local.stripe_double.error_reports import Failure
from local.stripe_double.errors import ApiError
from local.stripe_double.meters import Meter
from local.stripe_double.operations import Call, Operation
from local.stripe_double.params import Param, Params, Text, TextMap, Whole
from local.stripe_double.wire import JsonObject, plain

if TYPE_CHECKING:
    from local.stripe_double.state import Double

UNIQUE_MS = DAY_MS
"""How long an identifier stays taken: "a rolling period of at least 24 hours" [SDK]; the double takes exactly 24
hours.
"""
OLDEST_SECONDS = 35 * 86_400
AHEAD_SECONDS = 5 * 60
MAX_DIGITS = 15

CREATE = Params(
    {
        "event_name": Param(Text(100), required=True),
        "payload": Param(TextMap(), required=True),
        "identifier": Param(Text(100)),
        "timestamp": Param(Whole(0)),
    },
    frozenset({"expand"}),
)

_VALUE = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")

LATE_CHECKS = frozenset(
    {
        "archived_meter",
        "meter_event_invalid_value",
        "meter_event_no_customer_defined",
        "meter_event_value_too_many_digits",
        "no_meter",
        "timestamp_in_future",
        "timestamp_too_far_in_past",
    }
)
"""The codes of asynchronous reports [SDK] that the double can be told to use in place of a 400."""


@dataclass(slots=True)
class MeterEvent:
    """One accepted event. `value` is None only where the event is not counted; `rejected` is then the report's code.

    `timestamp` is epoch seconds, `received_ms` and `cancelled_ms` epoch milliseconds.
    """

    sequence: int
    identifier: str
    event_name: str
    meter_id: str | None
    customer: str | None
    value: Decimal | None
    payload: dict[str, str]
    timestamp: int
    received_ms: int
    rejected: str | None = None
    cancelled_ms: int | None = None

    def view(self) -> JsonObject:
        """The object that a create answers [SDK: MeterEvent]."""
        return {
            "object": "billing.meter_event",
            "created": self.received_ms // 1000,
            "event_name": self.event_name,
            "identifier": self.identifier,
            "livemode": False,
            "payload": dict(self.payload),
            "timestamp": self.timestamp,
        }


class MeterEvents:
    """Every accepted event in order of receipt; those that count also by meter and customer, in order of their
    timestamps.
    """

    def __init__(self) -> None:
        self.received: list[MeterEvent] = []
        self._by_identifier: dict[str, MeterEvent] = {}
        self._by_pair: dict[tuple[str, str], list[MeterEvent]] = {}

    def add(self, event: MeterEvent) -> None:
        self.received.append(event)
        self._by_identifier[event.identifier] = event
        if event.rejected is None and event.meter_id is not None and event.customer is not None:
            insort(self._by_pair.setdefault((event.meter_id, event.customer), []), event, key=attrgetter("timestamp"))

    def latest(self, identifier: str) -> MeterEvent | None:
        """The last accepted event with this identifier; an identifier is free again after a day."""
        return self._by_identifier.get(identifier)

    def of_pair(self, meter_id: str, customer: str) -> list[MeterEvent]:
        """Counted or cancelled events of one meter and customer, by timestamp, then receipt."""
        return self._by_pair.get((meter_id, customer), [])

    def between(self, meter_id: str, customer: str, start: int, end: int) -> list[MeterEvent]:
        """Counted or cancelled events with `start <= timestamp < end`, epoch seconds, by timestamp, then receipt."""
        events = self.of_pair(meter_id, customer)
        by_time = attrgetter("timestamp")
        return events[bisect_left(events, start, key=by_time) : bisect_left(events, end, key=by_time)]


def winners(events: list[MeterEvent], event_time_window: str | None) -> list[MeterEvent]:
    """The events that count. In a pre-aggregated meter only the most recently received one of each UTC hour or day does
    [SDK: Meter.event_time_window; docs: recording usage]; that it is one per customer is [assumed]."""
    if event_time_window is None:
        return events
    size = window_seconds(event_time_window)
    latest: dict[int, MeterEvent] = {}
    for event in sorted(events, key=attrgetter("sequence")):
        latest[event.timestamp // size] = event
    return sorted(latest.values(), key=attrgetter("timestamp", "sequence"))


def window_seconds(window: str) -> int:
    """The length of an `hour` or a `day`."""
    return {"hour": 3_600, "day": 86_400}[window]


def create(double: Double, call: Call) -> JsonObject:
    """POST /v1/billing/meter_events.

    - The problems of `_problems` are refused or taken late.
    - An identifier seen within 24 hours: 400 `invalid_request_error` without a code, `An event already exists with
      identifier <id>.`, header `stripe-should-retry: false` [observed]. Later it counts again: "at least 24 hours"
      [SDK]. Whether the identifier is unique in the account or in the meter is unknown; the account is the stricter
      [assumed]. The check comes after all others [assumed].
    - Without an identifier one is made, without a timestamp it is the time of receipt [SDK].
    """
    now_ms = double.clock.now_ms()
    event_name, payload = call.params["event_name"], call.params["payload"]
    timestamp = call.params.get("timestamp", now_ms // 1000)
    meter = double.meters.active(event_name)
    target = meter or double.meters.archived(event_name)

    rejected: tuple[str, str] | None = None
    for code, message in _problems(double, meter, target, event_name, payload, timestamp):
        if code != "meter_event_customer_not_found" and code not in double.late_checks:
            raise ApiError(400, message)
        rejected = rejected or (code, message)

    identifier = call.params.get("identifier") or str(uuid.uuid4())
    if taken(double, identifier, event_name, payload):
        raise ApiError(
            400, f"An event already exists with identifier {identifier}.", headers={"stripe-should-retry": "false"}
        )

    event = MeterEvent(
        sequence=len(double.meter_events.received),
        identifier=identifier,
        event_name=event_name,
        meter_id=target.id if target else None,
        customer=payload.get(target.customer_key if target else "stripe_customer_id"),
        value=None if rejected else _value(target, payload),
        payload=payload,
        timestamp=timestamp,
        received_ms=now_ms,
        rejected=rejected[0] if rejected else None,
    )
    double.meter_events.add(event)
    if rejected:
        code, message = rejected
        double.error_reports.add(Failure(event.meter_id, code, message, call.idempotency_key or identifier, now_ms))
    return event.view()


def taken(double: Double, identifier: str, event_name: str, payload: Mapping[str, str]) -> bool:
    """Whether an identifier is in use: of which meter and customer makes no difference [assumed]."""
    earlier = double.meter_events.latest(identifier)
    return earlier is not None and double.clock.now_ms() - earlier.received_ms < UNIQUE_MS


def in_work(double: Double, call: Call) -> Hashable | None:
    """One concurrent call per customer and meter; a second one gets a 429 `endpoint-concurrency` [docs: rate
    limits].
    """
    meter = double.meters.active(call.params["event_name"])
    customer = call.params["payload"].get(meter.customer_key) if meter else None
    return None if meter is None or customer is None else (meter.id, customer)


def listing(double: Double, filters: Mapping[str, str]) -> list[JsonObject]:
    """Accepted events in order of receipt, for tests: what was sent and whether it counts, with the reason where not.

    `filters` by identifier, customer or event_name. `reason` is an error report's code, `cancelled` or `superseded`
    (pre-aggregated meters). Times are epoch seconds, values plain decimal strings.
    """
    rows = []
    counting: dict[tuple[str, str], set[int]] = {}
    for event in double.meter_events.received:
        if any(getattr(event, name) != wanted for name, wanted in filters.items()):
            continue
        reason = event.rejected
        if reason is None and event.cancelled_ms is not None:
            reason = "cancelled"
        if reason is None and event.meter_id is not None and event.customer is not None:
            pair = (event.meter_id, event.customer)
            if pair not in counting:
                counting[pair] = _counting(double, *pair)
            reason = None if event.sequence in counting[pair] else "superseded"
        rows.append(
            {
                "identifier": event.identifier,
                "event_name": event.event_name,
                "meter": event.meter_id,
                "customer": event.customer,
                "value": None if event.value is None else plain(event.value),
                "timestamp": event.timestamp,
                "received_at": event.received_ms // 1000,
                "counted": reason is None,
                "reason": reason,
            }
        )
    return rows


def _counting(double: Double, meter_id: str, customer: str) -> set[int]:
    pair = double.meter_events.of_pair(meter_id, customer)
    live = [event for event in pair if event.cancelled_ms is None]
    return {event.sequence for event in winners(live, double.meters.get(meter_id).event_time_window)}


def _problems(
    double: Double,
    meter: Meter | None,
    target: Meter | None,
    event_name: str,
    payload: Mapping[str, str],
    timestamp: int,
) -> Iterator[tuple[str, str]]:
    """What is wrong with an event, as (report code, message), the first being the one that is told.

    - no active meter for the event name: 400 [observed]; archived: the same 400 [assumed; both ways possible]
    - older than 35 days: 400, text as observed; more than 5 minutes ahead: 400 [observed for a customer on a test
      clock; both ways possible]
    - no customer key in the payload: text from the docs' sample report; 400 on receipt [assumed; both ways possible]
    - a value that is missing or no plain decimal: 400 [assumed; both ways possible]; more than 15 significant digits:
      400 [docs: changelog 2026-04-22.dahlia]. Digits are counted as sent, without leading zeros [assumed]
    - an unknown or deleted customer: 200, reported later, not counted [docs]
    """
    no_meter = f'No active meter found for event name "{event_name}".'
    if target is None:
        yield "no_meter", no_meter
        return
    if meter is None:
        yield "archived_meter", no_meter
    now = double.clock.now()
    if timestamp < now - OLDEST_SECONDS:
        yield (
            "timestamp_too_far_in_past",
            "The event timestamp cannot be more than 35 days in past. "
            f"Expected a timestamp greater than or equal to {now - OLDEST_SECONDS}.",
        )
    if timestamp > now + AHEAD_SECONDS:
        yield "timestamp_in_future", "The event timestamp cannot be in future."
    customer = payload.get(target.customer_key)
    if not customer:
        yield "meter_event_no_customer_defined", f"Customer mapping key {target.customer_key} not found in payload."
    text = payload.get(target.value_key)
    if text is None and target.formula != "count":
        yield "meter_event_invalid_value", f"Value key {target.value_key} not found in payload."
    if text is not None and _VALUE.fullmatch(text) is None:
        yield "meter_event_invalid_value", f"Invalid value for {target.value_key}: {text}. It must be a number."
    elif text is not None and len(re.sub(r"[-.]", "", text).lstrip("0")) > MAX_DIGITS:
        yield (
            "meter_event_value_too_many_digits",
            f"The value {text} has too many digits: at most {MAX_DIGITS} significant digits are supported.",
        )
    if customer and not double.customers.is_live(customer):
        yield "meter_event_customer_not_found", f"No such customer: '{customer}'"


def _value(meter: Meter | None, payload: Mapping[str, str]) -> Decimal | None:
    if meter is None:
        return None
    return Decimal(payload.get(meter.value_key, "1"))


OPERATIONS = (Operation("POST", "/v1/billing/meter_events", create, CREATE, exclusive=in_work),)
