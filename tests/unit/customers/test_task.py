"""The worker's task, and what it answers where there is nothing to repeat."""

from __future__ import annotations

import pytest

from tests.unit.customers.world import STACK, World
from tollgate.customers.task import make_customer
from tollgate.errors import StripeUnavailable


def test_a_task_makes_the_customer_once(at: World) -> None:
    name = at.account("task")
    assert make_customer(at.deps, {"task": "customer", "account": name}) == "customer made"
    assert make_customer(at.deps, {"task": "customer", "account": name}) == "customer had"
    assert len(at.at_stripe(name)) == 1


def test_what_repeating_does_not_mend_is_said_and_not_repeated(at: World) -> None:
    assert "No account `nobody`" in make_customer(at.deps, {"account": "nobody"})
    there = at.stripe.client.v1.customers.create({"metadata": {"tollgate_stack": STACK, "tollgate_account": "t-owner"}})
    at.account("t-owner")
    at.account("t-thief", stripe_customer_id=there.id)
    at.stripe.advance(61)
    assert "mapped to another account" in make_customer(at.deps, {"account": "t-owner"})


def test_an_outage_is_repeated_by_the_queue(at: World) -> None:
    at.account("t-outage")
    fault = {"kind": "429", "match": {"method": "POST", "path": "/v1/customers"}}
    at.stripe.control("faults", {"faults": [fault]})
    with pytest.raises(StripeUnavailable):
        make_customer(at.deps, {"account": "t-outage"})
