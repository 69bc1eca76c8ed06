"""Margins over HTTP and on DynamoDB: what the daily look kept is what is read, by admins alone."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.contract.http.surface import ENV, Surface
from tests.unit.margins.test_margin import NOVEMBER, catalog, day, margin
from tests.unit.margins.test_run import World
from tollgate.billing.breakdown import REST
from tollgate.billing.rollup import DAY_S, Share
from tollgate.margins.book_store import CACHE_MS, BookTable
from tollgate.margins.margin_store import MarginTable

TABLE = MarginTable(ENV["TOLLGATE_BILLING_TABLE"])
MONTH = "/v1/margins?period=2026-11"


@pytest.fixture
def looked(surface: Surface) -> Surface:
    """A look over accounts in memory whose findings are kept on DynamoDB."""
    world = World()
    models = {"large": Share(1, Decimal(8), Decimal(9)), REST: Share(1, Decimal(2), Decimal(1))}
    world.account("fine", "pro", day("tokens", 10, "10.00", models=models))
    world.account("loser", "pro", day("tokens", 1_400_000, "40.00", unpriced=Decimal(7)))
    world.account("packs", "pro", day("images", 100, "2", credit_funded=100))
    world.account("free", "free", day("tokens", 10, "5.00"))
    world.look()
    for (month, _), one in world.kept.items():
        TABLE.put_account(month, NOVEMBER + 20 * DAY_S, one)
    TABLE.put_summary(world.summary())
    assert TABLE.summary("2026-11") == world.summary(), "what is read is what was put"
    assert world.saved is not None
    TABLE.put_progress(world.saved)
    assert TABLE.progress() == world.saved
    return surface


def test_sums_and_lists(looked: Surface) -> None:
    found = looked.call("GET", MONTH + "&spend_above=29.00")
    assert found.status == 200, found
    body = found.body
    assert (body["period"], body["as_of"], body["accounts"]) == ("2026-11", "2026-11-21T00:00:00Z", 4)
    assert body["levels"] == {"healthy": 2, "warning": 0, "critical": 1, "free": 1, "unknown": 0}
    assert body["accounts_with_unpriced_usage"] == 1
    pro = {"plan": "pro", "accounts": 3, "currency": "usd", "revenue": "89", "revenue_usd": "89"}
    assert pro | {"provider_cost": "52", "ratio": "0.5843"} in body["plans"]
    assert [one["account"] for one in body["losing"]] == ["loser"]
    assert body["losing"][0]["ratio"] == "1.2903"
    assert [one["account"] for one in body["sales_assist"]] == ["loser"], "above, not at"
    assert [one["model"] for one in body["models"]] == ["large", None]
    assert looked.call("GET", MONTH).body["sales_assist"] == [], "the catalogue says no threshold"


def test_pages_of_accounts(looked: Surface) -> None:
    first = looked.call("GET", "/v1/margins/accounts?period=2026-11&limit=3").body
    rest = looked.call("GET", f"/v1/margins/accounts?period=2026-11&cursor={first['next_cursor']}").body
    found = {one["account"]: one for one in first["data"] + rest["data"]}
    assert list(found) == ["fine", "free", "loser", "packs"]
    assert rest["next_cursor"] is None
    loser = {
        name: found["loser"][name] for name in ("base_fee", "usage", "revenue", "level", "loses_money", "unpriced")
    }
    assert loser == {
        "base_fee": "29", "usage": "2", "revenue": "31", "level": "critical", "loses_money": True,
        "unpriced": {"tokens": "7"},
    }  # fmt: skip
    assert found["packs"]["paid_with_credits"]
    assert found["free"]["ratio"] is None


def test_a_month_that_nobody_looked_at(surface: Surface) -> None:
    assert surface.call("GET", "/v1/margins?period=2020-01").status == 404
    assert surface.call("GET", "/v1/margins/accounts?period=2020-01").body == {"data": [], "next_cursor": None}


@pytest.mark.parametrize("query", ["period=2026-13", "period=26-11", "period=", "period=2026-11&spend_above=-1"])
def test_odd_queries_are_refused(looked: Surface, query: str) -> None:
    assert looked.call("GET", f"/v1/margins?{query}").status == 422


def test_a_margin_comes_back_as_it_was_put(surface: Surface) -> None:
    yen = replace(
        margin("pro", day("tokens", 1, "1", unpriced=Decimal("0.5"))), currency="jpy", usd=None, account="yen"
    )
    TABLE.put_account("2025-01", NOVEMBER, yen)
    assert TABLE.page("2025-01", 10, None) == ([(NOVEMBER, yen)], None)


def test_a_new_book_binds_within_a_minute(surface: Surface) -> None:
    now = [0]
    writer, reader = (BookTable(ENV["TOLLGATE_CONFIG_TABLE"], lambda: now[0]) for _ in range(2))
    before = reader.book()
    book = catalog(
        more='provider_prices: {y: [{effective_from: 2026-01-01, source: z, per_million: {in: "3"}}]}\n'
    ).book
    assert book is not None
    writer.put(book)
    assert writer.book() == book
    now[0] += CACHE_MS - 1
    assert reader.book() == before
    now[0] += 1
    assert reader.book() == book
