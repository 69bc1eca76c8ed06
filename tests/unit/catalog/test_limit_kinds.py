"""Limits of a member's money, of levels, and limits that accounts share."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.catalog.writing import PRICED, catalogue, refusals
from tollgate.catalog.frozen import plan_from_json, plan_to_json
from tollgate.catalog.model import Limit, Plan, SharedLimit, condition
from tollgate.catalog.notices import notices
from tollgate.catalog.schema import parse_catalog
from tollgate.windows import DAY, LIFETIME, MINUTE, WindowKind

MONEY = PRICED + "limits: [{id: a, per: member, amount: %s}]"


def plan(text: str, currency: str = "usd") -> Plan:
    """The plan as it is published and read back."""
    catalog = parse_catalog(catalogue(text, currency=currency))
    return plan_from_json(plan_to_json(catalog.plans["p"], catalog.meters.values())).plan


# --- a member's money ------------------------------------------------------------------------------------------------


def test_a_members_money() -> None:
    assert plan(MONEY % '"20.00"').limits == (Limit("a", (), "member", None, None, (), None, Decimal(20)),)


def test_it_stands_beside_limits_of_other_kinds() -> None:
    found = plan(
        PRICED + "limits: [{id: a, per: member, window: day, meter: m, max: 5}, {id: b, per: member, concurrent: 2}, "
        '{id: c, per: member, amount: "0.01"}]'
    ).limits
    assert [limit.amount for limit in found] == [None, None, Decimal("0.01")]


def test_its_amount_follows_the_currency() -> None:
    assert plan(MONEY % '"20.125"', "kwd").limits[0].amount == Decimal("20.125")
    assert (
        "cannot be charged in jpy" in refusals(catalogue(MONEY % '"20.5"', currency="jpy"))["plans.p.limits[0].amount"]
    )


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        (MONEY % "20", "limits[0].amount", 'write it as a string, in quotes: "20"'),
        (MONEY % '"0"', "limits[0].amount", "above 0"),
        (MONEY % '"0.00"', "limits[0].amount", "above 0"),
        (MONEY % '"-1"', "limits[0].amount", "plain decimal"),
        (MONEY % '"0.005"', "limits[0].amount", "cannot be charged in usd"),
        (MONEY % '"1", meter: m', "limits[0].meter", "remove it"),
        (MONEY % '"1", meters: [m]', "limits[0].meters", "remove it"),
        (MONEY % '"1", window: day', "limits[0].window", "remove it"),
        (MONEY % '"1", max: 5', "limits[0].max", "remove it"),
        (MONEY % '"1", concurrent: 5', "limits[0].concurrent", "remove it"),
        (MONEY % '"1", where: {model: x}', "limits[0].where", "remove it"),
        ('limits: [{id: a, per: member, amount: "1"}]', "limits[0].amount", "the plan has no `prices`"),
        (PRICED + 'limits: [{id: a, amount: "1"}]', "limits[0].per", "`spend_cap` is the account's"),
        (PRICED + 'limits: [{id: a, per: plan, amount: "1"}]', "limits[0].per", "write `per: member`"),
        (
            PRICED + 'limits: [{id: a, concurrent: 1}, {id: b, per: member, amount: "1"}, '
            '{id: c, per: member, amount: "2"}]',
            "limits[2].amount",
            "one money limit for members; the first is at [1]",
        ),
    ],
)
def test_a_mistake_in_a_money_limit(text: str, path: str, reason: str) -> None:
    found = refusals(catalogue(text))
    assert list(found) == [f"plans.p.{path}"]
    assert reason in found[f"plans.p.{path}"]


# --- levels ----------------------------------------------------------------------------------------------------------


def test_the_limit_of_a_level_has_no_window_that_ends() -> None:
    assert plan('limits: [{id: a, meter: disk, max: "50.5"}]').limits == (
        Limit("a", ("disk",), "account", LIFETIME, None, (), Decimal("50.5")),
    )


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        ("meter: disk, window: day, max: 1", "limits[0].window", "in no window: remove it"),
        ("meter: disk, window: lifetime, max: 1", "limits[0].window", "in no window: remove it"),
        ("meter: disk", "limits[0].max", "is required"),
        ("meter: disk, max: 1, concurrent: 1", "limits[0].concurrent", "a level is no reservation"),
        ("meter: disk, max: 1, where: {model: x}", "limits[0].where", "has no dimensions"),
        ("meter: disk, max: 1, per: member", "limits[0].per", "write `per: account`"),
        ("meter: disk, max: 1, per: plan", "limits[0].per", "write `per: account`"),
        ("meters: [disk, m], max: 1", "limits[0].meters", "counts one meter"),
        ("meters: [disk, tape], max: 1", "limits[0].meters", "counts one meter"),
        ("meters: [disk], meter: disk, max: 1", "limits[0]", "exactly one of `meter` and `meters`"),
        ("meter: m, max: 1", "limits[0]", "exactly one of `window` (with `max`), `concurrent` and `amount`"),
    ],
)
def test_a_mistake_in_the_limit_of_a_level(text: str, path: str, reason: str) -> None:
    found = refusals(catalogue(f"limits: [{{id: a, {text}}}]"))
    assert list(found) == [f"plans.p.{path}"]
    assert reason in found[f"plans.p.{path}"]


@pytest.mark.parametrize(
    ("meter", "path"),
    [
        ('{kind: level, weights: [{weight: "2"}]}', "meters.x.weights"),
        ('{kind: level, multipliers: [{factor: "2"}]}', "meters.x.multipliers"),
        ("{kind: level, rates: {file: a.csv, dimensions: [model]}}", "meters.x.rates"),
    ],
)
def test_a_level_is_not_weighed(meter: str, path: str) -> None:
    assert refusals(catalogue(meters=f"x: {meter}")) == {path: "a level is set as it is, not weighed: remove it"}


def test_nor_by_a_plan() -> None:
    found = refusals(catalogue('weights: {disk: [{weight: "2"}]}'))
    assert found == {"plans.p.weights.disk": "a level is set as it is, not weighed: remove it"}


def test_credits_do_not_pay_for_a_level() -> None:
    found = refusals(
        catalogue(
            'grants: [{meter: disk, units: 5, every: month}]\npacks: [{id: a, meter: disk, units: 5, price: "1"}]'
        )
    )
    assert set(found) == {"plans.p.grants[0].meter", "plans.p.packs[0].meter"}
    assert all("`disk` is a level" in reason for reason in found.values())


def test_a_level_has_a_price_like_any_meter() -> None:
    catalog = parse_catalog(catalogue('prices: [{meter: disk, scheme: per_unit, unit_price: "0.1"}]'))
    assert catalog.plans["p"].prices[0].meter == "disk"
    version = plan_from_json(plan_to_json(catalog.plans["p"], catalog.meters.values()))
    assert {meter.id: meter.kind for meter in version.meters.values()} == {
        "m": "sum",
        "whole": "sum",
        "disk": "level",
        "tape": "level",
    }


def test_no_other_kind_of_meter() -> None:
    assert list(refusals(catalogue(meters="x: {kind: peak}"))) == ["meters.x.kind"]


# --- limits that accounts share --------------------------------------------------------------------------------------


def test_shared_limits_stand_apart_from_those_of_an_account() -> None:
    found = plan(
        """
        limits:
          - {id: own, meter: m, window: day, max: 10}
          - {id: all, meters: [whole, m], per: plan, window: lifetime, max: "1000.5"}
          - {id: address, meter: m, per: "dimension:ip", window: minute, max: 0, where: {model: ["b-*", a]}}
        """
    )
    assert [limit.id for limit in found.limits] == ["own"]
    assert found.shared_limits == (
        SharedLimit("all", ("m", "whole"), LIFETIME, (), Decimal("1000.5")),
        SharedLimit("address", ("m",), MINUTE, condition({"model": ["a", "b-*"]}), Decimal(0), "ip"),
    )
    assert [limit.per for limit in found.shared_limits] == ["plan", "dimension:ip"]


def test_every_window_that_accounts_have_in_common() -> None:
    for name in ("minute", "hour", "day", "week", "month", "lifetime"):
        (limit,) = plan(f"limits: [{{id: a, meter: m, per: plan, window: {name}, max: 1}}]").shared_limits
        assert limit.window == WindowKind(name)
    assert plan("limits: [{id: a, meter: m, per: 'dimension:a b:c', window: day, max: 1}]").shared_limits == (
        SharedLimit("a", ("m",), DAY, (), Decimal(1), "a b:c"),
    )


@pytest.mark.parametrize("per", ["plan", "'dimension:ip'"])
@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        ("meter: m, window: period, max: 1", "limits[0].window", "no such window in common"),
        ("meter: m, window: {hours: 5, starts: first_use}, max: 1", "limits[0].window", "no such window in common"),
        ("meter: m, window: day", "limits[0].max", "is required"),
        ("meter: m, max: 1", "limits[0]", "exactly one of `window`"),
        ("window: day, max: 1", "limits[0]", "exactly one of `meter` and `meters`"),
        ("meters: [m, m], window: day, max: 1", "limits[0].meters[1]", "given twice"),
        ("meter: n, window: day, max: 1", "limits[0].meter", "no meter `n`"),
        ("concurrent: 1", "limits[0].per", "for an account or a member"),
    ],
)
def test_a_mistake_in_a_shared_limit(per: str, text: str, path: str, reason: str) -> None:
    found = refusals(catalogue(f"limits: [{{id: a, per: {per}, {text}}}]"))
    assert list(found) == [f"plans.p.{path}"]
    assert reason in found[f"plans.p.{path}"]


@pytest.mark.parametrize("per", ["dimension", "'dimension:'", f"'dimension:{'x' * 41}'", "Plan", "ip"])
def test_no_other_sharing(per: str) -> None:
    found = refusals(catalogue(f"limits: [{{id: a, per: {per}, meter: m, window: day, max: 1}}]"))
    assert list(found) == ["plans.p.limits[0].per"]
    assert "account, member, plan or dimension:<name>" in found["plans.p.limits[0].per"]


def test_ids_are_unique_across_own_and_shared_limits() -> None:
    text = "limits: [{id: a, concurrent: 1}, {id: a, meter: m, per: plan, window: day, max: 1}]"
    assert list(refusals(catalogue(text))) == ["plans.p.limits[1].id"]


# --- what is said about them -----------------------------------------------------------------------------------------


def test_packs_and_limits_of_every_kind_have_no_notice() -> None:
    text = """
    packs: [{id: small, meter: m, units: 5, price: "1"}]
    limits:
      - {id: everyone, meter: m, per: plan, window: day, max: 1}
      - {id: money, per: member, amount: "20"}
    """
    said = notices(parse_catalog(catalogue(PRICED + "\n" + "\n".join(line[4:] for line in text.splitlines()))))
    assert said == []


def test_a_level_does_not_change_the_seats_on_a_subscription_yet() -> None:
    text = "    seats: {unit_price: '9', meter: disk}"
    (said,) = notices(parse_catalog(catalogue(text)))
    assert said.startswith("plans.p.seats.meter: the seats on the subscription are billed")


@pytest.mark.parametrize("promise", ['spend_cap: "5"', 'limits: [{id: money, per: member, amount: "20"}]'])
def test_caps_on_spend_are_not_about_levels(promise: str) -> None:
    prices = """
    prices:
      - {meter: m, scheme: per_unit, unit_price: "1"}
      - {meter: disk, scheme: per_unit, unit_price: "1"}
    """
    said = "plans.p.prices[1]: what the level `disk` costs comes on top of every cap on spend."
    assert notices(parse_catalog(catalogue(f"    {promise}\n{prices}"))) == [said]
    assert notices(parse_catalog(catalogue(prices))) == []
