"""The life of an invoice: made, finalized, paid or not, given up. Every step is told as an event.

Draft -> (grace of 1 hour, or as set) -> finalized -> paid, or past due and retried -> given up. The first invoice of a
subscription and those made on request are finalized at once [docs: subscription invoices, configure grace period].
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING

from local.stripe_double.changes import emit_update
from local.stripe_double.errors import ApiError
from local.stripe_double.events import emit
from local.stripe_double.ids import new_id
from local.stripe_double.invoice_objects import Invoice, InvoiceItem, Line, Usage
from local.stripe_double.payments import RETRY_DAYS
from local.stripe_double.prices import Price
from local.stripe_double.rating import cost, rounded
from local.stripe_double.subscription_objects import Debit, Item, Subscription
from local.stripe_double.usage import quantity, refresh

if TYPE_CHECKING:
    from local.stripe_double.state import Double

GRACE_SECONDS = 3_600
DAY_SECONDS = 86_400


def licensed_line(subscription: Subscription, item: Item, start: int, end: int, full: int) -> Line:
    """The charge in advance for a time, as the share of a full period of `full` seconds; the item remembers it."""
    count = Decimal(item.quantity or 0)
    exact = cost(item.price.pricing, count)
    amount = rounded(exact * (end - start) / full)
    item.debit = Debit(amount, start, end)
    return _line(subscription, item, amount, start, end, count, f"{plain_name(item)} (at {item.price.id})")


def usage_line(double: Double, subscription: Subscription, item: Item, start: int, end: int) -> Line:
    """The charge in arrears for usage in `start <= timestamp < end`."""
    assert item.price.meter is not None
    usage = Usage(item.price.meter, subscription.customer, start, end)
    used = quantity(double, usage)
    amount = rounded(cost(item.price.pricing, used))
    line = _line(subscription, item, amount, start, end, used, f"Usage (at {item.price.id})")
    line.usage = usage
    return line


def plain_name(item: Item) -> str:
    return f"{item.quantity} × {item.price.nickname or item.price.product}"


def _line(
    subscription: Subscription, item: Item, amount: int, start: int, end: int, count: Decimal, description: str
) -> Line:
    return Line(
        id=new_id("il"),
        amount=amount,
        currency=item.price.currency,
        description=description,
        start=start,
        end=end,
        quantity=count,
        price=item.price,
        subscription=subscription.id,
        subscription_item=item.id,
        metadata=dict(item.metadata),
    )


def add_pending(double: Double, customer: str, line: Line) -> InvoiceItem:
    """Leave a line for the customer's next invoice."""
    item = InvoiceItem(new_id("ii"), line, customer, double.clock.now())
    line.invoice_item = item.id
    double.invoices.add_item(item)
    emit(double, "invoiceitem.created", item.view())
    return item


def create(
    double: Double,
    customer: str,
    currency: str,
    reason: str,
    lines: Iterable[Line],
    *,
    subscription: Subscription | None = None,
    start: int | None = None,
    end: int | None = None,
    take_pending: bool = True,
) -> Invoice:
    """A draft with these lines and the pending invoice items; it finalizes after the grace unless done earlier."""
    now = double.clock.now()
    found = double.customers.get(customer)
    invoice = Invoice(
        id=new_id("in"),
        customer=customer,
        created=now,
        currency=currency,
        reason=reason,
        start=now if start is None else start,
        end=now if end is None else end,
        subscription=subscription.id if subscription else None,
        subscription_metadata=dict(subscription.metadata) if subscription else {},
        customer_values=dict(found.values) if found else {},
        lines=list(lines),
        finalizes_at=now + GRACE_SECONDS,
    )
    if take_pending:
        for pending in double.invoices.pending(customer, invoice.subscription, currency):
            pending.invoice = invoice.id
            invoice.lines.append(pending.line)
    refresh(double, invoice)
    double.invoices.add(invoice)
    if subscription is not None:
        subscription.latest_invoice = invoice.id
        if subscription.status == "unpaid" or _kept_as_draft(subscription):
            # Nothing is collected from a subscription that is unpaid or whose collection is paused [docs].
            invoice.auto_advance, invoice.finalizes_at = False, None
    emit(double, "invoice.created", invoice.view())
    double.schedule.put(invoice.next_due(), invoice.id)
    return invoice


def _kept_as_draft(subscription: Subscription) -> bool:
    pause = subscription.pause_collection
    return pause is not None and pause["behavior"] == "keep_as_draft"


def step(double: Double, invoice: Invoice) -> None:
    """What falls due for an invoice: the end of its grace, or another attempt at payment."""
    if invoice.status == "draft":
        finalize(double, invoice)
    else:
        attempt(double, invoice)


def finalize(double: Double, invoice: Invoice, *, pay_now: bool = True) -> None:
    """Fix the lines, use up the customer's balance, number the invoice, and try to collect. Usage that arrives later is
    on no invoice [docs: configure grace period]. Raises ApiError for an invoice that is no draft.
    """
    if invoice.status != "draft":
        raise ApiError(400, f"This invoice is already finalized, you can't re-finalize a {invoice.status} invoice.")
    refresh(double, invoice)
    now = double.clock.now()
    balance = double.balances.get(invoice.customer, 0)
    invoice.starting_balance = balance
    invoice.ending_balance = min(0, invoice.total + balance)
    set_balance(double, invoice.customer, invoice.ending_balance)
    invoice.status, invoice.finalized_at, invoice.finalizes_at = "open", now, None
    invoice.number = double.invoices.next_number()
    emit(double, "invoice.finalized", invoice.view())
    subscription = _subscription(double, invoice)
    behavior = (subscription.pause_collection or {}).get("behavior") if subscription else None
    if behavior == "void":
        void(double, invoice)
    elif behavior == "mark_uncollectible":
        mark_uncollectible(double, invoice)
    elif invoice.due == 0:
        _paid(double, invoice)
    elif pay_now and invoice.auto_advance:
        attempt(double, invoice)


def attempt(double: Double, invoice: Invoice, *, raises: bool = False) -> None:
    """Try to collect an open invoice. `raises`: a failed payment is also an ApiError (402) for the caller."""
    outcome = double.payments.outcome(invoice.customer)
    invoice.attempt_count += 1
    invoice.next_attempt = None
    if outcome == "succeed":
        _paid(double, invoice)
        return
    retries = invoice.attempt_count - 1
    if retries < len(RETRY_DAYS) and invoice.auto_advance:
        invoice.next_attempt = double.clock.now() + RETRY_DAYS[retries] * DAY_SECONDS
    emit(double, "invoice.payment_failed", invoice.view())
    if outcome == "require_action":
        emit(double, "invoice.payment_action_required", invoice.view())
    subscription = _subscription(double, invoice)
    if subscription is not None:
        status = "incomplete" if subscription.status == "incomplete" else "past_due"
        if subscription.status in ("active", "trialing"):
            set_status(double, subscription, status)
    double.schedule.put(invoice.next_attempt, invoice.id)
    if retries >= len(RETRY_DAYS):
        give_up(double, invoice, double.payments.give_up)
    if raises:
        raise ApiError(402, "Your card was declined.", kind="card_error", code="card_declined")


def give_up(double: Double, invoice: Invoice, status: str) -> None:
    """No more attempts; the subscription becomes `canceled`, `unpaid` or stays `past_due` [docs: revenue recovery]."""
    invoice.next_attempt = None
    subscription = _subscription(double, invoice)
    if subscription is None or subscription.ended_at is not None:
        return
    if status == "canceled":
        end(double, subscription, "payment_failed")
    else:
        set_status(double, subscription, status)


def _paid(double: Double, invoice: Invoice) -> None:
    now = double.clock.now()
    invoice.paid = max(0, invoice.due - invoice.credited_before)
    invoice.status, invoice.paid_at, invoice.next_attempt = "paid", now, None
    emit(double, "invoice.paid", invoice.view())
    emit(double, "invoice.payment_succeeded", invoice.view())
    subscription = _subscription(double, invoice)
    if subscription is None or subscription.status not in ("incomplete", "past_due", "unpaid"):
        return
    # An unpaid subscription is revived by its newest invoice; older open ones keep a past due one so [docs].
    if not any(other.status == "open" for other in double.invoices.of_subscription(subscription.id)):
        set_status(double, subscription, "active")
    double.schedule.put(subscription.next_due(), subscription.id)


def pay(double: Double, invoice: Invoice, *, out_of_band: bool = False) -> None:
    """POST .../pay: an attempt on request. Raises ApiError (400 where there is nothing to pay, 402 where it fails)."""
    if invoice.status == "draft":
        finalize(double, invoice, pay_now=False)
    if invoice.status == "paid":
        raise ApiError(400, "Invoice is already paid")
    if invoice.status not in ("open", "uncollectible"):
        raise ApiError(400, f"You can't pay a {invoice.status} invoice.")
    if out_of_band:
        _paid(double, invoice)
    else:
        attempt(double, invoice, raises=True)


def void(double: Double, invoice: Invoice) -> None:
    """Open or uncollectible becomes void; its effect on the balance is taken back [docs: invoice status]."""
    if invoice.status not in ("open", "uncollectible"):
        raise ApiError(400, f"You can only pass in open or uncollectible invoices. This invoice is {invoice.status}.")
    given_back = invoice.starting_balance - (invoice.ending_balance or 0)
    set_balance(double, invoice.customer, double.balances.get(invoice.customer, 0) + given_back)
    invoice.status, invoice.voided_at, invoice.next_attempt = "void", double.clock.now(), None
    emit(double, "invoice.voided", invoice.view())


def set_balance(double: Double, customer: str, amount: int) -> None:
    """A customer's balance in minor units: below 0 it is a credit, used up by the next invoice."""
    double.balances[customer] = amount
    found = double.customers.get(customer)
    if found is not None:
        found.values["balance"] = amount


def mark_uncollectible(double: Double, invoice: Invoice) -> None:
    """Only an open invoice [docs: invoice status]."""
    if invoice.status != "open":
        raise ApiError(400, f"You can only pass in open invoices. This invoice is {invoice.status}.")
    invoice.status, invoice.uncollectible_at, invoice.next_attempt = "uncollectible", double.clock.now(), None
    invoice.uncollectible_reason = "user_forgiven"
    emit(double, "invoice.marked_uncollectible", invoice.view())


def set_status(double: Double, subscription: Subscription, status: str) -> None:
    """Change a subscription's status and tell it."""
    before = subscription.view()
    subscription.status = status
    emit_update(double, "customer.subscription.updated", before, subscription.view())


def end(double: Double, subscription: Subscription, reason: str | None) -> None:
    """The subscription is over; finalized invoices are no longer collected by themselves [docs: cancel]."""
    now = double.clock.now()
    subscription.status, subscription.ended_at = "canceled", now
    subscription.canceled_at = subscription.canceled_at or now
    subscription.cancellation["reason"] = reason
    for invoice in double.invoices.of_subscription(subscription.id):
        if invoice.status == "open":
            invoice.auto_advance, invoice.next_attempt = False, None
    emit(double, "customer.subscription.deleted", subscription.view())


def priced_line(price: Price, count: Decimal, description: str | None, start: int, end: int) -> Line:
    """A line outside any subscription, for an invoice item made with a one-time price."""
    return Line(
        id=new_id("il"),
        amount=rounded(cost(price.pricing, count)),
        currency=price.currency,
        description=description or price.nickname or price.product,
        start=start,
        end=end,
        quantity=count,
        price=price,
    )


def _subscription(double: Double, invoice: Invoice) -> Subscription | None:
    return None if invoice.subscription is None else double.subscriptions.find(invoice.subscription)
