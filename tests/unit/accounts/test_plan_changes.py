"""Accounts stay on the plan version that they joined until they are moved."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from tollgate import wiring
from tollgate.accounts.rules import NextPlan
from tollgate.accounts.service import AccountDeps, AccountPatch, change_plan, put_account
from tollgate.accounts.store import RulesTable
from tollgate.catalog.schema import parse_catalog
from tollgate.errors import UnknownAccount, UnknownPlan
from tollgate.windows import PERIOD, window_at

pytestmark = pytest.mark.usefixtures("tables")
CATALOG = (Path(__file__).parents[3] / "catalog.yaml").read_text()
DECEMBER = 1_796_083_200
"""2026-12-01 00:00 UTC."""
ENV = {
    "TOLLGATE_GATES_TABLE": "gates",
    "TOLLGATE_EVENTS_TABLE": "events",
    "TOLLGATE_BILLING_TABLE": "events",
    "TOLLGATE_ACCOUNTS_TABLE": "accounts",
    "TOLLGATE_CONFIG_TABLE": "catalog",
}


def published(most: int) -> AccountDeps:
    """The services of a new process, after the daily limit of `free` was changed."""
    deps = wiring.account_deps(ENV)
    deps.catalog.publish(parse_catalog(CATALOG.replace("window: day, max: 10}", f"window: day, max: {most}}}")))
    return deps


def test_a_changed_catalogue_moves_nobody_by_itself() -> None:
    rules, _ = put_account(published(10), "stays", AccountPatch(plan="free"))
    first = rules.row.plan_version
    deps = published(11)
    same, _ = put_account(deps, "stays", AccountPatch(plan="free", name="Named"))
    assert same.row.plan_version == first
    joined, _ = put_account(deps, "joins", AccountPatch(plan="free"))
    assert joined.row.plan_version == first + 1


def test_an_account_moves_to_the_current_version_of_its_own_plan() -> None:
    rules, _ = put_account(published(12), "moves", AccountPatch(plan="free"))
    deps = published(13)
    moved = change_plan(deps, "moves", "free")
    assert (moved.row.plan_version, moved.rev) == (rules.row.plan_version + 1, rules.rev + 1)
    assert [ruled.maximum for ruled in moved.limits if ruled.limit.id == "daily"] == [13]
    again = change_plan(deps, "moves", "free")
    assert again.rev == moved.rev, "nothing was left to change"


def test_unknown_plans_and_accounts() -> None:
    deps = published(10)
    with pytest.raises(UnknownAccount):
        change_plan(deps, "nobody", "free")
    put_account(deps, "asks", AccountPatch())
    with pytest.raises(UnknownPlan):
        change_plan(deps, "asks", "gold")


class Clock:
    def __init__(self, at: str) -> None:
        self.ms = int(datetime.fromisoformat(at).timestamp() * 1000)

    def __call__(self) -> int:
        return self.ms


def process(clock: Clock) -> AccountDeps:
    """The services of one process, by a clock that the test moves."""
    made = published(10)
    rules = RulesTable(made.accounts, made.catalog, clock)
    return replace(made, rules=rules, gate=replace(made.gate, rules=rules, clock=clock))


def test_a_plan_can_begin_with_the_next_period() -> None:
    clock = Clock("2026-11-21T12:00:00Z")
    deps, other = process(clock), process(clock)
    put_account(deps, "later", AccountPatch(plan="team"))
    before = other.rules.get("later", lambda rules: None)
    asked = change_plan(deps, "later", "free", at_period_end=True)
    current = deps.catalog.current_version("free").plan.version
    assert (asked.plan.id, asked.row.next_plan) == ("team", NextPlan("free", current, DECEMBER))
    clock.ms = DECEMBER * 1000 - 1
    assert other.rules.fresh("later").plan.id == "team"
    clock.ms += 1
    moved = other.rules.get("later", lambda rules: None)
    assert (moved.plan.id, moved.row.next_plan, moved.rev) == ("free", None, before.rev + 2)
    assert deps.rules.get("later", lambda rules: None).rev == moved.rev, "it moved once"


def test_billing_periods_change_with_the_plan() -> None:
    clock = Clock("2026-11-21T12:00:00Z")
    deps = process(clock)
    put_account(deps, "anchored", AccountPatch(plan="team"))
    change_plan(deps, "anchored", "pro", at_period_end=True)
    clock.ms = DECEMBER * 1000 + 5
    calendar = deps.rules.fresh("anchored").row.calendar
    first = window_at(PERIOD, calendar, DECEMBER)
    assert (first.start, calendar.period.anchor) == (DECEMBER, "signup")


def test_the_last_word_on_the_plan_counts() -> None:
    clock = Clock("2026-11-21T12:00:00Z")
    deps = process(clock)
    for name, stay in (("stay", "team"), ("leave", "pro")):
        put_account(deps, name, AccountPatch(plan="team"))
        change_plan(deps, name, "free", at_period_end=True)
        kept = change_plan(deps, name, stay)
        assert (kept.plan.id, kept.row.next_plan) == (stay, None)
    put_account(deps, "merge", AccountPatch(plan="team"))
    change_plan(deps, "merge", "free", at_period_end=True)
    named, _ = put_account(deps, "merge", AccountPatch(plan="team", name="Merged"))
    assert named.row.next_plan is not None, "the same plan, merged, calls nothing off"


def test_whoever_meets_a_due_plan_moves_it_once() -> None:
    clock = Clock("2026-11-21T12:00:00Z")
    deps = process(clock)
    put_account(deps, "raced", AccountPatch(plan="team"))
    asked = change_plan(deps, "raced", "free", at_period_end=True)
    clock.ms = DECEMBER * 1000
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: process(clock).rules.fresh("raced").rev, range(8)))
    assert set(found) == {asked.rev + 1}
