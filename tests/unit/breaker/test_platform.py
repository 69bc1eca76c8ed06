"""What all accounts together cost in an hour: added in steps, stopped once, resumed with a whole cap more."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.accounts.services import ENV, Clock
from tests.unit.breaker.stage import CATALOG, Process, new_account, process, told
from tollgate.breaker.platform import Spent, Stop, resume_all
from tollgate.breaker.platform_store import PlatformTable
from tollgate.gate.reserve import Denied, Granted
from tollgate.http import refusals

pytestmark = pytest.mark.usefixtures("tables")
DAY_MS = 86_400_000
STARTS = iter(range(1, 100))


@pytest.fixture
def clock() -> Clock:
    made = Clock("2026-11-21T12:05:00Z")
    made.ms += next(STARTS) * DAY_MS  # each test has an hour of its own
    return made


@pytest.fixture
def one(clock: Clock) -> Process:
    made = process(clock, CATALOG)
    new_account(made, "acme")
    PlatformTable(ENV["TOLLGATE_BILLING_TABLE"]).go_on()
    return made


def spent(clock: Clock) -> Spent:
    return PlatformTable(ENV["TOLLGATE_BILLING_TABLE"]).spent(clock() // 3_600_000 * 3600)


def test_costs_are_added_by_step_and_by_time_not_with_every_commit(one: Process, clock: Clock) -> None:
    one.use(1, "0.10")
    assert spent(clock).cost == Decimal("0.10"), "the first at once"
    one.use(1, "0.30")
    assert spent(clock).cost == Decimal("0.10")
    one.use(1, "0.20")
    assert spent(clock).cost == Decimal("0.60"), "a hundredth of the cap was seen"
    one.use(1, "0.01")
    clock.ms += 9_999
    one.use(1, "0.01")
    assert spent(clock).cost == Decimal("0.60")
    clock.ms += 1
    one.use(1, "0.01")
    assert spent(clock).cost == Decimal("0.63")


def test_what_an_hour_cost_stays_in_that_hour(one: Process, clock: Clock) -> None:
    one.use(1, "0.10")
    one.use(1, "0.05")
    clock.ms += 3_600_000
    one.use(1, "0.07")
    assert spent(clock).cost == Decimal("0.07")
    clock.ms -= 3_600_000
    assert spent(clock).cost == Decimal("0.15")


def test_a_commits_cost_counts_once(one: Process, clock: Clock) -> None:
    found = one.reserve(1)
    assert isinstance(found, Granted)
    one.commit(found, cost="3")
    assert one.commit(found, cost="3").duplicate
    assert spent(clock).cost == 3


def test_past_the_cap_nothing_new_is_reserved_anywhere_and_what_ran_is_recorded(one: Process, clock: Clock) -> None:
    other = process(clock)
    held, held_on, late = one.reserve(1), one.reserve(1), other.reserve(1)
    assert isinstance(held, Granted)
    assert isinstance(held_on, Granted)
    assert isinstance(late, Granted)
    one.use(1, "50")
    assert isinstance(one.reserve(1), Granted), "the cap itself is allowed"
    before = len(told("breaker_platform"))
    one.commit(held, cost="0.51")
    denied = one.reserve(1)
    assert isinstance(denied, Denied)
    answer = refusals.denial(denied, clock() // 1000)
    assert (answer["code"], answer["source"], answer["resolve"], answer["limit"]) == (
        "breaker",
        "breaker",
        "contact",
        None,
    )
    more = one.extend(held_on, 2)
    assert (more.frozen, more.stopped and more.stopped.code) == (True, "breaker"), "nor is one made larger"
    assert not one.extend(held_on, 1).frozen
    assert isinstance(other.reserve(1), Granted), "who does not know yet goes on for at most a minute"
    clock.ms += 60_000
    refused = other.reserve(1)
    assert isinstance(refused, Denied)
    assert refused.code == "breaker"
    assert other.commit(late, cost="10").event.units == 1
    assert other.use(1, "10").status == "recorded"
    assert len(told("breaker_platform")) == before + 1
    assert one.counted + other.counted == ["platform"], "whoever finds it stopped already counts nothing"
    assert other.rules().row.frozen is None, "nobody's account is frozen"


def test_a_resume_lets_the_hour_cost_the_cap_once_more(one: Process, clock: Clock) -> None:
    platform = PlatformTable(ENV["TOLLGATE_BILLING_TABLE"])
    before = len(told("breaker_platform"))
    one.use(1, "70")
    stop = resume_all(platform, clock() // 1000)
    assert stop is not None
    assert stop.cost == 70
    assert resume_all(platform, clock() // 1000) is None, "a second call changes nothing"
    assert spent(clock).resumes == 1
    clock.ms += 60_000
    assert isinstance(one.reserve(1), Granted)
    one.use(1, "50")
    assert isinstance(one.reserve(1), Granted)
    one.use(1, "0.5")
    assert isinstance(one.reserve(1), Denied)
    assert len(told("breaker_platform")) == before + 2


def test_a_stop_that_comes_after_its_hour_was_resumed_holds_nothing(one: Process, clock: Clock) -> None:
    platform, hour = PlatformTable(ENV["TOLLGATE_BILLING_TABLE"]), clock() // 3_600_000 * 3600
    one.use(1, "70")
    slow = platform.stopped()
    assert slow is not None
    assert resume_all(platform, clock() // 1000) == slow
    platform.stop(slow)
    assert platform.stopped() is None
    assert resume_all(platform, clock() // 1000) is None
    again = slow._replace(resumes=1)
    platform.stop(again)
    platform.stop(slow)
    assert platform.stopped() == again, "nor does it take the place of one that does"
    clock.ms += 3_600_000
    assert resume_all(platform, clock() // 1000) == again
    assert platform.spent(hour).resumes == 2
    assert spent(clock).resumes == 1, "the hour that it goes on in has a whole cap"
    platform.stop(again)
    assert platform.stopped() is None


def test_a_resume_that_died_between_its_writes_is_repeated(one: Process, clock: Clock) -> None:
    platform = PlatformTable(ENV["TOLLGATE_BILLING_TABLE"])
    one.use(1, "70")
    stopped_in = clock() // 3_600_000 * 3600
    clock.ms += 3_600_000
    platform.forgive(clock() // 3_600_000 * 3600)
    assert platform.stopped() is not None
    assert resume_all(platform, clock() // 1000) is not None
    assert platform.stopped() is None
    platform.stop(Stop(clock() // 1000, stopped_in + 3600, Decimal(70), Decimal(50), 2))
    platform.forgive(stopped_in + 3600)
    assert platform.stopped() is None, "what ends it is one write; its row is in nobody's way"
    one.use(1, "50.01")
    assert platform.stopped() == Stop(clock() // 1000, stopped_in + 3600, Decimal("50.01"), Decimal(50), 3)
    assert resume_all(platform, clock() // 1000) is not None


def test_without_a_cap_nothing_is_added(clock: Clock) -> None:
    free = process(clock, CATALOG.replace('breaker: {platform_cost_per_hour: "50.00"}', ""))
    free.use(1, "1000")
    assert spent(clock).cost == 0
    assert isinstance(free.reserve(1), Granted)
