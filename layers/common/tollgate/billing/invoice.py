"""A Stripe invoice as the period close, the audit and reconciliation see it, and what can be told from it alone.

Amounts are Decimals in major units, times epoch seconds. `stripe_api/invoices.py` makes these records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Final, NamedTuple, Protocol

from tollgate.quantities import EXACT, ZERO

DRAFT: Final = "draft"
METER_PART: Final = "meter:"
"""What a metered price's metadata `tollgate_part` begins with; the meter's id follows."""


class InvoiceLine(NamedTuple):
    """One line. `period_start`/`period_end` bound the service that it bills: of a metered line, the usage."""

    id: str
    amount: Decimal
    quantity: Decimal | None
    price: str | None
    period_start: int
    period_end: int
    subscription_item: str | None = None
    proration: bool = False


class Invoice(NamedTuple):
    """`status` is draft, open, paid, uncollectible or void. `subtotal`: its lines, before discounts and tax added on
    top. `finalizes_at`: when Stripe finalizes the draft by itself, None where it does not."""

    id: str
    customer: str
    subscription: str | None
    status: str
    currency: str
    created: int
    subtotal: Decimal
    total: Decimal
    lines: tuple[InvoiceLine, ...]
    billing_reason: str | None = None
    finalizes_at: int | None = None
    finalized_at: int | None = None
    """When it became final: no usage was added from then on. None for a draft."""

    @property
    def draft(self) -> bool:
        return self.status == DRAFT


class InvoicePrice(NamedTuple):
    """A price as far as an invoice's reader needs it. `stripe_meter`: id of Stripe's meter, None where the price is not
    metered. `meter`, `plan` and `plan_version` are ours, from its metadata; None on a price that is not ours."""

    id: str
    stripe_meter: str | None
    meter: str | None
    plan: str | None
    plan_version: int | None


class Invoices(Protocol):
    """Stripe's invoices. All raise StripeUnavailable and StripeRefused."""

    def read(self, invoice: str) -> Invoice | None:
        """An invoice with all its lines; None where there is none (a draft can be deleted)."""

    def before(self, invoice: Invoice) -> Invoice | None:
        """The newest invoice of its subscription that was created before it and stands (not draft, not void)."""

    def price(self, price: str) -> InvoicePrice: ...

    def hold(self, invoice: str, finalizes_at: int) -> None:
        """Let a draft finalize by itself at that time, not before. Saying it again changes nothing."""

    def finalize(self, invoice: str) -> None:
        """Finalize a draft and let Stripe collect it. Raises StripeRefused where it is no draft any more."""


class MeteredLine(NamedTuple):
    line: InvoiceLine
    price: InvoicePrice


def metered_lines(invoice: Invoice, price: Callable[[str], InvoicePrice]) -> list[MeteredLine]:
    """The lines that bill usage, in order."""
    found = []
    for line in invoice.lines:
        if line.price is None or line.subscription_item is None:
            continue  # an invoice item that somebody added, or a proration made of one: no usage
        known = price(line.price)
        if known.stripe_meter is not None:
            found.append(MeteredLine(line, known))
    return found


def amounts_by_meter(lines: Iterable[MeteredLine]) -> dict[str, Decimal]:
    """What metered lines come to, by our meter's id, or the price's id where the price is not ours."""
    amounts: dict[str, Decimal] = {}
    for line, price in lines:
        name = price.meter or price.id
        amounts[name] = EXACT.add(amounts.get(name, ZERO), line.amount)
    return amounts


class InvoiceItemProposal(NamedTuple):
    """What a person may charge with the customer's next invoice; nothing is created by proposing it."""

    invoice: str
    currency: str
    total: Decimal
    memo: str


class CreditNoteProposal(NamedTuple):
    """What a person may give back after an invoice is finalized; nothing is created by proposing it.

    `lines`: invoice line id -> amount. `memo` says why, for the customer to read.
    """

    invoice: str
    currency: str
    lines: Mapping[str, Decimal]
    total: Decimal
    memo: str


def propose_credit_note(invoice: Invoice, over: Mapping[str, Decimal], memo: str) -> CreditNoteProposal:
    """A credit note over what lines were charged too much, by line id.

    Raises ValueError for a draft (it can still change), a line that the invoice does not have, and an amount that is
    not positive or more than its line: Stripe credits no more than was billed.
    """
    if invoice.draft:
        raise ValueError(f"invoice {invoice.id} is a draft: send what is missing, or a negative correction")
    billed = {line.id: line.amount for line in invoice.lines}
    total = ZERO
    for line, amount in over.items():
        if not ZERO < amount <= billed.get(line, ZERO):
            raise ValueError(f"{amount} cannot be credited on line {line} of {invoice.id}")
        total = EXACT.add(total, amount)
    return CreditNoteProposal(invoice.id, invoice.currency, dict(over), total, memo)
