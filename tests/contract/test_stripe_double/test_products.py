"""Products and prices, driven by the official SDK."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, cast

import pytest
import stripe

from local.stripe_double.testing import NOON, Account
from tests.contract.test_stripe_double.shapes import unknown_and_missing

TIERS: list[Any] = [{"up_to": 1000, "unit_amount": 0}, {"up_to": "inf", "unit_amount_decimal": "0.000500000001"}]


def product(account: Account, **more: Any) -> stripe.Product:
    return account.client.v1.products.create(cast(Any, {"name": "Pro", **more}))


def price(account: Account, **more: Any) -> stripe.Price:
    params: dict[str, Any] = {"currency": "usd", "unit_amount": 2900, "recurring": {"interval": "month"}, **more}
    params = {name: value for name, value in params.items() if value is not None}
    if "product" not in params and "product_data" not in params:
        params["product"] = product(account).id
    return account.client.v1.prices.create(cast(Any, params))


def metered(account: Account, **more: Any) -> stripe.Price:
    recurring = {"interval": "month", "usage_type": "metered", "meter": account.meter()}
    tiers = {"unit_amount": None, "billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": TIERS}
    return price(account, recurring=recurring, **{**tiers, **more})


def emitted(account: Account) -> list[str]:
    return [event["type"] for event in account.double.events]


def test_products_and_prices_have_the_sdks_fields(stripe_account: Account) -> None:
    assert unknown_and_missing(product(stripe_account), set()) == (set(), set())
    plain, tiered = price(stripe_account), metered(stripe_account, expand=["tiers"])
    assert unknown_and_missing(plain, {"tiers", "currency_options"}) == (set(), set())
    assert unknown_and_missing(tiered, {"currency_options"}) == (set(), set())
    assert (plain.type, plain.unit_amount, plain.unit_amount_decimal) == ("recurring", 2900, Decimal(2900))
    assert plain.recurring is not None
    assert (plain.recurring.usage_type, plain.recurring.meter, plain.recurring.interval_count) == ("licensed", None, 1)


def test_tiers_come_only_when_expanded(stripe_account: Account) -> None:
    made = metered(stripe_account)
    assert "tiers" not in made
    found = stripe_account.client.v1.prices.retrieve(made.id, {"expand": ["tiers", "product"]})
    assert found.tiers is not None
    assert [(tier.up_to, tier.unit_amount, tier.unit_amount_decimal) for tier in found.tiers] == [
        (1000, 0, Decimal(0)),
        (None, None, Decimal("0.000500000001")),
    ]
    assert isinstance(found.product, stripe.Product)
    listed = stripe_account.client.v1.prices.list({"expand": ["data.tiers"]}).data[0]
    assert listed.tiers is not None
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        stripe_account.client.v1.prices.retrieve(made.id, {"expand": ["tier"]})


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"currency": "xxq"}, "currency"),
        ({"unit_amount": None}, "unit_amount"),
        ({"unit_amount_decimal": "1.5"}, "unit_amount"),
        ({"unit_amount": -1}, "unit_amount"),
        ({"unit_amount": None, "unit_amount_decimal": "0.0000000000001"}, "unit_amount_decimal"),
        ({"product": "prod_none"}, "product"),
        ({"recurring": {"interval": "month", "usage_type": "metered"}}, "recurring[meter]"),
        ({"recurring": {"interval": "month", "usage_type": "metered", "meter": "mtr_none"}}, "recurring[meter]"),
        ({"recurring": {"interval": "month", "meter": "mtr_none"}}, "recurring[meter]"),
        ({"recurring": {"interval": "month", "interval_count": 37}}, "recurring[interval_count]"),
        ({"recurring": {"interval": "fortnight"}}, "recurring[interval]"),
        ({"tiers": TIERS}, "tiers"),
        ({"billing_scheme": "tiered", "tiers": TIERS, "tiers_mode": "volume"}, "unit_amount"),
        ({"billing_scheme": "tiered", "unit_amount": None, "tiers_mode": "volume"}, "tiers"),
        ({"billing_scheme": "tiered", "unit_amount": None, "tiers": TIERS}, "tiers_mode"),
        (
            {
                "billing_scheme": "tiered",
                "unit_amount": None,
                "tiers": TIERS,
                "tiers_mode": "volume",
                "transform_quantity": {"divide_by": 60, "round": "up"},
            },
            "transform_quantity",
        ),
        (
            {"billing_scheme": "tiered", "unit_amount": None, "tiers_mode": "volume", "tiers": TIERS[:1]},
            "tiers",
        ),
        (
            {
                "billing_scheme": "tiered",
                "unit_amount": None,
                "tiers_mode": "volume",
                "tiers": [{"up_to": 5, "unit_amount": 1}, {"up_to": 5, "unit_amount": 1}, TIERS[1]],
            },
            "tiers",
        ),
        (
            {"billing_scheme": "tiered", "unit_amount": None, "tiers_mode": "volume", "tiers": [{"up_to": "inf"}]},
            "tiers[0]",
        ),
        (
            {
                "billing_scheme": "tiered",
                "unit_amount": None,
                "tiers_mode": "volume",
                "tiers": [{"up_to": "inf", "flat_amount_decimal": "1.5"}],
            },
            "tiers[0][flat_amount_decimal]",
        ),
    ],
)
def test_prices_that_make_no_sense_are_refused(stripe_account: Account, more: dict[str, Any], param: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        price(stripe_account, **more)
    assert (refused.value.http_status, refused.value.param) == (400, param)
    assert stripe_account.client.v1.prices.list().data == []


def test_amounts_never_change(stripe_account: Account) -> None:
    made = price(stripe_account)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.client.v1.prices.update(made.id, cast(Any, {"unit_amount": 1}))
    assert refused.value.code == "parameter_unknown"
    changed = stripe_account.client.v1.prices.update(
        made.id, {"active": False, "nickname": "old", "metadata": {"a": "1"}}
    )
    assert (changed.active, changed.nickname, changed.metadata["a"]) == (False, "old", "1")


def test_a_lookup_key_is_unique_and_can_be_transferred(stripe_account: Account) -> None:
    first = price(stripe_account, lookup_key="pro")
    with pytest.raises(stripe.InvalidRequestError, match="already uses that lookup key"):
        price(stripe_account, lookup_key="pro")
    second = price(stripe_account, lookup_key="pro", transfer_lookup_key=True)
    assert stripe_account.client.v1.prices.retrieve(first.id).lookup_key is None
    assert [found.id for found in stripe_account.client.v1.prices.list({"lookup_keys": ["pro"]}).data] == [second.id]
    stripe_account.client.v1.prices.update(first.id, {"lookup_key": "pro", "transfer_lookup_key": True})
    assert stripe_account.client.v1.prices.retrieve(second.id).lookup_key is None


def test_price_lists_filter(stripe_account: Account) -> None:
    prices = stripe_account.client.v1.prices
    flat, usage = price(stripe_account), metered(stripe_account)
    once = price(stripe_account, recurring=None, currency="jpy")
    prices.update(flat.id, {"active": False})

    def ids(**filters: Any) -> list[str]:
        return [found.id for found in prices.list(cast(Any, filters)).data]

    assert ids() == [once.id, usage.id, flat.id]
    assert ids(active=True) == [once.id, usage.id]
    assert ids(type="one_time") == [once.id]
    assert ids(recurring={"usage_type": "metered"}) == [usage.id]
    assert ids(recurring={"interval": "month"}) == [usage.id, flat.id]
    assert usage.recurring is not None
    assert ids(recurring={"meter": usage.recurring.meter}) == [usage.id]
    assert ids(product=str(flat.product)) == [flat.id]
    assert ids(currency="jpy") == [once.id]


def test_products_are_updated_archived_listed_and_deleted(stripe_account: Account) -> None:
    products = stripe_account.client.v1.products
    first, second = product(stripe_account, id="pro"), product(stripe_account, metadata={"a": "1"})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        product(stripe_account, id="pro")
    assert refused.value.code == "resource_already_exists"
    stripe_account.advance(5)
    changed = products.update(first.id, {"active": False, "name": "Old"})
    assert (changed.active, changed.name, changed.created, changed.updated) == (False, "Old", NOON, NOON + 5)
    assert [found.id for found in products.list({"active": True}).data] == [second.id]
    assert [found.id for found in products.list({"ids": ["pro"]}).data] == ["pro"]
    price(stripe_account, product=second.id)
    with pytest.raises(stripe.InvalidRequestError, match="user-created prices"):
        products.delete(second.id)
    assert products.delete(first.id).deleted
    with pytest.raises(stripe.InvalidRequestError) as refused:
        products.retrieve(first.id)
    assert refused.value.http_status == 404


def test_changes_are_events_with_previous_values(stripe_account: Account) -> None:
    made = price(stripe_account, lookup_key="a")
    stripe_account.client.v1.prices.update(made.id, {"active": False})
    stripe_account.client.v1.prices.update(made.id, {"active": False})
    assert emitted(stripe_account) == ["product.created", "price.created", "price.updated"]
    data = stripe_account.double.events[-1]["data"]
    assert (data["object"]["active"], data["previous_attributes"]) == (False, {"active": True})
