"""Totals of rows, and what is beyond the frozen ones."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.billing.world import NOON
from tollgate.billing.sealed import Inconsistent, MeterTotal, PeriodTotal, SealedWindow, added, totals
from tollgate.usage.outcome import Event, OutcomeKey, UsedItem


def event(at: int, *items: UsedItem) -> Event:
    return Event(OutcomeKey("acme", at * 1000, f"k{at}"), {}, at * 1000, items)


def used(units: str, meter: str = "m", credit_funded: str = "0", waived: str = "0") -> UsedItem:
    return UsedItem(meter, Decimal(units), Decimal(units), {}, Decimal(credit_funded), Decimal(waived))


def one_period(at: int) -> tuple[int, int]:
    return 0, 10**10


def total(rows: int, period: int = 0, **units: str) -> PeriodTotal:
    meters = {meter: MeterTotal(rows, Decimal(count)) for meter, count in units.items()}
    return PeriodTotal(period, 10**10, rows, meters)


def frozen(amount: PeriodTotal, supplement: int = 0) -> SealedWindow:
    return SealedWindow("acme", NOON, 300, supplement, amount, (NOON,), NOON)


def test_only_rows_recorded_in_the_window_count() -> None:
    rows = [event(at, used("1")) for at in (NOON - 1, NOON, NOON + 299, NOON + 300)]
    assert totals(rows, NOON, NOON + 300, one_period)[0].rows == 2


def test_each_row_counts_in_the_period_of_its_second() -> None:
    edge = NOON + 100
    rows = [event(edge - 1, used("1")), event(edge, used("10")), event(edge + 1, used("100"))]
    found = totals(rows, NOON, NOON + 300, lambda at: (0, edge) if at < edge else (edge, edge * 2))
    assert {period: amount.meters["m"].units for period, amount in found.items()} == {0: 1, edge: 110}
    assert found[0].period_end == edge


def test_sums_keep_every_digit() -> None:
    units = "999999999999999999.999999999999"
    rows = [event(NOON, used(units), used("0.000000000001", credit_funded="0.000000000001")) for _ in range(3)]
    assert totals(rows, NOON, NOON + 300, one_period)[0].meters["m"].billable == Decimal(
        "2999999999999999999.999999999997"
    )


def test_credits_and_waived_units_are_not_billable() -> None:
    rows = [event(NOON, used("10", credit_funded="3", waived="2.5"), used("1", meter="other"))]
    meters = totals(rows, NOON, NOON + 300, one_period)[0].meters
    assert meters["m"].billable == Decimal("4.5")
    assert meters["other"].billable == 1


def test_what_is_beyond_the_frozen_items_is_exact() -> None:
    before = [frozen(total(2, m="5")), frozen(total(1, m="0.25"), 1)]
    (more,) = added([total(4, m="5.5", other="7")], before)
    assert more.rows == 1
    assert more.meters["m"].units == Decimal("0.25")
    assert more.meters["other"].units == 7


def test_nothing_new_is_nothing() -> None:
    assert added([total(2, m="5")], [frozen(total(2, m="5"))]) == []


def test_rows_without_units_are_still_frozen_so_that_their_ranges_are_known() -> None:
    (more,) = added([total(3, m="0")], [])
    assert more.rows == 3


@pytest.mark.parametrize(
    ("now", "before"),
    [
        ([total(1, m="5")], total(2, m="5")),  # fewer rows
        ([total(3, m="4")], total(2, m="5")),  # fewer units
        ([total(2, m="6")], total(2, m="5")),  # more units from the same rows
        ([total(2)], total(2, m="5")),  # a meter gone
        ([], total(1, m="5")),  # everything gone
    ],
)
def test_less_than_what_is_frozen_is_an_inconsistent_read(now: list[PeriodTotal], before: PeriodTotal) -> None:
    with pytest.raises(Inconsistent):
        added(now, [frozen(before)])
