"""Invoices over time: period close, grace, usage at the edges, payment and its failures; by the official SDK."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any, cast

import pytest
import requests
import stripe

from local.stripe_double.courier import carrying
from local.stripe_double.testing import NOON, Account
from tests.contract.test_stripe_double.billing import DAY, HOUR, Shop, amounts, at, bounds, shop
from tests.contract.test_stripe_double.shapes import unknown_and_missing

LEFT_OUT = {"confirmation_secret", "payments"}
"""Sent when expanded only."""


@pytest.fixture
def sold(stripe_account: Account) -> Shop:
    return shop(stripe_account)


def closed(sold: Shop, *prices: str, used: str = "1250") -> tuple[stripe.Subscription, int]:
    """A subscription whose first period has just ended after some usage, and when it ended."""
    made = sold.subscribe(*prices)
    sold.account.send(sold.customer, used)
    end = bounds(made)[0][1]
    sold.move_to(end)
    return made, end


def test_invoices_and_lines_have_the_sdks_fields(sold: Shop) -> None:
    made, end = closed(sold)
    draft = sold.newest()
    assert unknown_and_missing(draft, LEFT_OUT) == (set(), set())
    usage, fee = draft.lines.data
    for line in (usage, fee):
        assert unknown_and_missing(line, set()) == (set(), set())
    assert (usage.amount, usage.quantity, usage.quantity_decimal) == (1000, 1250, Decimal(1250))
    assert (usage.period.start, usage.period.end) == (NOON, end)
    assert (fee.period.start, fee.period.end) == (end, at("2027-01-20 12:00"))
    assert usage.pricing is not None
    assert usage.pricing.price_details is not None
    assert usage.pricing.price_details.price == sold.usage
    assert usage.parent is not None
    assert usage.parent.subscription_item_details is not None
    assert usage.parent.subscription_item_details.subscription_item == made["items"].data[1].id
    assert draft.parent is not None
    assert draft.parent.subscription_details is not None
    assert draft.parent.subscription_details.subscription == made.id


def test_a_period_closes_with_a_draft_that_finalizes_after_an_hour(sold: Shop) -> None:
    made = sold.subscribe()
    end = bounds(made)[0][1]
    sold.events()
    sold.move_to(end - 1)
    assert sold.events() == []
    sold.move_to(end)
    assert sold.events() == ["invoice.created", "customer.subscription.updated"]
    draft = sold.newest()
    assert (draft.status, draft.billing_reason, draft.auto_advance) == ("draft", "subscription_cycle", True)
    assert (draft.automatically_finalizes_at, draft.created, draft.number) == (end + HOUR, end, None)
    assert (draft.period_start, draft.period_end) == (NOON, end)
    assert sold.look(made.id).latest_invoice == draft.id
    sold.move_to(end + HOUR - 1)
    assert sold.newest().status == "draft"
    sold.move_to(end + HOUR)
    assert sold.events() == ["invoice.finalized", "invoice.paid", "invoice.payment_succeeded"]
    paid = sold.newest()
    assert (paid.status, paid.amount_paid, paid.amount_remaining) == ("paid", 2900, 0)
    assert (paid.status_transitions.finalized_at, paid.status_transitions.paid_at) == (end + HOUR, end + HOUR)
    assert paid.number is not None


def test_one_long_sleep_does_everything_in_order_at_its_own_time(sold: Shop) -> None:
    sold.subscribe()
    sold.events()
    sold.move_to(at("2027-03-01 00:00"))
    created = [event["created"] for event in sold.account.double.events]
    assert created == sorted(created)
    ends = [at("2026-12-20 12:00"), at("2027-01-20 12:00"), at("2027-02-20 12:00")]
    assert [invoice.created for invoice in sold.invoices()][::-1] == [NOON, *ends]
    finalized = [invoice.status_transitions.finalized_at for invoice in sold.invoices()][::-1]
    assert finalized == [NOON, *(end + HOUR for end in ends)]


def test_usage_belongs_to_the_period_of_its_timestamp_to_the_second(sold: Shop) -> None:
    sold.move_to(NOON + DAY)
    sold.account.send(sold.customer, "50000")
    sold.account.advance(1)
    made = sold.subscribe(sold.usage)
    start, end = bounds(made)[0]
    for moment, value in ((start - 1, "30000"), (start, "1000")):
        sold.account.send(sold.customer, value, timestamp=moment)
    sold.move_to(end + 60)
    for moment, value in ((end - 1, "10"), (end, "2000")):
        sold.account.send(sold.customer, value, timestamp=moment)
    assert (amounts(sold.newest()), sold.newest().status) == ([40], "draft")
    sold.move_to(end + HOUR)
    assert amounts(sold.newest()) == [40]
    sold.move_to(bounds(sold.look(made.id))[0][1] + HOUR)
    assert amounts(sold.newest()) == [4000]


def test_usage_after_finalization_is_on_no_invoice(sold: Shop) -> None:
    made, end = closed(sold, sold.usage)
    sold.move_to(end + HOUR)
    first = sold.newest()
    sold.account.send(sold.customer, "100", timestamp=end - 1)
    assert amounts(sold.account.client.v1.invoices.retrieve(first.id)) == [1000]
    sold.move_to(bounds(sold.look(made.id))[0][1] + HOUR)
    assert amounts(sold.newest()) == [0]


def test_usage_that_arrives_after_the_due_time_is_late_even_if_no_one_looked(sold: Shop) -> None:
    _, end = closed(sold, sold.usage)
    sold.account.advance(HOUR)
    sold.account.send(sold.customer, "100", timestamp=end - 1)
    assert amounts(sold.newest()) == [1000]


def test_time_is_kept_up_with_while_nobody_asks(sold: Shop) -> None:
    sold.subscribe()
    sold.events()
    with carrying(sold.account.double):
        sold.account.advance(31 * DAY)
        deadline = time.monotonic() + 10
        while len(sold.account.double.events) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "invoice.paid" in sold.events()


def test_cancelled_events_and_negative_totals(sold: Shop) -> None:
    made = sold.subscribe(sold.usage)
    sold.account.send(sold.customer, "5000", identifier="wrong")
    sold.account.send(sold.customer, "-3")
    adjust = sold.account.client.v1.billing.meter_event_adjustments.create
    adjust({"type": "cancel", "event_name": "ai_credits", "cancel": {"identifier": "wrong"}})
    sold.move_to(bounds(made)[0][1])
    assert [(line.amount, line.quantity) for line in sold.newest().lines.data] == [(0, 0)]


def test_the_first_tiers_flat_amount_is_billed_without_usage(sold: Shop) -> None:
    flat = sold.price(
        recurring={"interval": "month", "usage_type": "metered", "meter": sold.meter},
        billing_scheme="tiered",
        tiers_mode="volume",
        tiers=[{"up_to": 5, "unit_amount": 500, "flat_amount": 1000}, {"up_to": "inf", "unit_amount": 100}],
    )
    made = sold.subscribe(flat)
    sold.move_to(bounds(made)[0][1])
    assert amounts(sold.newest()) == [1000]


def test_packages_and_fractions_are_billed_exactly(sold: Shop) -> None:
    metered = {"interval": "month", "usage_type": "metered", "meter": sold.meter}
    hours = sold.price(recurring=metered, unit_amount=1000, transform_quantity={"divide_by": 60, "round": "up"})
    tiny = sold.price(recurring=metered, unit_amount_decimal="0.05")
    made = sold.subscribe(hours, tiny)
    sold.account.send(sold.customer, "150.5")
    sold.move_to(bounds(made)[0][1])
    found = [(line.amount, line.quantity, line.quantity_decimal) for line in sold.newest().lines.data]
    assert found == [(3000, 150, Decimal("150.5")), (8, 150, Decimal("150.5"))]


def test_each_tier_can_be_a_line_of_its_own_rounded_by_itself(sold: Shop) -> None:
    sold.account.control("settings", {"tier_lines": True})
    halves = sold.price(
        recurring={"interval": "month", "usage_type": "metered", "meter": sold.meter},
        billing_scheme="tiered",
        tiers_mode="graduated",
        tiers=[
            {"up_to": 1, "unit_amount_decimal": "0.5"},
            {"up_to": 2, "unit_amount_decimal": "0.5"},
            {"up_to": "inf", "unit_amount": 9},
        ],
    )
    made = sold.subscribe(halves)
    end = bounds(made)[0][1]
    sold.account.send(sold.customer, "1")
    assert amounts(sold.account.client.v1.invoices.create_preview({"subscription": made.id})) == [1]
    sold.move_to(end)
    draft = [(line.id, line.amount, line.quantity) for line in sold.newest().lines.data]
    sold.account.send(sold.customer, "2", timestamp=end - 1)
    full = [(line.id, line.amount, line.quantity) for line in sold.newest().lines.data]
    assert ([entry[1:] for entry in full], full[:1]) == ([(1, 1), (1, 1), (9, 1)], draft)
    sold.move_to(end + HOUR)
    assert ([line.id for line in sold.newest().lines.data], sold.newest().total) == ([entry[0] for entry in full], 11)


def test_a_deadline_holds_the_draft_and_it_still_finalizes_by_itself(sold: Shop) -> None:
    _, end = closed(sold)
    invoices = sold.account.client.v1.invoices
    draft = sold.newest()
    held = invoices.update(draft.id, {"automatically_finalizes_at": end + 6 * HOUR, "metadata": {"held": "1"}})
    assert (held.automatically_finalizes_at, held.metadata) != (None, None)
    sold.move_to(end + 5 * HOUR)
    sold.account.send(sold.customer, "100", timestamp=end - 1)
    assert amounts(sold.newest()) == [1400, 2900]
    sold.move_to(end + 6 * HOUR)
    paid = sold.newest()
    assert (paid.status, amounts(paid), paid.automatically_finalizes_at) == ("paid", [1400, 2900], None)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        invoices.update(draft.id, {"automatically_finalizes_at": end + 9 * HOUR})
    assert refused.value.param == "automatically_finalizes_at"


def test_a_draft_is_let_go_before_its_deadline(sold: Shop) -> None:
    _, end = closed(sold)
    invoices = sold.account.client.v1.invoices
    draft = sold.newest()
    invoices.update(draft.id, {"automatically_finalizes_at": end + 6 * HOUR})
    assert invoices.finalize_invoice(draft.id).status == "paid"
    with pytest.raises(stripe.InvalidRequestError, match="already finalized"):
        invoices.finalize_invoice(draft.id)
    sold.events()
    sold.move_to(end + 7 * HOUR)
    assert sold.events() == []


def test_without_auto_advance_a_draft_stays(sold: Shop) -> None:
    _, end = closed(sold)
    invoices = sold.account.client.v1.invoices
    draft = invoices.update(sold.newest().id, {"auto_advance": False})
    assert draft.automatically_finalizes_at is None
    sold.move_to(end + 5 * DAY)
    assert sold.newest().status == "draft"
    invoices.update(draft.id, {"auto_advance": True})
    sold.account.advance(1)
    assert sold.newest().status == "paid"


@pytest.mark.parametrize("moment", [-1, 0, 6 * 366 * DAY])
def test_a_deadline_lies_in_the_next_five_years(sold: Shop, moment: int) -> None:
    closed(sold)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        sold.account.client.v1.invoices.update(
            sold.newest().id, {"automatically_finalizes_at": sold.account.now + moment}
        )
    assert refused.value.param == "automatically_finalizes_at"


def test_a_failed_payment_is_retried_and_the_subscription_past_due(sold: Shop) -> None:
    made, end = closed(sold)
    sold.fail()
    sold.events()
    sold.move_to(end + HOUR)
    assert sold.events() == ["invoice.finalized", "invoice.payment_failed", "customer.subscription.updated"]
    failed = sold.newest()
    assert (failed.status, failed.attempt_count, failed.attempted) == ("open", 1, True)
    assert (failed.next_payment_attempt, failed.amount_remaining) == (end + HOUR + 3 * DAY, 3900)
    assert sold.look(made.id).status == "past_due"
    sold.move_to(end + HOUR + 3 * DAY)
    assert sold.newest().attempt_count == 2
    sold.fail("succeed")
    sold.events()
    sold.move_to(end + HOUR + 8 * DAY - 1)
    assert sold.events() == []
    sold.move_to(end + HOUR + 8 * DAY)
    assert sold.events() == ["invoice.paid", "invoice.payment_succeeded", "customer.subscription.updated"]
    assert (sold.look(made.id).status, sold.newest().attempt_count) == ("active", 3)


@pytest.mark.parametrize(
    ("after", "last"),
    [("canceled", "customer.subscription.deleted"), ("unpaid", "customer.subscription.updated"), ("past_due", None)],
)
def test_after_the_last_retry_it_is_given_up(sold: Shop, after: str, last: str | None) -> None:
    sold.account.control("payments", {"after_retries": after})
    made, end = closed(sold)
    sold.fail()
    sold.move_to(end + HOUR + 8 * DAY)
    sold.events()
    sold.move_to(end + HOUR + 15 * DAY)
    assert sold.events() == ["invoice.payment_failed", *([last] if last else [])]
    assert (sold.look(made.id).status, sold.newest().status) == (after, "open")
    assert sold.newest().next_payment_attempt is None
    if after == "canceled":
        details = sold.look(made.id).cancellation_details
        assert details is not None
        assert details.reason == "payment_failed"


def test_an_unpaid_subscription_makes_drafts_that_stay(sold: Shop) -> None:
    made, end = closed(sold)
    sold.fail()
    sold.move_to(end + HOUR)
    unpaid = sold.newest()
    sold.account.control("give_up", {"invoice": unpaid.id, "subscription_status": "unpaid"})
    assert sold.look(made.id).status == "unpaid"
    sold.move_to(at("2027-02-01 00:00"))
    assert (sold.newest().status, sold.newest().auto_advance) == ("draft", False)
    sold.fail("succeed")
    sold.account.control("collect", {"invoice": unpaid.id})
    assert sold.look(made.id).status == "active"


def test_a_canceled_subscriptions_open_invoice_is_left_alone(sold: Shop) -> None:
    made, end = closed(sold)
    sold.fail()
    sold.move_to(end + HOUR)
    sold.account.client.v1.subscriptions.cancel(made.id)
    sold.events()
    sold.move_to(end + 20 * DAY)
    assert sold.events() == []
    assert (sold.newest().auto_advance, sold.newest().attempt_count) == (False, 1)


def test_voiding_gives_the_balance_back(sold: Shop) -> None:
    sold.account.client.v1.invoice_items.create({"customer": sold.customer, "amount": -500, "currency": "usd"})
    invoices = sold.account.client.v1.invoices
    credit = invoices.create({"customer": sold.customer, "pending_invoice_items_behavior": "include"})
    assert invoices.finalize_invoice(credit.id).ending_balance == -500
    sold.fail()
    sold.subscribe(sold.base)
    first = sold.newest()
    assert (first.starting_balance, first.amount_due, first.ending_balance) == (-500, 2400, 0)
    invoices.void_invoice(first.id)
    sold.subscribe(sold.base)
    assert sold.newest().starting_balance == -500


def test_a_pre_aggregated_meter_bills_the_last_event_of_an_hour_in_its_period(sold: Shop) -> None:
    hourly = sold.account.meter("hourly", event_time_window="hour")
    price = sold.price(recurring={"interval": "month", "usage_type": "metered", "meter": hourly}, unit_amount=1)
    sold.move_to(NOON + 1800)
    made = sold.subscribe(price)
    end = bounds(made)[0][1]
    sold.move_to(end)
    for moment, value in ((end - HOUR, "1"), (end - HOUR + 1, "2"), (end - 1, "4"), (end, "8")):
        sold.account.send(sold.customer, value, "hourly", timestamp=moment)
    # The hour that the edge cuts counts where its last event lies: in the next period.
    assert amounts(sold.newest()) == [2]


def test_an_action_may_be_required(sold: Shop) -> None:
    _, end = closed(sold)
    sold.fail("require_action")
    sold.events()
    sold.move_to(end + HOUR)
    assert sold.events("invoice") == [
        "invoice.finalized",
        "invoice.payment_failed",
        "invoice.payment_action_required",
    ]


def test_a_first_payment_that_fails_leaves_it_incomplete_for_23_hours(sold: Shop) -> None:
    sold.fail()
    made = sold.subscribe()
    assert (made.status, sold.newest().status) == ("incomplete", "open")
    with pytest.raises(stripe.CardError):
        sold.account.client.v1.invoices.pay(sold.newest().id)
    paid = sold.subscribe(sold.base)
    sold.fail("succeed")
    sold.account.client.v1.invoices.pay(sold.newest().id)
    assert sold.look(paid.id).status == "active"
    sold.move_to(NOON + 23 * HOUR)
    assert sold.look(made.id).status == "incomplete_expired"
    assert sold.invoices()[-1].status == "void"


def test_payment_behaviors_of_a_first_invoice(sold: Shop) -> None:
    waiting = sold.subscribe(payment_behavior="default_incomplete")
    assert (waiting.status, sold.newest().attempt_count) == ("incomplete", 0)
    sold.fail()
    with pytest.raises(stripe.CardError):
        sold.subscribe(sold.base, payment_behavior="error_if_incomplete")
    assert [found.id for found in sold.account.client.v1.subscriptions.list().data] == [waiting.id]


def test_open_invoices_are_voided_or_uncollectible(sold: Shop) -> None:
    _, end = closed(sold)
    sold.fail()
    sold.move_to(end + HOUR)
    invoices = sold.account.client.v1.invoices
    sold.events()
    marked = invoices.mark_uncollectible(sold.newest().id)
    assert (marked.status, unknown_and_missing(marked, LEFT_OUT)) == ("uncollectible", (set(), set()))
    voided = invoices.void_invoice(marked.id)
    assert (voided.status, voided.status_transitions.voided_at) == ("void", end + HOUR)
    assert sold.events() == ["invoice.marked_uncollectible", "invoice.voided"]
    for call in (invoices.void_invoice, invoices.mark_uncollectible, invoices.pay):
        with pytest.raises(stripe.InvalidRequestError):
            call(voided.id)


def test_collection_can_be_paused(sold: Shop) -> None:
    made = sold.subscribe()
    end = bounds(made)[0][1]
    params: Any = {"pause_collection": {"behavior": "keep_as_draft", "resumes_at": end + DAY}}
    sold.account.client.v1.subscriptions.update(made.id, params)
    sold.move_to(end + 2 * HOUR)
    assert (sold.newest().status, sold.look(made.id).status) == ("draft", "active")
    sold.move_to(end + DAY)
    assert sold.look(made.id).pause_collection is None
    sold.account.client.v1.subscriptions.update(made.id, {"pause_collection": {"behavior": "void"}})
    sold.move_to(at("2027-01-21 12:00"))
    assert sold.newest().status == "void"


def test_lists_filter_and_lines_are_paged(sold: Shop) -> None:
    first = sold.subscribe()
    other = sold.subscribe(sold.base)
    invoices = sold.account.client.v1.invoices
    sold.move_to(at("2026-12-20 12:00"))

    def count(**filters: Any) -> int:
        return len(invoices.list(cast(Any, filters)).data)

    assert (count(), count(subscription=first.id), count(status="draft"), count(status="open")) == (4, 2, 2, 0)
    assert (count(customer=sold.customer), count(customer="cus_none")) == (4, 0)
    assert count(subscription=other.id, created={"gt": NOON}) == 1
    for number in range(15):
        sold.account.client.v1.invoice_items.create(
            {"customer": sold.customer, "amount": number, "currency": "usd", "subscription": first.id}
        )
    sold.move_to(at("2027-01-20 12:00"))
    long = next(found for found in sold.invoices() if found.lines.has_more)
    assert len(long.lines.data) == 10
    every = list(invoices.line_items.list(long.id, {"limit": 5}).auto_paging_iter())
    assert (len(every), sum(line.amount for line in every)) == (17, long.total)


def test_invoice_items_go_onto_a_draft_or_wait(sold: Shop) -> None:
    closed(sold)
    draft = sold.newest()
    items = sold.account.client.v1.invoice_items
    once = sold.account.client.v1.prices.create({"currency": "usd", "unit_amount": 250, "product": "pro"}).id
    added = items.create({"customer": sold.customer, "invoice": draft.id, "pricing": {"price": once}, "quantity": 3})
    assert unknown_and_missing(added, set()) == (set(), set())
    waiting = items.create({"customer": sold.customer, "amount": -100, "currency": "usd", "description": "sorry"})
    assert amounts(sold.newest()) == [1000, 2900, 750]
    assert [item.id for item in items.list({"pending": True}).data] == [waiting.id]
    assert [item.id for item in items.list({"invoice": draft.id}).data] == [added.id]
    assert items.delete(added.id).deleted
    assert amounts(sold.newest()) == [1000, 2900]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        items.create({"customer": sold.customer, "pricing": {"price": sold.base}})
    assert refused.value.param == "pricing[price]"


def test_a_manual_invoice(sold: Shop) -> None:
    invoices = sold.account.client.v1.invoices
    sold.account.client.v1.invoice_items.create({"customer": sold.customer, "amount": 700, "currency": "usd"})
    empty = invoices.create({"customer": sold.customer})
    assert (empty.total, empty.auto_advance, empty.billing_reason) == (0, False, "manual")
    full = invoices.create({"customer": sold.customer, "pending_invoice_items_behavior": "include"})
    assert (full.total, full.parent) == (700, None)
    assert invoices.delete(empty.id).deleted
    invoices.finalize_invoice(full.id)
    assert invoices.pay(full.id).status == "paid"
    with pytest.raises(stripe.InvalidRequestError, match="already paid"):
        invoices.pay(full.id)


def test_a_preview_shows_the_next_invoice_and_keeps_nothing(sold: Shop) -> None:
    made = sold.subscribe()
    sold.account.send(sold.customer, "1100")
    invoices = sold.account.client.v1.invoices
    before = len(sold.account.double.events)
    preview = invoices.create_preview({"subscription": made.id})
    assert (amounts(preview), preview.total, preview.status) == ([2900, 400], 3300, "draft")
    assert preview.id.startswith("upcoming_in_")
    assert (len(sold.invoices()), len(sold.account.double.events)) == (1, before)
    sold.account.client.v1.subscriptions.cancel(made.id)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        invoices.create_preview({"subscription": made.id})
    assert refused.value.code == "invoice_upcoming_none"


def test_a_credit_note_on_a_paid_invoice(sold: Shop) -> None:
    _, end = closed(sold)
    sold.move_to(end + HOUR)
    invoice = sold.newest()
    notes = sold.account.client.v1.credit_notes
    line = invoice.lines.data[0]
    given: Any = {
        "invoice": invoice.id,
        "lines": [{"type": "invoice_line_item", "invoice_line_item": line.id, "amount": 400}],
        "credit_amount": 400,
        "memo": "late usage",
        "metadata": {"tollgate_account": "acme"},
    }
    note = notes.create(given)
    assert unknown_and_missing(note, set()) == (set(), set())
    assert unknown_and_missing(note.lines.data[0], set()) == (set(), set())
    assert (note.amount, note.type, note.memo, note.post_payment_amount) == (400, "post_payment", "late usage", 400)
    assert note.lines.data[0].invoice_line_item == line.id
    assert sold.newest().post_payment_credit_notes_amount == 400
    assert [found.id for found in notes.list({"invoice": invoice.id}).data] == [note.id]
    for wrong in ({"amount": 4000, "credit_amount": 4000}, {"amount": 100}, {}, {"amount": 0}):
        with pytest.raises(stripe.InvalidRequestError):
            notes.create(cast(Any, {"invoice": invoice.id, **wrong}))
    sold.move_to(at("2027-01-20 14:00"))
    assert (sold.newest().starting_balance, sold.newest().amount_due) == (-400, 2500)


def test_a_credit_note_on_an_open_invoice_reduces_what_is_due(sold: Shop) -> None:
    made, end = closed(sold)
    sold.fail()
    sold.move_to(end + HOUR)
    invoice = sold.newest()
    notes = sold.account.client.v1.credit_notes
    notes.create({"invoice": invoice.id, "amount": 900})
    assert (sold.newest().amount_remaining, sold.newest().pre_payment_credit_notes_amount) == (3000, 900)
    notes.create({"invoice": invoice.id, "amount": 3000})
    assert (sold.newest().status, sold.newest().amount_paid, sold.look(made.id).status) == ("paid", 0, "active")


def test_invoices_are_expanded(sold: Shop) -> None:
    closed(sold)
    found = sold.account.client.v1.invoices.retrieve(sold.newest().id, {"expand": ["customer", "subscription"][:1]})
    assert isinstance(found.customer, stripe.Customer)
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        sold.account.client.v1.invoices.retrieve(found.id, {"expand": ["subscription"]})


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("payments", {"customer": "cus_1"}),
        ("payments", {"customer": "cus_1", "outcome": "maybe"}),
        ("payments", {"after_retries": "never"}),
        ("collect", {"invoice": "in_none"}),
        ("give_up", {"invoice": "in_none", "subscription_status": "unpaid"}),
        ("give_up", {"subscription_status": "active"}),
    ],
)
def test_wrong_controls_are_refused(stripe_account: Account, name: str, body: dict[str, str]) -> None:
    with pytest.raises(requests.HTTPError) as refused:
        stripe_account.control(name, body)
    assert refused.value.response is not None
    assert refused.value.response.status_code == 400
