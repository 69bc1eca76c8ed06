"""Customers for all accounts: resumed after a crash anywhere, and every trouble told."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.unit.customers.world import STACK, Died, World
from tollgate.customers.backfill import MOST_FAILURES, Known, Options, Row, StripeGone, backfill
from tollgate.customers.needed import CustomerDeps
from tollgate.errors import StripeUnavailable


def run(
    at: World, accounts: Iterable[str], options: Options | None = None, deps: CustomerDeps | None = None
) -> list[Row]:
    known = Known.read(at.deps.stripe.all(), STACK)
    return list(backfill(deps or at.deps, accounts, known, options or Options(), lambda tried: None))


def results(rows: Iterable[Row]) -> dict[str, str]:
    return {row.account: row.result for row in rows}


def test_each_account_has_one_in_the_end(at: World) -> None:
    mapped = at.stripe.customer()
    accounts = [at.account("b-new"), at.account("b-had", stripe_customer_id=mapped), at.account("b-found")]
    at.stripe.client.v1.customers.create({"metadata": {"tollgate_stack": STACK, "tollgate_account": "b-found"}})
    dry = run(at, accounts, Options(dry=True))
    assert results(dry) == {"b-new": "would make", "b-had": "had", "b-found": "would find"}
    assert at.stored("b-new") is None
    assert results(run(at, accounts)) == {"b-new": "made", "b-had": "had", "b-found": "found"}
    assert results(run(at, accounts)) == dict.fromkeys(accounts, "had")
    assert [len(at.at_stripe(name)) for name in accounts] == [1, 0, 1]


def test_a_crash_after_every_call_in_turn(at: World) -> None:
    accounts = [at.account(f"turn-{number}", email=f"t{number}@example.com") for number in range(4)]
    crashes = 0
    while True:
        mortal, life = at.mortal(2 if crashes % 2 else 3)
        try:
            rows = run(at, accounts, deps=mortal)
            break
        except Died:
            crashes += 1
            assert crashes < 40, life.calls
    assert crashes >= len(accounts)
    assert results(rows).keys() == set(accounts)
    for name in accounts:
        assert [one.id for one in at.at_stripe(name)] == [at.stored(name)]


def test_an_address_that_one_customer_has_can_be_taken(at: World) -> None:
    accounts = [
        at.account("e-one", email="One@example.com"),
        at.account("e-two", email="two@example.com"),
        at.account("e-none", email="none@example.com"),
    ]
    one = at.stripe.client.v1.customers.create({"email": "one@example.com"}).id
    for _ in range(2):
        at.stripe.client.v1.customers.create({"email": "two@example.com"})
    rows = run(at, accounts, Options(match_email=True))
    assert results(rows) == {"e-one": "found", "e-two": "ambiguous", "e-none": "made"}
    assert at.stored("e-one") == one
    assert [customer.id for customer in at.at_stripe("e-one")] == [one]


def test_taking_by_address_survives_a_crash(at: World) -> None:
    accounts = [at.account("claimed", email="claimed@example.com")]
    there = at.stripe.client.v1.customers.create({"email": "claimed@example.com"}).id
    at.stripe.advance(7200)
    at.clock.ms += 7_200_000
    for calls in (["claim"], ["begin"]):
        mortal, life = at.mortal(1)
        with pytest.raises(Died):
            run(at, accounts, Options(match_email=True), mortal)
        assert life.calls == calls
    rows = run(at, accounts, Options(match_email=True))
    assert (rows[0].result, rows[0].customer) == ("found", there)
    assert len(at.at_stripe("claimed")) == 1


def test_deleted_customers_are_told_and_replaced_when_asked(at: World) -> None:
    accounts = [at.account("gone")]
    (made,) = run(at, accounts)
    at.stripe.client.v1.customers.delete(str(made.customer))
    assert results(run(at, accounts)) == {"gone": "deleted"}
    assert results(run(at, accounts, Options(replace_deleted=True, dry=True))) == {"gone": "deleted"}
    (replaced,) = run(at, accounts, Options(replace_deleted=True))
    assert replaced.result == "made"
    assert replaced.customer == at.stored("gone") != made.customer


def test_a_customer_in_use_is_refused_and_the_rest_goes_on(at: World) -> None:
    accounts = [at.account("u-owner"), at.account("u-after")]
    there = at.stripe.client.v1.customers.create({"metadata": {"tollgate_stack": STACK, "tollgate_account": "u-owner"}})
    at.account("u-thief", stripe_customer_id=there.id)
    rows = run(at, accounts)
    assert results(rows) == {"u-owner": "in use", "u-after": "made"}
    assert "mapped to another account" in rows[0].detail


def test_only_accounts_that_pay(at: World) -> None:
    accounts = [at.account("p-free"), at.account("p-pro", plan="pro")]
    assert results(run(at, accounts, Options(paid_only=True))) == {"p-pro": "made"}


def test_an_outage_ends_the_run_and_one_failure_does_not(at: World) -> None:
    accounts = [at.account(f"out-{number}") for number in range(MOST_FAILURES + 3)]
    known = Known.read(at.deps.stripe.all(), STACK)
    post = {"method": "POST", "path": "/v1/customers"}
    at.stripe.control("faults", {"faults": [{"kind": "429", "times": 4, "match": post}]})
    rows = list(backfill(at.deps, accounts[:2], known, Options(), lambda tried: None))
    assert results(rows) == {accounts[0]: "failed", accounts[1]: "made"}
    at.stripe.control("faults", {"faults": [{"kind": "429", "match": post}]})
    seen: list[Row] = []
    rest = backfill(at.deps, accounts, known, Options(), lambda tried: None)
    with pytest.raises(StripeGone):
        seen.extend(rest)
    assert [row.result for row in seen] == ["failed", "had", *["failed"] * MOST_FAILURES]
    at.stripe.control("faults", {"faults": [{"kind": "status", "status": 401, "match": post}]})
    with pytest.raises(StripeUnavailable):
        list(backfill(at.deps, accounts, known, Options(), lambda tried: None))
