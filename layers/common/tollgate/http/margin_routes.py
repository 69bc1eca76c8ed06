"""Provider cost against revenue, as the last daily look found it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Protocol

from tollgate.accounts.service import AccountDeps
from tollgate.billing.breakdown import REST
from tollgate.clock import rfc3339
from tollgate.errors import FieldError, Invalid, NotFound
from tollgate.http.pages import cursor, page
from tollgate.http.routing import Request, Response, Route
from tollgate.margins.book import PriceBook
from tollgate.margins.margin import Line, Margin
from tollgate.margins.run import PlanLine, Ranked, Summary, month_of, sales_assist
from tollgate.quantities import plain

_MONTH = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])", re.ASCII)
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z0-9._:@|+-]{1,64}", re.ASCII)


class MarginReader(Protocol):
    def summary(self, month: str) -> Summary | None: ...
    def page(self, month: str, limit: int, after: str | None) -> tuple[list[tuple[int, Margin]], str | None]: ...


class BookReader(Protocol):
    def book(self) -> PriceBook: ...


class MarginApiDeps(Protocol):
    """The part of the manage function's dependencies that these routes need."""

    @property
    def accounts(self) -> AccountDeps: ...
    @property
    def margins(self) -> MarginReader: ...
    @property
    def book(self) -> BookReader: ...


def get_margins(deps: MarginApiDeps, request: Request) -> Response:
    month = _month(deps, request)
    summary = deps.margins.summary(month)
    if summary is None:
        raise NotFound(f"No margins of {month} are known: they are found once a day, for the month of the day before.")
    said = request.query.get("spend_above")
    if said is not None and not _AMOUNT.fullmatch(said):
        raise Invalid("`spend_above` is a plain decimal.", (FieldError("spend_above", "decimal"),))
    above = deps.book.book().spend_above if said is None else Decimal(said)
    current = deps.accounts.catalog.current()
    currency = "usd" if current is None else current.currency
    return Response(
        200,
        {
            "period": month,
            "as_of": rfc3339(summary.as_of),
            "accounts": summary.accounts,
            "accounts_with_unpriced_usage": summary.unpriced,
            "accounts_without_rate": summary.unconverted,
            "levels": {name: summary.levels.get(name, 0) for name in _LEVELS},
            "plans": [_plan(*key, line) for key, line in sorted(summary.plans.items())],
            "models": [_model(name, line) for name, line in sorted(summary.models.items(), key=_by_cost)],
            "losing": [_ranked(one) for one in summary.losing],
            "spend_above": None if above is None else plain(above),
            "sales_assist": [_ranked(one) for one in sales_assist(summary, above, currency)],
        },
    )


def list_account_margins(deps: MarginApiDeps, request: Request) -> Response:
    limit, after = page(request, _ACCOUNT)
    month = _month(deps, request)
    found, following = deps.margins.page(month, limit, after)
    data = [_account(month, as_of, margin) for as_of, margin in found]
    return Response(200, {"data": data, "next_cursor": None if following is None else cursor(following)})


_LEVELS = ("healthy", "warning", "critical", "free", "unknown")


def _month(deps: MarginApiDeps, request: Request) -> str:
    said = request.query.get("period")
    if said is None:
        return month_of(deps.accounts.gate.clock() // 1000)
    if not _MONTH.fullmatch(said):
        raise Invalid("`period` is a month such as 2026-11.", (FieldError("period", "month"),))
    return said


def _by_cost(one: tuple[str, Line]) -> tuple[bool, Decimal, str]:
    return one[0] == REST, -one[1].cost, one[0]


def _or_null(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _plan(plan: str, currency: str, line: PlanLine) -> dict[str, Any]:
    return {
        "plan": plan,
        "accounts": line.accounts,
        "currency": currency,
        "revenue": plain(line.revenue),
        "revenue_usd": _or_null(line.usd),
        "provider_cost": plain(line.cost),
        "ratio": None if line.usd is None else _or_null(Line(line.usd, line.cost).ratio),
    }


def _model(model: str, line: Line) -> dict[str, Any]:
    """`model` null: what no model is known for, and those of least cost."""
    return {
        "model": model or None,
        "revenue_usd": plain(line.revenue),
        "provider_cost": plain(line.cost),
        "ratio": _or_null(line.ratio),
    }


def _ranked(one: Ranked) -> dict[str, Any]:
    return {
        "account": one.account,
        "plan": one.plan,
        "currency": one.currency,
        "revenue": plain(one.revenue),
        "revenue_usd": _or_null(one.usd),
        "provider_cost": plain(one.cost),
        "ratio": None if one.usd is None else _or_null(Line(one.usd, one.cost).ratio),
    }


def _account(month: str, as_of: int, margin: Margin) -> dict[str, Any]:
    models: Mapping[str, Line] = margin.models
    return {
        "account": margin.account,
        "period": month,
        "as_of": rfc3339(as_of),
        "plan": {"id": margin.plan, "version": margin.version},
        "currency": margin.currency,
        "revenue": plain(margin.revenue),
        "base_fee": plain(margin.fixed),
        "usage": plain(margin.usage),
        "revenue_usd": _or_null(margin.usd),
        "provider_cost": plain(margin.cost),
        "ratio": _or_null(margin.ratio),
        "level": margin.level,
        "loses_money": margin.loses,
        "paid_with_credits": margin.credits,
        "unpriced": {meter: plain(units) for meter, units in margin.unpriced.items()},
        "models": [_model(name, line) for name, line in sorted(models.items(), key=_by_cost)],
    }


ROUTES = (
    Route("GET", "/v1/margins", ("admin",), get_margins, "getMargins"),
    Route("GET", "/v1/margins/accounts", ("admin",), list_account_margins, "listAccountMargins"),
)
