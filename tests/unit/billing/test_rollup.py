"""Daily rollups against the rows themselves: whatever came when, a rollup is the sum over the day's rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.billing.world import BILLING, NOON, SEAL_S, World, tables
from tollgate import dynamo
from tollgate.billing.breakdown import NAMED, unknown_cost
from tollgate.billing.rollup import DAY_S, PEAK_S, Share, rolled_up
from tollgate.billing.rollup_store import RollupTable, rollup_item, rollup_of
from tollgate.billing.sealed import SealedWindow, added, totals
from tollgate.billing.sealed_store import sealed_item, sealed_of
from tollgate.usage.markers import shard_of
from tollgate.usage.outcome import Event, OutcomeKey, UsedItem

DAY = NOON // DAY_S * DAY_S
EDGE = DAY + 13 * SEAL_S + 7
"""A billing period begins inside a window."""
names = st.sampled_from([None, *(f"n{at}" for at in range(30))])
few = st.sampled_from([None, "ann", "bob", "cy"])
amounts = st.decimals(0, 10**6, places=3).map(abs)


@st.composite
def rows(draw: st.DrawFn, people: st.SearchStrategy[str | None]) -> list[Event]:
    """Rows of a day, most of them near each other."""
    found = []
    for number in range(draw(st.integers(1, 60))):
        at = DAY + draw(st.integers(0, 40 * SEAL_S) | st.integers(0, DAY_S - 1))
        items = []
        for meter in draw(st.lists(st.sampled_from(("tokens", "images", "seats")), min_size=1, max_size=3)):
            model, units = draw(people), draw(amounts)
            level = number if meter == "seats" else None
            items.append(UsedItem(meter, units * 2, units, {"model": model} if model else {}, level=level))
        found.append(
            Event(
                OutcomeKey("acme", at * 1000, f"k{number}"),
                {},
                at * 1000,
                tuple(items),
                member=draw(people),
                cached=draw(st.booleans()),
                provider_cost=draw(st.none() | amounts),
            )
        )
    return found


def period_of(at: int) -> tuple[int, int]:
    return (0, EDGE) if at < EDGE else (EDGE, 10**10)


def cost_of(meter: str, dimensions: object, quantity: Decimal, at: int) -> Decimal | None:
    return quantity / 8 if meter == "tokens" else None


def sealed(arriving: Iterable[list[Event]]) -> list[SealedWindow]:
    """Frozen once for each time that rows arrive, as the rows of the table give them back."""
    frozen: list[SealedWindow] = []
    there: list[Event] = []
    for more in arriving:
        there += more
        for start in sorted({row.recorded_s // SEAL_S * SEAL_S for row in more}):
            mine = [one for one in frozen if one.window_start == start]
            now = totals(there, start, start + SEAL_S, period_of, cost_of)
            for total in added(now.values(), mine):
                before = sum(1 for one in mine if one.total.period_start == total.period_start)
                window = SealedWindow("acme", start, SEAL_S, before, total, (start,), start)
                frozen.append(sealed_of(sealed_item(window)))
    return frozen


def items_of(rows: Iterable[Event], meter: str) -> Iterator[tuple[Event, UsedItem, Decimal | None]]:
    """With what each item cost."""
    for row in rows:
        for at, item in enumerate(row.items):
            cost = row.provider_cost
            if cost is None and row.cached:
                cost = Decimal(0)
            cost = cost_of(item.meter, {}, item.quantity, 0) if cost is None else Decimal(0) if at else cost
            if item.meter == meter:
                yield row, (replace(item, units=Decimal(0)) if item.level is not None else item), cost


def share(chosen: Iterable[tuple[Event, UsedItem, Decimal | None]]) -> Share:
    found = list(chosen)
    units = sum((item.units for _, item, _ in found), Decimal(0))
    return Share(len(found), units, sum((cost or Decimal(0) for *_, cost in found), Decimal(0)))


@settings(deadline=None, max_examples=60)
@given(rows(few), st.integers(0, 60))
def test_a_rollup_is_the_sum_over_the_days_rows(day: list[Event], late: int) -> None:
    found = {one.meter: one for one in rolled_up("acme", DAY, sealed([day[late:], day[:late]]))}
    assert set(found) == {item.meter for row in day for item in row.items}
    for meter, rollup in found.items():
        mine = list(items_of(day, meter))
        whole = share(mine)
        assert (rollup.total.events, rollup.total.units, rollup.cost) == whole
        assert rollup.cached == sum(row.cached for row, *_ in mine)
        assert rollup.unpriced == share(one for one in mine if one[2] is None).units
        for hour, units in enumerate(rollup.hours):
            assert units == share(one for one in mine if (one[0].recorded_s - DAY) // 3600 == hour).units
        for name, part in rollup.members.items():
            assert part == share(one for one in mine if (one[0].member or "") == name)
        for name, part in rollup.models.items():
            assert part == share(one for one in mine if one[1].dimensions.get("model", "") == name)
        for shares in (rollup.members, rollup.models):
            assert sum((part.units for part in shares.values()), Decimal(0)) == whole.units
            assert sum(part.events for part in shares.values()) == whole.events
        windows = {row.recorded_s // SEAL_S * SEAL_S for row, *_ in mine}
        assert rollup.peak == max(
            share(one for one in mine if start <= one[0].recorded_s < start + PEAK_S).units for start in windows
        )


@settings(deadline=None, max_examples=60)
@given(rows(names), st.integers(0, 60))
def test_of_many_names_the_largest_are_kept_and_the_rest_is_exact(day: list[Event], late: int) -> None:
    for rollup in rolled_up("acme", DAY, sealed([day[late:], day[:late]])):
        mine = list(items_of(day, rollup.meter))
        assert sum(1 for name in rollup.members if name) <= NAMED
        for name, part in rollup.members.items():
            if name:
                assert part.units <= share(one for one in mine if one[0].member == name).units
        whole = Share()
        for part in rollup.members.values():
            whole = whole.plus(part)
        assert whole == share(mine)
        assert all(part.events >= 0 and part.units >= 0 and part.cost >= 0 for part in rollup.members.values())
        assert rollup_of(rollup_item(rollup)) == rollup


def test_twenty_members_are_named_by_their_units() -> None:
    row = Event(OutcomeKey("acme", DAY * 1000, "k"), {}, DAY * 1000, (UsedItem("m", Decimal(1), Decimal(1)),))
    day = [replace(row, member=f"u{at:02d}", items=(UsedItem("m", Decimal(1), Decimal(at)),)) for at in range(25)]
    (rollup,) = rolled_up("acme", DAY, sealed([day]))
    assert list(rollup.members) == [*(f"u{at:02d}" for at in range(24, 4, -1)), ""]
    assert rollup.members[""] == Share(5, Decimal(0 + 1 + 2 + 3 + 4))


def test_a_window_frozen_without_breakdown_counts_as_unknown() -> None:
    """Windows from before they had one."""
    row = Event(OutcomeKey("acme", 0, "k"), {}, DAY * 1000, (UsedItem("m", Decimal(1), Decimal(7)),), member="ann")
    now = totals([row], DAY, DAY + SEAL_S, period_of)
    (total,) = added(now.values(), [])
    window = SealedWindow("acme", DAY, SEAL_S, 0, replace(total, breakdowns={}), (DAY,), DAY)
    (rollup,) = rolled_up("acme", DAY, [sealed_of(sealed_item(window))])
    assert rollup.total.units == rollup.unpriced == 7
    assert rollup.members == {"": Share(1, Decimal(7))}


def test_a_cost_is_unknown_where_nothing_says_it() -> None:
    assert unknown_cost("m", {}, Decimal(1), NOON) is None


# --- on tables -------------------------------------------------------------------------------------------------------


@pytest.fixture
def world() -> Iterator[World]:
    with tables():
        yield World()


def test_rollups_are_read_by_account_and_by_day(world: World) -> None:
    twin = next(name for name in (f"b{at}" for at in range(999)) if shard_of(name) == shard_of("acme"))
    for account in ("acme", twin):
        world.rules.add(account)
        world.record(1, account)
        world.record(2, account, meter="llm_tokens")
        world.record(4, account, at=NOON + DAY_S)
    world.now += DAY_S
    world.close_window()
    world.seal()
    table = RollupTable(BILLING)
    found = [(one.meter, one.day, one.total.units) for one in table.of_account("acme", DAY, DAY)]
    assert found == [("ai_credits", DAY, Decimal(1)), ("llm_tokens", DAY, Decimal(2))]
    assert [one.day for one in table.of_account("acme", DAY + DAY_S, DAY + DAY_S)] == [DAY + DAY_S]
    shard = shard_of("acme")
    everything = list(table.of_day(DAY, shard))
    assert [one.account for one in everything] == ["acme", "acme", twin, twin]
    assert everything[:2] == list(table.of_account("acme", DAY, DAY))
    assert [one.account for one in table.of_day(DAY, shard, after="acme")] == [twin, twin]
    assert list(table.of_day(DAY, (shard + 1) % 16)) == []


def test_a_rollup_from_before_profiles_has_its_totals() -> None:
    old = {"pk": "rollup#acme", "sk": "2026-11-21#m", "events": 2, "units": 9, "billable": 9}
    old |= {"credit_funded": 0, "waived": 0}
    found = rollup_of(dynamo.item(old))
    assert found.total.units == found.unpriced == 9
    assert found.members == {"": Share(2, Decimal(9))}


def test_a_window_of_all_the_meters_that_a_catalogue_may_have_can_be_frozen() -> None:
    """The totals must never wait for their shares: an item has at most 400 KB."""
    with tables():
        world = World()
        events = [
            Event(
                OutcomeKey("acme", DAY * 1000, f"k{meter}-{number}"),
                {},
                DAY * 1000,
                (
                    UsedItem(
                        f"meter-{meter:058}",
                        Decimal(1),
                        Decimal("0.123456789012"),
                        {"model": "é" * 62 + f"{number:02}"},
                    ),
                ),
                member=f"{number:064}",
                provider_cost=Decimal("0.123456789012"),
            )
            for meter in range(200)
            for number in range(NAMED + 5)
        ]
        (total,) = totals(events, DAY, DAY + SEAL_S, period_of).values()
        window = SealedWindow("acme", DAY, SEAL_S, 0, total, (DAY,), DAY)
        assert world.seals.freeze(window)
        assert world.seals.of_window("acme", DAY) == [window]
        assert all(one.models and one.members for one in total.breakdowns.values()), "each meter has some"
        world.seals.roll_up("acme", DAY)
