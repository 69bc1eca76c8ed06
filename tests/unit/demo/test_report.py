"""The end of a demo: numbers that add up, and a verdict with every difference."""

from __future__ import annotations

import io
from dataclasses import replace
from decimal import Decimal

from rich.console import Console

from demo.expect import Difference, Expected
from demo.report import Played, Stripes, table, verdict
from demo.stripe_api import Sent

from .making import answer, item, request

IMAGE = item("ai_credits", "2", operation="image")
EXPECTED = Expected({("acme", "ai_credits"): Decimal("10.5")}, {("acme", "ai_credits"): Decimal("10.5")}, ())
STRIPES = Stripes(2, {"ai_credits": Decimal("10.5")}, Sent(4, 3, {"meter_event_customer_not_found": 1}), {"200": 4})


def shown(*printed: object) -> str:
    out = io.StringIO()
    console = Console(file=out, width=160)
    for one in printed:
        console.print(one)
    return out.getvalue()


def rows(text: str) -> dict[str, str]:
    cells = [line.split("│") for line in text.splitlines() if line.count("│") == 3]
    return {cell[1].rstrip()[1:]: cell[2].strip() for cell in cells}


def test_the_table_counts_what_happened() -> None:
    answers = [
        answer(request("one", IMAGE, sends=3), "10"),
        replace(answer(request("two", IMAGE, outcome="late"), "0.5"), late=True, over_reserved=True),
        answer(request("three", IMAGE, outcome="cached")),
        answer(request("four", IMAGE, outcome="failed"), end="released"),
        answer(request("five", IMAGE, outcome="no_commit"), end="crashed"),
        replace(answer(request("six", IMAGE), verdict="refused", end="none"), reason="daily"),
        replace(answer(request("seven", IMAGE), verdict="refused", end="none"), reason="daily"),
        replace(answer(request("eight", IMAGE), verdict="refused", end="none"), reason="frozen"),
        replace(answer(request("nine", IMAGE), verdict="rejected", end="none"), reason="member_required"),
        answer(request("ten", IMAGE, call="once", sends=2), "10"),
    ]
    found = rows(shown(table(Played(answers, 3, 1, 4.0), EXPECTED, STRIPES)))
    assert found == {
        "accounts": "3 (1 paying)",
        "requests": "10",
        "  by call": "reserve 9, once 1",
        "granted": "6",
        "refused, by limit": "3",
        "  daily": "2",
        "  frozen": "1",
        "rejected as wrong, by code": "1",
        "  member_required": "1",
        "committed": "4",
        "  late: their hold had been given back": "1",
        "  above what was reserved": "1",
        "  from the app's cache (0 units)": "1",
        "  sent again (counted once)": "3",
        "released after a failure": "1",
        "crashed, never committed": "1",
        "units committed, ai_credits": "10.5",
        "units in Stripe, ai_credits": "10.5",
        "batches": "4",
        "meter events counted by Stripe": "3",
        "meter events not counted, by reason": "1",
        "  meter_event_customer_not_found": "1",
        "meter event calls, by status": "200 4",
        "replay": "4.0 s, 2.5 requests/s",
    }


def judged(expected: Expected, differences: list[Difference]) -> tuple[bool, str]:
    out = io.StringIO()
    passed = verdict(Console(file=out, width=160), expected, differences, STRIPES, 1)
    return passed, out.getvalue()


def test_agreement_passes() -> None:
    passed, text = judged(EXPECTED, [])
    assert passed
    assert text.startswith("PASS  Stripe's summaries hold exactly the committed units of every paying account")
    assert "1 accounts, 2 totals" in text


def test_every_difference_is_listed_and_fails() -> None:
    differences = [
        Difference("acme", "ai_credits", Decimal("10.5"), Decimal("21.0")),
        Difference("zeta", "llm_tokens", Decimal("7"), Decimal(0)),
    ]
    passed, text = judged(EXPECTED, differences)
    assert not passed
    assert "acme, ai_credits: expected 10.5, Stripe holds 21 (+10.5)" in text
    assert "zeta, llm_tokens: expected 7, Stripe holds 0 (-7)" in text
    assert "FAIL  2 of 2 totals differ, 0 answers contradict the trace" in text


def test_an_answer_that_contradicts_the_trace_fails_alone() -> None:
    passed, text = judged(replace(EXPECTED, objections=("one: 10 units by the catalogue, 2 by Tollgate's answer",)), [])
    assert not passed
    assert "one: 10 units by the catalogue" in text
    assert "FAIL  0 of 2 totals differ, 1 answers contradict the trace" in text
