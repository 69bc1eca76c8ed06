"""Billing meter event summaries: the only way to read usage back. Exact Decimals inside; eventually consistent by a
set lag.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Context, Decimal
from typing import TYPE_CHECKING

from local.stripe_double.errors import invalid, missing_resource
from local.stripe_double.ids import derived_id
from local.stripe_double.lists import PAGING, page
from local.stripe_double.meter_events import MeterEvent, window_seconds, winners
from local.stripe_double.meters import Meter
from local.stripe_double.operations import Call, Operation
from local.stripe_double.params import OneOf, Param, Params, Text, Whole
from local.stripe_double.wire import JsonObject

if TYPE_CHECKING:
    from local.stripe_double.state import Double

LIST = Params(
    {
        **PAGING,
        "customer": Param(Text(), required=True),
        "start_time": Param(Whole(), required=True),
        "end_time": Param(Whole(), required=True),
        "value_grouping_window": Param(OneOf(("hour", "day"))),
    },
    frozenset({"expand"}),
)

_EXACT = Context(prec=20_000)
"""Holds the sum of any values that a payload can hold, so addition never rounds."""


def list_all(double: Double, call: Call) -> JsonObject:
    """GET /v1/billing/meters/{id}/event_summaries.

    - `start_time` and `end_time` on whole minutes, with a grouping on whole UTC hours or days; misaligned: 400 [SDK:
      MeterEventSummaryListParams]. `start_time` 0 is refused [observed]; the end must come after the start [assumed].
    - start inclusive, end exclusive [SDK: the parameter's text; the field's text says inclusive].
    - one summary without grouping, else one for each hour or day, newest first; windows without usage are left out
      [docs: the sample answer of the list call; for the ungrouped window assumed].
    - an event is seen `lag` after its receipt, a cancellation likewise: "eventually consistent" [SDK].
    - an unknown customer: 400 [assumed]; a deleted one keeps its past usage [assumed].
    """
    params = call.params
    meter = double.meters.get(call.args["id"])
    customer = params["customer"]
    grouping = params.get("value_grouping_window")
    start, end = params["start_time"], params["end_time"]
    _check_range(start, end, grouping)
    if double.customers.get(customer) is None:
        raise missing_resource("customer", customer, "customer", status=400)

    visible = _visible(double, meter, customer, start, end)
    summaries: list[JsonObject] = [
        {
            "id": derived_id("mtrusg_test", meter.id, customer, window_start, window_end),
            "object": "billing.meter_event_summary",
            "aggregated_value": aggregate(meter.formula, events),
            "end_time": window_end,
            "livemode": False,
            "meter": meter.id,
            "start_time": window_start,
        }
        for window_start, window_end, events in _windows(visible, start, end, grouping)
    ]
    summaries.reverse()
    return page(summaries, params, call.path, "billing meter event summary")


def _check_range(start: int, end: int, grouping: str | None) -> None:
    step = 60 if grouping is None else window_seconds(grouping)
    boundary = {60: "minute", 3_600: "hour", 86_400: "day"}[step]
    for name, moment in (("start_time", start), ("end_time", end)):
        if moment % step:
            raise invalid(f"{name} must be aligned with {boundary} boundaries (UTC).", name)
        if moment <= 0:
            raise invalid(f"Invalid {name}: must be greater than 0.", name)
    if start >= end:
        raise invalid("end_time must be after start_time.", "end_time")


def _visible(double: Double, meter: Meter, customer: str, start: int, end: int) -> list[MeterEvent]:
    """Events in [start, end) that count and that a reader may see by now, by timestamp, then receipt."""
    horizon = double.clock.now_ms() - double.lag_ms
    if meter.event_time_window is None:
        first, last = start, end
    else:
        # Whether an event counts is decided in its whole hour or day, also where the range cuts through it.
        size = window_seconds(meter.event_time_window)
        first, last = start // size * size, -(-end // size) * size
    seen = [
        event
        for event in double.meter_events.between(meter.id, customer, first, last)
        if event.received_ms <= horizon and (event.cancelled_ms is None or event.cancelled_ms > horizon)
    ]
    return [event for event in winners(seen, meter.event_time_window) if start <= event.timestamp < end]


def _windows(
    events: list[MeterEvent], start: int, end: int, grouping: str | None
) -> Iterator[tuple[int, int, list[MeterEvent]]]:
    if not events:
        return
    if grouping is None:
        yield start, end, events
        return
    size = window_seconds(grouping)
    groups: dict[int, list[MeterEvent]] = {}
    for event in events:
        groups.setdefault(event.timestamp // size * size, []).append(event)
    for window_start, group in groups.items():
        yield window_start, window_start + size, group


def aggregate(formula: str, events: list[MeterEvent]) -> Decimal:
    """sum, count, or last: the latest timestamp's value [SDK: formula]; of equal ones the last received [assumed]."""
    if formula == "count":
        return Decimal(len(events))
    if formula == "last":
        return events[-1].value or Decimal(0)
    total = Decimal(0)
    for event in events:
        total = _EXACT.add(total, event.value or Decimal(0))
    return total


OPERATIONS = (Operation("GET", "/v1/billing/meters/{id}/event_summaries", list_all, LIST),)
