"""The catalogue at Stripe, through the official SDK and the double: nothing twice, nothing edited, the same bill."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from decimal import ROUND_FLOOR, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.stripe_double import rating
from local.stripe_double.testing import Account, account, sdk
from tests.unit.examples.shelf import AGENT, IMAGES, RESELLER, billed, catalog, version
from tests.unit.rating.making import graduated, per_unit
from tollgate.catalog.frozen import PlanVersion
from tollgate.catalog.model import Meter, Plan, Price, Seats
from tollgate.errors import StripeUnavailable
from tollgate.rating.bill import Used, bill
from tollgate.stripe_api.catalog import StripeCatalog
from tollgate.stripe_api.reading import Connection
from tollgate.sync.apply import apply, look
from tollgate.sync.desired import Desired, desired
from tollgate.sync.diff import Step, diff
from tollgate.sync.objects import BASE, SEATS, lookup_key, meter_part, product_id

D = Decimal
STACK = "tollgate-dev"
EXAMPLES = (IMAGES, AGENT, RESELLER)
METER = Meter("m", "Things", "thing", scale=2, stripe_event_name="things")


def port(stripe: Account) -> StripeCatalog:
    """Each is a run of its own."""
    return StripeCatalog(Connection(lambda: sdk(stripe.url, timeout=2), lambda tried: None), uuid.uuid4().hex)


def example(name: str) -> Desired:
    return desired([version(name, plan) for plan in catalog(name).plans], STACK)


def of(plan: Plan, meter: Meter = METER) -> Desired:
    return desired([PlanVersion(plan, {meter.id: meter})], STACK)


def steps(stripe: Account, wanted: Desired) -> list[Step]:
    return diff(wanted, look(port(stripe), wanted), live=False)


def sync(stripe: Account, wanted: Desired) -> Counter[str]:
    found = steps(stripe, wanted)
    apply(port(stripe), found)
    return Counter(step.kind for step in found)


@pytest.fixture(scope="module")
def synced() -> Iterator[Account]:
    """The three example catalogues, each synced: their plans have different names."""
    with account() as opened:
        for name in EXAMPLES:
            sync(opened, example(name))
        yield opened


@pytest.fixture
def stripe() -> Iterator[Account]:
    with account() as opened:
        yield opened


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_second_sync_finds_everything(synced: Account, name: str) -> None:
    wanted = example(name)
    assert sync(synced, wanted) == {"match": len(wanted.meters) + len(wanted.products) + len(wanted.prices)}


def cents(stripe: Account, plan: str, number: int, part: str, quantity: Decimal) -> int:
    """What the double's own arithmetic makes of a quantity, under the price that was synced."""
    with stripe.double.lock:
        price = stripe.double.prices.with_lookup_key(lookup_key(STACK, plan, number, part))
    assert price is not None, part
    assert price.active
    return rating.rounded(rating.cost(price.pricing, quantity))


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_cost_the_same_at_stripe(synced: Account, name: str) -> None:
    @given(st.data())
    def same(data: st.DataObject) -> None:
        plan = catalog(name).plans[data.draw(st.sampled_from(sorted(catalog(name).plans)))]
        used, stripes = {}, 0
        seats = data.draw(st.integers(0, 40))
        for price in plan.prices:
            meter = catalog(name).meters[price.meter]
            most = data.draw(st.sampled_from([10, 5_000, 10**7]))
            units = data.draw(st.decimals(0, most, places=meter.scale))
            brought = price.included_per_seat * max(seats, plan.seats.minimum) if plan.seats else D(0)
            used[price.meter] = Used(units)
            stripes += cents(synced, plan.id, 1, meter_part(price.meter), max(D(0), units - brought))
        if plan.base_fee:
            stripes += cents(synced, plan.id, 1, BASE, D(1))
        if plan.seats:
            stripes += cents(synced, plan.id, 1, SEATS, D(max(seats, plan.seats.minimum)))
        assert billed(name, plan.id, used, seats).total * 100 == stripes

    same()


@pytest.mark.parametrize(
    "price",
    [
        per_unit("0.0000005"),
        per_unit("0.02", minimum=D(5), maximum=D(20)),
        per_unit("0.02", markup=D("12.5")),
        graduated((100, "0"), (200, "0.05", "2.00"), (None, "0.01"), minimum=D("1.00"), maximum=D(19)),
        Price("m", "volume", tiers=graduated((10, "0.50", "1.00"), (None, "0.40")).tiers),
        Price("m", "package", package_size=D(60), package_price=D("0.10"), round="up"),
        Price("m", "package", package_size=D(60), package_price=D("0.0125"), round="down"),
    ],
)
def test_every_scheme_costs_the_same_at_stripe(stripe: Account, price: Price) -> None:
    plan = Plan("p", 1, "P", prices=(price,))
    sync(stripe, of(plan))

    @given(st.decimals(0, 2_000, places=2))
    def same(units: Decimal) -> None:
        ours = bill(plan, "usd", {"m": Used(units)}).total
        assert ours * 100 == cents(stripe, "p", 1, meter_part("m"), units)

    same()


def test_yen_and_seats(stripe: Account) -> None:
    meter = Meter("m", "Things", "thing", scale=0, stripe_event_name="things")
    plan = Plan("p", 1, "P", D(900), prices=(per_unit("7.25"),), seats=Seats(D("250")), currency="jpy")
    sync(stripe, of(plan, meter))
    assert cents(stripe, "p", 1, BASE, D(1)) == 900
    assert cents(stripe, "p", 1, SEATS, D(3)) == 750
    exact = D("7.25") * 3
    assert cents(stripe, "p", 1, meter_part("m"), D(3)) == int(exact.to_integral_value(ROUND_FLOOR)) + 1


def test_an_amount_is_replaced_and_its_key_goes_with_it(stripe: Account) -> None:
    sync(stripe, of(Plan("p", 1, "P", prices=(per_unit("0.02"),))))
    key = lookup_key(STACK, "p", 1, meter_part("m"))
    old = stripe.client.v1.prices.list({"lookup_keys": [key]}).data[0]
    assert sync(stripe, of(Plan("p", 1, "P", prices=(per_unit("0.03"),)))) == {"match": 2, "replace": 1}
    new = stripe.client.v1.prices.list({"lookup_keys": [key]}).data[0]
    assert (new.unit_amount_decimal, new.active) == (D(3), True)
    was = stripe.client.v1.prices.retrieve(old.id)
    assert (was.unit_amount_decimal, was.active, was.lookup_key) == (D(2), False, None)


def test_what_someone_changed_in_the_dashboard_is_put_right(stripe: Account) -> None:
    wanted = of(Plan("p", 1, "P", D(10), prices=(per_unit("0.02"),)))
    sync(stripe, wanted)
    product = product_id(STACK, "p", BASE)
    stripe.client.v1.products.update(product, {"name": "Renamed", "active": False})
    meter = stripe.client.v1.billing.meters.list().data[0]
    stripe.client.v1.billing.meters.update(meter.id, {"display_name": "Renamed"})
    price = stripe.client.v1.prices.list({"product": product}).data[0]
    stripe.client.v1.prices.update(price.id, {"active": False, "metadata": {"tollgate_part": "other", "mine": "kept"}})
    assert sync(stripe, wanted) == {"update": 3, "match": 2}
    assert sync(stripe, wanted) == {"match": 5}
    assert stripe.client.v1.prices.retrieve(price.id).metadata.to_dict()["mine"] == "kept"


def test_a_deactivated_meter_stops_the_sync_until_it_is_wanted_back(stripe: Account) -> None:
    wanted = of(Plan("p", 1, "P", prices=(per_unit("0.02"),)))
    sync(stripe, wanted)
    meter = stripe.client.v1.billing.meters.list().data[0].id
    stripe.client.v1.billing.meters.deactivate(meter)
    assert [step.kind for step in steps(stripe, wanted)][0] == "refuse"
    found = diff(wanted, look(port(stripe), wanted), live=False, reactivate=True)
    assert apply(port(stripe), found) == 1
    assert sync(stripe, wanted) == {"match": 3}


@pytest.mark.parametrize("kind", ["timeout_after", "500_after", "500_before", "connection_reset", "429"])
@pytest.mark.parametrize("path", ["/v1/billing/meters", "/v1/products", "/v1/prices", "/v1/prices/*"])
def test_trouble_at_any_write_ends_the_same(stripe: Account, kind: str, path: str) -> None:
    """Within a run a creation keeps its key; a 500, which a key replays for a day, is left to the next run."""
    sync(stripe, of(Plan("p", 1, "P", D(10), prices=(per_unit("0.05"),))))
    wanted = of(Plan("p", 1, "P", D(10), prices=(per_unit("0.02"),)))
    more = desired(
        [
            PlanVersion(Plan("p", 1, "P", D(10), prices=(per_unit("0.02"),)), {"m": METER}),
            PlanVersion(
                Plan("q", 1, "Q", D(5), prices=(Price("n", "per_unit", unit_price=D(1)),)),
                {"n": Meter("n", "Other", "thing", stripe_event_name="others")},
            ),
        ],
        STACK,
    )
    assert wanted.prices[0] in more.prices
    fault = {"kind": kind, "times": 1, "match": {"method": "POST", "path": path}}
    stripe.control("faults", {"faults": [fault]})
    for _ in range(3):
        try:
            sync(stripe, more)
            break
        except StripeUnavailable:
            assert kind.startswith("500")
    assert sync(stripe, more).keys() == {"match"}
    with stripe.double.lock:
        active = [price.lookup_key for price in stripe.double.prices.newest_first() if price.active]
    assert sorted(map(str, active)) == sorted(str(price.lookup_key) for price in more.prices)
    assert len(stripe.client.v1.billing.meters.list().data) == 2
    assert len(stripe.client.v1.products.list({"limit": 100}).data) == 4
