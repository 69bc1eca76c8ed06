"""A call that counts on many counters: one write names them all, and DynamoDB takes expressions of 4 KB, no more
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html). moto takes any."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.support.gate import Client, limit, plan, reservation_of, world
from tests.support.memory import MemoryGates
from tollgate.accounts.rules import MOST_COUNTERS, Item, Rules
from tollgate.catalog.model import Limit, Meter
from tollgate.errors import TooManyCounters
from tollgate.gate.commit import Commit, commit
from tollgate.gate.item import CounterWrite, GateWrite, GrantMove, HoldWrite, MoneyAdd, PaidMove, Step, Written
from tollgate.gate.record import Reported, record
from tollgate.gate.reserve import Asked, Granted, reserve
from tollgate.gate.store import update_request
from tollgate.ids import key_hash
from tollgate.windows import DAY, MINUTE, MONTH, WEEK

MOST_BYTES, MOST_OPERATORS = 4096, 300
METERS = [Meter(f"m{number:02}", "A meter", "unit") for number in range(20)]
ONE = Decimal(1)
FITS = 5
"""Meters: each is on six counters, with those of the hour and of the billing period."""


def limits() -> Iterator[Limit]:
    for meter in METERS:
        for window in (MINUTE, DAY, WEEK, MONTH):
            yield limit(f"{meter.id}-{window.text}", 1000, window, meters=(meter.id,))


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Client:
    """An account of many counters; every write to its gate is one that DynamoDB takes."""
    write = MemoryGates.write

    def checked(self: MemoryGates, asked: GateWrite, *, retry: bool = True) -> Written:
        assert_taken(asked)
        return write(self, asked, retry=retry)

    monkeypatch.setattr(MemoryGates, "write", checked)
    return Client(world(plan(*limits()), *METERS))


def assert_taken(write: GateWrite) -> None:
    request = update_request("gates", write)
    for text in (request["UpdateExpression"], request["ConditionExpression"]):
        assert len(text.encode()) <= MOST_BYTES, text
        assert sum(text.count(operator) for operator in ("=", "+", "-", "<", ">", "AND", "(")) <= MOST_OPERATORS


def weigh(meters: list[Meter]) -> list[Item]:
    return [Item(meter.id, ONE, ONE, {}) for meter in meters]


def asked(meters: list[Meter], key: str) -> Asked:
    def weighed(rules: Rules) -> list[Item]:
        found = weigh(meters)
        rules.check_width(found)
        return found

    return Asked("acme", None, key_hash("reservation", key), None, b"body", 300, weighed)


def test_what_fits_is_taken_and_counted_when_every_window_is_over_too(wide: Client) -> None:
    for days in (0, 400):
        wide.world.now_ms += days * 86_400_000
        held = reserve(wide.deps, asked(METERS[:FITS], f"after {days} days"))
        assert isinstance(held, Granted)
        wide.world.now_ms += 40 * 86_400_000  # a commit in other windows than its hold
        commit(wide.deps, Commit(reservation_of(held), lambda rules: weigh(METERS[:FITS])))
    wide.check()


def test_what_does_not_fit_is_refused_and_changes_nothing(wide: Client) -> None:
    with pytest.raises(TooManyCounters):
        reserve(wide.deps, asked(METERS[: FITS + 1], "too wide"))
    assert wide.world.gates == {}


def test_usage_of_many_meters_is_counted_in_several_writes(wide: Client) -> None:
    def events(turn: int) -> list[Reported]:
        return [
            Reported(f"{turn}-{at}", key_hash("usage", f"{turn}-{at}"), None, b"body", "acme", None, meter.id, ONE, {})
            for at, meter in enumerate(METERS * 3)
        ]

    for turn in range(2):
        assert {one.status for one in record(wide.deps, events(turn))} == {"recorded"}
        assert {one.status for one in record(wide.deps, events(turn))} == {"duplicate"}
        wide.world.now_ms += 40 * 86_400_000
    wide.check()
    rules = wide.world.rules("acme")
    months = [one for one in rules.counters if one.key.window == MONTH.text]
    assert {wide.world.gates["acme"].counts[one.slot].taken for one in months} == {Decimal(3)}


def test_the_widest_write_fits() -> None:
    """All counters roll, of as many priced meters as a call has items; credits pay for each."""
    counters = tuple(
        CounterWrite(slot, Step.ROLL, Decimal(slot), Decimal(slot), 9, (1, slot), Decimal(999 + slot))
        for slot in range(100, 100 + MOST_COUNTERS)
    )
    moves = tuple(
        PaidMove(slot, Decimal(slot), Decimal(slot), Decimal(1), True, Decimal(2), Decimal(slot), Decimal(slot))
        for slot in range(100, 108)
    )
    money = MoneyAdd(9, moves, Decimal(1), Decimal(100))
    grants = tuple(GrantMove(number, Decimal(-number), Decimal(number)) for number in range(100, 108))
    holds = (HoldWrite("k" * 22, None, b"hold"), *(HoldWrite(f"{at:022}", b"hold", None) for at in range(4)))
    write = GateWrite("acme", 5, 6, holds=holds, counters=counters, max_holds=64, money=money, grants=grants)
    assert_taken(write._replace(grants_known=3))
