"""A subscription's life in every order of its events, with duplicates, and with a crash at every call.

Stripe lives on while events wait: before one is delivered, everything up to it has happened, and perhaps more. However
they come, the account ends where Stripe stands.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.webhooks.stage import ACCOUNT, CUSTOMER, DAY, NOON, Stage, subscription
from tollgate.subscriptions.state import Subscription
from tollgate.webhooks.inbox import DONE

INVOICE = {"id": "in_1", "customer": CUSTOMER}
Step = tuple[str, Subscription | None, dict[str, Any] | None]
"""An event, what the subscription is from then on (None: as before), the event's object (None: the subscription)."""

CREATED: Step = ("customer.subscription.created", subscription(), None)
UPDATED: Step = ("customer.subscription.updated", subscription(plan="team"), None)
PAID: Step = ("invoice.paid", None, INVOICE)
FAILED: Step = (
    "invoice.payment_failed",
    subscription("past_due", plan="team", unpaid_since=NOON + 60),
    INVOICE,
)
DELETED: Step = ("customer.subscription.deleted", subscription("canceled", plan="team"), None)
PAID_AGAIN: Step = ("invoice.paid", subscription(plan="team"), {"id": "in_2", "customer": CUSTOMER})
UNPAID: Step = ("customer.subscription.updated", subscription("unpaid", plan="team"), None)

LIVES: dict[str, tuple[Step, ...]] = {
    "deleted": (CREATED, UPDATED, PAID, FAILED, DELETED),
    "past due": (CREATED, PAID, UPDATED, FAILED),
    "paid again": (CREATED, UPDATED, FAILED, PAID_AGAIN),
    "unpaid": (CREATED, UPDATED, FAILED, UNPAID),
}
END = {"deleted": ("free", 1), "past due": ("team", 1), "paid again": ("team", 1), "unpaid": ("free", 1)}


def end_of(stage: Stage) -> tuple[Any, ...]:
    """What must be the same however it came about."""
    row, state = stage.row(), stage.states.rows[ACCOUNT]
    said = (state.standing, state.target, state.applied, state.customer)
    return row.plan, row.plan_version, row.next_plan, row.stripe_customer_id, row.subscription_anchor, said


def lived(life: Sequence[Step], order: Sequence[int], crash_at: int | None = None) -> Stage:
    """The stage after the life's events came in this order (each number twice: a duplicate), to a worker that dies at
    one of its calls."""
    stage = Stage()
    stage.account()
    bodies = [stage.event(kind, obj) for kind, _, obj in life]
    stage.calls, stage.crash_at = 0, crash_at
    happened = -1
    for number in order:
        while happened < number:
            happened += 1
            now = life[happened][1]
            if now is not None:
                stage.stripe.subscriptions[CUSTOMER] = [now]
        stage.deliver(bodies[number])
    # What has happened in Stripe by now is not more than what was delivered: the last event is among those.
    assert {letter.state for letter in stage.inbox.rows.values()} == {DONE}
    return stage


@pytest.mark.parametrize("name", LIVES)
def test_every_order_ends_where_stripe_stands(name: str) -> None:
    life = LIVES[name]
    wanted = end_of(lived(life, range(len(life))))
    assert wanted[:2] == END[name]
    for order in itertools.permutations(range(len(life))):
        for twice in (order + order, tuple(n for number in order for n in (number, number)), order + order[::-1]):
            assert end_of(lived(life, twice)) == wanted, twice


@pytest.mark.parametrize("name", LIVES)
def test_a_crash_at_any_call_of_any_order_changes_nothing(name: str) -> None:
    life = LIVES[name]
    wanted = end_of(lived(life, range(len(life))))
    died = 0
    for order in itertools.permutations(range(len(life))):
        # A duplicate of each at once: the one that meets the dead worker's lease, and one after it is done.
        twice = tuple(n for number in order for n in (number, number))
        for crash_at in range(1, 1 + lived(life, twice).calls):
            stage = lived(life, twice, crash_at)
            assert end_of(stage) == wanted, (order, crash_at, stage.names[crash_at - 1])
            died += 1
    assert died > 1000


@pytest.mark.parametrize("name", LIVES)
def test_events_that_nobody_delivered_are_not_missed_once_any_later_one_is(name: str) -> None:
    life = LIVES[name]
    assert end_of(lived(life, [len(life) - 1])) == end_of(lived(life, range(len(life))))


def test_two_workers_at_once_end_where_stripe_stands() -> None:
    """The second worker runs in full at any one call of the first, with Stripe already further."""
    life = LIVES["deleted"]
    wanted = end_of(lived(life, range(len(life))))
    calls = lived(life[:1], [0]).calls
    for at in range(1, calls + 1):
        stage = Stage()
        stage.account()
        stage.stripe.subscriptions[CUSTOMER] = [subscription()]
        first, second = stage.event("customer.subscription.created"), stage.event("customer.subscription.deleted")
        stage.calls = 0

        def overtaken(name: str, stage: Stage = stage, at: int = at, second: str = second) -> None:
            if stage.calls == at:
                stage.at_call = lambda name: None
                stage.stripe.subscriptions[CUSTOMER] = [subscription("canceled", plan="team")]
                stage.deliver(second)

        stage.at_call = overtaken
        stage.deliver(first)
        assert end_of(stage) == wanted, at


# ---- the grace -------------------------------------------------------------------------------------------------------


def past_due(grace: Any = None) -> Stage:
    stage = Stage()
    if grace is not None:
        stage.catalog.catalog = replace(stage.catalog.catalog, **grace)
    stage.account()
    stage.stripe.subscriptions[CUSTOMER] = [subscription()]
    stage.happened("customer.subscription.created")
    stage.wait(DAY)
    stage.stripe.subscriptions[CUSTOMER] = [subscription("past_due", unpaid_since=NOON + DAY)]
    stage.happened("invoice.payment_failed", INVOICE)
    return stage


def test_past_due_keeps_the_plan_to_the_second_and_is_told() -> None:
    stage = past_due()
    assert stage.on() == ("pro", 1)
    assert stage.told() == ["past_due"]
    (alert,) = stage.outbox.alerts.values()
    assert "2026-11-29T12:00:00Z" in alert.text
    assert "plan free" in alert.text
    stage.wait(7 * DAY - 1)
    assert stage.on() == ("pro", 1)
    stage.wait(1)
    assert stage.on() == ("free", 1)  # nobody had to run: whoever reads the rules next meets them
    stage.happened("invoice.payment_failed", INVOICE)
    assert stage.on() == ("free", 1)
    assert stage.told() == ["past_due", "grace_over"]


def test_paid_again_stays_or_comes_back() -> None:
    for waited in (DAY, 30 * DAY):
        stage = past_due()
        stage.wait(waited)
        stage.stripe.subscriptions[CUSTOMER] = [subscription()]
        stage.happened("invoice.paid", INVOICE)
        assert stage.on() == ("pro", 1)
        assert stage.row().next_plan is None
        stage.wait(60 * DAY)
        assert stage.on() == ("pro", 1)
        assert stage.states.rows[ACCOUNT].falls == ()


def test_the_catalogue_says_how_long_and_where_to() -> None:
    stage = past_due({"grace_days": 2, "fallback_plan": "limited"})
    stage.wait(2 * DAY - 1)
    assert stage.on() == ("pro", 1)
    stage.wait(1)
    assert stage.on() == ("limited", 1)
    at_once = past_due({"grace_days": 0})
    assert at_once.on() == ("free", 1)
    assert at_once.told() == ["grace_over"]


def test_the_grace_begins_with_the_invoice_and_not_with_the_news_of_it() -> None:
    stage = past_due()
    stage.wait(3 * DAY)
    stage.happened("customer.subscription.updated")  # a second try failed
    stage.wait(4 * DAY)
    assert stage.on() == ("free", 1)


def test_without_the_invoices_time_the_grace_begins_when_it_is_first_seen() -> None:
    stage = Stage()
    stage.account()
    stage.stripe.subscriptions[CUSTOMER] = [subscription("past_due")]
    stage.happened("invoice.payment_failed", INVOICE)
    stage.wait(3 * DAY)
    stage.happened("customer.subscription.updated")
    stage.wait(4 * DAY)
    assert stage.on() == ("free", 1)


@pytest.mark.parametrize("status", ["unpaid", "canceled", "paused", "incomplete_expired"])
def test_what_ends_access_ends_it_at_once(status: str) -> None:
    stage = past_due()
    stage.stripe.subscriptions[CUSTOMER] = [subscription(status)]
    kind = "customer.subscription.paused" if status == "paused" else "customer.subscription.updated"
    stage.happened(kind)
    assert stage.on() == ("free", 1)
    assert stage.row().next_plan is None
    assert "subscription_ended" in stage.told()


def test_resumed_is_back() -> None:
    stage = past_due()
    stage.stripe.subscriptions[CUSTOMER] = [subscription("paused")]
    stage.happened("customer.subscription.paused")
    stage.stripe.subscriptions[CUSTOMER] = [subscription()]
    stage.happened("customer.subscription.resumed")
    assert stage.on() == ("pro", 1)


def test_a_first_payment_under_way_gives_nothing_yet() -> None:
    stage = Stage()
    stage.account()
    stage.stripe.subscriptions[CUSTOMER] = [subscription("incomplete")]
    assert stage.happened("customer.subscription.created") == "followed"
    assert stage.on() == ("free", 1)
    assert ACCOUNT not in stage.states.rows


def test_counters_stay_whatever_the_plan_becomes() -> None:
    stage = Stage()
    stage.account()
    before = stage.row().counters
    for plan, status in (("pro", "active"), ("team", "active"), ("team", "canceled"), ("pro", "active")):
        stage.stripe.subscriptions[CUSTOMER] = [subscription(status, plan=plan)]
        stage.happened("customer.subscription.updated")
    after = stage.row().counters
    assert after[: len(before)] == before
    assert len({key for key, _ in after}) == len(after), "a counter that is kept once is kept as the same one"


def test_an_operators_change_stays_until_stripe_says_something_new() -> None:
    stage = past_due()
    stage.stripe.subscriptions[CUSTOMER] = [subscription("canceled")]
    stage.happened("customer.subscription.deleted")
    stage.account(plan="team")
    stage.happened("customer.subscription.updated")
    stage.happened("invoice.voided", INVOICE)
    assert stage.on() == ("team", 1)
    stage.stripe.subscriptions[CUSTOMER] = [subscription()]
    stage.happened("customer.subscription.updated")
    assert stage.on() == ("pro", 1)
