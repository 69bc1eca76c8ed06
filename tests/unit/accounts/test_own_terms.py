"""An account's own terms as time goes on: overrides end, plans are cancelled, private, or in another currency."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pytest

from tests.unit.accounts.services import CATALOG, DECEMBER, Clock, audit, joined, services
from tollgate.accounts.controls import ControlsPatch, set_controls
from tollgate.accounts.rules import Controls
from tollgate.accounts.service import AccountDeps, AccountPatch, change_plan, put_account
from tollgate.errors import CurrencyMismatch, Invalid, UnknownLimit

pytestmark = pytest.mark.usefixtures("tables")
EURO = CATALOG.replace("currency: usd", "currency: eur")
CHEAP = '{"prices":[{"meter":"images","scheme":"per_unit","unit_price":"0.01","until":"2026-12-01T00:00:00Z"}]}'


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deps(clock: Clock) -> AccountDeps:
    return services(clock)


def price(deps: AccountDeps, account: str) -> Decimal | None:
    """What an image costs, by the rules that a running process has."""
    return deps.rules.get(account).plan.prices[0].unit_price


# -- overrides with an end ---------------------------------------------------------------------------------------------


def test_an_override_ends_to_the_second_for_processes_that_remember_it(deps: AccountDeps, clock: Clock) -> None:
    put_account(deps, "dated", AccountPatch(plan="pro", overrides=CHEAP))
    clock.ms = DECEMBER * 1000 - 1
    bound = deps.rules.get("dated")
    assert price(deps, "dated") == Decimal("0.01")
    clock.ms += 1
    assert price(deps, "dated") == Decimal("0.02")
    row = deps.accounts.read("dated")
    assert row is not None
    assert (row.overrides, row.rev) == (None, bound.rev + 1), "the next revision is what makes the gate notice"


def test_whoever_meets_its_end_writes_it_once(deps: AccountDeps, clock: Clock) -> None:
    row = put_account(deps, "met", AccountPatch(plan="pro", overrides=CHEAP))[0].row
    clock.ms = DECEMBER * 1000
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: services(clock).rules.fresh("met").rev, range(8)))
    assert set(found) == {row.rev + 1}
    assert len(audit(deps, "met")) == 2


def test_a_change_after_the_end_builds_on_what_is_left(deps: AccountDeps, clock: Clock) -> None:
    put_account(deps, "later", AccountPatch(plan="pro", overrides=CHEAP))
    clock.ms = DECEMBER * 1000 + 5
    rules = set_controls(deps, "later", ControlsPatch(block_overage=True))
    assert (rules.row.overrides, rules.row.controls.block_overage, rules.rev) == (None, True, 3)


def test_an_override_outlives_a_move_and_waits_where_it_means_nothing(deps: AccountDeps) -> None:
    put_account(deps, "mover", AccountPatch(plan="pro", overrides=CHEAP))
    assert change_plan(deps, "mover", "free").plan.prices == ()
    assert change_plan(deps, "mover", "asked").plan.prices[0].unit_price == Decimal("0.01")


def test_what_does_not_fit_changes_nothing(deps: AccountDeps) -> None:
    row = joined(deps, "fits", "pro")

    def refuse(plan: object, meters: object) -> None:
        raise Invalid("no")

    with pytest.raises(UnknownLimit):
        put_account(deps, "fits", AccountPatch(name="N", overrides='{"limits":{"nothing":{"amount":"1"}}}'))
    with pytest.raises(Invalid):
        put_account(deps, "fits", AccountPatch(plan="free", overrides=CHEAP, fits=refuse))
    assert deps.accounts.read("fits") == row
    assert put_account(deps, "fits", AccountPatch(overrides=None, fits=refuse))[0].row == row, "nothing to check"


# -- cancelling, private plans -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_period_end", [False, True])
def test_cancelling_falls_back_to_the_default_plan_and_keeps_counters(
    deps: AccountDeps, clock: Clock, at_period_end: bool
) -> None:
    account = f"cancels-{at_period_end}"
    before = joined(deps, account, "pro")
    cancelled = change_plan(deps, account, None, at_period_end=at_period_end)
    assert (cancelled.plan.id == "free") is not at_period_end
    clock.ms = DECEMBER * 1000
    row = deps.rules.fresh(account).row
    assert (row.plan, row.next_plan) == ("free", None)
    assert row.counters[: len(before.counters)] == before.counters
    assert change_plan(deps, account, None).rev == row.rev, "there is nothing left to cancel"


def test_cancelling_can_be_called_off(deps: AccountDeps) -> None:
    joined(deps, "regrets", "pro")
    change_plan(deps, "regrets", None, at_period_end=True)
    assert change_plan(deps, "regrets", "pro").row.next_plan is None


def test_a_private_plan_can_be_joined(deps: AccountDeps) -> None:
    assert not deps.catalog.current_version("secret").plan.public
    assert joined(deps, "insider", "secret").plan == "secret"
    joined(deps, "invited", "pro")
    assert change_plan(deps, "invited", "secret").plan.base_fee == Decimal(500)


# -- currencies --------------------------------------------------------------------------------------------------------


def test_two_currencies_never_share_a_period(deps: AccountDeps, clock: Clock) -> None:
    set_terms = AccountPatch(plan="pro", overrides='{"limits":{"daily":{"max":"7"}},"spend_cap":"90"}')
    put_account(deps, "abroad", set_terms)
    row = set_controls(deps, "abroad", ControlsPatch(soft_limit=Decimal(5), hard_limit=Decimal(20))).row
    other = services(clock, EURO)
    with pytest.raises(CurrencyMismatch):
        change_plan(other, "abroad", "pro")
    with pytest.raises(CurrencyMismatch):
        put_account(other, "abroad", AccountPatch(plan="asked", name="N"))
    assert other.accounts.read("abroad") == row
    assert change_plan(other, "abroad", "pro", at_period_end=True).row.next_plan is not None
    clock.ms = DECEMBER * 1000
    rules = other.rules.fresh("abroad")
    assert (rules.plan.currency, rules.row.overrides) == ("eur", '{"limits":{"daily":{"max":"7"}}}')
    assert rules.row.controls == Controls(block_overage=True)
    assert [change.field for change in audit(other, "abroad")[0].changes] == [
        "plan",
        "next_plan",
        "overrides",
        "controls",
    ]


def test_a_plan_that_costs_nothing_has_no_currency_to_mix(deps: AccountDeps, clock: Clock) -> None:
    for name, plan in (("from-free", "free"), ("to-free", "pro")):
        joined(deps, name, plan)
    other = services(clock, EURO)
    assert change_plan(other, "from-free", "pro").plan.currency == "eur"
    assert change_plan(other, "to-free", "free").plan.currency == "eur"
    assert replace(deps.catalog.version("pro", 1).plan).currency == "usd"
