"""A hold that grows: the larger of two on every counter, and of every meter."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tollgate.accounts.rules import Group, by_slot
from tollgate.gate.force import covering

METERS, SLOTS = 3, 5


@st.composite
def groups(draw: st.DrawFn) -> list[Group]:
    """As rules make them: each meter has its counters, and some of its items count on fewer of them."""
    found = {}
    for meter in range(METERS):
        for slots in draw(st.lists(st.sets(st.integers(0, SLOTS - 1)), max_size=2)):
            found[meter, tuple(sorted(slots))] = draw(st.integers(1, 9))
    return [Group(meter, Decimal(units), slots) for (meter, slots), units in sorted(found.items())]


def by_meter(groups: list[Group] | tuple[Group, ...]) -> list[Decimal]:
    return [sum((g.units for g in groups if g.meter_slot == meter), Decimal(0)) for meter in range(METERS)]


@given(groups(), groups())
def test_every_counter_gets_the_larger(held: list[Group], wanted: list[Group]) -> None:
    found = by_slot(covering(held, wanted))
    had, want = by_slot(held), by_slot(wanted)
    assert found == {slot: max(had.get(slot, Decimal(0)), want.get(slot, Decimal(0))) for slot in {*had, *want}}


@given(groups(), groups())
def test_every_meter_gets_the_larger(held: list[Group], wanted: list[Group]) -> None:
    for found, had, want in zip(by_meter(covering(held, wanted)), by_meter(held), by_meter(wanted), strict=True):
        assert found == max(had, want)


def test_another_meter_above_a_hold_counts_once_for_each_meter() -> None:
    """Slot 0 counts both meters, 1 and 2 one each."""
    held = [Group(0, Decimal(2), (0, 1))]
    wanted = [Group(0, Decimal(1), (0, 1)), Group(1, Decimal(2), (0, 2))]
    assert by_meter(covering(held, wanted)) == [2, 2, 0]
