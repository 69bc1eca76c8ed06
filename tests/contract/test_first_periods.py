"""A subscription that begins in the middle of an account's period: our periods are Stripe's, from its first second on.

The worker follows what the official SDK reads from the double; the gate takes usage before, during and after.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from local.stripe_double.testing import Account, account
from tests.contract.test_stripe_double.billing import at, bounds
from tests.support.gate import Client
from tests.unit.webhooks.stage import ACCOUNT, STACK, Stage
from tollgate.accounts.rules import Rules
from tollgate.catalog.model import Anchor, BillingPeriod
from tollgate.gate.reserve import Denied, Granted
from tollgate.stripe_api.checkout import StripeShop
from tollgate.stripe_api.reading import Connection
from tollgate.stripe_api.subscriptions import Subscriptions
from tollgate.subscriptions.anchor import anchor_of
from tollgate.subscriptions.checkout import Line
from tollgate.subscriptions.follow import FollowDeps, Followed, follow_account
from tollgate.windows import DAY, PERIOD, window_at

CATALOG = """
currency: usd
default_plan: free
meters:
  ai_credits: {{name: Credits, unit: credit, stripe_event_name: credits}}
plans:
  free:
    name: Free
    period: {{interval: month, anchor: {free}}}
    overage: "off"
    prices:
      - meter: ai_credits
        scheme: graduated
        tiers: [{{up_to: 10, unit_price: "0"}}, {{up_to: inf, unit_price: "1"}}]
    limits: [{{id: daily, meter: ai_credits, window: day, max: 1000}}]
  pro:
    name: Pro
    base_fee: "29.00"
    period: {{interval: month, anchor: {pro}}}
    prices:
      - meter: ai_credits
        scheme: graduated
        tiers: [{{up_to: 100, unit_price: "0"}}, {{up_to: inf, unit_price: "1"}}]
    limits:
      - {{id: monthly, meter: ai_credits, window: period, max: 110}}
      - {{id: daily, meter: ai_credits, window: day, max: 1000}}
"""
BOUGHT = "2026-12-11 14:37"


class Town:
    """An account on the free plan, its Stripe customer, and the double; one clock for all."""

    def __init__(self, double: Account, free: str, pro: str) -> None:
        self.double = double
        self.stage = Stage(CATALOG.format(free=free, pro=pro))
        self.connection = Connection(lambda: double.client, wait=lambda tried: None)
        self.customer = double.customer()
        self.prices = self._prices()
        self.asked = 0
        self.tick()
        self.stage.account(customer=self.customer)

    def tick(self, seconds: int = 0) -> None:
        """Time passes; what is due at Stripe has happened."""
        if seconds:
            self.double.control("clock", {"advance_seconds": seconds})
        self.stage.world.now_ms = self.double.now * 1000

    def to(self, moment: int) -> None:
        self.tick(moment - self.double.now)

    def _prices(self) -> tuple[Line, ...]:
        """The plan's prices as the sync makes them."""
        metadata = {"tollgate_stack": STACK, "tollgate_plan": "pro", "tollgate_plan_version": "1"}
        usage = {"interval": "month", "usage_type": "metered", "meter": self.double.meter()}
        made = []
        for part, recurring in (("base", {"interval": "month"}), ("meter:ai_credits", usage)):
            params: Any = {
                "currency": "usd",
                "unit_amount": 2900,
                "product_data": {"name": part},
                "metadata": {**metadata, "tollgate_part": part},
                "recurring": recurring,
            }
            made.append(self.double.client.v1.prices.create(params).id)
        return Line(made[0], 1), Line(made[1], None)

    def buy(self, anchor: Anchor) -> str:
        shop = StripeShop(self.connection, STACK)
        config = anchor_of(BillingPeriod("month", anchor), self.double.now)
        metadata = {"tollgate_stack": STACK, "tollgate_account": ACCOUNT}
        return shop.subscribe(self.customer, self.prices, metadata, config, "buy").id

    def follow(self) -> Followed:
        deps = self.stage.deps().follow
        read = replace(deps, stripe=Subscriptions(self.connection))
        assert isinstance(read, FollowDeps)
        return follow_account(read, ACCOUNT, self.customer)

    def rules(self) -> Rules:
        return self.stage.deps().follow.accounts.rules.fresh(ACCOUNT)

    def period(self) -> tuple[int, int | None]:
        return window_at(PERIOD, self.rules().row.calendar, self.double.now)

    def reserve(self, units: int) -> Granted | Denied:
        """By a process of its own."""
        self.asked += 1
        self.client = Client(self.stage.world, ACCOUNT, self.stage.deps().follow.accounts.gate)
        return self.client.reserve(units, key=f"asked-{self.asked}")

    def use(self, units: int) -> None:
        held = self.reserve(units)
        assert isinstance(held, Granted), held
        self.client.commit(held)

    def counted(self, window: Any) -> Decimal:
        """What the account's counter of a window stands at, as the gate shows it."""
        rules = self.rules()
        counter = next(one for one in rules.counters if one.kind == window and one.key.meters == ("ai_credits",))
        return self.stage.world.gates[ACCOUNT].counts[counter.slot].taken

    def items(self, subscription: str) -> tuple[int, int]:
        """The period that Stripe's items say."""
        (period,) = set(bounds(self.double.client.v1.subscriptions.retrieve(subscription)))
        return period


@pytest.fixture
def double() -> Iterator[Account]:
    with account() as made:
        yield made


@pytest.mark.parametrize("free", ["calendar", "signup"])
@pytest.mark.parametrize("pro", ["calendar", "signup", "subscription"])
def test_the_first_period_is_stripes_with_one_refill(double: Account, free: str, pro: Anchor) -> None:
    town = Town(double, free, pro)
    town.to(at(BOUGHT) + 20)
    town.use(7)
    assert isinstance(town.reserve(4), Denied), "what the free plan includes is nearly used up"
    town.tick(5)
    bought = town.buy(pro)
    began = double.now
    town.tick(30)
    town.use(2)  # on the free plan's terms: nobody has told us yet
    town.tick(40)
    town.follow()
    ends = at("2027-01-01 00:00") if pro == "calendar" else at("2027-01-11 14:37")
    assert town.period() == town.items(bought) == (began, ends)
    assert [town.counted(PERIOD), town.counted(DAY)] == [2, 9], "of this period, and of this day"
    money = town.stage.world.gates[ACCOUNT].money
    assert money is not None
    assert [money.period, *(paid.taken for paid in money.paid.values())] == [began, 2]
    town.use(98)  # all that the paid plan includes, though the free plan's was used before
    money = town.stage.world.gates[ACCOUNT].money
    assert money is not None
    assert money.spend == 0
    town.use(10)
    assert isinstance(town.reserve(1), Denied)
    town.follow()
    assert isinstance(town.reserve(1), Denied), "told again, nothing is refilled"
    for _ in range(4):
        _, ends = town.items(bought)
        town.to(ends - 1)
        assert isinstance(town.reserve(1), Denied)
        town.tick(1)
        assert town.period() == town.items(bought)
        town.use(110)
        town.follow()


@pytest.mark.parametrize("moment", ["2027-01-31 14:37", "2027-01-30 00:00", "2027-02-28 23:59", "2028-01-29 09:10"])
def test_periods_return_to_the_day_that_a_month_lacks(double: Account, moment: str) -> None:
    town = Town(double, "calendar", "subscription")
    town.to(at(moment) + 41)
    bought = town.buy("subscription")
    town.follow()
    for _ in range(14):
        assert town.period() == town.items(bought)
        town.to(town.items(bought)[1])
        town.follow()


def test_a_subscription_made_by_hand_begins_at_its_own_second(double: Account) -> None:
    town = Town(double, "calendar", "subscription")
    town.to(at(BOUGHT) + 25)
    items: Any = [{"price": line.price} for line in town.prices]
    made = double.client.v1.subscriptions.create({"customer": town.customer, "items": items})
    town.tick(3)
    town.follow()
    assert town.period() == town.items(made.id) == (at(BOUGHT) + 25, at("2027-01-11 14:37") + 25)
    town.to(town.items(made.id)[1])
    assert town.period() == town.items(made.id)


def test_a_second_subscription_begins_another_period(double: Account) -> None:
    town = Town(double, "calendar", "calendar")
    town.to(at(BOUGHT) + 25)
    first = town.buy("calendar")
    town.follow()
    town.use(110)
    town.tick(3600)
    double.client.v1.subscriptions.cancel(first)
    town.follow()
    assert town.period()[0] == at(BOUGHT) + 25, "its end begins none"
    town.tick(3600)
    again = StripeShop(town.connection, STACK).subscribe(
        town.customer, town.prices, {"tollgate_stack": STACK}, anchor_of(BillingPeriod(), double.now), "again"
    )
    town.tick(2)
    town.follow()
    assert town.period() == town.items(again.id) == (at(BOUGHT) + 25 + 7200, at("2027-01-01 00:00"))
    town.use(110)
