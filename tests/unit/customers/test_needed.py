"""One account gets one customer, whatever dies, answers late or fails in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.customers.world import STACK, Died, World
from tollgate.accounts.service import AccountPatch, put_account
from tollgate.customers.needed import customer_key, provide
from tollgate.errors import CustomerInUse, StripeUnavailable, UnknownAccount


def faults(at: World, *kinds: str, path: str = "/v1/customers", method: str = "POST") -> None:
    match = {"path": path, "method": method}
    at.stripe.control("faults", {"faults": [{"kind": kind, "times": 1, "match": match} for kind in kinds]})


def test_a_customer_is_made_described_and_stored(at: World) -> None:
    name = at.account("made", email="a@example.com", name="Ann")
    provided = provide(at.deps, name)
    assert (provided.how, provided.customer) == ("made", at.stored(name))
    (customer,) = at.at_stripe(name)
    assert customer.metadata == {"tollgate_stack": STACK, "tollgate_account": name}
    assert (customer.values["email"], customer.values["name"]) == ("a@example.com", "Ann")
    assert at.mapped == [name]
    assert provide(at.deps, name).how == "had"
    assert len(at.at_stripe(name)) == 1


def test_one_that_carries_the_metadata_is_found(at: World) -> None:
    name = at.account("found", email="b@example.com", name="Bo")
    there = at.stripe.client.v1.customers.create(
        {"metadata": {"tollgate_stack": STACK, "tollgate_account": name}, "name": "Given by hand"}
    )
    at.stripe.client.v1.customers.create({"metadata": {"tollgate_stack": "other", "tollgate_account": name}})
    at.stripe.advance(61)
    provided = provide(at.deps, name)
    assert (provided.how, provided.customer) == ("found", there.id)
    shown = at.stripe.client.v1.customers.retrieve(there.id)
    assert (shown.email, shown.name) == ("b@example.com", "Given by hand"), "only what was missing is filled in"


def test_the_oldest_of_several_is_taken_and_the_others_are_named(at: World) -> None:
    name = at.account("several")
    made = []
    for _ in range(2):
        made.append(
            at.stripe.client.v1.customers.create({"metadata": {"tollgate_stack": STACK, "tollgate_account": name}}).id
        )
        at.stripe.advance(1)
    at.stripe.advance(60)
    provided = provide(at.deps, name)
    assert (provided.customer, provided.spare) == (made[0], (made[1],))


def test_an_account_that_does_not_exist_gets_none(at: World) -> None:
    with pytest.raises(UnknownAccount):
        provide(at.deps, "nobody")
    assert at.at_stripe("nobody") == []


@pytest.mark.parametrize("dies_after", range(1, 6))
def test_a_crash_after_any_call_makes_no_second(at: World, dies_after: int) -> None:
    name = at.account(f"crash-{dies_after}", email="c@example.com")
    mortal, life = at.mortal(dies_after)
    with pytest.raises(Died):
        provide(mortal, name)
    assert life.calls == ["begin", "create", "describe", "end", "mapped"][:dies_after]
    again, whole = at.mortal(None)
    provide(again, name)
    (customer,) = at.at_stripe(name)
    assert customer.id == at.stored(name)
    assert customer.values["email"] == "c@example.com"
    assert whole.calls or dies_after >= 4, "the second try had nothing to do"


@pytest.mark.parametrize("dies_after", range(1, 5))
@pytest.mark.parametrize("later_s", [0, 90, 4000, 100_000])
def test_nor_when_it_is_tried_again_much_later(at: World, dies_after: int, later_s: int) -> None:
    """Past the life of an Idempotency-Key, and past the hour in which search may be late."""
    name = at.account(f"late-{dies_after}-{later_s}")
    with pytest.raises(Died):
        provide(at.mortal(dies_after)[0], name)
    at.stripe.advance(later_s)
    at.clock.ms += later_s * 1000
    provide(at.deps, name)
    assert [one.id for one in at.at_stripe(name)] == [at.stored(name)]


@pytest.mark.parametrize("kind", ["timeout_after", "500_after", "500_before", "429", "connection_reset"])
def test_a_lost_answer_makes_no_second(at: World, kind: str) -> None:
    name = at.account(f"lost-{kind}")
    faults(at, kind)
    with pytest.raises(StripeUnavailable):
        provide(at.deps, name)
    provide(at.deps, name)
    assert [one.id for one in at.at_stripe(name)] == [at.stored(name)]


def test_a_saved_500_is_not_asked_for_again(at: World) -> None:
    """Stripe replays a 500 under its key for a day; the next try has another key."""
    name = at.account("saved")
    faults(at, "500_before")
    with pytest.raises(StripeUnavailable):
        provide(at.deps, name)
    assert provide(at.deps, name).how == "made"


class Interrupted:
    """A port, one call of which is preceded by another try from its beginning to its end."""

    def __init__(self, port: object, call: str, other: Callable[[], object]) -> None:
        self._port, self._call, self._other = port, call, other

    def __getattr__(self, name: str) -> object:
        method = getattr(self._port, name)
        if name != self._call:
            return method

        def called(*arguments: object) -> object:
            self._call = ""
            self._other()
            return method(*arguments)

        return called


@pytest.mark.parametrize("call", ["begin", "search", "create", "describe", "end"])
def test_another_try_in_the_middle_makes_no_second(at: World, call: str) -> None:
    """Before `begin` it is overtaken: it read the account before the other stored the customer, and its number is
    past the other's."""
    name = at.account(f"middle-{call}", email="m@example.com")
    others: list[str] = []

    def other() -> None:
        others.append(provide(at.deps, name).customer)

    stripe: Any = Interrupted(at.deps.stripe, call, other)
    attempts: Any = Interrupted(at.deps.attempts, call, other)
    provided = provide(replace(at.deps, stripe=stripe, attempts=attempts), name)
    assert others == [provided.customer] == [at.stored(name)]
    assert len(at.at_stripe(name)) == 1


def test_a_mapping_made_meanwhile_stays(at: World) -> None:
    name = at.account("mapped")
    other = at.stripe.customer()
    stripe = at.deps.stripe

    class Slow:
        def __getattr__(self, method: str) -> object:
            return getattr(stripe, method)

        def create(self, stack: str, account: str, key: str) -> object:
            put_account(at.deps.accounts, account, AccountPatch(stripe_customer_id=other))
            return stripe.create(stack, account, key)

    provided = provide(replace(at.deps, stripe=Slow()), name)  # type: ignore[arg-type]
    assert (provided.customer, provided.how) == (other, "had")
    assert provided.spare == tuple(one.id for one in at.at_stripe(name))


def test_a_customer_of_another_account_is_refused(at: World) -> None:
    name = at.account("owner")
    there = at.stripe.client.v1.customers.create({"metadata": {"tollgate_stack": STACK, "tollgate_account": name}})
    at.account("thief", stripe_customer_id=there.id)
    at.stripe.advance(61)
    with pytest.raises(CustomerInUse):
        provide(at.deps, name)
    assert at.stored(name) is None
    assert len(at.at_stripe(name)) == 1, "one was made beside the one in use"


def test_a_wrong_address_keeps_nobody_from_a_customer(at: World) -> None:
    name = at.account("wrong-address", email="no address")
    provided = provide(at.deps, name)
    assert provided.how == "made"
    assert "Invalid email" in (provided.undescribed or "")


def test_a_customer_deleted_as_it_was_made_is_not_stored(at: World) -> None:
    name = at.account("deleted")
    with pytest.raises(Died):
        provide(at.mortal(2)[0], name)
    at.stripe.client.v1.customers.delete(at.at_stripe(name)[0].id)
    with pytest.raises(StripeUnavailable, match="was deleted"):
        provide(at.deps, name)
    assert provide(at.deps, name).how == "made"
    assert [one.id for one in at.at_stripe(name)] == [at.stored(name)]


def test_keys_differ_by_all_that_they_are_made_of() -> None:
    keys = {customer_key("s", "a", 0), customer_key("s", "a", 1), customer_key("s", "b", 0), customer_key("t", "a", 0)}
    assert len(keys) == 4
    assert all(len(key) < 255 for key in keys)
