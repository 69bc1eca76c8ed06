"""What each event does, once; what is not ours, not known or not possible, and what the inbox keeps of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.webhooks.stage import ACCOUNT, CUSTOMER, DAY, NOON, STACK, Crash, Stage, subscription
from tollgate.errors import Busy, StripeUnavailable
from tollgate.subscriptions.state import Item, standing_of
from tollgate.webhooks.dispatch import TYPES, NotAnEvent, PeriodClose, handle, known, receive
from tollgate.webhooks.inbox import DONE, FAILED, LEASE_S, PROCESSING, InHand

INVOICE = {"id": "in_1", "customer": CUSTOMER}


@pytest.fixture
def stage() -> Stage:
    made = Stage()
    made.account()
    made.stripe.subscriptions[CUSTOMER] = [subscription()]
    return made


# ---- the inbox


def test_an_event_that_is_done_is_done(stage: Stage) -> None:
    body = stage.event("customer.subscription.created")
    assert stage.deliver(body).outcome == "followed"
    stage.stripe.subscriptions[CUSTOMER] = [subscription("canceled")]
    again = stage.deliver(body)
    assert (again.outcome, again.first) == ("duplicate", False)
    assert stage.on() == ("pro", 1)


def test_a_delivery_that_meets_another_worker_waits_for_it(stage: Stage) -> None:
    body = stage.event("customer.subscription.created")
    stage.crash_at = stage.calls + 3
    with pytest.raises(Crash):
        receive(stage.deps(), body)
    (letter,) = stage.inbox.rows.values()
    assert (letter.state, letter.attempts) == (PROCESSING, 1)
    with pytest.raises(InHand):
        receive(stage.deps(), body)
    stage.wait(LEASE_S)
    assert receive(stage.deps(), body).outcome == "followed"
    (letter,) = stage.inbox.rows.values()
    assert (letter.state, letter.attempts, letter.outcome) == (DONE, 2, "followed")


@pytest.mark.parametrize("trouble", [StripeUnavailable(None, "no answer"), Busy(), OSError("no store")])
def test_trouble_that_passes_is_written_down_and_comes_again(stage: Stage, trouble: Exception) -> None:
    body = stage.event("customer.subscription.created")
    stage.stripe.trouble.append(trouble)
    with pytest.raises(type(trouble)):
        receive(stage.deps(), body)
    (letter,) = stage.inbox.rows.values()
    assert letter.state == FAILED
    assert letter.reason
    assert stage.told() == []
    assert receive(stage.deps(), body).outcome == "followed"  # at once: a failed one has no lease
    assert stage.on() == ("pro", 1)


def test_trouble_that_stays_is_acknowledged_told_and_taken_up_by_a_replay(stage: Stage) -> None:
    event = {"id": "pi_9", "payment_intent": "pi_9"}
    body = stage.event("charge.refunded", event)
    assert stage.deliver(body).outcome == "failed"
    assert stage.told() == ["stripe_event_failed"]
    assert stage.failed()[0].startswith("stripe_refused")


@pytest.mark.parametrize(
    "body", ["", "x", "[]", '"evt_1"', "{}", '{"id": "evt_1"}', '{"id": 1, "type": "a"}', '{"id": "x", "type": "a"}',
             '{"task": "unknown"}']
)  # fmt: skip
def test_what_is_no_event_is_refused_and_leaves_nothing(stage: Stage, body: str) -> None:
    with pytest.raises(NotAnEvent):
        receive(stage.deps(), body)
    assert stage.inbox.rows == {}


def test_our_own_tasks_are_done_by_name(stage: Stage) -> None:
    asked: list[Any] = []

    def made(message: Any) -> str:
        asked.append(message["account"])
        return "made"

    deps = replace(stage.deps(), tasks={"customer": made})
    assert receive(deps, '{"task": "customer", "account": "acme"}').outcome == "made"
    assert asked == ["acme"]


# ---- what is not for us


def test_an_unknown_event_is_acknowledged_and_changes_nothing(stage: Stage) -> None:
    assert stage.happened("customer.tax_id.created", {"id": "txi_1"}) == "unknown_type"
    assert stage.on() == ("free", 1)
    assert not known("customer.tax_id.created")


def test_events_of_the_other_mode_and_of_connected_accounts_are_left_alone(stage: Stage) -> None:
    assert stage.happened("customer.subscription.created", livemode=True) == "other_mode"
    assert stage.happened("customer.subscription.created", account="acct_1") == "foreign"
    assert stage.on() == ("free", 1)


@pytest.mark.parametrize("kind", ["customer.subscription.updated", "invoice.paid", "invoice.created"])
def test_another_products_customers_are_left_alone(stage: Stage, kind: str) -> None:
    stage.stripe.subscriptions["cus_x"] = [subscription(metadata={}, items=(Item("price_x", 0, 1),))]
    assert stage.happened(kind, {"id": "in_x", "customer": "cus_x"}) == "foreign"
    assert stage.told() == []
    assert stage.happened("customer.deleted", {"id": "cus_x"}) == "foreign"


def test_another_stacks_subscription_of_our_customer_is_left_alone(stage: Stage) -> None:
    stage.stripe.subscriptions[CUSTOMER] = [subscription(metadata={"tollgate_stack": "another"})]
    assert stage.happened("customer.subscription.created") == "followed"
    assert stage.on() == ("free", 1)


SUBSCRIPTION = ("created", "updated", "deleted", "paused", "resumed", "trial_will_end")
OF_INVOICES = (
    "created",
    "finalized",
    "finalization_failed",
    "paid",
    "payment_failed",
    "payment_action_required",
    "voided",
    "marked_uncollectible",
)


def test_every_type_that_is_promised_is_handled() -> None:
    wanted = {f"customer.subscription.{what}" for what in SUBSCRIPTION} | {f"invoice.{what}" for what in OF_INVOICES}
    wanted |= {"checkout.session.completed", "customer.deleted", "charge.refunded"}
    wanted |= {"charge.dispute.created", "charge.dispute.closed"}
    wanted |= {"v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"}
    assert wanted <= set(TYPES)


# ---- customers


def test_a_customer_that_no_account_has_is_given_to_the_one_that_its_subscription_names() -> None:
    stage = Stage()
    stage.account(customer=None)
    stage.stripe.subscriptions[CUSTOMER] = [subscription()]
    assert stage.happened("customer.subscription.created") == "followed"
    assert stage.row().stripe_customer_id == CUSTOMER
    assert stage.accounts.customers == {CUSTOMER: ACCOUNT}
    assert stage.on() == ("pro", 1)


@pytest.mark.parametrize("customer", ["cus_other", None])
def test_a_customer_of_an_account_with_another_one_or_of_none_is_told(customer: str | None) -> None:
    stage = Stage()
    if customer is not None:
        stage.account(customer=customer)
    stage.stripe.subscriptions[CUSTOMER] = [subscription()]
    assert stage.happened("customer.subscription.created") == "foreign"
    assert stage.told() == ["wrong_customer"]


def test_a_subscription_that_names_another_account_is_told_and_not_followed(stage: Stage) -> None:
    other = subscription(metadata={"tollgate_stack": STACK, "tollgate_account": "globex"})
    stage.stripe.subscriptions[CUSTOMER] = [other]
    stage.happened("customer.subscription.created")
    assert stage.told() == ["wrong_account"]
    assert stage.on() == ("free", 1)


def test_a_deleted_customer_is_the_accounts_no_more(stage: Stage) -> None:
    stage.happened("customer.subscription.created")
    assert stage.on() == ("pro", 1)
    body = stage.event("customer.deleted", {"id": CUSTOMER})
    stage.stripe.subscriptions[CUSTOMER] = []
    for crash_at in range(1, 40):
        stage.calls, stage.crash_at = 0, crash_at
        stage.deliver(body)
    assert stage.row().stripe_customer_id is None
    assert stage.accounts.customers == {}
    assert stage.on() == ("free", 1)
    assert "customer_deleted" in stage.told()
    # A late event about it finds nobody, and changes nothing.
    assert stage.happened("customer.subscription.deleted") == "foreign"


# ---- what is told, and what the close hears


class Closing:
    def __init__(self) -> None:
        self.heard: list[tuple[str, ...]] = []

    def begin(self, invoice: str) -> str:
        self.heard.append(("begin", invoice))
        return "held"

    def finalized(self, invoice: str, customer: str) -> str:
        self.heard.append(("finalized", invoice, customer))
        return "closed"


def test_the_close_hears_of_drafts_and_of_what_is_final(stage: Stage) -> None:
    closing = Closing()
    port: PeriodClose = closing
    deps = replace(stage.deps(), close=port)
    for kind in ("invoice.created", "invoice.finalized", "invoice.voided", "invoice.paid"):
        receive(deps, stage.event(kind, INVOICE))
    assert closing.heard == [("begin", "in_1"), ("finalized", "in_1", CUSTOMER), ("finalized", "in_1", CUSTOMER)]
    foreign = stage.event("invoice.created", {"id": "in_2", "customer": "cus_x"})
    receive(deps, foreign)
    assert len(closing.heard) == 3
    assert stage.happened("invoice.created", INVOICE) == "close: not_held"


@pytest.mark.parametrize(
    "kind", ["invoice.finalization_failed", "invoice.payment_action_required", "invoice.marked_uncollectible"]
)
def test_trouble_with_an_invoice_is_told_once(stage: Stage, kind: str) -> None:
    for _ in range(2):
        assert stage.happened(kind, INVOICE) == "followed"
    assert stage.told() == [kind.replace(".", "_")]


def test_the_end_of_a_trial_is_told(stage: Stage) -> None:
    stage.stripe.subscriptions[CUSTOMER] = [subscription("trialing", trial_end=NOON + 3 * DAY)]
    stage.happened("customer.subscription.trial_will_end")
    assert stage.on() == ("pro", 1)
    (alert,) = stage.outbox.alerts.values()
    assert (alert.kind, alert.account) == ("trial_will_end", ACCOUNT)
    assert "2026-11-24T12:00:00Z" in alert.text


# ---- plans from prices


def item(plan: str, version: str = "1", part: str = "base", stack: str = STACK) -> Item:
    metadata = {"tollgate_stack": stack, "tollgate_plan": plan, "tollgate_plan_version": version, "tollgate_part": part}
    return Item(f"price_{plan}_{part}", NOON, NOON + 30 * DAY, metadata)


@pytest.mark.parametrize(
    ("items", "plan", "told"),
    [
        ((item("pro"), item("pro", part="meter:credits")), ("pro", 1), []),
        ((item("pro"), Item("price_x", 0, 1)), ("pro", 1), ["unknown_price"]),
        ((item("pro", part="meter:credits"), item("team")), ("team", 1), ["mixed_plans"]),
        ((item("pro", stack="another"),), ("free", 1), ["unknown_price", "no_plan"]),
        ((item("pro", version="?"),), ("free", 1), ["unknown_price", "no_plan"]),
        ((item("pro", version="9"),), ("free", 1), ["unknown_plan"]),
        ((item("gone"),), ("free", 1), ["unknown_plan"]),
        ((), ("free", 1), ["no_plan"]),
    ],
)
def test_the_plan_is_what_the_prices_say(
    stage: Stage, items: tuple[Item, ...], plan: tuple[str, int], told: list[str]
) -> None:
    for ordered in (items, items[::-1]):
        stage.stripe.subscriptions[CUSTOMER] = [subscription(items=ordered)]
        stage.happened("customer.subscription.updated")
        assert stage.on() == plan
    assert stage.told() == told


def test_an_older_version_of_a_plan_is_the_one_that_was_bought(stage: Stage) -> None:
    stage.catalog.publish(stage.catalog.catalog)
    assert stage.catalog.current().versions["pro"] == 2
    stage.happened("customer.subscription.updated")
    assert stage.on() == ("pro", 1)
    stage.stripe.subscriptions[CUSTOMER] = [subscription(version=2)]
    stage.happened("customer.subscription.updated")
    assert stage.on() == ("pro", 2)


def test_of_several_subscriptions_the_one_that_gives_most_counts(stage: Stage) -> None:
    old = subscription("canceled", plan="team", id="sub_0", created=NOON - 900)
    late = subscription("past_due", plan="team", id="sub_2", created=NOON + 5, unpaid_since=NOON)
    stage.stripe.subscriptions[CUSTOMER] = [old, subscription()]
    stage.happened("customer.subscription.deleted", {"id": "sub_0", "customer": CUSTOMER})
    assert stage.on() == ("pro", 1)
    assert stage.told() == []
    stage.stripe.subscriptions[CUSTOMER] = [late, old, subscription()]
    stage.happened("customer.subscription.updated")
    assert stage.on() == ("pro", 1)
    assert stage.told() == ["several_subscriptions"]


def test_a_subscription_says_when_it_will_end_and_nothing_else_changes() -> None:
    one = subscription(cancel_at=NOON + 30 * DAY)
    standing, problems = standing_of([one], STACK, ACCOUNT, NOON)
    assert standing is not None
    assert (standing.access, standing.cancel_at, problems) == ("active", NOON + 30 * DAY, [])
    assert (standing.period_start, standing.period_end) == (NOON, NOON + 30 * DAY)


def test_a_listed_event_goes_through_the_same_inbox(stage: Stage) -> None:
    event = json.loads(stage.event("customer.subscription.created"))
    assert handle(stage.deps(), event).outcome == "followed"
    assert handle(stage.deps(), event).outcome == "duplicate"
