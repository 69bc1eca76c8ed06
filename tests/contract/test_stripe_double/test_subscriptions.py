"""Subscriptions in flexible billing mode, driven by the official SDK."""

from __future__ import annotations

from typing import Any, cast

import pytest
import stripe

from local.stripe_double.testing import NOON, Account
from tests.contract.test_stripe_double.billing import DAY, HOUR, Shop, amounts, at, bounds, shop
from tests.contract.test_stripe_double.shapes import unknown_and_missing


@pytest.fixture
def sold(stripe_account: Account) -> Shop:
    return shop(stripe_account)


def test_it_has_the_sdks_fields(sold: Shop) -> None:
    made = sold.subscribe(metadata={"tollgate_account": "acme"})
    assert unknown_and_missing(made, set()) == (set(), set())
    item = made["items"].data[0]
    assert unknown_and_missing(item, set()) == (set(), set())
    assert made.metadata["tollgate_account"] == "acme"
    assert (made.billing_mode.type, made.collection_method) == ("flexible", "charge_automatically")
    assert "current_period_end" not in made


def test_the_base_fee_is_billed_at_once_and_usage_is_not(sold: Shop) -> None:
    made = sold.subscribe(expand=["latest_invoice"])
    assert made.status == "active"
    invoice = made.latest_invoice
    assert isinstance(invoice, stripe.Invoice)
    assert (invoice.status, invoice.billing_reason, amounts(invoice)) == ("paid", "subscription_create", [2900])
    assert bounds(made) == [(NOON, at("2026-12-20 12:00"))] * 2


def test_a_metered_subscription_has_no_first_invoice(sold: Shop) -> None:
    made = sold.subscribe(sold.usage)
    assert (made.status, made.latest_invoice) == ("active", None)
    assert "quantity" not in made["items"].data[0]
    assert sold.invoices() == []


def test_periods_are_anchored_to_the_last_days_of_months(sold: Shop) -> None:
    sold.move_to(at("2027-01-31 10:00"))
    made = sold.subscribe(sold.usage)
    ends = []
    for _ in range(3):
        end = bounds(sold.look(made.id))[0][1]
        ends.append(end)
        sold.move_to(end)
    assert ends == [at("2027-02-28 10:00"), at("2027-03-31 10:00"), at("2027-04-30 10:00")]


def test_an_anchor_configuration_gives_whole_minutes_and_a_first_part(sold: Shop) -> None:
    config: Any = {"day_of_month": 1, "hour": 0, "minute": 0, "second": 0}
    made = sold.subscribe(billing_cycle_anchor_config=config)
    assert made.billing_cycle_anchor == at("2026-12-01 00:00")
    assert bounds(made) == [(NOON, at("2026-12-01 00:00"))] * 2
    # 10.5 of November's 30 days.
    assert amounts(sold.newest()) == [1015]
    sold.move_to(at("2026-12-01 00:00"))
    assert bounds(sold.look(made.id)) == [(at("2026-12-01 00:00"), at("2027-01-01 00:00"))] * 2
    sold.account.advance(DAY)
    free = sold.subscribe(sold.base, billing_cycle_anchor_config=config, proration_behavior="none")
    assert free.latest_invoice is None


def test_an_anchor_on_the_31st_returns_to_it(sold: Shop) -> None:
    made = sold.subscribe(
        sold.usage, billing_cycle_anchor_config={"day_of_month": 31, "hour": 0, "minute": 0, "second": 0}
    )
    ends = []
    for _ in range(5):
        end = bounds(sold.look(made.id))[0][1]
        ends.append(end)
        sold.move_to(end)
    days = ["2026-11-30", "2026-12-31", "2027-01-31", "2027-02-28", "2027-03-31"]
    assert ends == [at(f"{day} 00:00") for day in days]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"customer": None}, "customer"),
        ({"customer": "cus_none"}, "customer"),
        ({"items": None}, "items"),
        ({"items": [{"quantity": 1}]}, "items[0][price]"),
        ({"items": [{"price": "price_none"}]}, "items[0][price]"),
        ({"items": [{"price": "once"}]}, "items[0][price]"),
        ({"items": [{"price": "old"}]}, "items[0][price]"),
        ({"items": [{"price": "usage", "quantity": 1}]}, "items[0][quantity]"),
        ({"items": [{"price": "base"}, {"price": "base"}]}, "items"),
        ({"items": [{"price": "base"}, {"price": "euro"}]}, "items"),
        ({"billing_cycle_anchor": NOON}, "billing_cycle_anchor"),
        ({"billing_cycle_anchor": NOON + 40 * DAY}, "billing_cycle_anchor"),
        ({"billing_cycle_anchor_config": {"day_of_month": 32}}, "billing_cycle_anchor_config[day_of_month]"),
        ({"trial_end": NOON - 1}, "trial_end"),
        ({"billing_mode": {"type": "classic"}}, "billing_mode"),
        ({"collection_method": "send_invoice"}, "collection_method"),
    ],
)
def test_what_makes_no_subscription_is_refused(sold: Shop, params: dict[str, Any], param: str) -> None:
    old = sold.price(unit_amount=1)
    sold.account.client.v1.prices.update(old, {"active": False})
    named = {
        "base": sold.base,
        "usage": sold.usage,
        "old": old,
        "once": sold.account.client.v1.prices.create({"currency": "usd", "unit_amount": 1, "product": "pro"}).id,
        "euro": sold.price(unit_amount=1, currency="eur"),
    }
    given: dict[str, Any] = {"customer": sold.customer, "items": [{"price": "base"}], **params}
    given = {name: value for name, value in given.items() if value is not None}
    if "items" in given:
        given["items"] = [{k: named.get(str(v), v) for k, v in item.items()} for item in given["items"]]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        sold.account.client.v1.subscriptions.create(cast(Any, given))
    assert (refused.value.http_status, refused.value.param) == (400, param)
    assert sold.account.client.v1.subscriptions.list().data == []


def test_a_trial_is_announced_and_then_billed(sold: Shop) -> None:
    made = sold.subscribe(trial_period_days=14)
    assert (made.status, made.trial_end) == ("trialing", NOON + 14 * DAY)
    assert (sold.newest().total, sold.newest().status) == (0, "paid")
    sold.account.send(sold.customer, "5000")
    sold.events()
    sold.move_to(NOON + 11 * DAY - 1)
    assert sold.events() == []
    sold.move_to(NOON + 11 * DAY)
    assert sold.events() == ["customer.subscription.trial_will_end"]
    sold.move_to(NOON + 14 * DAY)
    now = sold.look(made.id)
    assert (now.status, bounds(now)[0]) == ("active", (NOON + 14 * DAY, at("2027-01-04 12:00")))
    assert amounts(sold.newest()) == [2900]
    ended = sold.subscribe(sold.base, trial_period_days=14)
    assert sold.account.client.v1.subscriptions.update(ended.id, {"trial_end": "now"}).status == "active"


def test_another_price_in_mid_period_credits_and_charges_the_rest(sold: Shop) -> None:
    made = sold.subscribe(sold.base, billing_cycle_anchor=at("2026-12-01 00:00"), proration_behavior="none")
    sold.move_to(at("2026-12-16 12:00"))
    dear = sold.price(unit_amount=9900)
    item = made["items"].data[0].id
    changed = sold.account.client.v1.subscriptions.update(made.id, {"items": [{"id": item, "price": dear}]})
    assert changed["items"].data[0].price.id == dear
    pending = sold.account.client.v1.invoice_items.list({"customer": sold.customer, "pending": True}).data
    # Half of December is left.
    assert sorted((one.amount, one.proration) for one in pending) == [(-1450, True), (4950, True)]
    sold.move_to(at("2027-01-01 00:00"))
    assert sorted(amounts(sold.newest())) == [-1450, 4950, 9900]
    assert sold.account.client.v1.invoice_items.list({"pending": True}).data == []


def test_a_second_change_credits_what_the_first_one_charged(sold: Shop) -> None:
    made = sold.subscribe(sold.base, billing_cycle_anchor=at("2026-12-01 00:00"), proration_behavior="none")
    sold.move_to(at("2026-12-16 12:00"))
    item = made["items"].data[0].id
    update = sold.account.client.v1.subscription_items.update
    update(item, {"quantity": 3, "proration_behavior": "always_invoice"})
    assert (sold.newest().billing_reason, sold.newest().status, amounts(sold.newest())) == (
        "subscription_update",
        "paid",
        [-1450, 4350],
    )
    update(item, {"quantity": 1, "proration_behavior": "always_invoice"})
    assert (amounts(sold.newest()), sold.newest().amount_due) == ([-4350, 1450], 0)
    assert sold.account.client.v1.customers.retrieve(sold.customer).balance == -2900
    sold.move_to(at("2027-01-01 01:00"))
    # The credit is the customer's balance, and the next invoice uses it up.
    assert (sold.newest().total, sold.newest().starting_balance, sold.newest().amount_due) == (2900, -2900, 0)
    assert sold.account.client.v1.customers.retrieve(sold.customer).balance == 0


def test_without_proration_nothing_is_billed_until_the_next_period(sold: Shop) -> None:
    made = sold.subscribe()
    sold.account.send(sold.customer, "2000")
    sold.account.advance(DAY)
    base, usage = (item.id for item in made["items"].data)
    other = sold.price(unit_amount=100)
    params: Any = {
        "items": [{"id": base, "price": other}, {"id": usage, "deleted": True}],
        "proration_behavior": "none",
    }
    changed = sold.account.client.v1.subscriptions.update(made.id, params)
    assert len(changed["items"].data) == 1
    assert sold.account.client.v1.invoice_items.list().data == []
    sold.move_to(bounds(changed)[0][1])
    assert amounts(sold.newest()) == [100]


def test_a_replaced_metered_price_bills_its_usage_and_the_next_counts_from_then(sold: Shop) -> None:
    made = sold.subscribe(sold.usage)
    sold.account.advance(DAY)
    sold.account.send(sold.customer, "2000")
    sold.account.advance(DAY)
    flat = sold.price(recurring={"interval": "month", "usage_type": "metered", "meter": sold.meter}, unit_amount=10)
    item = made["items"].data[0].id
    sold.account.client.v1.subscriptions.update(made.id, {"items": [{"id": item, "price": flat}]})
    sold.account.send(sold.customer, "7", timestamp=NOON + 2 * DAY)
    sold.account.send(sold.customer, "100", timestamp=NOON + 2 * DAY - 1)
    sold.move_to(bounds(made)[0][1])
    lines = sold.newest().lines.data
    assert sorted((line.amount, line.quantity) for line in lines) == [(70, 7), (4000, 2000)]


def test_a_metered_price_is_added_to_a_flat_subscription(sold: Shop) -> None:
    made = sold.subscribe(sold.base)
    sold.account.send(sold.customer, "5000", timestamp=NOON + 5)
    sold.account.advance(10 * DAY)
    sold.account.client.v1.subscription_items.create({"subscription": made.id, "price": sold.usage})
    sold.account.send(sold.customer, "1001")
    found = sold.look(made.id)
    assert bounds(found) == [(NOON, at("2026-12-20 12:00"))] * 2
    sold.move_to(at("2026-12-20 12:00"))
    assert sorted(amounts(sold.newest())) == [4, 2900]


def test_another_interval_begins_a_period_and_bills_at_once(sold: Shop) -> None:
    made = sold.subscribe(sold.base, billing_cycle_anchor=at("2026-12-01 00:00"), proration_behavior="none")
    sold.move_to(at("2026-12-16 12:00"))
    yearly = sold.price(unit_amount=30000, recurring={"interval": "year"})
    params: Any = {"items": [{"id": made["items"].data[0].id, "price": yearly}]}
    changed = sold.account.client.v1.subscriptions.update(made.id, params)
    assert bounds(changed) == [(at("2026-12-16 12:00"), at("2027-12-16 12:00"))]
    assert (amounts(sold.newest()), sold.newest().status) == ([-1450, 30000], "paid")


def test_a_change_that_is_refused_changes_nothing(sold: Shop) -> None:
    made = sold.subscribe()
    base, usage = (item.id for item in made["items"].data)
    for items in (
        [{"id": base, "deleted": True}, {"id": usage, "deleted": True}],
        [{"id": base, "quantity": 2}, {"price": sold.usage}],
        [{"id": base, "quantity": 2}, {"id": "si_none", "deleted": True}],
    ):
        with pytest.raises(stripe.InvalidRequestError):
            sold.account.client.v1.subscriptions.update(made.id, cast(Any, {"items": items}))
    assert sold.look(made.id).to_dict() == made.to_dict()
    assert sold.account.client.v1.invoice_items.list().data == []


def test_cancelling_at_once_leaves_usage_unbilled_unless_asked(sold: Shop) -> None:
    cancel = sold.account.client.v1.subscriptions.cancel
    silent, billed = sold.subscribe(), sold.subscribe(sold.usage)
    sold.account.send(sold.customer, "2000")
    sold.account.advance(HOUR)
    sold.events()
    gone = cancel(silent.id)
    assert (gone.status, gone.ended_at, len(sold.invoices())) == ("canceled", NOON + HOUR, 1)
    assert sold.events() == ["customer.subscription.deleted"]
    cancel(billed.id, {"invoice_now": True})
    assert (amounts(sold.newest()), sold.newest().status) == ([4000], "paid")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        cancel(billed.id)
    assert refused.value.http_status == 404
    sold.account.advance(60 * DAY)
    assert len(sold.invoices()) == 2


def test_cancelling_with_proration_credits_unused_time(sold: Shop) -> None:
    made = sold.subscribe(sold.base, billing_cycle_anchor=at("2026-12-01 00:00"), proration_behavior="none")
    sold.move_to(at("2026-12-16 12:00"))
    sold.account.client.v1.subscriptions.cancel(made.id, {"prorate": True, "invoice_now": True})
    assert (amounts(sold.newest()), sold.newest().ending_balance) == ([-1450], -1450)


def test_cancelling_at_the_period_end_bills_the_last_usage(sold: Shop) -> None:
    made = sold.subscribe()
    updated = sold.account.client.v1.subscriptions.update(made.id, {"cancel_at_period_end": True})
    end = bounds(made)[0][1]
    assert (updated.status, updated.cancel_at, updated.cancel_at_period_end) == ("active", end, True)
    kept = sold.account.client.v1.subscriptions.update(made.id, {"cancel_at_period_end": False})
    assert (kept.cancel_at, kept.canceled_at) == (None, None)
    sold.account.client.v1.subscriptions.update(made.id, {"cancel_at_period_end": True})
    sold.account.send(sold.customer, "1500")
    sold.events()
    sold.move_to(end)
    assert sold.events() == ["invoice.created", "customer.subscription.deleted"]
    assert sold.look(made.id).status == "canceled"
    assert (amounts(sold.newest()), sold.newest().status) == ([2000], "draft")
    sold.account.send(sold.customer, "10", timestamp=end - 1)
    sold.move_to(end + HOUR)
    assert (amounts(sold.newest()), sold.newest().status) == ([2040], "paid")


def test_cancelling_at_a_moment_bills_usage_until_then(sold: Shop) -> None:
    made = sold.subscribe(sold.usage)
    update = sold.account.client.v1.subscriptions.update
    assert update(made.id, {"cancel_at": NOON + 5 * DAY}).cancel_at == NOON + 5 * DAY
    assert update(made.id, {"cancel_at": ""}).cancel_at is None
    update(made.id, {"cancel_at": NOON + 5 * DAY})
    for moment, value in ((NOON + 5 * DAY - 1, "1001"), (NOON + 5 * DAY, "9000")):
        sold.account.advance(moment - sold.account.now)
        sold.account.send(sold.customer, value)
    sold.account.advance(2 * HOUR)
    assert sold.look(made.id).ended_at == NOON + 5 * DAY
    assert (amounts(sold.newest()), sold.newest().status) == ([4], "paid")


def test_a_backdated_subscription_bills_elapsed_time_and_usage(sold: Shop) -> None:
    sold.move_to(at("2026-12-10 00:00"))
    sold.account.send(sold.customer, "1100")
    sold.account.send(sold.customer, "100", timestamp=at("2026-11-30 23:59"))
    sold.move_to(at("2027-01-10 00:00"))
    made = sold.subscribe(backdate_start_date=at("2026-12-01 00:00"))
    assert (made.start_date, bounds(made)[0]) == (
        at("2026-12-01 00:00"),
        (at("2027-01-01 00:00"), at("2027-02-01 00:00")),
    )
    assert amounts(sold.newest()) == [2900, 2900]
    sold.move_to(at("2027-02-01 00:00"))
    assert sorted(amounts(sold.newest())) == [400, 2900]


def test_a_pause_bills_usage_and_lets_no_period_pass(sold: Shop) -> None:
    made = sold.subscribe(billing_cycle_anchor=at("2026-12-01 00:00"), proration_behavior="none")
    sold.move_to(at("2026-12-16 12:00"))
    sold.account.send(sold.customer, "1100", timestamp=at("2026-12-10 00:00"))
    sold.events()
    paused = sold.account.client.v1.subscriptions.pause(made.id)
    assert (paused.status, unknown_and_missing(paused, set())) == ("paused", (set(), set()))
    assert paused.status_details is not None
    assert paused.status_details.paused.subscription.type == "pause_requested"
    assert sold.events("customer") == ["customer.subscription.updated", "customer.subscription.paused"]
    pending = sold.account.client.v1.invoice_items.list({"pending": True}).data
    assert sorted(item.amount for item in pending) == [-1450, 400]
    before = len(sold.invoices())
    sold.move_to(at("2027-02-10 00:00"))
    assert len(sold.invoices()) == before
    sold.account.send(sold.customer, "5000")
    sold.account.advance(60)
    resumed = sold.account.client.v1.subscriptions.resume(made.id)
    assert (resumed.status, bounds(resumed)[0]) == ("active", (at("2027-02-10 00:01"), at("2027-03-10 00:01")))
    assert sorted(amounts(sold.newest())) == [-1450, 400, 2900]
    assert "customer.subscription.resumed" in sold.events()
    sold.move_to(at("2027-03-10 00:01"))
    assert sorted(amounts(sold.newest())) == [0, 2900]


def test_resuming_on_the_old_anchor_bills_the_rest_of_its_period(sold: Shop) -> None:
    made = sold.subscribe(billing_cycle_anchor=at("2026-12-01 00:00"), proration_behavior="none")
    sold.move_to(at("2026-12-02 00:00"))
    bill_for: Any = {"unused_time_from": {"type": "none"}}
    sold.account.client.v1.subscriptions.pause(made.id, {"bill_for": bill_for})
    sold.move_to(at("2026-12-16 12:00"))
    sold.account.send(sold.customer, "5000", timestamp=at("2026-12-16 11:59"))
    resumed = sold.account.client.v1.subscriptions.resume(made.id, {"billing_cycle_anchor": {"type": "unchanged"}})
    assert bounds(resumed)[0] == (at("2026-12-01 00:00"), at("2027-01-01 00:00"))
    assert sorted(amounts(sold.newest())) == [0, 1450]
    sold.move_to(at("2027-01-01 00:00"))
    assert sorted(amounts(sold.newest())) == [0, 2900]


def test_lists_leave_out_the_canceled(sold: Shop) -> None:
    subscriptions = sold.account.client.v1.subscriptions
    first, second = sold.subscribe(), sold.subscribe(sold.usage)
    other = subscriptions.create({"customer": sold.account.customer(), "items": [{"price": sold.usage}]})
    subscriptions.cancel(first.id)

    def ids(**filters: Any) -> list[str]:
        return [found.id for found in subscriptions.list(cast(Any, filters)).data]

    assert ids() == [other.id, second.id]
    assert ids(customer=sold.customer) == [second.id]
    assert ids(customer=sold.customer, status="all") == [second.id, first.id]
    assert ids(status="canceled") == ids(status="ended") == [first.id]
    assert ids(price=sold.base, status="all") == [first.id]


def test_a_deleted_customer_has_no_subscription(sold: Shop) -> None:
    made = sold.subscribe()
    sold.events()
    sold.account.client.v1.customers.delete(sold.customer)
    assert sold.events() == ["customer.subscription.deleted", "customer.deleted"]
    assert sold.look(made.id).status == "canceled"


def test_updates_are_events_with_what_was_before(sold: Shop) -> None:
    made = sold.subscribe()
    sold.events()
    sold.account.client.v1.subscriptions.update(made.id, {"metadata": {"a": "1"}})
    (event,) = sold.account.double.events
    assert (event["type"], event["data"]["previous_attributes"]) == ("customer.subscription.updated", {"metadata": {}})
