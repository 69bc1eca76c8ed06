"""GET /v1/plans: what a pricing page needs, and how it is cached."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.http.surface import Answer, Surface
from tollgate.catalog.schema import parse_catalog

PLANS = """
currency: usd
default_plan: free
meters:
  messages: {name: Messages, unit: message, stripe_event_name: messages}
plans:
  free: {name: Free, limits: [{id: daily, meter: messages, window: day, max: 10, where: {model: [a, b]}}]}
  seats:
    order: 3
    seats: {unit_price: "20", minimum: 2}
    prices: [{meter: messages, scheme: package, package_size: 10, package_price: "1", included_per_seat: 100}]
  payg:
    order: 2
    description: Pay as you go.
    base_fee: "3.00"
    prices:
      - meter: messages
        scheme: graduated
        maximum: "500"
        tiers: [{up_to: 100, unit_price: "0"}, {up_to: inf, unit_price: "0.02"}]
    grants: [{meter: messages, units: 5, every: once}]
    features: {sso: true}
  secret: {public: false, base_fee: "1000"}
"""


@pytest.fixture
def page(surface: Surface) -> Surface:
    publish(surface, PLANS)
    return surface


def publish(surface: Surface, text: str) -> None:
    surface.manage_deps.accounts.catalog.publish(parse_catalog(text))


def plans(surface: Surface, **headers: str) -> Answer:
    return surface.call(
        "GET", "/v1/plans", key=None, headers={name.replace("_", "-"): headers[name] for name in headers}
    )


def by_id(surface: Surface) -> dict[str, Any]:
    return {plan["id"]: plan for plan in plans(surface).body["data"]}


def test_public_plans_in_order(page: Surface) -> None:
    answer = plans(page)
    assert [plan["id"] for plan in answer.body["data"]] == ["free", "payg", "seats"]
    assert answer.body["currency"] == "usd"


def test_all_that_a_pricing_page_needs(page: Surface) -> None:
    plan = by_id(page)["payg"]
    examples = plan.pop("examples")
    assert plan.pop("version") >= 1
    assert plan == {
        "id": "payg",
        "name": "payg",
        "description": "Pay as you go.",
        "sentence": "$3/month with 100 messages included, then $0.02 each, at most $500/month, plus 5 messages once",
        "period": {"interval": "month", "anchor": "calendar"},
        "base_fee": "3",
        "seats": None,
        "meters": [{"id": "messages", "name": "Messages", "unit": "message", "kind": "sum"}],
        "prices": [
            {
                "meter": "messages",
                "scheme": "graduated",
                "tiers": [
                    {"up_to": "100", "unit_price": "0", "flat": "0"},
                    {"up_to": None, "unit_price": "0.02", "flat": "0"},
                ],
                "markup": "0",
                "minimum": None,
                "maximum": "500",
                "included": "100",
                "included_per_seat": "0",
            }
        ],
        "overage": "on",
        "spend_cap": None,
        "grants": [{"meter": "messages", "units": "5", "every": "once", "rollover_max": None}],
        "packs": [],
        "limits": [],
        "features": {"sso": True},
    }
    assert [(example["name"], example["total"], example["text"]) for example in examples] == [
        ("light", "3", "20 messages: $3/month"),
        ("medium", "5", "200 messages: $5/month"),
        ("heavy", "21", "1,000 messages: $21/month"),
    ]


def test_an_example_explains_itself(page: Surface) -> None:
    light = by_id(page)["seats"]["examples"][1]
    assert light == {
        "name": "medium",
        "text": "6 seats, 1,200 messages: $180/month",
        "seats": 6,
        "usage": [{"meter": "messages", "units": "1200", "credit_funded": "0"}],
        "lines": [
            {
                "kind": "seats",
                "meter": None,
                "quantity": "6",
                "tier": None,
                "packages": None,
                "unit_price": "20",
                "flat": "0",
                "markup": "0",
                "amount": "120",
            },
            {
                "kind": "usage",
                "meter": "messages",
                "quantity": "600",
                "tier": None,
                "packages": "60",
                "unit_price": "1",
                "flat": "0",
                "markup": "0",
                "amount": "60",
            },
        ],
        "total": "180",
        "capped": False,
    }


def test_limits_say_what_they_are_for(page: Surface) -> None:
    (limit,) = by_id(page)["free"]["limits"]
    assert limit == {
        "id": "daily",
        "per": "account",
        "meters": ["messages"],
        "where": {"model": ["a", "b"]},
        "window": "day",
        "max": "10",
    }


def test_packs_levels_and_limits_of_money_and_of_all(surface: Surface) -> None:
    publish(
        surface,
        """
currency: usd
default_plan: p
meters:
  messages: {name: Messages, unit: message, stripe_event_name: messages}
  disk: {name: Storage, unit: GB, kind: level}
plans:
  p:
    prices: [{meter: messages, scheme: per_unit, unit_price: "1"}]
    packs:
      - {id: small, meter: messages, units: 500, price: "9.00", priority: 3, expires_days: 365}
      - {id: large, name: Large, meter: messages, units: 5000, price: "80"}
    limits:
      - {id: money, per: member, amount: "20.00"}
      - {id: space, meter: disk, max: 50}
      - {id: address, meter: messages, per: "dimension:ip", window: day, max: 7, where: {model: a}}
      - {id: everyone, meter: messages, per: plan, window: lifetime, max: 9}
""",
    )
    plan = by_id(surface)["p"]
    assert plan["meters"] == [
        {"id": "disk", "name": "Storage", "unit": "GB", "kind": "level"},
        {"id": "messages", "name": "Messages", "unit": "message", "kind": "sum"},
    ]
    assert plan["packs"] == [
        {"id": "small", "name": "small", "meter": "messages", "units": "500", "price": "9", "expires_days": 365},
        {"id": "large", "name": "Large", "meter": "messages", "units": "5000", "price": "80", "expires_days": None},
    ]
    assert plan["limits"] == [
        {"id": "money", "per": "member", "meters": [], "window": "period", "max": None, "amount": "20"},
        {"id": "space", "per": "account", "meters": ["disk"], "window": "lifetime", "max": "50"},
        {
            "id": "address",
            "per": "dimension:ip",
            "meters": ["messages"],
            "where": {"model": "a"},
            "window": "day",
            "max": "7",
        },
        {"id": "everyone", "per": "plan", "meters": ["messages"], "window": "lifetime", "max": "9"},
    ]


def test_it_may_be_kept_for_five_minutes(page: Surface) -> None:
    answer = plans(page)
    assert answer.headers["cache-control"] == "public, max-age=300"
    tag = answer.headers["etag"]
    assert tag.startswith('"')
    assert plans(page).headers["etag"] == tag
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = plans(page, if_none_match=known)
        assert (again.status, again.body, again.headers["etag"]) == (304, None, tag), known
    assert plans(page, if_none_match='"other"').status == 200


def test_another_catalogue_has_another_tag(page: Surface) -> None:
    before = plans(page).headers["etag"]
    versions = {plan: shown["version"] for plan, shown in by_id(page).items()}
    publish(page, PLANS.replace('"0.02"', '"0.03"'))
    answer = plans(page, if_none_match=before)
    assert answer.status == 200
    assert answer.headers["etag"] != before
    assert {plan["id"]: plan["version"] for plan in answer.body["data"]} == versions | {"payg": versions["payg"] + 1}
