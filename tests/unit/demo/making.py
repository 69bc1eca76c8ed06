"""Short ways to make calls and answers by hand."""

from __future__ import annotations

from decimal import Decimal

from demo.answers import Answer, End, Verdict
from demo.trace import Call, Item, Outcome, Request


def item(meter: str, used: str, reserved: str | None = None, **dimensions: str) -> Item:
    return Item(meter, Decimal(reserved or used), Decimal(used), dimensions)


def request(
    name: str,
    *items: Item,
    account: str = "acme",
    plan: str | None = "pro",
    member: str | None = "ann",
    call: Call = "reserve",
    outcome: Outcome = "ok",
    sends: int = 1,
    at: str = "0",
    seconds: str = "0",
) -> Request:
    return Request(name, Decimal(at), Decimal(seconds), account, plan, member, call, outcome, sends, items)


def answer(
    of: Request,
    units: str = "0",
    verdict: Verdict = "granted",
    end: End = "committed",
    waived: tuple[str, ...] = ("0",),
    counted: tuple[bool, ...] | None = None,
) -> Answer:
    said = ((True,) * len(of.items) if end == "committed" else ()) if counted is None else counted
    return Answer(of, verdict, end, counted=said, units=Decimal(units), waived=tuple(map(Decimal, waived)))
