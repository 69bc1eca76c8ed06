"""Selling: what is asked of Stripe, what is answered, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

from tests.contract.http.surface import Answer, Surface
from tests.support.shop import MemoryShop
from tollgate.catalog.model import BillingPeriod
from tollgate.errors import Invalid
from tollgate.http import billing_routes
from tollgate.subscriptions.anchor import Anchor, anchor_of
from tollgate.subscriptions.asked_store import LOCKED_S, AskedTable

URLS = {"success_url": "https://app.test/ok?session={CHECKOUT_SESSION_ID}", "cancel_url": "https://app.test/no"}
NUMBERS = count()


@pytest.fixture
def shop(surface: Surface) -> MemoryShop:
    """A Stripe that has sold nothing yet."""
    surface.shop.__dict__.update(MemoryShop().__dict__)
    return surface.shop


@pytest.fixture
def account(surface: Surface) -> str:
    """A new account on the free plan."""
    name = f"buyer{next(NUMBERS)}"
    assert surface.call("PUT", f"/v1/accounts/{name}", {}).status == 200
    return name


def checkout(surface: Surface, account: str, **body: Any) -> Answer:
    return surface.call("POST", f"/v1/accounts/{account}/checkout", {**URLS, **body})


def subscribe(surface: Surface, account: str, **body: Any) -> Answer:
    body = {"plan": "usage", "idempotency_key": "k1", **body}
    return surface.call("POST", f"/v1/accounts/{account}/subscription", body)


def refused(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code


# -- pages -------------------------------------------------------------------------------------------------------------


def test_a_page_sells_the_plans_current_version(surface: Surface, shop: MemoryShop, account: str) -> None:
    answer = checkout(surface, account, plan="seats")
    assert answer.status == 201
    assert answer.body["url"] == f"https://checkout.stripe.com/c/pay/{answer.body['session_id']}"
    assert answer.body["expires_at"] == "2026-11-21T12:00:00Z"
    ((_, asked),) = shop.pages.items()
    assert [(line.price, line.quantity) for line in asked.lines] == [("price_tollgate:test:seats:1:base", 1)]
    assert asked.metadata == {
        "tollgate_stack": "test",
        "tollgate_account": account,
        "tollgate_plan": "seats",
        "tollgate_plan_version": "1",
    }
    assert (asked.success_url, asked.cancel_url) == (URLS["success_url"], URLS["cancel_url"])
    customer = surface.call("GET", f"/v1/accounts/{account}").body["stripe_customer_id"]
    assert (asked.customer, asked.account) == (customer, account), "made at first need, and stored"
    assert surface.call("GET", f"/v1/accounts/{account}").body["plan"]["id"] == "free", "nothing is paid yet"


def test_an_open_page_for_a_plan_is_replaced_so_that_only_one_can_be_paid(
    surface: Surface, shop: MemoryShop, account: str
) -> None:
    first, second = checkout(surface, account, plan="seats"), checkout(surface, account, plan="seats")
    assert first.body["session_id"] != second.body["session_id"]
    assert len(shop.expired) == 2
    assert checkout(surface, account, plan="usage", pack="small").status == 201
    assert len(shop.expired) == 2, "a pack may be bought beside a plan"


def test_a_pack_is_sold_once_and_names_the_plan_whose_it_is(surface: Surface, shop: MemoryShop, account: str) -> None:
    assert checkout(surface, account, pack="small", plan="usage").status == 201
    ((_, asked),) = shop.pages.items()
    assert [(line.price, line.quantity) for line in asked.lines] == [("price_tollgate:test:usage:1:pack:small", 1)]
    assert asked.anchor is None
    assert asked.metadata["tollgate_pack"] == "small"
    assert asked.metadata["tollgate_plan"] == "usage"
    assert refused(checkout(surface, account, pack="small")) == (422, "unknown_pack"), "the account is on the free plan"
    surface.call("POST", f"/v1/accounts/{account}/plan", {"plan": "usage"})
    assert checkout(surface, account, pack="small").status == 201
    assert refused(checkout(surface, account, pack="large")) == (422, "unknown_pack")


def test_a_repeated_request_gets_the_same_page(surface: Surface, shop: MemoryShop, account: str) -> None:
    first = checkout(surface, account, plan="seats", idempotency_key="buy")
    again = checkout(surface, account, plan="seats", idempotency_key="buy")
    assert again.body == first.body
    assert len(shop.pages) == 1
    assert len(shop.expired) == 1, "a repetition must not end the page that it answers"
    other = checkout(surface, account, plan="seats", idempotency_key="buy", success_url="https://app.test/else")
    assert refused(other) == (409, "idempotency_mismatch")


def test_a_lost_answer_is_found_again_under_the_same_key(surface: Surface, shop: MemoryShop, account: str) -> None:
    shop.lost = 1
    lost = checkout(surface, account, plan="seats", idempotency_key="buy")
    assert refused(lost) == (503, "stripe_unavailable")
    assert lost.headers["retry-after"] == "5"
    assert checkout(surface, account, plan="seats", idempotency_key="buy").status == 201
    assert len(shop.pages) == 1


def test_a_refusal_is_not_remembered(surface: Surface, shop: MemoryShop, account: str) -> None:
    shop.missing = {"base"}
    assert refused(checkout(surface, account, plan="seats", idempotency_key="buy")) == (409, "price_not_synced")
    shop.missing = set()
    assert checkout(surface, account, plan="seats", idempotency_key="buy").status == 201


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"plan": "free"}, 422, "plan_not_for_sale"),
        ({"plan": "usage"}, 422, "plan_not_for_sale"),
        ({"plan": "gold"}, 422, "unknown_plan"),
        ({}, 422, "invalid"),
        ({"plan": "seats", "seats": 3}, 422, "invalid"),
        ({"plan": "usage", "pack": "small", "seats": 3}, 422, "invalid"),
        ({"plan": "seats", "seats": 0}, 422, "invalid"),
        ({"plan": "seats", "seats": "3"}, 422, "invalid"),
    ],
)
def test_what_is_not_sold(
    surface: Surface, shop: MemoryShop, account: str, body: dict[str, Any], status: int, code: str
) -> None:
    assert refused(checkout(surface, account, **body)) == (status, code)
    assert shop.pages == {}


@pytest.mark.parametrize(
    "url",
    [
        "http://app.test/ok",
        "http://127.0.0.1/ok",
        "app.test/ok",
        "javascript:alert(1)",
        "https://",
        "https:///ok",
        "https://[::1",
        "https://app.test:port/",
        "https://app.test/o k",
        "https://app.test/\n",
    ],
)
@pytest.mark.parametrize("name", ["success_url", "cancel_url"])
def test_addresses_must_be_https(surface: Surface, shop: MemoryShop, account: str, name: str, url: str) -> None:
    answer = checkout(surface, account, plan="seats", **{name: url})
    assert refused(answer) == (422, "invalid")
    assert answer.body["errors"] == [{"path": name, "code": "url"}]


def test_the_local_stack_takes_addresses_of_this_machine(surface: Surface) -> None:
    deps = billing_routes.BillingApiDeps(surface.sales, surface.audit, loopback=True)
    for url in ("http://127.0.0.1:8787/ok", "http://localhost/ok", "http://[::1]:80/", "https://app.test/"):
        assert billing_routes._url(deps, url, "success_url") == url
    for url in ("http://app.test/", "http://127.0.0.1.app.test/", "ftp://localhost/"):
        with pytest.raises(Invalid):
            billing_routes._url(deps, url, "success_url")


def test_a_deleted_customer_is_told_of(surface: Surface, shop: MemoryShop, account: str) -> None:
    surface.call("PUT", f"/v1/accounts/{account}", {"stripe_customer_id": f"cus_{account}"})
    shop.deleted = {f"cus_{account}"}
    assert refused(checkout(surface, account, plan="seats")) == (409, "customer_deleted")
    assert refused(subscribe(surface, account)) == (409, "customer_deleted")


def test_a_price_in_another_currency_is_no_price_of_the_plan(surface: Surface, shop: MemoryShop, account: str) -> None:
    shop.currency = "eur"
    assert refused(checkout(surface, account, plan="seats")) == (409, "price_not_synced")


def test_an_unknown_account_buys_nothing(surface: Surface, shop: MemoryShop) -> None:
    assert refused(checkout(surface, "nobody", plan="seats")) == (404, "account_not_found")
    assert refused(subscribe(surface, "nobody")) == (404, "account_not_found")


# -- subscriptions -----------------------------------------------------------------------------------------------------


def test_a_subscription_has_all_parts_of_the_plan(surface: Surface, shop: MemoryShop, account: str) -> None:
    answer = subscribe(surface, account, seats=5)
    assert answer.status == 201
    assert answer.body["added"] == ["base", "seats", "meter:llm_tokens"]
    assert answer.body["plan"] == {"id": "usage", "version": 1, "name": "Usage"}
    assert answer.body["proration"]["behavior"] == "create_prorations"
    (there,) = shop.there.values()
    assert answer.body["subscription_id"] == there.id
    assert [(item.part, item.metered) for item in there.items] == [
        ("base", False),
        ("seats", False),
        ("llm_tokens", True),
    ]


def test_seats_are_as_few_as_the_plan_bills_and_never_fewer(surface: Surface, shop: MemoryShop, account: str) -> None:
    answer = subscribe(surface, account, seats=1)
    assert refused(answer) == (422, "invalid")
    assert answer.body["errors"] == [{"path": "seats", "code": "too_few"}]
    assert subscribe(surface, account).status == 201
    assert shop.quantities == [1, 2, None]


def test_a_second_subscription_is_refused_and_a_repetition_is_not(
    surface: Surface, shop: MemoryShop, account: str
) -> None:
    first = subscribe(surface, account)
    again = subscribe(surface, account)
    assert (again.status, again.body) == (200, first.body)
    assert refused(subscribe(surface, account, idempotency_key="k2")) == (409, "already_subscribed")
    assert refused(checkout(surface, account, plan="seats")) == (409, "already_subscribed")
    assert len(shop.there) == 1
    assert refused(subscribe(surface, account, seats=9)) == (409, "idempotency_mismatch")


def test_a_lost_answer_makes_no_second_subscription(surface: Surface, shop: MemoryShop, account: str) -> None:
    shop.lost = 1
    assert refused(subscribe(surface, account)) == (503, "stripe_unavailable")
    again = subscribe(surface, account)
    (there,) = shop.there.values()
    assert (again.status, again.body["subscription_id"]) == (200, there.id)
    assert refused(subscribe(surface, account, idempotency_key="k2")) == (409, "already_subscribed")


def test_a_repetition_after_the_subscription_ended_makes_no_other(
    surface: Surface, shop: MemoryShop, account: str
) -> None:
    made = subscribe(surface, account).body["subscription_id"]
    shop.cancel(made)
    again = subscribe(surface, account)
    assert (again.status, again.body["subscription_id"], again.body["status"]) == (200, made, "canceled")
    assert subscribe(surface, account, idempotency_key="k2").status == 201


def test_a_subscription_needs_a_key(surface: Surface, shop: MemoryShop, account: str) -> None:
    answer = surface.call("POST", f"/v1/accounts/{account}/subscription", {"plan": "usage"})
    assert refused(answer) == (422, "idempotency_key_required")


def test_one_sale_to_an_account_at_a_time(surface: Surface, shop: MemoryShop, account: str) -> None:
    asked = AskedTable("accounts")
    now = surface.sales.clock() // 1000
    assert asked.lock(account, now)
    assert refused(subscribe(surface, account)) == (503, "busy")
    assert refused(checkout(surface, account, plan="seats")) == (503, "busy")
    assert not asked.lock(account, now + LOCKED_S - 1)
    assert asked.lock(account, now + LOCKED_S), "whoever held it is dead"
    asked.unlock(account)
    assert subscribe(surface, account).status == 201


# -- metered prices on a flat subscription -----------------------------------------------------------------------------


def test_metered_prices_are_added_to_a_flat_subscription(surface: Surface, shop: MemoryShop, account: str) -> None:
    surface.call("PUT", f"/v1/accounts/{account}", {"stripe_customer_id": f"cus_{account}"})
    flat = shop.flat(f"cus_{account}")
    answer = subscribe(surface, account, subscription=flat)
    assert (answer.status, answer.body["added"]) == (200, ["meter:llm_tokens"])
    assert answer.body["proration"]["behavior"] == "none"
    assert "usage is billed at the end" in answer.body["proration"]["means"]
    (there,) = shop.there.values()
    assert [item.part for item in there.items] == [None, "llm_tokens"]
    again = subscribe(surface, account, subscription=flat, idempotency_key="k2")
    assert (again.status, again.body["added"]) == (200, [])


def test_a_subscription_that_is_not_flat_or_not_the_accounts_is_left_alone(
    surface: Surface, shop: MemoryShop, account: str
) -> None:
    surface.call("PUT", f"/v1/accounts/{account}", {"stripe_customer_id": f"cus_{account}"})
    yearly, euros = shop.flat(f"cus_{account}", "year"), shop.flat(f"cus_{account}", currency="eur")
    foreign = shop.flat("cus_other")
    before = dict(shop.there)
    for subscription, code in (
        (yearly, "subscription_not_flat"),
        (euros, "currency_mismatch"),
        (foreign, "unknown_subscription"),
        ("sub_none", "unknown_subscription"),
    ):
        assert subscribe(surface, account, subscription=subscription).code == code
    assert refused(subscribe(surface, account, subscription=yearly, plan="seats")) == (422, "plan_not_for_sale")
    assert refused(subscribe(surface, account, subscription=yearly, seats=3)) == (422, "invalid")
    assert shop.there == before
    items = tuple(item._replace(interval="month", metered=True) for item in shop.there[yearly].items)
    shop.there[yearly] = shop.there[yearly]._replace(items=items)
    assert subscribe(surface, account, subscription=yearly).code == "subscription_not_flat"
    monthly = shop.flat(f"cus_{account}")
    shop.cancel(monthly)
    assert subscribe(surface, account, subscription=monthly).code == "unknown_subscription"


# -- the anchor --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "anchor"),
    [
        (BillingPeriod("month", "calendar"), Anchor(1, 0, 0)),
        (BillingPeriod("year", "calendar"), Anchor(1, 0, 0, 1)),
        (BillingPeriod("month", "signup"), Anchor(31, 12, 34)),
        (BillingPeriod("year", "subscription"), Anchor(31, 12, 34, 10)),
    ],
)
def test_periods_begin_at_whole_minutes(period: BillingPeriod, anchor: Anchor) -> None:
    assert anchor_of(period, int(datetime(2026, 10, 31, 12, 34, 56, tzinfo=UTC).timestamp())) == anchor


def test_a_repetition_asks_for_the_anchor_of_the_first_try(surface: Surface, shop: MemoryShop, account: str) -> None:
    """Stripe refuses other parameters under the same key, and a minute later the minute is another."""
    shop.lost = 1
    began = surface.sales.clock()
    api = billing_routes.BillingApiDeps(
        replace(surface.sales, clock=lambda: began + 61_000), surface.audit, loopback=False
    )
    assert refused(checkout(surface, account, plan="seats", idempotency_key="buy")) == (503, "stripe_unavailable")
    later = surface.billing._deps
    surface.billing._deps = api
    try:
        assert checkout(surface, account, plan="seats", idempotency_key="buy").status == 201
    finally:
        surface.billing._deps = later
