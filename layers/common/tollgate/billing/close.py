"""Period close: an invoice is let go when all usage of its period is on it, or at its deadline without the rest.

`begin` at `invoice.created`, `step` whenever seal finds the close due, `finalized` at `invoice.finalized`. Each may be
repeated, in any order, by several at once: every write asserts the row it is based on, and what is said to Stripe says
the same again. The draft gets its deadline at Stripe first of all, so that whatever fails here, it finalizes by itself.

Shutting a period and sending into it exclude each other: flush claims its batch first and asks then whether the period
is shut; here the period is shut first, and then nobody must be found sending.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from tollgate.accounts.rules import Rules
from tollgate.alerts.outbox import Alert, Outbox
from tollgate.billing import close_usage, growth
from tollgate.billing.batch import EXPIRED, SENDING, UNCONFIRMED, Batch
from tollgate.billing.close_row import (
    BACKSTOP_S,
    CLOSED,
    CLOSING,
    COMPARED_S,
    DEADLINE,
    ELSEWHERE,
    FINALIZING,
    GONE,
    IN_DOUBT,
    LATE,
    LEAST_S,
    MATCHED,
    REVIEW,
    SHUT,
    Close,
    CloseKey,
)
from tollgate.billing.close_usage import AccountMarkers, CarriedLevels, PeriodBatches, Totals
from tollgate.billing.growth import Growth, NewestEvents
from tollgate.billing.invoice import Invoice, Invoices, MeteredLine, metered_lines
from tollgate.billing.ports import RulesReader
from tollgate.billing.sink import SinkUnavailable
from tollgate.billing.trouble import tell
from tollgate.clock import Clock, rfc3339
from tollgate.errors import StripeRefused, StripeUnavailable
from tollgate.quantities import plain

SKEW_S: Final = 5
"""A seal whose clock is ahead asks for a step a little early."""
NOTICE_S: Final = 1800
"""An invoice that is first seen when its deadline is near, or over, is held for this long."""
WAIT_LEAST_S: Final = 60
WAIT_MOST_S: Final = 1800
TRIES: Final = 6

MISSING, WAITING, IGNORED = "missing", "waiting", "ignored"
_LAST: Final = frozenset({SHUT, FINALIZING, CLOSED})


class CloseStore(Protocol):
    def put_new(self, close: Close) -> Close | None: ...
    def get(self, key: CloseKey) -> Close | None: ...
    def replace(self, before: Close, after: Close) -> Close | None: ...
    def of_customer(self, customer: str) -> Iterator[Close]: ...


class CustomerMap(Protocol):
    def holder(self, customer: str) -> str | None:
        """The account that a Stripe customer is mapped to."""


class FirstInvoice(Protocol):
    def __call__(self, close: Close, invoice: Invoice) -> str | None:
        """Why the first invoice of a subscription is to be held for review; None lets it go. A place for the rules of
        those who move existing customers here."""


def let_go(close: Close, invoice: Invoice) -> str | None:
    """The default for first invoices: as any other one. There is nothing to compare it with, and a new customer's first
    bill is not suspicious by itself."""
    return None


@dataclass(frozen=True, slots=True)
class CloseSettings:
    """Seconds, but for `percent`."""

    grace_seconds: int
    """The seal's: how long a window stays open for rows in flight."""
    deadline_seconds: int
    """After the draft was made, how long it is held at most for usage that is missing."""
    review_seconds: int
    """How long an invoice is held that is much higher than the one before. 0: told, but not held."""
    percent: int = 50
    """What is much higher."""


@dataclass(frozen=True, slots=True)
class CloseDeps:
    """Everything that the close uses, made once per process."""

    closes: CloseStore
    batches: PeriodBatches
    markers: AccountMarkers
    levels: CarriedLevels
    rules: RulesReader
    accounts: CustomerMap
    events: NewestEvents
    invoices: Invoices
    totals: Totals
    outbox: Outbox
    clock: Clock
    settings: CloseSettings
    first_invoice: FirstInvoice = let_go


class InvoiceClose:
    """The close as the webhook worker calls it."""

    def __init__(self, deps: CloseDeps) -> None:
        self._deps = deps

    def begin(self, invoice: str) -> str:
        return begin(self._deps, invoice)

    def finalized(self, invoice: str, customer: str) -> str:
        return finalized(self._deps, invoice, customer)

    def task(self, message: Mapping[str, Any]) -> str:
        """Seal's `{"task": "close", "customer", "invoice"}`. Raises KeyError where one is missing."""
        return step(self._deps, CloseKey(message["customer"], message["invoice"]))


# --- beginning -------------------------------------------------------------------------------------------------------


def begin(deps: CloseDeps, invoice_id: str) -> str:
    """Take a new draft into the close. Returns its state, or why there is none. Raises StripeUnavailable."""
    invoice = deps.invoices.read(invoice_id)
    if invoice is None:
        return MISSING
    if not invoice.draft:
        return finalized(deps, invoice_id)
    close = _new(deps, invoice)
    if close is None:
        return IGNORED  # Stripe finalizes it as it would without us
    there = deps.closes.get(close.key)
    if there is not None:
        return there.state
    try:
        deps.invoices.hold(invoice.id, close.finalizes_at)
    except StripeRefused:
        return finalized(deps, invoice_id)  # no draft any more: it was finalized, or deleted, meanwhile
    # A crash here leaves a draft that finalizes by itself after the deadline. The event is delivered again and the row
    # put then; if it never is, `invoice.finalized` shuts the period.
    there = deps.closes.put_new(close)
    return (there or close).state


def _new(deps: CloseDeps, invoice: Invoice) -> Close | None:
    """The close of a draft; None where the invoice bills no usage, or its customer is not ours."""
    now = deps.clock() // 1000
    deadline = max(invoice.created + deps.settings.deadline_seconds, now + NOTICE_S)
    lines = metered_lines(invoice, deps.invoices.price)
    account = deps.accounts.holder(invoice.customer) if lines else None
    if account is None:
        return None
    end = max(line.period_end for line, _ in lines)
    first = max(end + max(LEAST_S, deps.settings.grace_seconds), now)
    return Close(
        customer=invoice.customer,
        invoice=invoice.id,
        account=account,
        subscription=invoice.subscription,
        start=min(line.period_start for line, _ in lines),
        end=end,
        meters=_meters(lines),
        state=CLOSING,
        created_at=now,
        deadline=deadline,
        finalizes_at=deadline + BACKSTOP_S,
        next_at=first,
        due_at=first,
    )


def _meters(lines: list[MeteredLine]) -> tuple[str, ...]:
    return tuple(sorted({price.meter for _, price in lines if price.meter is not None}))


def finalized(deps: CloseDeps, invoice_id: str, customer: str | None = None) -> str:
    """Shut the period of an invoice that is finalized, by us or not. Raises StripeUnavailable.

    Also for one whose creation was never heard of: usage that comes later must not be sent, as no invoice bills it.
    `customer`, if the caller knows it, spares asking Stripe about an invoice that is closed already.
    """
    if customer is not None:
        known = deps.closes.get(CloseKey(customer, invoice_id))
        if known is not None and known.state == CLOSED:
            return CLOSED
    invoice = deps.invoices.read(invoice_id)
    if invoice is None:
        return MISSING
    if invoice.draft:
        return IGNORED  # an old event: what Stripe says now decides
    close = _new(deps, invoice)
    if close is None:
        return IGNORED
    for _ in range(TRIES):
        there = deps.closes.get(close.key) or _put_shut(deps, close)
        if there.state in _LAST or _shut(deps, there, ELSEWHERE) is not None:
            break
    # A crash from here on leaves the row in `shut` and due: the next step ends it.
    return step(deps, close.key)


def _put_shut(deps: CloseDeps, close: Close) -> Close:
    now = deps.clock() // 1000
    shut = close.into(SHUT, now, outcome=ELSEWHERE)
    return deps.closes.put_new(shut) or shut


# --- one step --------------------------------------------------------------------------------------------------------


def step(deps: CloseDeps, key: CloseKey) -> str:
    """Do what can be done for a close now. Returns its state, `waiting` or `missing`. Raises only what stores raise."""
    row = deps.closes.get(key)
    if row is None:
        return MISSING
    now = deps.clock() // 1000
    if row.state == CLOSED:
        return CLOSED
    if row.next_at > now + SKEW_S:
        return WAITING
    try:
        return _let_go(deps, row) if row.state in _LAST else _look(deps, row, now)
    except (StripeUnavailable, StripeRefused, SinkUnavailable) as error:
        if row.state in _LAST or now < row.deadline:
            return _wait(deps, row, f"Stripe: {error}")  # where the row has moved on meanwhile, it is due at once
        return _gave_up(deps, row, str(error))


def _look(deps: CloseDeps, row: Close, now: int) -> str:
    rules = deps.rules.fresh(row.account)
    # What is in the way is looked for in our own tables first: Stripe's reads are rationed.
    missing = _missing(deps, rules, row)
    if missing is not None and now < row.deadline:
        return _wait(deps, row, missing)
    invoice = deps.invoices.read(row.invoice)
    if invoice is None or not invoice.draft:
        shut = _shut(deps, row, GONE if invoice is None else ELSEWHERE)
        return WAITING if shut is None else _let_go(deps, shut)
    if missing is None:
        usage = close_usage.usage_of(deps.batches, rules, row)
        missing = close_usage.differing(deps.totals, rules, row, usage.sent)
    if missing is not None:
        return _wait(deps, row, missing) if now < row.deadline else _give_up(deps, row, missing)
    if row.review_until is None:
        held = _reviewed(deps, rules, row, invoice)
        if held is None:
            return WAITING
        if held.state == REVIEW:
            return REVIEW
        row = held
    shut = _shut(deps, row, MATCHED)
    return WAITING if shut is None else _let_go(deps, shut)


def _missing(deps: CloseDeps, rules: Rules, row: Close) -> str | None:
    """In words, what of the period has not been sent yet."""
    if close_usage.unsealed(deps.markers, deps.levels, rules, row):
        return "usage that is not sealed"
    pending = close_usage.usage_of(deps.batches, rules, row).pending
    return f"usage that is not sent: {close_usage.in_words(pending)}" if pending else None


def _wait(deps: CloseDeps, row: Close, reason: str) -> str:
    """Look again later: after a minute, two, four … at most half an hour, and at the deadline."""
    now = deps.clock() // 1000
    at = now + min(WAIT_LEAST_S * 2 ** min(row.waits, 10), WAIT_MOST_S)
    if now < row.deadline:
        at = min(at, row.deadline)
    deps.closes.replace(row, replace(row, next_at=at, due_at=at, waits=row.waits + 1, reason=reason[:300]))
    return WAITING


def _shut(deps: CloseDeps, row: Close, outcome: str) -> Close | None:
    """Shut the period. A crash after it leaves a row that is due at once: the next step finalizes the invoice."""
    return deps.closes.replace(row, row.into(SHUT, deps.clock() // 1000, outcome=outcome))


def _gave_up(deps: CloseDeps, row: Close, missing: str) -> str:
    """The deadline, and Stripe does not answer: shut the period, finalize when it does."""
    try:
        return _give_up(deps, row, missing)
    except (StripeUnavailable, StripeRefused):
        return WAITING  # the row is shut and due


def _give_up(deps: CloseDeps, row: Close, missing: str) -> str:
    """The deadline: tell of it, then shut the period. A crash between the two tells it once all the same, because an
    alert's id is taken once, and the next step shuts."""
    text = (
        f"Invoice {row.invoice} of account {row.account} goes out without all of its usage, which the customer is not "
        f"charged for: {missing}. Its deadline was {rfc3339(row.deadline)}. Usage of the period that is still to be "
        "sent expires: invoice it by hand, or let it be."
    )
    deps.outbox.put(_alert(row, "close_deadline", f"Invoice without all usage: {row.account}", text, row.deadline))
    shut = _shut(deps, row, DEADLINE)
    return WAITING if shut is None else _let_go(deps, shut)


def _alert(row: Close, kind: str, subject: str, text: str, at: int) -> Alert:
    facts = {"invoice": row.invoice, "customer": row.customer}
    return Alert(f"{kind}#{row.invoice}", kind, row.account, subject, text, at * 1000, facts)


# --- review ----------------------------------------------------------------------------------------------------------


def _reviewed(deps: CloseDeps, rules: Rules, row: Close, invoice: Invoice) -> Close | None:
    """The row in `review` where a person should look first, else as it was; None where another step was quicker.

    Three writes: the alert (once for each invoice), Stripe's own deadline where the review ends after it, the row. A
    crash after the first or second leaves a row that still has to decide: the next step does all of it again.
    """
    now = deps.clock() // 1000
    before = deps.invoices.before(invoice)
    if before is None:
        why, text = deps.first_invoice(row, invoice), ""
    elif growth.much_higher(invoice, before, deps.settings.percent):
        why = (
            f"it comes to {plain(invoice.subtotal)} {invoice.currency}, the one before ({before.id}) to "
            f"{plain(before.subtotal)}"
        )
        text = growth.in_words(_growth(deps, rules, row, invoice, before), invoice.currency)
    else:
        why, text = None, ""
    if why is None:
        return row
    until = now + deps.settings.review_seconds
    said = f"Look at invoice {row.invoice} of account {row.account} before it goes out: {why}. {text}".rstrip()
    if deps.settings.review_seconds:
        said += f" It is held until {rfc3339(until)}; finalize it at Stripe to let it go sooner, or delete the draft."
    deps.outbox.put(_alert(row, "invoice_review", f"Invoice to look at: {row.account}", said, now))
    deadline = max(row.deadline, until + NOTICE_S)
    if deadline != row.deadline:
        deps.invoices.hold(row.invoice, deadline + BACKSTOP_S)
    held = row.into(REVIEW, until, review_until=until, deadline=deadline, finalizes_at=deadline + BACKSTOP_S)
    if not deps.settings.review_seconds:
        held = replace(held, state=CLOSING)
    return deps.closes.replace(row, held)


def _growth(deps: CloseDeps, rules: Rules, row: Close, now: Invoice, before: Invoice) -> Growth:
    meters = growth.meter_growth(deps.invoices, now, before)
    lines = metered_lines(before, deps.invoices.price)
    if not lines:
        return Growth(meters, {}, partial=False)
    earlier = min(line.period_start for line, _ in lines), max(line.period_end for line, _ in lines)
    members, partial = growth.member_growth(deps.events, rules.homes, (row.start, row.end), earlier)
    return Growth(meters, members, partial)


# --- letting go ------------------------------------------------------------------------------------------------------


def _let_go(deps: CloseDeps, row: Close) -> str:
    """The period is shut: see that nobody is sending, finalize, park what was not sent, end.

    A crash anywhere leaves the row in `shut` or `finalizing` and due: the next step goes on from there.
    """
    now = deps.clock() // 1000
    if row.outcome == GONE:
        return _close(deps, row)
    usage = close_usage.usage_of(deps.batches, deps.rules.fresh(row.account), row)
    if row.state == SHUT:
        if usage.open and row.outcome == MATCHED and now < row.deadline:
            # It came between the look and the shutting: the period opens again, and all of it is awaited. No step can
            # be finalizing meanwhile: it would have changed the row first.
            deps.closes.replace(row, row.into(CLOSING, now + WAIT_LEAST_S, outcome=None))
            return WAITING
        leases = [batch.lease_until for batch in usage.open if batch.lease_until is not None]
        if any(lease > now for lease in leases):
            # Somebody asked before it was shut, and is sending: what arrives now is still on the draft.
            at = max(leases) + 1
            deps.closes.replace(row, replace(row, next_at=at, due_at=at))
            return WAITING
        on = deps.closes.replace(row, row.into(FINALIZING, now))
        if on is None:
            return WAITING
        row = on
    # A crash here leaves a draft that nothing more is sent to; the next step finalizes it, or Stripe does.
    if row.outcome != ELSEWHERE and not _finalize(deps, row):
        return WAITING
    # A crash here leaves unsent batches of a final invoice: the next step parks them, or flush, which asks.
    _park(deps, usage.open, now)
    return _close(deps, row)


def _close(deps: CloseDeps, row: Close) -> str:
    compared_at = None if row.outcome == GONE else deps.clock() // 1000 + COMPARED_S
    ended = deps.closes.replace(row, replace(row, state=CLOSED, due_at=compared_at, reason=None))
    return WAITING if ended is None else CLOSED


def _finalize(deps: CloseDeps, row: Close) -> bool:
    """Whether the invoice is a draft no more."""
    try:
        deps.invoices.finalize(row.invoice)
    except StripeRefused as refused:
        invoice = deps.invoices.read(row.invoice)
        if invoice is None or not invoice.draft:
            return True
        text = f"Stripe does not finalize invoice {row.invoice} of account {row.account}: {refused.message}"
        now = deps.clock() // 1000
        deps.outbox.put(_alert(row, "invoice_not_finalized", f"Invoice stays a draft: {row.account}", text, now))
        _wait(deps, row, text)
        return False
    return True


def _park(deps: CloseDeps, unsent: list[Batch], now: int) -> None:
    """Usage that no invoice bills any more is parked, loudly. One that a flush has in hand is parked by flush, which
    asks whether the period is shut."""
    for batch in unsent:
        parked = deps.batches.replace(batch, shut_out(batch, now))
        if parked is not None:
            tell(deps.outbox, deps.batches, parked)


def shut_out(batch: Batch, now: int) -> Batch:
    """A batch whose invoice went out without it; in doubt where it was perhaps sent before that."""
    if batch.state == SENDING:
        return batch.into(UNCONFIRMED, now, reason=IN_DOUBT, untold=True, due_at=now)
    return batch.into(EXPIRED, now, reason=LATE, untold=True, due_at=now)
