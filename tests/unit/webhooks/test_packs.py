"""Packs of credits: what was paid is given once, what goes back is taken back once, and never silently less."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.webhooks.stage import ACCOUNT, CUSTOMER, DAY, NOON, STACK, Stage
from tollgate.webhooks.inbox import DONE, LEASE_S
from tollgate.webhooks.packs import CheckoutSession, MoneyBack, Payment

SOLD = {
    "tollgate_stack": STACK,
    "tollgate_account": ACCOUNT,
    "tollgate_pack": "small",
    "tollgate_plan": "pro",
    "tollgate_plan_version": "1",
}
PAYMENT = Payment("pi_1", CUSTOMER, 500, NOON, SOLD)
SESSION = CheckoutSession("cs_1", CUSTOMER, "pi_1", True, SOLD)


def stage_with(payment: Payment = PAYMENT) -> Stage:
    stage = Stage()
    stage.account(plan="pro")
    stage.stripe.payments["pi_1"] = payment
    stage.stripe.sessions["cs_1"] = SESSION
    return stage


def left(stage: Stage) -> Decimal:
    """Credits that the account can still use."""
    gate = stage.world.gates.get(ACCOUNT)
    return sum((grant.left for grant in gate.grants.values()), Decimal(0)) if gate else Decimal(0)


def completed(stage: Stage) -> str:
    return stage.happened("checkout.session.completed", {"id": "cs_1", "customer": CUSTOMER})


def money(stage: Stage, kind: str, **changes: Any) -> str:
    stage.stripe.payments["pi_1"] = replace(stage.stripe.payments["pi_1"], **changes)
    return stage.happened(kind, {"id": "ch_1", "payment_intent": "pi_1"})


def refund(amount: int, status: str = "succeeded", name: str = "re_1") -> tuple[MoneyBack, ...]:
    return (MoneyBack(name, amount, status),)


def dispute(status: str, amount: int = 500) -> tuple[MoneyBack, ...]:
    return (MoneyBack("du_1", amount, status),)


def test_a_paid_pack_is_given_once_until_it_expires() -> None:
    stage = stage_with()
    assert completed(stage) == "settled"
    assert completed(stage) == "settled"
    assert left(stage) == 100
    (row,) = stage.world.grants[ACCOUNT]
    assert (row.source, row.source_id, row.meter) == ("stripe", "pi_1", "credits")
    assert (row.starts, row.ends) == (NOON, NOON + 90 * DAY)


def test_what_is_not_paid_yet_gives_nothing_until_it_is() -> None:
    stage = stage_with(replace(PAYMENT, received=0))
    completed(stage)
    assert left(stage) == 0
    stage.stripe.payments["pi_1"] = PAYMENT
    stage.happened("checkout.session.async_payment_succeeded", {"id": "cs_1", "customer": CUSTOMER})
    assert left(stage) == 100


def test_the_sessions_metadata_is_enough() -> None:
    stage = stage_with(replace(PAYMENT, metadata={}))
    completed(stage)
    assert left(stage) == 100
    money(stage, "charge.refunded", refunds=refund(500))
    assert left(stage) == 0


@pytest.mark.parametrize(("amount", "rest"), [(500, 0), (250, 50), (1, "99.80"), (333, "33.40"), (900, 0)])
def test_a_refund_takes_back_what_its_money_bought(amount: int, rest: int | str) -> None:
    stage = stage_with()
    completed(stage)
    for kind in ("charge.refunded", "refund.created", "refund.updated"):
        money(stage, kind, refunds=refund(amount))
    assert left(stage) == Decimal(rest)
    assert stage.told() == []


def test_refunds_in_parts_never_take_more_than_was_bought() -> None:
    stage = stage_with()
    completed(stage)
    parts = tuple(MoneyBack(f"re_{n}", 167, "succeeded") for n in range(3))
    money(stage, "charge.refunded", refunds=parts)
    assert left(stage) == 0
    (row,) = stage.world.grants[ACCOUNT]
    assert sum(one.taken for one in row.clawbacks) == 100


def test_a_refund_that_fails_gives_the_credits_again_until_the_same_day() -> None:
    stage = stage_with()
    completed(stage)
    money(stage, "refund.created", refunds=refund(500, "pending"))
    assert left(stage) == 0
    money(stage, "refund.failed", refunds=refund(500, "failed"))
    money(stage, "refund.updated", refunds=refund(500, "failed"))
    assert left(stage) == 100
    assert stage.world.grants[ACCOUNT][1].ends == NOON + 90 * DAY


def test_disputes_take_back_and_only_a_won_one_gives_again() -> None:
    stage = stage_with()
    completed(stage)
    money(stage, "charge.dispute.created", disputes=dispute("warning_needs_response"))
    assert left(stage) == 100, "an inquiry has taken no money"
    money(stage, "charge.dispute.created", disputes=dispute("needs_response"))
    assert left(stage) == 0
    lost = stage_with()
    completed(lost)
    money(lost, "charge.dispute.closed", disputes=dispute("lost"))
    money(lost, "charge.dispute.closed", disputes=dispute("lost"))
    assert left(lost) == 0
    money(stage, "charge.dispute.closed", disputes=dispute("won"))
    assert left(stage) == 100


def test_credits_that_were_used_are_told_and_never_owed() -> None:
    stage = stage_with()
    completed(stage)
    burn(stage, Decimal(60))
    money(stage, "charge.refunded", refunds=refund(500))
    assert left(stage) == 0
    assert stage.told() == ["clawback_short"]
    (alert,) = stage.outbox.alerts.values()
    assert "60 units" in alert.text
    money(stage, "refund.updated", refunds=refund(500))
    assert stage.told() == ["clawback_short"]
    # The dispute of a refunded payment finds nothing more, and does not give back more than it took.
    money(stage, "charge.dispute.created", refunds=refund(500), disputes=dispute("needs_response"))
    money(stage, "charge.dispute.closed", refunds=refund(500), disputes=dispute("won"))
    assert left(stage) == 0


def burn(stage: Stage, units: Decimal) -> None:
    """Use credits as a reservation would."""
    gate = stage.world.gates[ACCOUNT]
    ((number, grant),) = gate.grants.items()
    stage.world.gates[ACCOUNT] = replace(gate, grants={number: grant._replace(left=grant.left - units)})


@pytest.mark.parametrize(
    ("sold", "why"),
    [
        ({"tollgate_pack": "huge"}, "unknown_pack"),
        ({"tollgate_plan": "none"}, "unknown_plan"),
        ({"tollgate_plan_version": "x"}, "unknown_pack"),
        ({"tollgate_account": "nobody"}, "account_not_found"),
    ],
)
def test_a_payment_that_makes_no_sense_is_parked_and_told(sold: dict[str, str], why: str) -> None:
    stage = stage_with(replace(PAYMENT, metadata=SOLD | sold))
    stage.stripe.sessions["cs_1"] = replace(SESSION, metadata=SOLD | sold)
    assert completed(stage) == "failed"
    assert stage.told() == ["stripe_event_failed"]
    (reason,) = stage.failed()
    assert reason.startswith(why)


@pytest.mark.parametrize("sold", [{"tollgate_stack": "another"}, {}])
def test_payments_that_are_not_ours_are_left_alone(sold: dict[str, str]) -> None:
    stage = stage_with(replace(PAYMENT, metadata=sold))
    stage.stripe.sessions["cs_1"] = replace(SESSION, metadata=sold)
    assert completed(stage) == "foreign"
    assert money(stage, "charge.refunded", refunds=refund(500)) == "foreign"
    assert stage.happened("charge.refunded", {"id": "ch_2", "payment_intent": None}) == "foreign"
    assert left(stage) == 0
    assert stage.told() == []


# ---- any order, and crashes

Change = tuple[str, Callable[[Payment], Payment]]
LIFE: Sequence[Change] = (
    ("checkout.session.completed", lambda p: replace(p, received=500)),
    ("refund.created", lambda p: replace(p, refunds=refund(125, "pending"))),
    ("refund.failed", lambda p: replace(p, refunds=refund(125, "failed"))),
    ("charge.dispute.created", lambda p: replace(p, disputes=dispute("needs_response"))),
    ("charge.dispute.closed", lambda p: replace(p, disputes=dispute("won"))),
)


def lived(
    order: Sequence[int], life: Sequence[Change] = LIFE, crash_at: int | None = None, *, late: bool = False
) -> Stage:
    """`late`: what a dead worker left is delivered again when everything else was, not at once."""
    stage = stage_with(replace(PAYMENT, received=0))
    bodies = [stage.event(kind, {"id": "cs_1", "payment_intent": "pi_1", "customer": CUSTOMER}) for kind, _ in life]
    stage.calls, stage.crash_at = 0, crash_at
    happened = -1
    for number in order:
        while happened < number:
            happened += 1
            stage.stripe.payments["pi_1"] = life[happened][1](stage.stripe.payments["pi_1"])
        if not (late and stage.died(bodies[number])):
            stage.deliver(bodies[number])
    for body in bodies if late else ():
        stage.wait(LEASE_S + 1)
        stage.deliver(body)
    assert {letter.state for letter in stage.inbox.rows.values()} == {DONE}
    return stage


@pytest.mark.parametrize(("life", "rest"), [(LIFE, 100), (LIFE[:4], 0), (LIFE[:2], 75)])
def test_any_order_with_duplicates_and_a_crash_at_any_call_leaves_the_same_credits(
    life: Sequence[Change], rest: int
) -> None:
    orders = list(itertools.permutations(range(len(life))))
    for order in orders:
        assert left(lived(order + order[::-1], life)) == rest, order
    for order in orders[:: 11 if len(orders) > 24 else 1]:
        for crash_at in range(1, 1 + lived(order, life).calls):
            for late in (False, True):
                stage = lived(order, life, crash_at, late=late)
                assert left(stage) == rest, (order, crash_at, late, stage.names[crash_at - 1])
                assert stage.told() == []
