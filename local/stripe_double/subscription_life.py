"""How a subscription begins, cycles and ends: what it bills when.

Flexible billing mode [docs: billing mode]: licensed prices bill in advance, metered ones in arrears and not on the
first invoice, which is not made at all where nothing is due in advance. Usage belongs to an item from the moment the
item was added or last billed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from local.stripe_double import invoicing
from local.stripe_double.changes import emit_update
from local.stripe_double.events import emit
from local.stripe_double.invoice_objects import Invoice, Line
from local.stripe_double.invoicing import licensed_line, usage_line
from local.stripe_double.periods import around
from local.stripe_double.subscription_objects import Item, Subscription

if TYPE_CHECKING:
    from local.stripe_double.state import Double


def period(item: Item, moment: int) -> tuple[int, int]:
    """The full period of the item's anchor around a moment."""
    interval = item.price.interval
    assert interval is not None
    return around(item.anchor, interval, item.price.interval_count, moment, item.anchor_day)


def first_invoice(
    double: Double, subscription: Subscription, *, prorate: bool, pay_now: bool, backdated: int | None
) -> None:
    """Bill what is due in advance, at once; a subscription with a trial gets an invoice over nothing [docs: trials]. It
    is `incomplete` until this invoice is paid.
    """
    lines: list[Line] = []
    for item in subscription.items:
        if item.price.metered:
            continue
        if subscription.status == "trialing":
            line = licensed_line(subscription, item, item.start, item.end, item.end - item.start)
            line.amount, item.debit = 0, None
            lines.append(line)
            continue
        for start, end in _periods_since(item, backdated):
            full_start, full_end = period(item, start)
            if prorate or (start, end) == (full_start, full_end):
                lines.append(licensed_line(subscription, item, start, end, full_end - full_start))
    if not lines and not double.invoices.pending(subscription.customer, subscription.id, subscription.currency):
        return
    if subscription.status != "trialing":
        subscription.status = "incomplete"
    invoice = _bill(double, subscription, lines, "subscription_create", min(i.start for i in subscription.items))
    invoicing.finalize(double, invoice, pay_now=pay_now)


def _periods_since(item: Item, backdated: int | None) -> Iterable[tuple[int, int]]:
    start = item.start if backdated is None else backdated
    while start < item.end:
        end = period(item, start)[1]
        yield start, end
        start = end


def step(double: Double, subscription: Subscription) -> None:
    """What falls due for a subscription at this moment of the clock."""
    now = double.clock.now()
    if subscription.status == "incomplete":
        expire(double, subscription)
        return
    pause = subscription.pause_collection
    if pause is not None and pause["resumes_at"] is not None and pause["resumes_at"] <= now:
        before = subscription.view()
        subscription.pause_collection = None
        emit_update(double, "customer.subscription.updated", before, subscription.view())
    tell_trial_end(double, subscription)
    if subscription.cancel_at is not None and subscription.cancel_at <= now:
        final_invoice(double, subscription)
        invoicing.end(double, subscription, "cancellation_requested")
    elif subscription.period_end <= now:
        cycle(double, subscription)


def tell_trial_end(double: Double, subscription: Subscription) -> None:
    """`trial_will_end` three days before, or at once for a shorter trial [docs: subscription events]."""
    due = subscription.next_due()
    trialing = subscription.status == "trialing" and not subscription.will_end_told
    if trialing and due is not None and due <= double.clock.now():
        subscription.will_end_told = True
        emit(double, "customer.subscription.trial_will_end", subscription.view())


def expire(double: Double, subscription: Subscription) -> None:
    """The first invoice was not paid within 23 hours: it is void, and so is the subscription [docs]."""
    for invoice in double.invoices.of_subscription(subscription.id):
        if invoice.status == "open":
            invoicing.void(double, invoice)
    before = subscription.view()
    subscription.status, subscription.ended_at = "incomplete_expired", double.clock.now()
    emit_update(double, "customer.subscription.updated", before, subscription.view())


def cycle(double: Double, subscription: Subscription) -> None:
    """Bill the usage of the periods that have ended and the next ones in advance; a draft, finalized after the
    grace.
    """
    now = double.clock.now()
    before = subscription.view()
    trial = subscription.status == "trialing"
    ended = [item for item in subscription.items if item.end <= now]
    start = min(item.start for item in ended)
    # Usage in a trial is free [docs: trials].
    lines = [
        usage_line(double, subscription, item, item.usage_from, item.end)
        for item in ended
        if item.price.metered and not trial
    ]
    for item in ended:
        item.start, item.end = period(item, item.end)
        item.usage_from = item.start
        if not item.price.metered:
            lines.append(licensed_line(subscription, item, item.start, item.end, item.end - item.start))
    if trial:
        subscription.status = "active"
    if lines or double.invoices.pending(subscription.customer, subscription.id, subscription.currency):
        _bill(double, subscription, lines, "subscription_cycle", start)
    emit_update(double, "customer.subscription.updated", before, subscription.view())


def final_invoice(double: Double, subscription: Subscription) -> Invoice | None:
    """A draft with the usage that is not billed yet and pending items; None where there is nothing. Nothing follows
    it.
    """
    now = double.clock.now()
    lines = usage_so_far(double, subscription)
    if not lines and not double.invoices.pending(subscription.customer, subscription.id, subscription.currency):
        return None
    return _bill(double, subscription, lines, "subscription_cycle", min([i.start for i in subscription.items] + [now]))


def usage_so_far(double: Double, subscription: Subscription) -> list[Line]:
    """Lines for metered usage up to now that no invoice has; none in a trial."""
    now = double.clock.now()
    if subscription.status == "trialing":
        return []
    return [
        usage_line(double, subscription, item, item.usage_from, now)
        for item in subscription.items
        if item.price.metered and item.usage_from < now
    ]


def _bill(double: Double, subscription: Subscription, lines: list[Line], reason: str, start: int) -> Invoice:
    now = double.clock.now()
    return invoicing.create(
        double,
        subscription.customer,
        subscription.currency,
        reason,
        lines,
        subscription=subscription,
        start=start,
        end=now,
    )


def bill_now(double: Double, subscription: Subscription, lines: list[Line], reason: str) -> None:
    """An invoice on request, finalized and collected at once."""
    invoice = _bill(double, subscription, lines, reason, double.clock.now())
    invoicing.finalize(double, invoice)
