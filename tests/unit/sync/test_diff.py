"""What is done at Stripe, and that a crash anywhere followed by another run comes to the same end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from tests.unit.examples.shelf import AGENT, IMAGES, catalog, version
from tests.unit.sync.fake import FakeStripe, Killed
from tollgate.catalog.frozen import PlanVersion
from tollgate.catalog.model import Meter, Plan, Price
from tollgate.sync.apply import Refused, apply, look
from tollgate.sync.desired import Desired, desired
from tollgate.sync.diff import Step, diff

D = Decimal
METER = Meter("m", "Things", "thing", stripe_event_name="things")
KEY = "tollgate:dev:pro:1:meter:m"


def plan(unit_price: str = "0.02", name: str = "Pro", fee: str = "10", **more: str) -> Desired:
    prices = (Price("m", "per_unit", unit_price=D(unit_price)),)
    return desired([PlanVersion(Plan("pro", 1, name, D(fee), prices=prices, **more), {"m": METER})], "dev")  # type: ignore[arg-type]


def steps(stripe: FakeStripe, wanted: Desired, reactivate: bool = False) -> list[Step]:
    return diff(wanted, look(stripe, wanted), live=False, reactivate=reactivate)


def synced(stripe: FakeStripe, wanted: Desired) -> FakeStripe:
    apply(stripe, steps(stripe, wanted))
    return stripe


def kinds(found: list[Step]) -> list[str]:
    return [step.kind for step in found]


def test_all_is_created_in_order_and_then_matches() -> None:
    stripe = FakeStripe()
    first = steps(stripe, plan())
    assert [(step.kind, step.what) for step in first] == [
        ("create", "meter"),
        ("create", "product"),
        ("create", "product"),
        ("create", "price"),
        ("create", "price"),
    ]
    told: list[Step] = []
    assert apply(stripe, first, told.append) == 5
    assert told == first
    assert set(kinds(steps(stripe, plan()))) == {"match"}
    assert apply(stripe, steps(stripe, plan())) == 0
    assert stripe.prices["price_2"].meter == "mtr_1"


def test_an_amount_is_replaced_never_edited() -> None:
    stripe = synced(FakeStripe(), plan())
    found = steps(stripe, plan("0.03"))
    assert kinds(found) == ["match", "match", "match", "match", "replace"]
    assert "2 usd, each month, metered → 3 usd" in found[-1].detail
    apply(stripe, found)
    assert stripe.prices["price_2"].price.terms.unit_amount == D(2), "edited"
    assert not stripe.prices["price_2"].active
    assert stripe.on_sale()[KEY].terms.unit_amount == D(3)
    assert set(kinds(steps(stripe, plan("0.03")))) == {"match"}


def test_names_and_what_was_archived_are_updated() -> None:
    stripe = synced(FakeStripe(), plan())
    stripe.archive_price("price_1")
    found = steps(stripe, plan(name="Professional"))
    assert kinds(found) == ["match", "update", "update", "update", "update"]
    apply(stripe, found)
    assert set(kinds(steps(stripe, plan(name="Professional")))) == {"match"}
    assert len(stripe.prices) == 2


def test_a_price_whose_key_was_taken_off_is_found_again() -> None:
    stripe = synced(FakeStripe(), plan())
    there = stripe.prices["price_2"]
    stripe.prices["price_2"] = there._replace(price=there.price._replace(lookup_key=None))
    found = steps(stripe, plan())
    assert [(step.kind, step.detail) for step in found if step.kind != "match"] == [("update", "lookup key")]
    apply(stripe, found)
    assert len(stripe.prices) == 2


def test_prices_of_others_are_left_alone() -> None:
    stripe = synced(FakeStripe(), plan())
    mine = stripe.prices["price_2"]
    foreign = mine._replace(id="price_x", price=mine.price._replace(lookup_key=None, metadata={}))
    stripe.prices["price_x"] = foreign
    apply(stripe, steps(stripe, plan("0.03")))
    assert stripe.prices["price_x"] == foreign


def test_another_currency_under_the_same_key_is_refused() -> None:
    stripe = synced(FakeStripe(), plan())
    found = steps(stripe, plan(currency="eur"))
    assert kinds(found)[-2:] == ["refuse", "refuse"]
    assert "it is in usd, not eur" in found[-1].detail
    writes = list(stripe.writes)
    with pytest.raises(Refused):
        apply(stripe, found)
    assert stripe.writes == writes


def test_a_deactivated_meter_is_taken_back_only_when_told() -> None:
    stripe = synced(FakeStripe(), plan())
    stripe.all_meters["mtr_1"] = stripe.all_meters["mtr_1"]._replace(active=False)
    refused = steps(stripe, plan())[0]
    assert (refused.kind, refused.detail) == (
        "refuse",
        "it was deactivated: --reactivate takes it into use again",
    )
    apply(stripe, steps(stripe, plan(), reactivate=True))
    assert stripe.all_meters["mtr_1"].active
    assert len(stripe.all_meters) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"formula": "count"}, "its formula is count, not sum"),
        ({"window": "hour"}, "only the last event of each hour"),
        ({"customer_key": "customer"}, "reads the customer from customer"),
        ({"value_key": "tokens"}, "reads the value from tokens"),
    ],
)
def test_a_meter_that_counts_otherwise_is_refused(change: dict[str, str], reason: str) -> None:
    stripe = synced(FakeStripe(), plan())
    there = stripe.all_meters["mtr_1"]
    stripe.all_meters["mtr_1"] = there._replace(meter=there.meter._replace(**change))
    found = steps(stripe, plan())[0]
    assert found.kind == "refuse"
    assert reason in found.detail


def test_a_price_on_a_meter_that_is_gone_is_replaced() -> None:
    stripe = synced(FakeStripe(), plan())
    there = stripe.all_meters["mtr_1"]
    stripe.all_meters["mtr_1"] = there._replace(active=False, meter=there.meter._replace(window="day"))
    found = steps(stripe, plan())
    assert kinds(found) == ["create", "match", "match", "match", "replace"]
    apply(stripe, found)
    active = next(one for one in stripe.prices.values() if one.price.lookup_key == KEY)
    assert active.meter == "mtr_2"


def test_the_other_mode_is_refused() -> None:
    stripe = synced(FakeStripe(), plan())
    found = diff(plan(), look(stripe, plan()), live=True)
    assert (found[0].kind, found[0].what) == ("refuse", "account")
    assert "test mode objects in live mode" in found[0].detail


def test_what_cannot_be_said_stops_everything() -> None:
    stripe = FakeStripe()
    found = steps(stripe, plan("0.0000000000000001"))
    assert found[0].kind == "refuse"
    with pytest.raises(Refused):
        apply(stripe, found)
    assert stripe.writes == []


def example(name: str) -> Desired:
    return desired([version(name, each) for each in catalog(name).plans], "dev")


def halfway(stripe: FakeStripe) -> FakeStripe:
    """Two amounts differ, a name differs, a price was archived: every kind of step is to be done."""
    synced(stripe, plan("0.05", name="Elder", fee="12"))
    stripe.archive_price("price_1")
    return stripe


@pytest.mark.parametrize(
    ("begun", "wanted"),
    [
        (FakeStripe, plan()),
        (lambda: halfway(FakeStripe()), plan()),
        (FakeStripe, example(IMAGES)),
        (FakeStripe, example(AGENT)),
    ],
)
def test_a_crash_at_any_call_ends_the_same(begun: Callable[[], FakeStripe], wanted: Desired) -> None:
    whole = begun()
    before = len(whole.writes)
    synced(whole, wanted)
    calls = len(whole.writes) - before
    assert calls > 4
    for dies in range(1, calls + 1):
        stripe = begun()
        stripe.dies_after = len(stripe.writes) + dies
        with pytest.raises(Killed):
            synced(stripe, wanted)
        synced(stripe, wanted)
        assert stripe.on_sale() == whole.on_sale(), f"killed after {dies}"
        assert {one.meter for one in stripe.meters()} == {one.meter for one in whole.meters()}
        assert len(stripe.all_meters) == len(whole.all_meters)
        assert stripe.products == whole.products
        assert len(stripe.prices) == len(whole.prices), "a price was made twice"
        assert set(kinds(steps(stripe, wanted))) == {"match"}


def test_versions_live_beside_each_other() -> None:
    first = PlanVersion(Plan("pro", 1, "Pro", D(10)), {})
    stripe = synced(FakeStripe(), desired([first], "dev"))
    second = PlanVersion(replace(first.plan, version=2, base_fee=D(12)), {})
    found = steps(stripe, desired([second], "dev"))
    assert kinds(found) == ["update", "create"]
    apply(stripe, found)
    assert {key: price.terms.unit_amount for key, price in stripe.on_sale().items()} == {
        "tollgate:dev:pro:1:base": D(1000),
        "tollgate:dev:pro:2:base": D(1200),
    }
