"""`tollgate margins`: provider cost against revenue, by plan, model and account."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from tollgate import wiring
from tollgate.clock import rfc3339, system_clock
from tollgate.margins.book_store import BookTable
from tollgate.margins.margin import Line
from tollgate.margins.margin_store import MarginTable
from tollgate.margins.run import Ranked, Summary, month_of, sales_assist
from tollgate.quantities import plain
from tollgate_cli.output import WRONG, fail, note, out, table
from tollgate_cli.target import Profile, Region, StackName, connected

_MONTH = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])", re.ASCII)
_ACCOUNT_COLUMNS = ("account", "plan", "revenue", "in USD", "provider cost, USD", "ratio")


def margins(
    period: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="The month (UTC); yesterday's if absent.")
    ] = None,
    spend_above: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="For the sales-assist list, instead of the catalogue's.")
    ] = None,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Show what a month's accounts cost at their providers against what they brought, by the last daily look."""
    if period is not None and not _MONTH.fullmatch(period):
        fail("--period is a month such as 2026-11.", WRONG)
    said = _amount(spend_above)
    with connected(stack, profile, region) as target:
        month = period or month_of(system_clock() // 1000)
        summary = MarginTable(target.env["TOLLGATE_BILLING_TABLE"]).summary(month)
        book = BookTable(target.env["TOLLGATE_CONFIG_TABLE"], system_clock).book()
        current = wiring.catalog_table(target.env).current()
    if summary is None:
        fail(f"No margins of {month} are known: they are found once a day, for the month of the day before.")
    above = book.spend_above if said is None else said
    _show(summary, above, "usd" if current is None else current.currency)


def _amount(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal(-1)
    if not found.is_finite() or found < 0:
        fail("--spend-above is an amount such as 500.00.", WRONG)
    return found


def _show(summary: Summary, above: Decimal | None, currency: str) -> None:
    plans = [
        (
            plan,
            line.accounts,
            f"{plain(line.revenue)} {money.upper()}",
            _plain(line.usd),
            plain(line.cost),
            None if line.usd is None else _plain(Line(line.usd, line.cost).ratio),
        )
        for (plan, money), line in sorted(summary.plans.items())
    ]
    columns = ("plan", "accounts", *_ACCOUNT_COLUMNS[2:])
    out().print(table(f"Margins of {summary.month} until {rfc3339(summary.as_of)[:10]}", columns, plans))
    models = [
        (model or "(others)", plain(line.revenue), plain(line.cost), _plain(line.ratio))
        for model, line in sorted(summary.models.items(), key=lambda one: (not one[0], -one[1].cost, one[0]))
    ]
    out().print(table("By model", ("model", "revenue, USD", "provider cost, USD", "ratio"), models))
    losing = [_row(one) for one in summary.losing]
    out().print(table("Customers whose plan loses money", _ACCOUNT_COLUMNS, losing))
    if above is not None:
        assisted = [_row(one) for one in sales_assist(summary, above, currency)]
        out().print(table(f"Spending more than {plain(above)} {currency.upper()}", _ACCOUNT_COLUMNS, assisted))
    counted = ", ".join(f"{count} {level}" for level, count in sorted(summary.levels.items()))
    note(f"{summary.accounts} accounts: {counted or 'none'}.")
    if summary.unpriced:
        note(f"{summary.unpriced} have usage whose cost is unknown: theirs is higher than shown (docs/margins.md).")
    if summary.unconverted:
        note(f"{summary.unconverted} pay in a currency without a rate in `margins.usd_per`: they have no ratio.")


def _plain(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _row(one: Ranked) -> tuple[object, ...]:
    ratio = None if one.usd is None else Line(one.usd, one.cost).ratio
    money = f"{plain(one.revenue)} {one.currency.upper()}"
    return one.account, one.plan, money, _plain(one.usd), plain(one.cost), _plain(ratio)
