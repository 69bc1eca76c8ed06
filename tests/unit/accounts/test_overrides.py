"""Overrides: what a text says, what it makes of a plan, and when it stops."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tollgate.accounts import overrides
from tollgate.accounts.currency import charges, in_currency
from tollgate.accounts.rules import AccountRow, Controls, NextPlan, Rules, compile_rules, with_plan
from tollgate.accounts.store import row_item, row_of
from tollgate.catalog.model import BillingPeriod, Limit, Meter, Plan, Price, Seats, Tier
from tollgate.windows import DAY, Calendar

METERS = {"images": Meter("images", "Images", "image", 0), "tokens": Meter("tokens", "Tokens", "token", 0)}
IMAGES = Price("images", "per_unit", unit_price=Decimal("0.02"))
TOKENS = Price("tokens", "per_unit", unit_price=Decimal("0.001"))
DAILY = Limit("daily", ("images",), "account", DAY, None, (), Decimal(100))
SEAT = Limit("seat", (), "member", None, None, (), None, Decimal(20))
PRO = Plan(
    "pro", 1, "Pro", Decimal(29), prices=(IMAGES, TOKENS), limits=(DAILY, SEAT), spend_cap=Decimal(60), currency="usd"
)
FREE = Plan("free", 1, "Free", limits=(DAILY,))
UNTIL = "2026-12-01T00:00:00Z"
DECEMBER = 1_796_083_200


def text(**said: Any) -> str:
    found = overrides.canonical(said)
    assert found is not None
    return found


def row(plan: Plan = PRO, **changes: Any) -> AccountRow:
    empty = AccountRow("acme", 1, plan.id, plan.version, 0, Calendar.of("UTC"), (), ())
    return replace(with_plan(empty, plan, METERS, 0), **changes)


def rules(plan: Plan = PRO, **changes: Any) -> Rules:
    return compile_rules(row(plan, **changes), plan, METERS)


# -- text --------------------------------------------------------------------------------------------------------------


def test_every_kind_of_price_is_read_back() -> None:
    tiers = [{"up_to": "10", "unit_price": "1", "flat": "2"}, {"up_to": "inf", "unit_price": "0.5"}]
    more = {"minimum": "1", "maximum": "9", "markup": "10", "included_per_seat": "5"}
    for scheme in ("graduated", "volume"):
        said = overrides.read(text(prices=[{"meter": "images", "scheme": scheme, "tiers": tiers, **more}]))
        assert said.prices == {
            "images": Price(
                "images",
                scheme,
                tiers=(Tier(Decimal(10), Decimal(1), Decimal(2)), Tier(None, Decimal("0.5"), Decimal(0))),
                minimum=Decimal(1),
                maximum=Decimal(9),
                markup=Decimal(10),
                included_per_seat=Decimal(5),
            )
        }
    package = {"meter": "images", "scheme": "package", "package_size": "10", "package_price": "3", "round": "down"}
    assert overrides.read(text(prices=[package])).prices == {
        "images": Price("images", "package", package_size=Decimal(10), package_price=Decimal(3), round="down")
    }
    assert overrides.read(None) == ({}, {}, {}, {}, None, None)


def test_a_lifted_cap_is_not_an_absent_one() -> None:
    assert overrides.read(text(spend_cap=None)).caps == {"operator": None}
    assert overrides.read(text(spend_cap={"amount": None, "by": "Ann"})).caps == {"operator": None}
    assert overrides.read(text(spend_cap="5", base_fee={"amount": "7", "reason": "r"}))[3:5] == (
        {"operator": Decimal(5)},
        Decimal(7),
    )
    assert overrides.read(text(base_fee="5")).caps == {}


def test_texts_written_before_they_could_say_more() -> None:
    said = overrides.read('{"limits":{"daily":{"max":null},"jobs":{"max":"3"}}}')
    assert said == ({"daily": None, "jobs": Decimal(3)}, {}, {}, {}, None, None)


def test_nothing_overridden_is_no_text() -> None:
    assert overrides.canonical({"limits": {}, "prices": []}) is None
    assert overrides.canonical({"spend_cap": None}) == '{"spend_cap":null}'


def test_each_ends_by_itself() -> None:
    said = text(
        limits={"daily": {"max": "1", "until": "2026-12-01T00:00:00Z"}, "jobs": {"max": "2"}},
        prices=[
            {"meter": "images", "scheme": "per_unit", "unit_price": "1", "until": "2026-12-01T00:00:01Z"},
            {"meter": "tokens", "scheme": "per_unit", "unit_price": "1"},
        ],
        spend_cap={"amount": "5", "until": "2026-12-01T00:00:02Z"},
        base_fee={"amount": "5", "until": "2026-12-01T00:00:03Z"},
    )
    ends: list[int] = []
    left: str | None = said
    while (end := overrides.read(left).ends) is not None and len(ends) < 5:
        assert overrides.without(left, end - 1) == left, "it binds to its last second"
        ends.append(end - DECEMBER)
        left = overrides.without(left, end)
    assert ends == [0, 1, 2, 3]
    assert left is not None
    assert json.loads(left) == {
        "limits": {"jobs": {"max": "2"}},
        "prices": [{"meter": "tokens", "scheme": "per_unit", "unit_price": "1"}],
    }
    assert overrides.without(said, DECEMBER + 3) == left, "whoever comes late drops them all"
    assert overrides.without(text(spend_cap={"amount": None, "until": UNTIL}), DECEMBER) is None
    assert overrides.without(None, DECEMBER) is None


def test_a_row_changes_at_the_first_of_what_is_to_come() -> None:
    ending = text(limits={"daily": {"max": "1", "until": UNTIL}})
    assert row().changes_at is None
    assert row(overrides=ending).changes_at == DECEMBER
    assert row(next_plan=NextPlan("free", 1, DECEMBER + 5)).changes_at == DECEMBER + 5
    assert row(next_plan=NextPlan("free", 1, DECEMBER + 5), overrides=ending).changes_at == DECEMBER
    assert row(next_plan=NextPlan("free", 1, DECEMBER - 5), overrides=ending).changes_at == DECEMBER - 5
    assert row(next_plan=NextPlan("free", 1, DECEMBER - 5), overrides=text(spend_cap=None)).changes_at == DECEMBER - 5


# -- what binds --------------------------------------------------------------------------------------------------------


def test_a_price_takes_the_place_of_the_plans() -> None:
    cheap = {"meter": "images", "scheme": "per_unit", "unit_price": "0.01", "until": UNTIL, "reason": "r", "by": "b"}
    found = rules(overrides=text(prices=[cheap], base_fee="19"))
    assert found.plan == replace(
        PRO, base_fee=Decimal(19), prices=(replace(IMAGES, unit_price=Decimal("0.01")), TOKENS)
    )
    assert (found.priced_meters(), found.covers("images")) == (frozenset({"images", "tokens"}), True)
    assert found.terms is not None
    assert found.terms.spend({0: Decimal(100), 1: Decimal(1000)}) == Decimal(2)
    assert rules().terms.spend({0: Decimal(100), 1: Decimal(1000)}) == Decimal(3)  # type: ignore[union-attr]
    assert found.counters == rules().counters


def test_a_negotiated_price_never_makes_a_free_plan_cost_money() -> None:
    said = text(prices=[{"meter": "images", "scheme": "per_unit", "unit_price": "1"}], spend_cap="5")
    found = rules(FREE, overrides=said)
    assert (found.plan.prices, found.terms) == ((), None)


def cap(found: Rules) -> tuple[Decimal, str] | None:
    assert found.terms is not None
    return None if found.terms.cap is None else (found.terms.cap.amount, found.terms.cap.source)


@pytest.mark.parametrize(
    ("said", "hard", "expected"),
    [
        ({}, None, ("60", "plan")),
        ({"spend_cap": "100"}, None, ("100", "operator")),
        ({"spend_cap": None}, None, None),
        ({}, "20", ("20", "customer")),
        ({}, "0", ("0", "customer")),
        ({}, "60", ("60", "plan")),
        ({}, "80", ("60", "plan")),
        ({"spend_cap": "100"}, "80", ("80", "customer")),
        ({"spend_cap": "50"}, "80", ("50", "operator")),
        ({"spend_cap": None}, "80", ("80", "customer")),
    ],
)
def test_the_lower_cap_binds_and_says_who_set_it(
    said: dict[str, Any], hard: str | None, expected: tuple[str, str] | None
) -> None:
    controls = Controls(hard_limit=None if hard is None else Decimal(hard))
    found = cap(rules(overrides=overrides.canonical(said), controls=controls))
    assert found == (None if expected is None else (Decimal(expected[0]), expected[1]))


@pytest.mark.parametrize(
    ("overage", "block", "stopped"),
    [
        ("on", None, None),
        ("on", False, None),
        ("on", True, "customer"),
        ("opt_in", None, "customer"),
        ("opt_in", False, None),
        ("opt_in", True, "customer"),
        ("off", None, "plan"),
        ("off", False, "plan"),
        ("off", True, "plan"),
    ],
)
def test_overage_is_never_more_allowed_than_by_the_plan(overage: str, block: bool | None, stopped: str | None) -> None:
    found = rules(replace(PRO, overage=overage), controls=Controls(block_overage=block))  # type: ignore[arg-type]
    assert found.terms is not None
    assert {funding.stopped_by for funding in found.terms.fundings.values()} == {stopped}


def member_cap(found: Rules) -> tuple[Decimal, str] | None:
    if found.member_terms is None or found.member_terms.cap is None:
        return None
    return found.member_terms.cap.amount, found.member_terms.cap.source


def test_a_members_money_limit() -> None:
    assert member_cap(rules()) == (Decimal(20), "plan")
    assert member_cap(rules(overrides=text(limits={"seat": {"amount": "5"}}))) == (Decimal(5), "operator")
    lifted = rules(overrides=text(limits={"seat": {"amount": None}}))
    assert (member_cap(lifted), [ruled.limit.id for ruled in lifted.limits]) == (None, ["daily"])


def test_a_limits_maximum() -> None:
    found = rules(overrides=text(limits={"daily": {"max": "5", "until": UNTIL}, "gone": {"max": "1"}}))
    assert [(ruled.maximum, ruled.source) for ruled in found.limits] == [(Decimal(5), "operator")]


# -- rows --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "controls",
    [
        Controls(),
        Controls(Decimal("0.10"), None, False),
        Controls(None, Decimal(0), None),
        Controls(Decimal(5), Decimal("999999999999999"), True),
        Controls(thresholds=()),
        Controls(None, Decimal(20), None, (1, 75, 1000)),
    ],
)
def test_controls_are_stored_with_the_row(controls: Controls) -> None:
    stored = row_item(row(controls=controls, overrides=text(spend_cap=None)))
    assert row_of(stored) == row(controls=controls, overrides=text(spend_cap=None))
    assert ("controls" in stored) == (controls != Controls()), "most accounts say nothing"
    if controls.thresholds is None and "controls" in stored:
        assert len(stored["controls"]["L"]) == 3, "as a release reads it that knows no thresholds"


# -- currencies --------------------------------------------------------------------------------------------------------

EURO = replace(PRO, id="euro", currency="eur")


def test_what_costs_money() -> None:
    assert not charges(FREE)
    for plan in (
        replace(FREE, prices=(IMAGES,)),
        replace(FREE, base_fee=Decimal(1)),
        replace(FREE, seats=Seats(Decimal(1))),
    ):
        assert charges(plan)
    assert not charges(replace(FREE, period=BillingPeriod("year")))


def test_amounts_stay_in_their_currency() -> None:
    said = text(
        limits={"daily": {"max": "1"}, "seat": {"amount": "5"}},
        prices=[{"meter": "images", "scheme": "per_unit", "unit_price": "1"}],
        spend_cap="5",
        base_fee="1",
    )
    before = row(overrides=said, controls=Controls(Decimal(5), None, False))
    assert in_currency(before, PRO, replace(EURO, currency="usd")) == before
    after = in_currency(before, PRO, EURO)
    assert (after.overrides, after.controls) == ('{"limits":{"daily":{"max":"1"}}}', Controls(block_overage=False))
    assert in_currency(row(overrides=text(spend_cap=None)), PRO, EURO).overrides is None


def test_a_hard_limit_that_no_currency_fits_leaves_overage_blocked() -> None:
    after = in_currency(row(controls=Controls(None, Decimal(20), False)), PRO, EURO)
    assert after.controls == Controls(block_overage=True)
