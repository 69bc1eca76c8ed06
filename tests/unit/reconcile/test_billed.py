"""Why an invoice bills other units than Stripe counts: the pure part, class by class."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tollgate.billing.batch import FLUSHED, UNCONFIRMED, Batch
from tollgate.billing.invoice import CreditNoteProposal, Invoice, InvoiceItemProposal, InvoiceLine
from tollgate.reconcile.billed import Billed, billed_findings, judged, proposal
from tollgate.reconcile.books import Books
from tollgate.reconcile.classify import BELIEVE_S, CANCELLED, Facts
from tollgate.reconcile.findings import Finding

START, END = 1_793_491_200, 1_796_083_200
FINAL = END + 1_800
ZERO = Decimal(0)


def batch(units: str, taken: int, number: int = 0, **changes: Any) -> Batch:
    at = START + 600 + 300 * number
    made = Batch(
        "acme", "ai_credits", START, END, at, at + 300, 0, 0, "credits_used", Decimal(units), at, at, FLUSHED, taken,
        customer="cus_1", identifier=f"tg_{number}",
    )  # fmt: skip
    return replace(made, **changes)


def books(*batches: Batch, level: bool = False) -> Books:
    return Books("acme", "ai_credits", "credits_used", START, END, "cus_1", level=level, batches=list(batches))


def found(
    mine: Books,
    counted: str,
    billed: str | dict[str, str],
    *,
    final_at: int | None = FINAL,
    now: int = FINAL + 2 * 3600,
) -> list[Any]:
    prices = {"price_1": billed} if isinstance(billed, str) else billed
    line = Billed(START, END, {price: Decimal(units) for price, units in prices.items()}, final_at)
    facts = Facts(now, 960, lambda _: True)
    return [(one.kind, one.repair, one.units) for one in billed_findings(mine, Decimal(counted), line, facts)]


EARLY = FINAL - 3 * BELIEVE_S


@pytest.mark.parametrize(
    ("mine", "counted", "billed", "expected"),
    [
        (books(batch("5", EARLY)), "5", "5", []),
        (books(), "-5", "0", []),  # Stripe bills a negative total as 0
        # Taken after it was final; shortly before it, where the totals lag; a correction after it.
        (
            books(batch("5", EARLY), batch("3", FINAL, 1), batch("4", FINAL + 9, 2)),
            "12",
            "5",
            [("late_after_finalization", "invoice_item", -3), ("late_after_finalization", "invoice_item", -4)],
        ),
        (
            books(batch("5", EARLY), batch("3", FINAL - 60, 1), batch("4", FINAL - 50, 2)),
            "12",
            "8",
            [("late_after_finalization", "invoice_item", -4)],
        ),
        (
            books(batch("5", EARLY), batch("-3", FINAL + 60, 1, supplement=900)),
            "5",
            "8",
            [("late_after_finalization", "credit_note", 3)],
        ),
        # Two prices for the same usage; none.
        (books(batch("5", EARLY)), "5", {"price_1": "5", "price_2": "5"}, [("wrong_price", "credit_note", 5)]),
        (books(batch("5", EARLY)), "5", {}, [("wrong_price", "invoice_item", -5)]),
        # Not by a batch.
        (books(batch("5", EARLY)), "12", "5", [("foreign_event", "none", -7)]),
        (books(batch("5", EARLY), batch("3", EARLY, 1)), "5", "8", [("unsent", "none", 3)]),
        (
            books(batch("5", EARLY), batch("5", EARLY, 1, state=UNCONFIRMED, detail=CANCELLED, repaired_by="x")),
            "5",
            "10",
            [("duplicate", "credit_note", 5)],
        ),
        # Nothing fits: it is left over.
        (books(batch("5", EARLY)), "5", "6", []),
        # Sent for somebody else: it is no part of this.
        (
            books(batch("5", EARLY), batch("3", FINAL + 60, 1, customer="cus_2")),
            "8",
            "5",
            [("foreign_event", "none", -3)],
        ),
        # Before the first second of the first line.
        (
            books(batch("2", EARLY, timestamp=START - 30), batch("5", EARLY, 1)),
            "7",
            "5",
            [("outside_lines", "invoice_item", -2)],
        ),
        # Fifteen digits.
        (books(), "123456789.123456", "123456789.1234561", [("rounding", "none", Decimal("0.0000001"))]),
    ],
)
def test_classes(mine: Books, counted: str, billed: Any, expected: list[Any]) -> None:
    assert found(mine, counted, billed) == expected


def test_a_draft_is_in_flight_whatever_is_missing() -> None:
    mine = books(batch("5", EARLY), batch("3", FINAL, 1))
    assert found(mine, "8", "5", final_at=None) == [("in_flight", "wait", -3)]
    assert found(mine, "8", {}, final_at=None) == [("in_flight", "wait", -8)]


def test_within_the_hour_totals_may_lag() -> None:
    mine = books(batch("5", EARLY))
    assert found(mine, "12", "5", now=FINAL + BELIEVE_S - 1) == [("lag", "wait", -7)]
    assert found(mine, "12", "5", now=FINAL + BELIEVE_S) == [("foreign_event", "none", -7)]


def test_of_a_level_the_last_one_before_it_was_final_is_billed() -> None:
    mine = books(batch("5", EARLY), batch("9", FINAL + 1, 1), level=True)
    assert found(mine, "9", "5") == [("late_after_finalization", "invoice_item", -4)]
    assert found(books(batch("5", EARLY), batch("2", FINAL + 1, 1), level=True), "2", "5") == [
        ("late_after_finalization", "credit_note", 3)
    ]
    assert found(mine, "9", "7") == []


def test_an_invoice_that_bills_what_is_owed_needs_nothing() -> None:
    some = [Finding("foreign_event", Decimal(8), "credit_note", "x"), Finding("lag", Decimal(-8), "wait", "x")]
    assert [one.repair for one in judged(some, owed=Decimal(5), billed=Decimal(5))] == ["none", "wait"]
    assert judged(some, owed=Decimal(5), billed=Decimal(6)) == some


# --- proposals -------------------------------------------------------------------------------------------------------


def line(id_: str, amount: str) -> InvoiceLine:
    return InvoiceLine(id_, Decimal(amount), Decimal(1), "price_1", START, END, "si_1")


def invoice(*lines: InvoiceLine, status: str = "open") -> Invoice:
    amount = sum((one.amount for one in lines), ZERO)
    return Invoice("in_1", "cus_1", "sub_1", status, "usd", END, amount, amount, tuple(lines), finalized_at=FINAL)


def test_a_credit_is_taken_off_the_last_lines_first_and_never_more_than_they_have() -> None:
    lines = [line("il_1", "10"), line("il_2", "4"), line("il_3", "0")]
    made = proposal(invoice(*lines), lines, Decimal("8.5"), "why")
    assert made == CreditNoteProposal(
        "in_1", "usd", {"il_2": Decimal(4), "il_1": Decimal("1.5")}, Decimal("5.5"), "why"
    )


def test_what_is_missing_is_an_invoice_item_and_what_is_right_nothing() -> None:
    lines = [line("il_1", "10")]
    made = proposal(invoice(*lines), lines, Decimal("10.01"), "why")
    assert made == InvoiceItemProposal("in_1", "usd", Decimal("0.01"), "why")
    assert proposal(invoice(*lines), lines, Decimal(10), "why") is None
