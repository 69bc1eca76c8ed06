"""Stripe's invoices in memory, for those who only read them."""

from __future__ import annotations

from dataclasses import dataclass, field

from tollgate.billing.invoice import Invoice, InvoicePrice


@dataclass
class MemoryInvoices:
    """Has what a test puts in. `asked`: what was read."""

    invoices: dict[str, Invoice] = field(default_factory=dict)
    prices: dict[str, InvoicePrice] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def read(self, invoice: str) -> Invoice | None:
        self.asked.append(invoice)
        return self.invoices.get(invoice)

    def price(self, price: str) -> InvoicePrice:
        return self.prices[price]

    def before(self, invoice: Invoice) -> Invoice | None:
        raise AssertionError("nobody asks here")

    def hold(self, invoice: str, finalizes_at: int) -> None:
        raise AssertionError("nothing is written here")

    def finalize(self, invoice: str) -> None:
        raise AssertionError("nothing is written here")
