"""A runaway account is cut inside its hour, frozen everywhere, told of once, and goes on when somebody says so."""

from __future__ import annotations

import itertools
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.accounts.services import ENV, Clock, audit
from tests.unit.breaker.stage import ALLOWED, CATALOG, SECRET, Process, new_account, process, told
from tollgate.accounts import service
from tollgate.accounts.rules import Typical
from tollgate.accounts.service import freeze
from tollgate.breaker import trip as trips
from tollgate.breaker.link import Link, decode, encode
from tollgate.breaker.resume import resume
from tollgate.breaker.trip_store import TripTable
from tollgate.errors import AlreadyResumed, Busy, ResumeLinkExpired, ResumeLinkInvalid
from tollgate.gate.reserve import Denied, Granted
from tollgate.http import refusals
from tollgate.usage import store

pytestmark = pytest.mark.usefixtures("tables")
HOUR_MS = 3_600_000
_NAMES = itertools.count()


@pytest.fixture
def clock() -> Clock:
    return Clock("2026-11-21T12:05:00Z")


@pytest.fixture
def account() -> str:
    return f"acme-{next(_NAMES)}"


@pytest.fixture
def one(clock: Clock, account: str) -> Process:
    made = process(clock, CATALOG)
    new_account(made, account)
    return made


def messages(account: str) -> list[dict[str, Any]]:
    return [message for message in told("breaker") if message["account"] == account]


def link_of(account: str, clock: Clock, index: int = -1) -> Link:
    token = messages(account)[index]["resume_path"].partition("token=")[2]
    return decode(token, SECRET, clock() // 1000)


def test_a_loop_is_cut_to_the_unit_and_frozen_everywhere(one: Process, clock: Clock, account: str) -> None:
    other = process(clock)
    warm = other.reserve(1, account)
    assert isinstance(warm, Granted)  # its rules are cached from here on
    granted, denied = one.until_refused(7, account=account)
    assert granted == (ALLOWED - 1) // 7 * 7
    answer = refusals.denial(denied, clock() // 1000)
    assert {name: answer[name] for name in ("code", "source", "limit", "resolve", "requested", "remaining")} == {
        "code": "breaker",
        "source": "breaker",
        "limit": "breaker",
        "resolve": "contact",
        "requested": "7",
        "remaining": "5",
    }
    assert answer["resets_at"] is None
    assert [state.ruled.source for state in denied.limits] == []
    frozen = other.reserve(1, account)  # what is left would do
    assert isinstance(frozen, Denied)
    assert (frozen.code, frozen.reason) == ("frozen", "breaker")
    assert refusals.denial(frozen, clock() // 1000)["source"] == "breaker"
    assert one.taken(account) == granted + 1
    assert other.commit(warm).event.units == 1, "frozen accounts still commit"


def test_it_is_told_once_with_its_drivers(one: Process, clock: Clock, account: str) -> None:
    said: dict[str, Any] = {"account": account, "dimensions": {"model": "large-1", "operation": "chat"}}
    for _ in range(3):
        found = one.reserve(30, member="ada", **said)
        assert isinstance(found, Granted)
        one.commit(found)
    clock.ms += 60_000
    found = one.reserve(10, member="bob", account=account, dimensions={"model": "small-1"})
    assert isinstance(found, Granted)
    one.commit(found)
    assert isinstance(one.reserve(ALLOWED, account), Denied)
    (message,) = messages(account)
    assert {name: message[name] for name in ("member", "model", "action", "pattern", "allowed", "window")} == {
        "member": "ada (90 %)",
        "model": "large-1 (90 %)",
        "action": "chat (90 %)",
        "pattern": "4 calls of 100 units in 60 s, 75 % of one size",
        "allowed": "300",
        "window": "2026-11-21T12:00:00Z",
    }
    assert message["audience"] == "both"
    assert message["customer"] == {
        "subject": f"{account} is paused",
        "text": "Usage in the hour from 2026-11-21T12:00:00Z reached 300 Tokens, far above what is usual, so nothing "
        "new is started; what was running still counts. Contact us to go on.",
    }
    assert [(entry.by, entry.changes[0].field) for entry in audit(one.deps, account)][0] == ("breaker", "frozen")


def test_open_reservations_count_and_a_release_gives_back(one: Process, account: str) -> None:
    held = [one.reserve(100, account) for _ in range(3)]
    assert all(isinstance(found, Granted) for found in held)
    assert isinstance(one.reserve(1, account), Denied)
    (message,) = messages(account)
    assert message["pattern"] == "open reservations, nothing committed yet"


def test_usage_that_had_happened_is_recorded_and_trips(one: Process, account: str) -> None:
    assert one.use(ALLOWED, account=account).status == "recorded"
    assert one.rules(account).row.frozen is None, "what is allowed is allowed"
    assert one.use(1, account=account).status == "recorded"
    frozen = one.rules(account).row.frozen
    assert frozen is not None
    assert frozen.reason == "breaker"
    assert one.use(5, account=account).status == "recorded"
    assert one.taken(account) == ALLOWED + 6
    assert len(messages(account)) == 1


def test_a_commit_above_its_reservation_trips(one: Process, account: str) -> None:
    found = one.reserve(10, account)
    assert isinstance(found, Granted)
    assert one.commit(found, ALLOWED + 1).event.over_reserved
    assert one.rules(account).row.frozen is not None


def test_an_extension_past_it_is_refused_and_trips(one: Process, account: str) -> None:
    found = one.reserve(10, account)
    assert isinstance(found, Granted)
    assert one.extend(found, ALLOWED).refused is None
    refused = one.extend(found, ALLOWED + 1)
    assert refused.stopped is not None
    assert refused.stopped.code == "breaker"
    assert one.rules(account).row.frozen is not None
    assert one.taken(account) == ALLOWED


def test_without_a_breaker_or_anything_known_nothing_is_cut(one: Process, clock: Clock, account: str) -> None:
    assert isinstance(one.reserve(5000, account, meter="images"), Granted)
    new_account(one, f"{account}-off", "calm")
    assert one.rules(f"{account}-off").breakers == ()


def test_a_crash_before_the_freeze_leaves_the_cap_and_a_later_call_freezes(
    one: Process, clock: Clock, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(trips, "change", dies)
        with pytest.raises(SystemExit):
            one.until_refused(50, account=account)
    assert one.rules(account).row.frozen is None
    assert one.taken(account) == ALLOWED
    for _ in range(2):
        again = one.reserve(1, account)
        assert isinstance(again, Denied)
        assert again.code == "breaker"
    assert one.rules(account).row.frozen is None, "whoever claimed the trip may be at it still"
    clock.ms += trips.CLAIMED_S * 1000
    assert isinstance(one.reserve(1, account), Denied)
    assert one.rules(account).row.frozen is not None
    assert len(messages(account)) == 1
    assert one.counted.count("BreakerTrips") == 1, "who died told no metric"


def test_a_crash_before_the_alert_is_told_by_a_later_call(
    one: Process, clock: Clock, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(trips, "_tell", dies)
        with pytest.raises(SystemExit):
            one.until_refused(50, account=account)
    assert one.rules(account).row.frozen is None, "never frozen and untold"
    clock.ms += trips.CLAIMED_S * 1000
    assert isinstance(one.reserve(1, account), Denied)
    assert len(messages(account)) == 1


@pytest.mark.parametrize("step", ["_tell", "change"])
def test_a_trip_that_a_store_failed_is_done_by_the_next_call(
    one: Process, clock: Clock, account: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fails(*_: object) -> None:
        raise Busy

    with monkeypatch.context() as patched:
        patched.setattr(trips, step, fails)
        with pytest.raises(Busy):
            one.until_refused(50, account=account)
    assert one.rules(account).row.frozen is None
    denied = one.reserve(1, account)
    assert isinstance(denied, Denied)
    assert denied.code == "breaker"
    assert one.rules(account).row.frozen is not None
    assert len(messages(account)) == 1
    assert one.counted.count("BreakerTrips") == 1, "the trip is one, however often it was begun"


def test_a_claim_that_another_one_has_taken_over_is_not_given_back(one: Process, clock: Clock, account: str) -> None:
    table = TripTable(ENV["TOLLGATE_BILLING_TABLE"])
    found, now = trips.Trip(account, "tokens", 1_795_262_400, 0), clock() // 1000
    assert table.claim(found, Decimal(ALLOWED), now)
    assert table.claim(found, Decimal(ALLOWED), now + trips.CLAIMED_S)
    table.give_back(found, now)
    assert not table.claim(found, Decimal(ALLOWED), now + trips.CLAIMED_S)
    table.give_back(found, now + trips.CLAIMED_S)
    assert table.claim(found, Decimal(ALLOWED), now + trips.CLAIMED_S)


@pytest.mark.parametrize("step", ["claim", "gate"])
def test_a_crash_before_anything_is_written_or_before_the_gate_knows_heals_with_the_next_refusal(
    one: Process, clock: Clock, account: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    other = process(clock)
    assert isinstance(other.reserve(50, account), Granted)  # its rules are cached from here on

    def dies(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(*((TripTable, "claim", dies) if step == "claim" else (service, "apply_rules", dies)))
        with pytest.raises(SystemExit):
            one.until_refused(50, account=account)
    row = one.deps.rules.stored(account)
    assert (row.frozen is None) == (step == "claim")
    assert other.gate(account).rev < row.rev or step == "claim"
    refused = other.reserve(1, account)
    assert isinstance(refused, Denied)
    assert refused.code == "breaker"
    row = one.deps.rules.stored(account)
    assert row.frozen is not None
    assert other.gate(account).rev == row.rev, "whoever has older rules learns of it"
    assert other.taken(account) == ALLOWED
    assert len(messages(account)) == 1


def test_a_first_call_for_more_than_the_hour_may_come_to_is_cut(one: Process, account: str) -> None:
    denied = one.reserve(ALLOWED + 1, account)
    assert isinstance(denied, Denied)
    assert (denied.code, denied.remaining) == ("breaker", Decimal(ALLOWED))
    assert one.rules(account).row.frozen is not None


def test_what_a_limit_refuses_anyway_freezes_nobody(one: Process, account: str) -> None:
    service.change_plan(one.deps, account, "paced")
    held = one.reserve(10, account)
    assert isinstance(held, Granted)
    denied = one.reserve(ALLOWED, account)
    assert isinstance(denied, Denied)
    assert (denied.code, denied.state and denied.state.ruled.limit.id) == ("limit_reached", "burst")
    refused = one.extend(held, ALLOWED + 1)
    assert refused.refused is not None
    assert refused.refused.limit is not None
    assert (refused.refused.limit.limit.id, refused.stopped) == ("burst", None)
    assert one.rules(account).row.frozen is None
    assert messages(account) == []


def test_an_account_of_many_ids_is_looked_at_no_longer_than_one_of_one() -> None:
    looked: list[str] = []

    def newest(home: str, first_ms: int, last: str, pages: int) -> Any:
        looked.append(home)
        yield from range(trips.MOST_ROWS - 1)

    deps: Any = SimpleNamespace(
        events=SimpleNamespace(newest=newest), accounts=SimpleNamespace(gate=SimpleNamespace(clock=lambda: 0))
    )
    rules: Any = SimpleNamespace(homes=("known", "anonymous", "older"))
    assert len(list(trips._rows(deps, rules, 0))) == trips.MOST_ROWS
    assert looked == ["known", "anonymous"]


def test_a_loop_that_releases_all_it_reserves_is_stopped_as_well(
    one: Process, clock: Clock, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its voids lie between the newest row and the last one that was committed: few of them are read."""
    monkeypatch.setattr(store, "PAGE", 2)
    assert one.use(1, account=account).status == "recorded"
    for _ in range(2 * trips.MOST_PAGES):
        clock.ms += 1000
        one.release(one.reserve(1, account))
    assert isinstance(one.reserve(ALLOWED, account), Denied)
    assert [message["pattern"] for message in messages(account)] == ["open reservations, nothing committed yet"]
    assert [event.items[0].units for event in one.stops.trips.events.newest(account, 0, "g")] == [1]


def test_what_was_crossed_under_rules_that_changed_meanwhile_freezes_nobody(
    one: Process, clock: Clock, account: str
) -> None:
    before = one.rules(account)
    service.change_plan(one.deps, account, "calm")
    trips.trip(one.stops.trips, before, "tokens", clock() // HOUR_MS * 3600)
    assert one.rules(account).row.frozen is None
    service.change_plan(one.deps, account, "hot")
    now = one.rules(account)
    less = now.breakers[0]._replace(maximum=Decimal(ALLOWED - 1))
    trips.trip(one.stops.trips, replace(now, breakers=(less,)), "tokens", clock() // HOUR_MS * 3600)
    assert one.rules(account).row.frozen is None
    assert messages(account) == []


def test_a_slow_refusal_does_not_freeze_what_was_resumed_since(
    one: Process, clock: Clock, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = one.rules(account)
    one.until_refused(50, account=account)
    resume(one.deps, account)
    trips.trip(one.stops.trips, before, "tokens", clock() // HOUR_MS * 3600)
    assert one.rules(account).row.frozen is None
    assert len(messages(account)) == 1


def test_a_slow_trip_does_not_freeze_what_another_one_froze_and_somebody_resumed_since(
    one: Process, clock: Clock, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, tell = process(clock), trips._tell
    slept: list[bool] = []

    def slow(*said: Any) -> None:
        tell(*said)
        if not slept:
            slept.append(True)
            clock.ms += trips.CLAIMED_S * 1000
            assert isinstance(other.reserve(1, account), Denied)
            resume(other.deps, account)

    with monkeypatch.context() as patched:
        patched.setattr(trips, "_tell", slow)
        one.until_refused(50, account=account)
    row = one.rules(account).row
    assert row.frozen is None
    assert row.grace is not None
    assert row.grace.number == 1
    assert len(messages(account)) == 1


def test_a_slow_trip_gives_no_grace_to_what_the_operator_froze_after_a_resume(
    one: Process, clock: Clock, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, tell = process(clock), trips._tell
    slept: list[bool] = []

    def slow(*said: Any) -> None:
        tell(*said)
        if not slept:
            slept.append(True)
            clock.ms += trips.CLAIMED_S * 1000
            assert isinstance(other.reserve(1, account), Denied)
            resume(other.deps, account)
            freeze(other.deps, account, "fraud")

    with monkeypatch.context() as patched:
        patched.setattr(trips, "_tell", slow)
        one.until_refused(50, account=account)
    frozen = one.rules(account).row.frozen
    assert frozen is not None
    assert (frozen.reason, frozen.trip) == ("fraud", None)


# -- going on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("grace", "more"), [(None, ALLOWED), (Decimal("1.5"), 450), (Decimal(10), 3000)])
def test_a_resume_lets_a_graced_hour_go_on_and_no_further(
    one: Process, clock: Clock, account: str, grace: Decimal | None, more: int
) -> None:
    one.until_refused(50, account=account)
    resume(one.deps, account, grace)
    granted, denied = one.until_refused(50, account=account)
    assert (granted, denied.code) == (more, "breaker")
    assert len({message["id"] for message in messages(account)}) == 2, "another trip of the hour is told again"
    resume(one.deps, account)
    clock.ms += HOUR_MS
    assert one.until_refused(50, account=account)[0] == ALLOWED, "the grace ends with its hour"


def test_a_grace_begins_from_what_was_used_past_the_allowance(one: Process, account: str) -> None:
    one.use(1000, account=account)
    resume(one.deps, account)
    assert one.until_refused(50, account=account)[0] == ALLOWED


def test_a_repeated_resume_adds_nothing(one: Process, account: str) -> None:
    one.until_refused(50, account=account)
    resume(one.deps, account, Decimal(2))
    once = one.rules(account).row
    resume(one.deps, account, Decimal(2))
    assert one.rules(account).row == once


def test_what_the_operator_froze_gets_no_grace_unasked(one: Process, account: str) -> None:
    freeze(one.deps, account, "unpaid")
    resume(one.deps, account)
    row = one.rules(account).row
    assert (row.frozen, row.grace) == (None, None)


def test_the_link_resumes_its_trip_once(one: Process, clock: Clock, account: str) -> None:
    one.until_refused(50, account=account)
    link = link_of(account, clock)
    resume(one.deps, account, link=link)
    assert isinstance(one.reserve(1, account), Granted)
    with pytest.raises(AlreadyResumed):
        resume(one.deps, account, link=link)
    one.until_refused(50, account=account)
    with pytest.raises(AlreadyResumed):
        resume(one.deps, account, link=link)
    assert one.rules(account).row.frozen is not None, "an old link does not resume another trip"
    resume(one.deps, account, link=link_of(account, clock))


def test_the_link_does_not_undo_the_operators_own_freeze(one: Process, clock: Clock, account: str) -> None:
    one.until_refused(50, account=account)
    link = link_of(account, clock)
    resume(one.deps, account)
    freeze(one.deps, account, "fraud")
    with pytest.raises(AlreadyResumed):
        resume(one.deps, account, link=link)


def test_the_operator_takes_a_freeze_over_and_the_link_does_not_lift_it(
    one: Process, clock: Clock, account: str
) -> None:
    one.until_refused(50, account=account)
    freeze(one.deps, account, "fraud")
    row = one.rules(account).row
    assert row.frozen is not None
    assert row.frozen.reason == "fraud"
    with pytest.raises(AlreadyResumed):
        resume(one.deps, account, link=link_of(account, clock))
    assert one.rules(account).row == row
    resume(one.deps, account)
    assert one.until_refused(50, account=account)[0] == ALLOWED, "the hour that tripped does not trip at once"
    assert len(messages(account)) == 2


def test_the_operators_freeze_between_the_message_and_the_freeze_stays(
    one: Process, clock: Clock, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = trips._tell

    def slow(*said: Any) -> None:
        tell(*said)
        freeze(one.deps, account, "fraud")

    with monkeypatch.context() as patched:
        patched.setattr(trips, "_tell", slow)
        one.until_refused(50, account=account)
    row = one.rules(account).row
    assert row.frozen is not None
    assert row.frozen.reason == "fraud"
    with pytest.raises(AlreadyResumed):
        resume(one.deps, account, link=link_of(account, clock))
    resume(one.deps, account)
    assert one.until_refused(50, account=account)[0] == ALLOWED
    assert len(messages(account)) == 2, "the next trip is told, too"


def test_a_link_lasts_a_day_and_cannot_be_made_up() -> None:
    link = Link("acme", "tokens/1795262400/0", 1_795_350_000)
    text = encode(link, SECRET)
    assert decode(text, SECRET, link.expires_at - 1) == link
    with pytest.raises(ResumeLinkExpired):
        decode(text, SECRET, link.expires_at)
    other = encode(link._replace(account="evil"), b"another secret")
    for forged in (other, text[:-1], text[:10], text[:22] + other[22:], "", "x" * 700, "ä", "%%%"):
        with pytest.raises(ResumeLinkInvalid):
            decode(forged, SECRET, 0)


# -- what it is measured by --------------------------------------------------------------------------------------------


def test_a_plan_change_keeps_the_baseline_and_every_put_does(one: Process, clock: Clock, account: str) -> None:
    row = one.rules(account).row
    assert one.deps.accounts.set_typical(row, Typical({"tokens": Decimal(100)}, ("tokens",)))
    assert one.deps.rules.stored(account).rev == row.rev, "no new revision"
    service.put_account(one.deps, account, service.AccountPatch(name="Named"))
    assert one.rules(account).row.typical == Typical({"tokens": Decimal(100)}, ("tokens",))
    assert not one.deps.accounts.set_typical(row, Typical({})), "the row changed since"
    service.change_plan(one.deps, account, "calm")
    assert one.rules(account).row.typical == Typical({"tokens": Decimal(100)})


def test_a_plan_that_the_catalogue_has_no_more_keeps_its_breaker(one: Process, clock: Clock, account: str) -> None:
    service.change_plan(one.deps, account, "paced")
    start, end = CATALOG.index("  paced:"), CATALOG.index("  calm:")
    without = process(clock, CATALOG[:start] + CATALOG[end:])
    assert [ruled.maximum for ruled in without.rules(account).breakers] == [ALLOWED]
    assert "calm" not in without.deps.catalog.breakers().rules, "off is off"
    process(clock, CATALOG)


def test_a_new_baseline_binds_within_a_minute(one: Process, clock: Clock, account: str) -> None:
    assert isinstance(one.reserve(1, account), Granted)
    one.deps.accounts.set_typical(one.deps.rules.stored(account), Typical({"tokens": Decimal(51)}, ("tokens",)))
    clock.ms += 60_000
    assert one.until_refused(50, account=account)[0] == 500
