"""Selling through the official SDK against the double: what is asked for, and what Stripe makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from local.stripe_double.testing import NOON, Account, account
from tollgate.errors import StripeRefused
from tollgate.stripe_api.checkout import StripeShop
from tollgate.stripe_api.reading import Connection
from tollgate.subscriptions.anchor import Anchor
from tollgate.subscriptions.checkout import Line, PageAsked

STACK = "test"
METADATA = {"tollgate_stack": STACK, "tollgate_account": "acme", "tollgate_request": "r1"}
ANCHOR = Anchor(20, 12, 0)


@pytest.fixture
def double() -> Iterator[Account]:
    with account() as opened:
        yield opened


@pytest.fixture
def shop(double: Account) -> StripeShop:
    return StripeShop(Connection(lambda: double.client, wait=lambda tried: None), STACK)


def price(double: Account, part: str, **more: Any) -> str:
    """A price as the sync makes it; its lookup key."""
    key = f"tollgate:{STACK}:pro:1:{part}"
    params: Any = {
        "currency": "usd",
        "unit_amount": 2900,
        "product_data": {"name": part},
        "lookup_key": key,
        "metadata": {"tollgate_stack": STACK, "tollgate_part": part},
        **more,
    }
    double.client.v1.prices.create(params)
    return key


def lines(double: Account, shop: StripeShop) -> tuple[Line, Line]:
    """A base fee and a price for usage."""
    meter = double.meter()
    base = price(double, "base", recurring={"interval": "month"})
    usage = price(double, "meter:ai_credits", recurring={"interval": "month", "usage_type": "metered", "meter": meter})
    found = shop.prices([base, usage])
    return Line(found[base].id, 1), Line(found[usage].id, None)


def page(customer: str, sold: tuple[Line, ...], anchor: Anchor | None = ANCHOR) -> PageAsked:
    return PageAsked(customer, sold, METADATA, "https://app.test/ok", "https://app.test/no", "acme", anchor)


def test_prices_are_found_by_their_keys_unless_archived(double: Account, shop: StripeShop) -> None:
    keys = [price(double, f"meter:m{number}") for number in range(12)]
    assert set(shop.prices([*keys, "tollgate:test:pro:1:none"])) == set(keys)
    archived = shop.prices(keys[:1])[keys[0]].id
    double.client.v1.prices.update(archived, {"active": False})
    assert shop.prices(keys[:1]) == {}


def test_a_page_sells_a_subscription_that_begins_at_a_whole_minute(double: Account, shop: StripeShop) -> None:
    customer, sold = double.customer(), lines(double, shop)
    double.advance(34)
    made = shop.page(page(customer, sold), "key-1")
    assert made == shop.page(page(customer, sold), "key-1"), "the same key, the same page"
    assert made.expires_at == double.now + 86_400
    done = double.control(f"checkout/{made.session}/complete", {})
    assert done["payment_status"] == "paid"
    (there,) = shop.subscriptions(customer)
    assert (there.id, there.status, there.request) == (done["subscription"], "active", "r1")
    assert [(item.part, item.metered, item.interval) for item in there.items] == [
        ("base", False, "month"),
        ("meter:ai_credits", True, "month"),
    ]
    assert there.period is not None
    assert there.period[1] == int(datetime(2026, 12, 20, 12, 0, tzinfo=UTC).timestamp())
    types = [event.type for event in double.client.v1.events.list({"limit": 100}).data]
    assert types.index("checkout.session.completed") < types.index("customer.subscription.created"), "newest first"


def test_a_subscription_without_a_page(double: Account, shop: StripeShop) -> None:
    customer, sold = double.customer(), lines(double, shop)
    made = shop.subscribe(customer, sold, METADATA, ANCHOR, "key-1")
    again = shop.subscribe(customer, sold, METADATA, ANCHOR, "key-1")
    assert (made.id, made.request, made.customer, made.currency) == (again.id, "r1", customer, "usd")
    assert shop.subscription(made.id) == made
    double.client.v1.subscriptions.cancel(made.id)
    assert shop.subscriptions(customer) == []
    ended = shop.subscription(made.id)
    assert ended is not None
    assert ended.ended
    assert shop.subscription("sub_none") is None


def test_metered_prices_are_added_and_the_rest_stays(double: Account, shop: StripeShop) -> None:
    customer, (_, usage) = double.customer(), lines(double, shop)
    flat: Any = {
        "currency": "usd",
        "unit_amount": 900,
        "product_data": {"name": "Flat"},
        "recurring": {"interval": "month"},
    }
    fee = double.client.v1.prices.create(flat).id
    there = double.client.v1.subscriptions.create({"customer": customer, "items": [{"price": fee}]}).id
    before = shop.subscription(there)
    assert before is not None
    assert [(item.part, item.metered) for item in before.items] == [(None, False)]
    after = shop.add(there, (usage,), METADATA, "none", "key-1")
    assert [(item.part, item.metered) for item in after.items] == [(None, False), ("meter:ai_credits", True)]
    assert after.period == before.period
    assert len(double.client.v1.invoices.list({"customer": customer}).data) == 1, "nothing was prorated"


def test_open_pages_for_a_plan_are_ended_and_others_are_not(double: Account, shop: StripeShop) -> None:
    customer, sold = double.customer(), lines(double, shop)
    pack = Line(shop.prices([price(double, "pack:small")])["tollgate:test:pro:1:pack:small"].id, 1)
    plan, once = shop.page(page(customer, sold), "key-1"), shop.page(page(customer, (pack,), None), "key-2")
    other = shop.page(page(double.customer(), sold), "key-3")
    shop.expire_pages(customer)
    sessions = double.client.v1.checkout.sessions
    assert [sessions.retrieve(one.session).status for one in (plan, once, other)] == ["expired", "open", "open"]


def test_a_deleted_or_unknown_customer_does_not_exist(double: Account, shop: StripeShop) -> None:
    customer = double.customer()
    assert shop.customer_exists(customer)
    double.client.v1.customers.delete(customer)
    assert not shop.customer_exists(customer)
    assert not shop.customer_exists("cus_none")


def test_a_refusal_is_told_in_stripes_words(double: Account, shop: StripeShop) -> None:
    with pytest.raises(StripeRefused, match="No such customer"):
        shop.page(page("cus_none", lines(double, shop)), "key-1")
    assert double.now == NOON
