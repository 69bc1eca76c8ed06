"""What shadow mode held back, rated and set beside what another system billed."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.unit.billing.world import FREE, METERS, PRO
from tollgate.accounts.rules import AccountRow, Rules, compile_rules, with_plan
from tollgate.billing.batch import SHADOWED, Batch
from tollgate.billing.shadow import NOTHING, Billed, Compared, compare, rated, sums
from tollgate.catalog.model import Meter, Plan, Price, Tier
from tollgate.windows import Calendar

OCTOBER, NOVEMBER, DECEMBER = 1_790_812_800, 1_793_491_200, 1_796_083_200
D = Decimal


def rules_of(plan: Plan, meters: dict[str, Meter] | None = None) -> Rules:
    meters = METERS if meters is None else meters
    empty = AccountRow("acme", 1, plan.id, 1, 0, Calendar.of("UTC"), (), ())
    return compile_rules(with_plan(empty, plan, meters, 0), plan, meters)


def batch(units: str, meter: str = "ai_credits", at: int = NOVEMBER + 600, period: int = NOVEMBER) -> Batch:
    end = DECEMBER if period == NOVEMBER else NOVEMBER
    window = at // 300 * 300
    return Batch(
        "acme", meter, period, end, window, window + 300, 0, 0, "credits_used", D(units), window, 0, SHADOWED, 0
    )


TIERS = (Tier(D(100), D(0), D(0)), Tier(None, D("0.10"), D(0)))
TIERED = replace(PRO, prices=(Price("ai_credits", "graduated", tiers=TIERS),))


def test_the_units_of_a_period_are_rated_together() -> None:
    found = rated([batch("80"), batch("50.5", at=NOVEMBER + 86_400)], rules_of(TIERED))
    assert found["ai_credits"] == Billed(D("130.5"), D("3.05"))


def test_each_period_is_rated_by_itself() -> None:
    october = batch("120", at=NOVEMBER - 600, period=OCTOBER)
    found = rated([october, batch("110")], rules_of(TIERED))
    assert found["ai_credits"] == Billed(D(230), D("3.00")), "both have their included units"


def test_of_a_level_the_last_batch_counts() -> None:
    meters = {**METERS, "ai_credits": replace(METERS["ai_credits"], kind="level")}
    plan = replace(PRO, prices=(Price("ai_credits", "per_unit", unit_price=D(2)),))
    later = batch("4", at=NOVEMBER + 9_000)
    assert rated([later, batch("9")], rules_of(plan, meters))["ai_credits"] == Billed(D(4), D(8))


def test_a_priced_meter_without_batches_costs_what_it_costs_at_0() -> None:
    plan = replace(PRO, prices=(Price("ai_credits", "graduated", tiers=(Tier(None, D(1), D(5)),)),))
    assert rated([], rules_of(plan)) == {"ai_credits": Billed(D(0), D(5))}
    assert rated([], rules_of(FREE)) == {}


def test_a_meter_that_the_plan_does_not_price_any_more_has_no_money() -> None:
    assert rated([batch("3")], rules_of(FREE)) == {"ai_credits": Billed(D(3), None)}


def pair(ours: Billed, theirs: Billed) -> Compared:
    return Compared("acme", "ai_credits", ours, theirs)


def test_both_sides_are_looked_through() -> None:
    ours = {("a", "m"): Billed(D(5), D(1)), ("b", "m"): NOTHING}
    theirs = {("c", "m"): Billed(D(7), D(2))}
    assert compare(ours, theirs) == [
        Compared("a", "m", Billed(D(5), D(1)), NOTHING),
        Compared("c", "m", NOTHING, Billed(D(7), D(2))),
    ], "b has nothing on either side"


def test_who_says_no_money_is_not_taken_to_have_billed_none() -> None:
    (a, _) = compare({("a", "m"): Billed(D(5), D(1))}, {("c", "m"): Billed(D(7), None)})
    assert (a.theirs, a.amount) == (Billed(D(0), None), None)


@pytest.mark.parametrize(
    ("ours", "theirs", "tolerance", "differs"),
    [
        (Billed(D(100), D(10)), Billed(D(100), D(10)), "0", False),
        (Billed(D("100.000000000001"), D(10)), Billed(D(100), D(10)), "0", True),
        (Billed(D(101), D(10)), Billed(D(100), D(10)), "1", False),
        (Billed(D(99), D(10)), Billed(D(100), D(10)), "1", False),
        (Billed(D("101.01"), D(10)), Billed(D(100), D(10)), "1", True),
        (Billed(D("98.9"), D(10)), Billed(D(100), D(10)), "1", True),
        (Billed(D(100), D("10.01")), Billed(D(100), D(10)), "0", True),
        (Billed(D(100), D("10.01")), Billed(D(100), D(10)), "0.1", False),
        (Billed(D(100), D(10)), Billed(D(100), None), "0", False),
        (Billed(D(100), None), Billed(D(100), D(10)), "0", False),
        (Billed(D(1), D(0)), NOTHING, "1000", True),
        (NOTHING, Billed(D(1), D(0)), "100", False),
        (NOTHING, Billed(D(1), D(0)), "99", True),
    ],
)
def test_a_pair_differs_beyond_the_tolerance(ours: Billed, theirs: Billed, tolerance: str, differs: bool) -> None:
    assert pair(ours, theirs).differs(D(tolerance)) is differs


def test_differences_are_ours_less_theirs() -> None:
    row = pair(Billed(D(90), D("4.5")), Billed(D(120), D(6)))
    assert (row.units, row.amount) == (D(-30), D("-1.5"))
    assert (row.units_percent, row.amount_percent) == (D("-25.00"), D("-25.00"))
    alone = pair(Billed(D(1), D(1)), NOTHING)
    assert (alone.units_percent, alone.amount_percent) == (None, None)


def test_sums_are_by_meter() -> None:
    rows = [
        Compared("a", "m", Billed(D(1), D(2)), Billed(D(3), D(4))),
        Compared("b", "m", Billed(D(10), D(20)), Billed(D(30), None)),
        Compared("b", "n", Billed(D(5), D(5)), NOTHING),
    ]
    assert list(sums(rows)) == [
        Compared("", "m", Billed(D(11), D(22)), Billed(D(33), None)),
        Compared("", "n", Billed(D(5), D(5)), NOTHING),
    ]
