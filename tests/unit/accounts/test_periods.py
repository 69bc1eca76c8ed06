"""The billing periods of accounts: made with them, stored with them, changed with plan, timezone and subscription,
and shown by their usage."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import pytest

from tests.support.memory import World
from tollgate import dynamo
from tollgate.accounts.key_store import KeyTable
from tollgate.accounts.rules import AccountRow, period_rule, with_plan
from tollgate.accounts.service import AccountDeps, AccountPatch, anchored, patched, put_account
from tollgate.accounts.store import AccountTable, RulesTable, new_row, row_item, row_of
from tollgate.catalog.model import BillingPeriod, Catalog, Meter, Plan, Price
from tollgate.catalog.store import CatalogTable
from tollgate.gate.store import GateTable
from tollgate.http.manage_routes import ManageApiDeps
from tollgate.http.routing import Request
from tollgate.http.usage_routes import get_usage
from tollgate.periods import CALENDAR_MONTH, PeriodRule
from tollgate.usage.idempotency_store import IdempotencyTable
from tollgate.usage.store import EventTable
from tollgate.windows import PERIOD, Calendar, Segment, window_at

pytestmark = pytest.mark.usefixtures("tables")
METERS = {"tokens": Meter("tokens", "Tokens", "token")}


def plan(name: str, period: BillingPeriod) -> Plan:
    return Plan(name, 1, name, period=period, prices=(Price("tokens", "per_unit", unit_price=Decimal("0.01")),))


PLANS = {
    "monthly": plan("monthly", BillingPeriod()),
    "annual": plan("annual", BillingPeriod("year", "calendar")),
    "signup": plan("signup", BillingPeriod("month", "signup")),
    "subscribed": plan("subscribed", BillingPeriod("month", "subscription")),
    "subscribed-annual": plan("subscribed-annual", BillingPeriod("year", "subscription")),
}


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


CREATED = at("2026-01-31T10:20:30")


class Accounts:
    """The accounts service on tables, with the clock in the test's hands."""

    def __init__(self) -> None:
        self.now = CREATED
        catalog = CatalogTable("catalog")
        catalog.publish(Catalog("usd", "monthly", True, METERS, PLANS))
        table = AccountTable("accounts")
        memory = World(0, METERS, PLANS["monthly"]).deps()
        gate = replace(memory, gates=GateTable("gates"), clock=self.clock)
        self.deps = AccountDeps(table, catalog, RulesTable(table, catalog, self.clock), gate)

    def clock(self) -> int:
        return self.now * 1000

    def put(self, account: str, **changes: Any) -> AccountRow:
        put_account(self.deps, account, AccountPatch(**changes))
        return self.stored(account)

    def stored(self, account: str) -> AccountRow:
        row = self.deps.accounts.read(account)
        assert row is not None
        return row

    def change(self, account: str, row: AccountRow) -> None:
        """A change of a row as issue 4's webhook will write it."""
        before = self.stored(account)
        assert self.deps.accounts.update(replace(row, rev=before.rev + 1), before)

    def usage(self, account: str) -> dict[str, Any]:
        unused = cast(Any, None)
        api = ManageApiDeps(
            self.deps, EventTable("events", unused), cast(KeyTable, unused), IdempotencyTable("billing"), "test",
            unused, unused, unused, unused, unused, unused, unused, unused, unused, unused,
        )  # fmt: skip
        answer = get_usage(api, Request("GET", "", {}, {}, b"", "", {"id": account}))
        return cast(dict[str, Any], answer.body)


@pytest.fixture
def accounts() -> Accounts:
    return Accounts()


def period(row: AccountRow, moment: str) -> tuple[int, int | None]:
    return window_at(PERIOD, row.calendar, at(moment))


def between(start: str, end: str) -> tuple[int, int]:
    return at(start), at(end)


# --- of plans and new accounts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "told", "rule"),
    [
        (BillingPeriod(), None, CALENDAR_MONTH),
        (BillingPeriod("year", "calendar"), 99, PeriodRule("year")),
        (BillingPeriod("month", "signup"), None, PeriodRule("month", 1, "signup", CREATED)),
        (BillingPeriod("month", "signup"), 99, PeriodRule("month", 1, "subscription", 99)),
        (BillingPeriod("year", "subscription"), None, PeriodRule("year", 1, "subscription", CREATED)),
        (BillingPeriod("year", "subscription"), 0, PeriodRule("year", 1, "subscription", 0)),
    ],
)
def test_what_a_plans_period_means_for_an_account(wanted: BillingPeriod, told: int | None, rule: PeriodRule) -> None:
    assert period_rule(wanted, CREATED, told) == rule


def test_a_new_accounts_first_period_starts_with_it_or_with_the_calendars_month(accounts: Accounts) -> None:
    signed_up = accounts.put("s-1", plan="signup")
    assert signed_up.calendar.segments == (Segment(0, "UTC", PeriodRule("month", 1, "signup", CREATED)),)
    assert period(signed_up, "2026-01-31T10:20:30") == between("2026-01-31T10:20:30", "2026-02-28T10:20:30")
    monthly = accounts.put("m-1")
    assert monthly.calendar.segments == (Segment(0, "UTC"),)
    assert period(monthly, "2026-01-31T10:20:30") == between("2026-01-01", "2026-02-01")
    assert new_row("x", accounts.deps.catalog, "signup", CREATED).calendar == signed_up.calendar


def test_a_new_accounts_timezone_is_that_of_its_periods_from_the_beginning(accounts: Accounts) -> None:
    row = accounts.put("s-2", plan="signup", timezone="Asia/Tokyo")
    assert row.calendar.segments == (Segment(0, "Asia/Tokyo", PeriodRule("month", 1, "signup", CREATED)),)
    berlin = accounts.put("a-2", plan="annual", timezone="Europe/Berlin")
    assert period(berlin, "2026-06-01") == between("2025-12-31T23:00", "2026-12-31T23:00")


# --- stored ----------------------------------------------------------------------------------------------------------


def test_rows_stored_before_periods_had_rules_read_as_calendar_months(accounts: Accounts) -> None:
    raw = row_item(new_row("old", accounts.deps.catalog, "monthly", CREATED))
    raw["calendar"] = dynamo.wire([[0, "UTC"], [CREATED, "Asia/Tokyo"]])
    row = row_of(raw)
    assert row.calendar == Calendar((Segment(0, "UTC"), Segment(CREATED, "Asia/Tokyo", CALENDAR_MONTH)))
    assert row.subscription_anchor is None
    assert row_item(row) == raw  # and calendar months are stored as they were


def test_every_rule_and_the_told_anchor_read_back(accounts: Accounts) -> None:
    calendar = Calendar.of("Europe/Berlin", PeriodRule("year"))
    calendar = calendar.moved(5, period=PeriodRule("month", 3, "signup", CREATED))
    calendar = calendar.moved(6, "Asia/Tokyo", PeriodRule("month", 1, "subscription", 0))
    calendar = calendar.moved(7, period=CALENDAR_MONTH).begun(CREATED + 9, CREATED + 2)
    calendar = calendar.moved(CREATED + 10, period=PeriodRule("month", 1, "subscription", 0)).begun(
        CREATED + 11, CREATED
    )
    row = replace(new_row("new", accounts.deps.catalog, "monthly", CREATED), calendar=calendar, subscription_anchor=0)
    assert row_of(row_item(row)) == row


# --- changes ---------------------------------------------------------------------------------------------------------


def test_another_plans_periods_bind_from_the_end_of_the_current_one(accounts: Accounts) -> None:
    accounts.put("c-1")
    accounts.now = at("2026-03-20T12:00")
    row = accounts.put("c-1", plan="signup")
    assert period(row, "2026-03-31T23:59:59") == between("2026-03-01", "2026-04-01")
    assert period(row, "2026-04-01") == between("2026-04-01", "2026-04-30T10:20:30")
    assert period(row, "2026-05-01") == between("2026-04-30T10:20:30", "2026-05-31T10:20:30")
    accounts.now = at("2026-05-01")
    row = accounts.put("c-1", plan="annual")
    assert period(row, "2026-05-31T10:20:30") == between("2026-05-31T10:20:30", "2027-01-01")
    assert row.calendar.segments[-1] == Segment(at("2026-05-01"), "UTC", PeriodRule("year"))


def test_a_change_that_keeps_the_rule_leaves_the_calendar_alone(accounts: Accounts) -> None:
    before = accounts.put("k-1", plan="signup")
    accounts.now += 86_400
    assert accounts.put("k-1", name="Kay").calendar == before.calendar
    other = with_plan(before, replace(PLANS["signup"], id="other"), METERS, accounts.now)
    assert other.calendar is before.calendar


def test_another_timezone_keeps_the_rule(accounts: Accounts) -> None:
    accounts.put("z-1", plan="signup")
    accounts.now += 86_400
    row = accounts.put("z-1", timezone="Asia/Tokyo")
    rule = PeriodRule("month", 1, "signup", CREATED)
    assert row.calendar.segments == (Segment(0, "UTC", rule), Segment(accounts.now, "Asia/Tokyo", rule))
    assert patched(accounts.deps, row, AccountPatch(timezone=None), accounts.now).calendar.period == rule


def test_plan_and_timezone_in_one_request(accounts: Accounts) -> None:
    accounts.put("b-1")
    accounts.now = at("2026-03-20T12:00")
    row = accounts.put("b-1", plan="annual", timezone="Asia/Tokyo")
    assert period(row, "2026-04-01") == between("2026-04-01", "2026-12-31T15:00")


# --- the subscription's anchor ---------------------------------------------------------------------------------------


def test_until_stripe_tells_it_a_subscription_is_anchored_to_the_creation(accounts: Accounts) -> None:
    row = accounts.put("w-1", plan="subscribed", timezone="Europe/Berlin")
    assert period(row, "2026-02-01") == between("2026-01-31T10:20:30", "2026-02-28T10:20:30")
    assert period(row, "2026-04-15") == between("2026-03-31T10:20:30", "2026-04-30T10:20:30")


def test_a_told_anchor_binds_from_the_end_of_the_current_period(accounts: Accounts) -> None:
    row = accounts.put("t-1", plan="subscribed")
    now = at("2026-02-15")
    told = anchored(row, at("2026-02-14T08:00:01"), now)
    assert told.rev == row.rev
    assert told.subscription_anchor == at("2026-02-14T08:00:01")
    assert period(told, "2026-02-15") == between("2026-01-31T10:20:30", "2026-02-28T10:20:30")
    assert period(told, "2026-03-01") == between("2026-02-28T10:20:30", "2026-03-14T08:00:01")
    assert period(told, "2026-03-14T08:00:01") == between("2026-03-14T08:00:01", "2026-04-14T08:00:01")
    accounts.change("t-1", told)
    assert accounts.stored("t-1") == replace(told, rev=row.rev + 1)


def test_an_anchor_told_again_changes_nothing_and_another_one_does(accounts: Accounts) -> None:
    row = anchored(accounts.put("t-2", plan="subscribed"), CREATED, CREATED + 5)
    assert row.subscription_anchor == CREATED
    assert anchored(row, CREATED, CREATED + 6) is row
    again = anchored(row, CREATED + 60, CREATED + 90)
    assert again.calendar.segments[-1] == Segment(
        CREATED + 90, "UTC", PeriodRule("month", 1, "subscription", CREATED + 60)
    )


def test_an_anchor_told_before_the_plan_changes_is_kept_for_it(accounts: Accounts) -> None:
    row = accounts.put("t-3")
    accounts.now = at("2026-03-10")
    told = anchored(row, at("2026-03-09T12:00"), accounts.now)
    assert told.calendar is row.calendar
    accounts.change("t-3", told)
    row = accounts.put("t-3", plan="subscribed-annual")
    assert period(row, "2026-04-01") == between("2026-04-01", "2027-03-09T12:00")
    row = accounts.put("t-3", plan="subscribed")
    assert period(row, "2026-04-01") == between("2026-04-01", "2026-04-09T12:00")
    assert period(accounts.put("t-3", plan="signup"), "2026-04-01") == between("2026-04-01", "2026-04-09T12:00")


def test_an_anchor_that_is_no_instant_is_refused(accounts: Accounts) -> None:
    row = accounts.put("t-4")
    with pytest.raises(ValueError, match="instant"):
        anchored(row, -1, CREATED)


# --- shown -----------------------------------------------------------------------------------------------------------


def test_usage_shows_the_accounts_own_period(accounts: Accounts) -> None:
    accounts.put("u-1", plan="signup")
    accounts.now = at("2026-03-01")
    assert accounts.usage("u-1")["period"] == {"start": "2026-02-28T10:20:30Z", "end": "2026-03-31T10:20:30Z"}
    accounts.put("u-1", plan="annual")
    assert accounts.usage("u-1")["period"] == {"start": "2026-02-28T10:20:30Z", "end": "2026-03-31T10:20:30Z"}
    accounts.now = at("2026-03-31T10:20:30")
    assert accounts.usage("u-1")["period"] == {"start": "2026-03-31T10:20:30Z", "end": "2027-01-01T00:00:00Z"}
