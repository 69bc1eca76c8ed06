"""A billing period that began before anyone here was told: counters and money come to what was used in it, once."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.support.gate import NOON, Client, assert_consistent, limit, world
from tests.support.memory import World
from tollgate.catalog.model import Limit, Plan, Price
from tollgate.gate.apply_rules import apply_rules
from tollgate.gate.reserve import Denied, Granted
from tollgate.gate.sweep import Swept, sweep_gate
from tollgate.windows import DAY, PERIOD

BEGINS = NOON // 1000 + 25
LIMITS: tuple[Limit, ...] = (
    limit("all", 20, PERIOD),
    limit("each", 10, PERIOD, per="member"),
    limit("daily", 100, DAY),
)
PLAN = Plan("pro", 1, "Pro", limits=LIMITS, prices=(Price("ai_credits", "per_unit", unit_price=Decimal(1)),))


def used(of: World) -> Client:
    """3 units of a member before a period begins, 2 in it; and nobody was told."""
    client = Client(of)
    client.commit(client.granted(3, key="before", member="ann"))
    of.now_ms = (BEGINS + 5) * 1000
    client.commit(client.granted(2, key="since", member="ann"))
    of.now_ms = (BEGINS + 40) * 1000
    return client


def told(of: World, *, applied: bool = True) -> None:
    """The rules row is written; a worker that dies then applies nothing."""
    row = of.row("acme")
    calendar = row.calendar.begun(of.now_ms // 1000, BEGINS)
    of.rows["acme"] = replace(row, rev=row.rev + 1, calendar=calendar)
    if applied:
        apply_rules(of.deps(), of.rules("acme"))


def count(of: World, subject: str, name: str) -> tuple[Any, ...]:
    ruled = next(ruled for ruled in of.rules("acme").limits if ruled.limit.id == name)
    return of.gates[subject].counts[ruled.counter.slot]


@pytest.mark.parametrize("applied", [True, False])
def test_what_was_used_in_the_period_counts_in_it_and_nothing_else_does(applied: bool) -> None:
    of = world(PLAN)
    used(of)
    told(of, applied=applied)
    if applied:
        assert count(of, "acme", "all") == (BEGINS, 2, 0), "before any request"
    client = Client(of)
    assert isinstance(client.reserve(9, member="ann"), Denied), "2 of the member's 10 are gone"
    client.commit(client.granted(8, member="ann"))
    client.commit(client.granted(10, member="bob"))
    refused = client.reserve(1, member="cat")
    assert isinstance(refused, Denied), "2 of the account's 20 are gone"
    assert refused.state is not None
    assert refused.state.ruled.limit.id == "all"
    assert count(of, "acme#ann", "each") == (BEGINS, 10, 0)
    assert count(of, "acme", "daily")[1] == 23, "a day is a day"
    money = of.gates["acme"].money
    assert money is not None
    assert [money.period, money.spend] == [BEGINS, 20]
    client.check()
    told(of)
    assert isinstance(client.reserve(1, member="cat"), Denied), "told again"


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("end", ["commit", "release", "expire"])
def test_a_hold_of_the_period_before_goes_on_in_the_new_one(applied: bool, end: str) -> None:
    of = world(PLAN)
    client = Client(of)
    held = client.granted(5, member="ann", ttl=600)
    used(of)
    told(of, applied=applied)
    client = Client(of)
    if end == "commit":
        client.commit(held, 5)
    elif end == "release":
        client.release(held)
    else:
        of.now_ms += 700_000
    left = 3 if end == "commit" else 8
    assert isinstance(client.reserve(left + 1, member="ann"), Denied)
    assert isinstance(client.reserve(left, member="ann"), Granted)
    client.check()


def test_an_idle_gate_rolls_over_without_what_was_used_before() -> None:
    of = world(PLAN)
    client = Client(of)
    client.commit(client.granted(7, member="ann"))
    of.now_ms = (BEGINS + 40) * 1000
    told(of)
    assert count(of, "acme", "all") == (BEGINS, 0, 0)
    swept = Swept()
    for subject in ("acme", "acme#ann"):
        sweep_gate(of.deps(), of.gates[subject], swept, audit=True)
    assert swept.repaired == [], "a member that has not come back is no damage"
    client.commit(client.granted(10, member="ann"))
    client.check()


def test_every_point_of_a_request_may_see_the_period_begin() -> None:
    """The rules change, and are applied, at any one call of a reservation and its commit by a process that knows the
    older ones."""
    of = world(PLAN)
    used(of)
    client = Client(of)
    before = of.calls
    client.commit(client.granted(3, key="now", member="ann"))
    for at in range(1, of.calls - before + 1):
        of = world(PLAN)
        used(of)
        first = of.calls

        def step(name: str, of: World = of, due: int = first + at) -> None:
            if of.calls == due:
                of.step = lambda name: None
                told(of)

        client = Client(of)
        of.step = step
        client.commit(client.granted(3, key="now", member="ann"))
        of.step = lambda name: None
        assert isinstance(Client(of).reserve(6, key="six", member="ann"), Denied), at
        assert isinstance(Client(of).reserve(5, key="five", member="ann"), Granted), at
        assert count(of, "acme", "all") == (BEGINS, 10, 5), at
        # The member's gate came to the newer rules with the member's next request, as it does to any.
        assert_consistent(of, "acme")
