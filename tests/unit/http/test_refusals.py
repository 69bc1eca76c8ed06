"""Refusals by money and credits: the reason, who set it, what resolves it, and the sentence a customer reads."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from tests.support.gate import Client, world
from tests.unit.gate.test_money import CREDITS, PER_UNIT, SEAT, TIERED, TOKENS, client_of, priced
from tollgate.accounts.rules import Controls
from tollgate.catalog.model import GrantRule, Plan
from tollgate.gate.reserve import Denied
from tollgate.http.refusals import denial


def refused(client: Client, quantity: int, member: str | None = None) -> dict[str, object]:
    found = client.reserve(quantity, member=member)
    assert isinstance(found, Denied)
    return denial(found, client.world.now_ms // 1000)


def controlled(plan: Plan, controls: Controls) -> Client:
    client = Client(world(plan, CREDITS, TOKENS))
    client.world.rows["acme"] = replace(client.world.row("acme"), controls=controls)
    return client


def test_the_customers_hard_limit_has_its_exact_sentence() -> None:
    client = controlled(priced(PER_UNIT, cap="60"), Controls(hard_limit=Decimal(20)))
    client.commit(client.granted(1000))
    found = refused(client, 1)
    assert found["message"] == (
        "You've hit your set limit of $20. Raise it in settings to continue, or wait until next period."
    )
    assert (found["code"], found["limit"], found["source"]) == ("hard_limit", "hard_limit", "customer")
    assert (found["resolve"], found["remaining"], found["requested"]) == ("raise_limit", "0", "1")
    assert found["resets_at"] == "2026-12-01T00:00:00Z"


def test_a_hard_limit_above_the_plans_cap_does_not_loosen_it() -> None:
    client = controlled(priced(PER_UNIT, cap="10"), Controls(hard_limit=Decimal(20)))
    found = refused(client, 501)
    assert (found["code"], found["source"], found["resolve"]) == ("spend_cap", "plan", "upgrade")
    assert found["remaining"] == "500"


def test_blocked_overage_names_the_customer_and_its_absence_the_plan() -> None:
    blocked = refused(controlled(priced(TIERED), Controls(block_overage=True)), 101)
    assert (blocked["code"], blocked["source"], blocked["resolve"]) == ("overage_blocked", "customer", "raise_limit")
    off = refused(client_of(priced(TIERED, overage="off")), 101)
    assert (off["code"], off["source"], off["resolve"]) == ("overage_blocked", "plan", "upgrade")


def test_credits_that_are_used_up_are_bought() -> None:
    found = refused(client_of(priced(overage="off", grants=(GrantRule("ai_credits", Decimal(5), "once"),))), 8)
    assert (found["code"], found["source"], found["resolve"]) == ("credits_exhausted", "credits", "buy_credits")
    assert found["message"] == "5 credits are left, and this needs 8. Buy more to continue."


def test_a_members_money_limit_is_named_by_its_id() -> None:
    found = refused(client_of(priced(PER_UNIT, limits=(SEAT,))), 51, "ann")
    assert (found["code"], found["limit"], found["remaining"]) == ("spend_cap", "seat_money", "50")
    assert found["message"] == "This member's limit of $1 for the billing period is reached."
