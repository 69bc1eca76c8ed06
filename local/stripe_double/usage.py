"""What a line with metered usage comes to: the events of its service period that have been received."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from local.stripe_double.event_summaries import aggregate
from local.stripe_double.ids import derived_id
from local.stripe_double.invoice_objects import Invoice, Line, Usage
from local.stripe_double.meter_events import window_seconds, winners
from local.stripe_double.rating import by_tier, cost, rounded

if TYPE_CHECKING:
    from local.stripe_double.state import Double


def quantity(double: Double, usage: Usage) -> Decimal:
    """Usage by the events' own timestamps, start inclusive, end exclusive [docs: recording usage]. Received is enough:
    the summaries' lag does not hold it back [assumed]. A negative total bills as 0 [docs].
    """
    meter = double.meters.get(usage.meter)
    start, end = usage.start, usage.end
    if meter.event_time_window is not None:
        # Which event of an hour or a day counts is decided in the whole of it, also where a period edge cuts it.
        size = window_seconds(meter.event_time_window)
        start, end = start // size * size, -(-end // size) * size
    live = [
        event
        for event in double.meter_events.between(usage.meter, usage.customer, start, end)
        if event.cancelled_ms is None
    ]
    counted = [e for e in winners(live, meter.event_time_window) if usage.start <= e.timestamp < usage.end]
    return max(Decimal(0), aggregate(meter.formula, counted)) if counted else Decimal(0)


def refresh(double: Double, invoice: Invoice) -> None:
    """Bring a draft's metered lines up to date; a finalized invoice never changes again."""
    if invoice.status == "draft":
        whole = [line for line in invoice.lines if not line.tier]
        invoice.lines = [current for line in whole for current in _current(double, line)]


def _current(double: Double, line: Line) -> list[Line]:
    """A metered line as of now. Whether Stripe makes a line, rounded by itself, of each tier of a graduated price is
    unknown: the setting `tier_lines` chooses.
    """
    if line.usage is None or line.price is None:
        return [line]
    pricing, used = line.price.pricing, quantity(double, line.usage)
    if not double.tier_lines or pricing.mode != "graduated":
        line.quantity, line.amount = used, rounded(cost(pricing, used))
        return [line]
    (line.quantity, first), *more = by_tier(pricing, used)
    line.amount = rounded(first)
    return [line] + [
        replace(line, id=derived_id("il", line.id, tier), tier=tier, quantity=count, amount=rounded(part))
        for tier, (count, part) in enumerate(more, 1)
    ]
