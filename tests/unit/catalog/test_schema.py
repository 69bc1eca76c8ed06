"""Reading catalog.yaml: what loads, what is refused and how it is said."""

from __future__ import annotations

import json
import textwrap
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tollgate.catalog.frozen import plan_from_json, plan_to_json
from tollgate.catalog.model import Limit, Price, Seats, Tier, condition, units
from tollgate.catalog.schema import CatalogError, json_schema, load_catalog, notices, parse_catalog
from tollgate.windows import DAY, PERIOD, WindowKind

ROOT = Path(__file__).parents[3]
CATALOG = ROOT / "catalog.yaml"
SCHEMA = ROOT / "catalog.schema.json"

DESIGNED = """
currency: usd
default_plan: free
meters:
  ai_credits:
    name: AI credits
    unit: credit
    stripe_event_name: ai_credits
    weights:
      - {when: {operation: image}, weight: "5"}
      - {when: {operation: chat, model: "small-*"}, weight: "0.001"}
    multipliers: [{when: {quality: hd}, factor: "2"}]
plans:
  free:
    name: Free
    limits:
      - {id: daily, meter: ai_credits, per: account, window: day, max: 10}
      - {id: jobs, per: member, concurrent: 3}
  pro:
    name: Pro
    base_fee: "29.00"
    period: {interval: month, anchor: signup}
    prices:
      - meter: ai_credits
        scheme: graduated
        tiers:
          - {up_to: 1000000, unit_price: "0"}
          - {up_to: inf, unit_price: "0.000005", flat: "0"}
    overage: on
    spend_cap: "60.00"
    grants: [{meter: ai_credits, units: 1500, every: month, rollover_max: 3000, priority: 10}]
    limits:
      - {id: premium, meter: ai_credits, per: member, window: day, where: {model: premium}, max: 50}
      - {id: burst, meters: [ai_credits], per: account, window: {hours: 5, starts: first_use}, max: 400000}
    features: {private_mode: true}
"""


def catalogue(plan: str = "", meter: str = "stripe_event_name: m", top: str = "") -> str:
    """A small catalogue around the lines of one plan `p` and one meter `m`."""
    return (
        "currency: usd\ndefault_plan: p\n"
        + textwrap.dedent(top).strip("\n")
        + "\nmeters:\n  m:\n"
        + textwrap.indent(textwrap.dedent(meter).strip("\n"), "    ")
        + "\nplans:\n  p:\n    name: P\n"
        + textwrap.indent(textwrap.dedent(plan).strip("\n"), "    ")
        + "\n"
    )


def refusals(text: str) -> dict[str, str]:
    """Path -> reason of everything wrong with a catalogue."""
    with pytest.raises(CatalogError) as refused:
        parse_catalog(text)
    return {problem.path: problem.reason for problem in refused.value.problems}


def limits(text: str) -> tuple[Limit, ...]:
    return parse_catalog(catalogue(f"limits: [{text}]")).plans["p"].limits


# --- what loads ------------------------------------------------------------------------------------------------------


def test_the_designed_sample_loads() -> None:
    catalog = parse_catalog(DESIGNED)
    assert (catalog.currency, catalog.default_plan, catalog.auto_create_accounts) == ("usd", "free", True)
    assert list(catalog.plans) == ["free", "pro"]
    meter = catalog.meters["ai_credits"]
    assert (meter.name, meter.unit, meter.scale, meter.stripe_event_name) == ("AI credits", "credit", 6, "ai_credits")
    assert units(meter, Decimal(2000), {"operation": "chat", "model": "small-1", "quality": "hd"}) == 4
    assert catalog.plans["free"].limits == (
        Limit("daily", ("ai_credits",), "account", DAY, None, (), Decimal(10)),
        Limit("jobs", (), "member", None, 3, (), None),
    )
    pro = catalog.plans["pro"]
    assert (pro.version, pro.base_fee, pro.spend_cap, pro.overage) == (0, Decimal(29), Decimal(60), "on")
    assert (pro.period.interval, pro.period.anchor) == ("month", "signup")
    assert pro.prices == (
        Price(
            "ai_credits",
            "graduated",
            tiers=(
                Tier(Decimal(1000000), Decimal(0), Decimal(0)),
                Tier(None, Decimal("0.000005"), Decimal(0)),
            ),
        ),
    )
    assert pro.limits == (
        Limit("premium", ("ai_credits",), "member", DAY, None, condition({"model": "premium"}), Decimal(50)),
        Limit("burst", ("ai_credits",), "account", WindowKind.first_use(5), None, (), Decimal(400000)),
    )
    grant = pro.grants[0]
    assert (grant.units, grant.every) == (Decimal(1500), "month")
    assert (grant.rollover_max, grant.priority) == (Decimal(3000), 10)
    assert pro.features == {"private_mode": True}


def test_the_committed_catalogue_loads_and_freezes() -> None:
    catalog = load_catalog(CATALOG)
    assert list(catalog.plans) == ["free", "pro", "team"]
    assert set(catalog.meters) == {"ai_credits", "llm_tokens", "storage"}
    assert [limit.id for limit in catalog.plans["free"].limits] == ["daily", "jobs"]
    assert [limit.id for limit in catalog.plans["pro"].limits] == ["premium", "burst"]
    for plan in catalog.plans.values():
        version = plan_from_json(plan_to_json(plan, catalog.meters.values()))
        assert version.plan.limits == plan.limits
    team = plan_from_json(plan_to_json(catalog.plans["team"], catalog.meters.values()))
    assert units(team.meters["ai_credits"], Decimal(1), {"operation": "video"}) == 15
    assert units(catalog.meters["ai_credits"], Decimal(1), {"operation": "video"}) == 20


def test_little_is_enough() -> None:
    catalog = parse_catalog("{currency: eur, default_plan: p, meters: {m: {}}, plans: {p: {}}}")
    assert catalog.meters["m"].stripe_event_name is None
    assert (catalog.meters["m"].name, catalog.plans["p"].name) == ("m", "p")


def test_every_window() -> None:
    names = ["minute", "hour", "day", "week", "month", "period", "lifetime"]
    for name in names:
        (limit,) = limits(f"{{id: a, meter: m, window: {name}, max: 1}}")
        assert limit.window == WindowKind(name)
    (limit,) = limits("{id: a, meter: m, window: {starts: first_use, hours: 24}, max: 1}")
    assert limit.window == WindowKind.first_use(24)
    assert PERIOD.text in names


def test_amounts_may_be_integers_or_decimal_strings() -> None:
    found = limits('{id: a, meter: m, window: day, max: 1_000}, {id: b, meter: m, window: day, max: "0.5"}')
    assert [limit.max for limit in found] == [Decimal(1000), Decimal("0.5")]


def test_a_condition_may_list_values() -> None:
    (limit,) = limits("{id: a, meter: m, window: day, max: 1, where: {model: [b, a, 'c*'], at: x}}")
    assert limit.where == (("at", ("x",)), ("model", ("a", "b", "c*")))


def test_the_meters_of_a_limit_are_sorted() -> None:
    text = "{currency: usd, default_plan: p, meters: {b: {}, a: {}}, plans: {p: {limits: [%s]}}}"
    catalog = parse_catalog(text % "{id: x, meters: [b, a], window: day, max: 1}")
    assert catalog.plans["p"].limits[0].meters == ("a", "b")


@pytest.mark.parametrize(
    ("written", "read"),
    [("on", "on"), ("off", "off"), ("true", "on"), ("'on'", "on"), ('"off"', "off"), ("opt_in", "opt_in")],
)
def test_overage_reads_the_booleans_that_yaml_makes_of_on_and_off(written: str, read: str) -> None:
    assert parse_catalog(catalogue(f"overage: {written}")).plans["p"].overage == read


def test_anchors_and_merges() -> None:
    text = catalogue(
        """
        limits:
          - {<<: *base, id: a}
          - {<<: *base, id: b, max: 9}
        """,
        top="x-anchors: {base: &base {meter: m, window: day, max: 5}}",
    )
    assert [limit.max for limit in parse_catalog(text).plans["p"].limits] == [Decimal(5), Decimal(9)]


@pytest.mark.parametrize(
    ("price", "read"),
    [
        ('{meter: m, scheme: per_unit, unit_price: "0.02"}', Price("m", "per_unit", unit_price=Decimal("0.02"))),
        (
            '{meter: m, scheme: package, package_size: 1000, package_price: "0.04"}',
            Price("m", "package", package_size=Decimal(1000), package_price=Decimal("0.04"), round="up"),
        ),
        (
            '{meter: m, scheme: package, package_size: "0.5", package_price: "1", round: down}',
            Price("m", "package", package_size=Decimal("0.5"), package_price=Decimal(1), round="down"),
        ),
        (
            "{meter: m, scheme: volume, "
            'tiers: [{up_to: "9.5", unit_price: "2", flat: "3"}, {up_to: inf, unit_price: "1"}]}',
            Price(
                "m",
                "volume",
                tiers=(Tier(Decimal("9.5"), Decimal(2), Decimal(3)), Tier(None, Decimal(1), Decimal(0))),
            ),
        ),
    ],
)  # fmt: skip
def test_every_price_scheme(price: str, read: Price) -> None:
    assert parse_catalog(catalogue(f"prices: [{price}]")).plans["p"].prices == (read,)


def test_minimum_maximum_markup_and_seats() -> None:
    plan = parse_catalog(
        catalogue(
            """
            seats: {unit_price: "20", minimum: 3, pooled: false}
            prices:
              - {meter: m, scheme: per_unit, unit_price: "1", minimum: "5", maximum: "50.50", markup: "7.5",
                 included_per_seat: 100}
            """
        )
    ).plans["p"]
    assert plan.seats == Seats(Decimal(20), 3, False)
    assert plan.prices == (
        Price(
            "m",
            "per_unit",
            unit_price=Decimal(1),
            minimum=Decimal(5),
            maximum=Decimal("50.5"),
            markup=Decimal("7.5"),
            included_per_seat=Decimal(100),
        ),
    )


def test_a_price_may_be_fixed_from_both_sides() -> None:
    price = parse_catalog(catalogue(ONE_CENT % 'minimum: "5", maximum: "5"')).plans["p"].prices[0]
    assert price.minimum == price.maximum == Decimal(5)


def test_seats_need_but_a_price() -> None:
    assert parse_catalog(catalogue('seats: {unit_price: "9"}')).plans["p"].seats == Seats(Decimal(9), 0, True)


def test_amounts_follow_the_currency() -> None:
    dinar = catalogue('base_fee: "1.005"\n' + ONE_CENT % 'minimum: "5.005"').replace("usd", "kwd")
    assert parse_catalog(dinar).plans["p"].prices[0].minimum == Decimal("5.005")
    yen = catalogue('base_fee: "1.5"\n' + ONE_CENT % 'minimum: "5.5", maximum: "50"').replace("usd", "jpy")
    assert set(refusals(yen)) == {"plans.p.base_fee", "plans.p.prices[0].minimum"}


# --- what is refused -------------------------------------------------------------------------------------------------

IN_QUOTES = "write it as a string, in quotes"
ONE_CENT = 'prices: [{meter: m, scheme: per_unit, unit_price: "0.01", %s}]'


@pytest.mark.parametrize(
    ("plan", "path", "reason"),
    [
        ("base_fee: 29.5", "base_fee", f'{IN_QUOTES}: "29.5"'),
        ("base_fee: 29", "base_fee", f'{IN_QUOTES}: "29"'),
        ("base_fee: true", "base_fee", "decimal string"),
        ('base_fee: "-1"', "base_fee", "plain decimal"),
        ('base_fee: "1e3"', "base_fee", "plain decimal"),
        ('base_fee: "NaN"', "base_fee", "plain decimal"),
        ('base_fee: "29.005"', "base_fee", "cannot be charged in usd"),
        ('spend_cap: "1.0000000000001"', "spend_cap", "at most 12 places"),
        ('spend_cap: "1000000000000000000"', "spend_cap", "at most 18 digits"),
        ("overage: maybe", "overage", "'on', 'off' or 'opt_in'"),
        ("colour: red", "colour", "unknown field"),
        ("period: {interval: fortnight}", "period.interval", "'month' or 'year'"),
        ("period: month", "period", "must be a mapping"),
        ("features: {a: 1.5}", "features.a", IN_QUOTES),
        ("features: {a: [x]}", "features.a", "true, false, a whole number or a string"),
        ("public: 1", "public", "true or false"),
        ("weights: {n: []}", "weights.n", "no meter `n` in this file; it has m"),
        ("weights: {m: [{weight: 0.5}]}", "weights.m[0].weight", f'{IN_QUOTES}: "0.5"'),
        # grants
        ("grants: [{meter: n, units: 5}]", "grants[0].meter", "no meter `n`"),
        ("grants: [{meter: m, units: 0}]", "grants[0].units", "above 0"),
        ("grants: [{meter: m, units: 5, every: once, rollover_max: 5}]", "grants[0].rollover_max", "nothing over"),
        # prices
        ('prices: [{meter: n, scheme: per_unit, unit_price: "1"}]', "prices[0].meter", "no meter `n`"),
        ("prices: [{meter: m, scheme: per_unit, unit_price: 0.1}]", "prices[0].unit_price", f'{IN_QUOTES}: "0.1"'),
        ("prices: [{meter: m, scheme: per_unit}]", "prices[0].unit_price", "is required"),
        ("prices: [{meter: m}]", "prices[0]", "`scheme` is required"),
        ("prices: [{meter: m, scheme: stairs}]", "prices[0]", "`scheme` must be"),
        ("prices: [{meter: m, scheme: volume, tiers: []}]", "prices[0].tiers", "at least 1"),
        ('prices: [{meter: m, scheme: per_unit, unit_price: "1", tiers: []}]', "prices[0].tiers", "unknown field"),
        (
            'prices: [{meter: m, scheme: package, package_size: 0, package_price: "1"}]',
            "prices[0].package_size",
            "above 0",
        ),
        (
            'prices: [{meter: m, scheme: per_unit, unit_price: "1"}, {meter: m, scheme: per_unit, unit_price: "2"}]',
            "prices[1].meter",
            "given twice, first at [0]",
        ),
        (
            'prices: [{meter: m, scheme: graduated, tiers: [{up_to: 10, unit_price: "1"}]}]',
            "prices[0].tiers[0].up_to",
            "the last tier goes up to inf",
        ),
        (
            "prices: [{meter: m, scheme: volume, "
            'tiers: [{up_to: inf, unit_price: "1"}, {up_to: inf, unit_price: "1"}]}]',
            "prices[0].tiers[0].up_to",
            "only the last",
        ),
        (
            "prices: [{meter: m, scheme: graduated, tiers: "
            '[{up_to: 10, unit_price: "1"}, {up_to: 10, unit_price: "1"}, {up_to: inf, unit_price: "1"}]}]',
            "prices[0].tiers[1].up_to",
            "must be above 10",
        ),
        (
            'prices: [{meter: m, scheme: graduated, tiers: [{up_to: .inf, unit_price: "1"}]}]',
            "prices[0].tiers[0].up_to",
            "without a dot",
        ),
        (
            'prices: [{meter: m, scheme: volume, tiers: [{up_to: "0.0000001", unit_price: "1"}, '
            '{up_to: inf, unit_price: "1"}]}]',
            "prices[0].tiers[0].up_to",
            "counts 6 decimal places",
        ),
        # minimum, maximum, markup, seats
        (ONE_CENT % "minimum: 5", "prices[0].minimum", f'{IN_QUOTES}: "5"'),
        (ONE_CENT % 'minimum: "5.005"', "prices[0].minimum", "cannot be charged in usd, which has 2 decimal places"),
        (ONE_CENT % 'maximum: "5.005"', "prices[0].maximum", "cannot be charged in usd"),
        (ONE_CENT % 'minimum: "5", maximum: "4.99"', "prices[0].maximum", "at least the minimum, 5"),
        (ONE_CENT % 'markup: "-10"', "prices[0].markup", "plain decimal"),
        (ONE_CENT % "markup: 10%", "prices[0].markup", "plain decimal"),
        (ONE_CENT % 'markup: "0.00000000001"', "prices[0].unit_price", "with the markup it is 0.010000000000001"),
        (ONE_CENT % 'maximum: ""', "prices[0].maximum", "plain decimal"),
        (ONE_CENT % "included_per_seat: 5", "prices[0].included_per_seat", "the plan has no `seats`"),
        (ONE_CENT % "included_per_seat: 0", "prices[0].included_per_seat", "above 0"),
        (
            ONE_CENT % 'included_per_seat: "0.0000001"' + '\nseats: {unit_price: "1"}',
            "prices[0].included_per_seat",
            "meter `m` counts 6 decimal places",
        ),
        (
            'prices: [{meter: m, scheme: graduated, tiers: [{up_to: inf, unit_price: "1", flat: "0.005"}]}]',
            "prices[0].tiers[0].flat",
            "cannot be charged in usd",
        ),
        (
            'prices: [{meter: m, scheme: graduated, markup: "5", '
            'tiers: [{up_to: inf, unit_price: "1", flat: "0.10"}]}]',
            "prices[0].tiers[0].flat",
            "with the markup it is 0.105, which cannot be charged in usd",
        ),
        (
            'prices: [{meter: m, scheme: package, package_size: 3, package_price: "0.000000000001", markup: "0.5"}]',
            "prices[0].package_price",
            "more than the 14 decimal places",
        ),
        ("seats: {}", "seats.unit_price", "is required"),
        ("seats: {unit_price: 20}", "seats.unit_price", f'{IN_QUOTES}: "20"'),
        ('seats: {unit_price: "20", minimum: -1}', "seats.minimum", "greater than or equal to 0"),
        ('seats: {unit_price: "20", minimum: "3"}', "seats.minimum", "whole number"),
        ('seats: {unit_price: "20", pooled: 1}', "seats.pooled", "true or false"),
        ('seats: {unit_price: "20", maximum: 5}', "seats.maximum", "unknown field"),
        ("seats: 5", "seats", "must be a mapping"),
        # limits
        ("limits: [{id: a, meter: n, window: day, max: 1}]", "limits[0].meter", "no meter `n`"),
        ("limits: [{id: a, meters: [m, n], window: day, max: 1}]", "limits[0].meters[1]", "no meter `n`"),
        ("limits: [{id: a, meters: [m, m], window: day, max: 1}]", "limits[0].meters[1]", "given twice"),
        ("limits: [{id: a, meters: [], window: day, max: 1}]", "limits[0].meters", "at least 1"),
        ("limits: [{id: a, meter: m, meters: [m], window: day, max: 1}]", "limits[0]", "one of `meter` and `meters`"),
        ("limits: [{id: a, window: day, max: 1}]", "limits[0]", "one of `meter` and `meters`"),
        ("limits: [{id: a, meter: m, window: day}]", "limits[0].max", "is required"),
        ("limits: [{id: a, meter: m, window: day, max: 0.5}]", "limits[0].max", f'{IN_QUOTES}: "0.5"'),
        ("limits: [{id: a, meter: m, window: day, max: -1}]", "limits[0].max", "from 0"),
        ("limits: [{id: a, meter: m, window: day, max: 010}]", "limits[0].max", "plain decimal"),
        ("limits: [{id: a, meter: m, window: day, max: 10:30}]", "limits[0].max", "plain decimal"),
        ("limits: [{id: a, meter: m, window: day, max: true}]", "limits[0].max", "whole number"),
        ("limits: [{id: a, meter: m, max: 1}]", "limits[0]", "exactly one of `window`"),
        ("limits: [{id: a, window: day, concurrent: 1}]", "limits[0]", "exactly one of `window`"),
        ("limits: [{id: a, meter: m, concurrent: 1}]", "limits[0].meter", "every meter"),
        ("limits: [{id: a, concurrent: 1, max: 3}]", "limits[0].max", "remove it"),
        ("limits: [{id: a, concurrent: 1, where: {x: y}}]", "limits[0].where", "remove it"),
        ("limits: [{id: a, concurrent: 0}]", "limits[0].concurrent", "greater than or equal to 1"),
        ('limits: [{id: a, concurrent: "3"}]', "limits[0].concurrent", "whole number"),
        ("limits: [{id: a, meter: m, per: seat, window: day, max: 1}]", "limits[0].per", "account, member, plan or"),
        ("limits: [{id: a, meter: m, per: 5, window: day, max: 1}]", "limits[0].per", "write it in quotes"),
        ("limits: [{id: A, concurrent: 1}]", "limits[0].id", "an id has 1 to 64 characters"),
        ("limits: [{concurrent: 1}]", "limits[0].id", "is required"),
        ("limits: [{id: 5, concurrent: 1}]", "limits[0].id", "write it in quotes"),
        ("limits: [{id: a, concurrent: 1}, {id: a, concurrent: 2}]", "limits[1].id", "given twice, first at [0]"),
        ("limits: {id: a}", "limits", "must be a list"),
        ("limits: [{id: a, meter: m, window: daily, max: 1}]", "limits[0].window", "must be one of minute, hour, day"),
        ("limits: [{id: a, meter: m, window: {hours: 0, starts: first_use}, max: 1}]", "limits[0].window", "1 to 8784"),
        ("limits: [{id: a, meter: m, window: {hours: 5}, max: 1}]", "limits[0].window", "{hours: N, starts"),
        (
            'limits: [{id: a, meter: m, window: {hours: "5", starts: first_use}, max: 1}]',
            "limits[0].window",
            "whole number",
        ),
        ("limits: [{id: a, meter: m, window: day, max: 1, where: {model: 4}}]", "limits[0].where.model", "in quotes"),
        ("limits: [{id: a, meter: m, window: day, max: 1, where: {hd: no}}]", "limits[0].where.hd", "in quotes"),
        ("limits: [{id: a, meter: m, window: day, max: 1, where: {hd: []}}]", "limits[0].where.hd", "1 to 50"),
        ("limits: [{id: a, meter: m, window: day, max: 1, where: {on: x}}]", "limits[0].where.True", "in quotes"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_plan_is_named(plan: str, path: str, reason: str) -> None:
    found = refusals(catalogue(plan))
    assert list(found) == [f"plans.p.{path}"]
    assert reason in found[f"plans.p.{path}"]


@pytest.mark.parametrize(
    ("meter", "path", "reason"),
    [
        ("scale: 13", "scale", "less than or equal to 12"),
        ("scale: '2'", "scale", "whole number"),
        ("weights: [{when: {a: b}, weight: 0.5}]", "weights[0].weight", f'{IN_QUOTES}: "0.5"'),
        ("weights: [{when: {a: b}, weight: 5}]", "weights[0].weight", f'{IN_QUOTES}: "5"'),
        ("weights: [{when: {a: b}}]", "weights[0].weight", "is required"),
        ("multipliers: [{factor: 2}]", "multipliers[0].factor", f'{IN_QUOTES}: "2"'),
        ("stripe_event_name: ''", "stripe_event_name", "at least 1 character"),
        ("price: '1'", "price", "unknown field"),
    ],
)
def test_a_mistake_in_a_meter_is_named(meter: str, path: str, reason: str) -> None:
    found = refusals(catalogue(meter=meter))
    assert list(found) == [f"meters.m.{path}"]
    assert reason in found[f"meters.m.{path}"]


def test_a_priced_meter_needs_a_name_in_stripe() -> None:
    text = catalogue('prices: [{meter: m, scheme: per_unit, unit_price: "1"}]', meter="unit: token")
    assert refusals(text) == {"plans.p.prices[0].meter": "meter `m` has no stripe_event_name to bill it under"}


def test_two_meters_must_not_share_a_name_in_stripe() -> None:
    meters = "{a: {stripe_event_name: x}, b: {stripe_event_name: x}}"
    found = refusals(f"{{currency: usd, default_plan: p, plans: {{p: {{}}}}, meters: {meters}}}")
    assert list(found) == ["meters.b.stripe_event_name"]


@pytest.mark.parametrize(
    ("replace", "by", "path", "reason"),
    [
        ("currency: usd", "currency: USD", "currency", "lower-case currency code"),
        ("currency: usd", "", "currency", "is required"),
        ("default_plan: p", "default_plan: q", "default_plan", "no plan `q` in this file; it has p"),
        ("default_plan: p", "default_plan: p\nauto_create_accounts: 'yes'", "auto_create_accounts", "true or false"),
        ("default_plan: p", "default_plan: p\nextra: 1", "extra", "unknown field"),
        ("  m:\n", "  M:\n", "meters.M", "an id has"),
    ],
)
def test_a_mistake_at_the_top_is_named(replace: str, by: str, path: str, reason: str) -> None:
    assert reason in refusals(catalogue().replace(replace, by))[path]


def test_a_currency_without_cents_has_none_in_its_fees() -> None:
    assert refusals(catalogue('base_fee: "5.5"').replace("usd", "jpy")) == {
        "plans.p.base_fee": "cannot be charged in jpy, which has 0 decimal places"
    }
    assert parse_catalog(catalogue('base_fee: "5.125"').replace("usd", "kwd")).plans["p"].base_fee == Decimal("5.125")


def test_all_problems_come_at_once_with_their_lines() -> None:
    text = catalogue(
        """
        base_fee: 5.5
        limits:
          - {id: a, meter: m, window: day, max: 0.5}
          - {id: b, meter: m, window: noon, max: 1}
        """,
        meter="scale: 99",
    ).replace("default_plan: p", "default_plan: q")
    with pytest.raises(CatalogError) as refused:
        parse_catalog(text, "shop.yaml")
    found = {problem.path: problem.line for problem in refused.value.problems}
    lines = text.splitlines()
    assert set(found) == {
        "default_plan", "meters.m.scale", "plans.p.base_fee", "plans.p.limits[0].max", "plans.p.limits[1].window",
    }  # fmt: skip
    for path, line in found.items():
        field = path.rsplit(".", 1)[-1]
        assert line is not None
        assert field in lines[line - 1]
    message = str(refused.value)
    assert message.startswith("The catalogue has 5 problems; nothing was changed.\n  shop.yaml:2: default_plan: ")
    assert 'shop.yaml:12: plans.p.limits[0].max: write it as a string, in quotes: "0.5"' in message
    assert (refused.value.code, refused.value.status) == ("catalog_invalid", 422)


def test_plans_are_checked_together_with_mistakes_elsewhere() -> None:
    text = catalogue("limits: [{id: a, meter: n, window: day, max: 1}]", meter="scale: 99")
    assert set(refusals(text)) == {"meters.m.scale", "plans.p.limits[0].meter"}


# --- YAML ------------------------------------------------------------------------------------------------------------


def test_a_duplicate_key_is_refused_with_both_lines() -> None:
    with pytest.raises(CatalogError) as refused:
        parse_catalog(catalogue("overage: on\nunlimited: true\noverage: off"))
    (problem,) = refused.value.problems
    assert (problem.path, problem.line, problem.reason) == (
        "plans.p.overage", 12, "given twice; the first time on line 10",
    )  # fmt: skip


def test_a_merged_key_is_no_duplicate_but_two_own_keys_beside_it_are() -> None:
    text = catalogue(
        "limits: [{<<: *base, id: a, max: 2, max: 3}]", top="x-a: {b: &base {meter: m, window: day, max: 5}}"
    )
    assert list(refusals(text)) == ["plans.p.limits[0].max"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be a mapping"),
        ("- a\n- b\n", "must be a mapping"),
        ("currency: [usd\n", "not readable as YAML"),
        ("currency: usd\n\tmeters: {}\n", "not readable as YAML"),
        ("a: 1\n---\nb: 2\n", "not readable as YAML"),
        ("currency: !!python/object/apply:os.system [ls]\n", "not readable as YAML"),
        ("currency: \x00\n", "not readable as YAML"),
        ("meters: &m {m: *m}\n", "must not contain itself"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("a: &a [x,x,x,x,x,x,x,x,x,x]\n"
         + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcde", "bcdef", strict=True)),
         "more than 100000 values"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused_in_our_words(text: str, reason: str) -> None:
    assert any(reason in found for found in refusals(text).values())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"none\.yaml: cannot be read: No such file"):
        load_catalog(tmp_path / "none.yaml")


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("currency: ü".encode("latin-1"))
    with pytest.raises(CatalogError, match="is not UTF-8"):
        load_catalog(path)


# --- notices ---------------------------------------------------------------------------------------------------------


def test_what_stripe_bills_has_no_notice() -> None:
    assert notices(parse_catalog(DESIGNED)) == []


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (
            "prices: [{meter: m, scheme: package, package_size: 5, package_price: '1', maximum: '9'}]",
            "plans.p.prices[0]: is shown but cannot be billed through Stripe: Stripe has no minimum or maximum charge",
        ),
        (ONE_CENT % 'minimum: "0.34", markup: "10"', "plans.p.prices[0]: is shown but cannot be billed"),
    ],
)
def test_other_notices(plan: str, said: str) -> None:
    (notice,) = notices(parse_catalog(catalogue(plan)))
    assert notice.startswith(said)


def test_nothing_is_said_where_everything_is_enforced() -> None:
    text = catalogue(
        """
        overage: opt_in
        spend_cap: "5"
        prices: [{meter: m, scheme: per_unit, unit_price: "1"}]
        limits: [{id: a, meter: m, window: day, max: 1}, {id: b, per: member, amount: "2"}]
        base_fee: "29"
        seats: {unit_price: "9"}
        period: {anchor: subscription}
        packs: [{id: small, meter: m, units: 5, price: "1"}]
        """
    )
    assert notices(parse_catalog(text)) == []
    for more in ('minimum: "5"', 'markup: "5"', 'maximum: "7"'):
        assert notices(parse_catalog(catalogue(ONE_CENT % more))) == []


def test_units_of_single_seats_are_given() -> None:
    text = catalogue(
        """
        seats: {unit_price: "9", pooled: false}
        prices: [{meter: m, scheme: per_unit, unit_price: "1", included_per_seat: 5}]
        """
    )
    assert notices(parse_catalog(text)) == []


# --- JSON Schema -----------------------------------------------------------------------------------------------------


def schema_refuses(text: str) -> bool:
    validator = jsonschema.Draft202012Validator(json_schema())
    return not validator.is_valid(yaml.safe_load(text))


def test_the_committed_schema_is_the_models() -> None:
    wanted = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    assert SCHEMA.read_text(encoding="utf-8") == wanted, "write json_schema() to catalog.schema.json"


def test_the_schema_is_one_and_takes_the_catalogues() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert not schema_refuses(DESIGNED)
    assert not schema_refuses(CATALOG.read_text(encoding="utf-8"))
    assert not schema_refuses(catalogue(top="x-anything: [1.5]"))


def test_the_catalogue_names_its_schema_on_its_first_line() -> None:
    first = CATALOG.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema=./{SCHEMA.name}"


@pytest.mark.parametrize(
    "plan",
    [
        "base_fee: 29.5",
        "colour: red",
        "limits: [{id: a, meter: m, per: seat, window: day, max: 1}]",
        "limits: [{id: a, meter: m, per: 'dimension:', window: day, max: 1}]",
        "limits: [{id: a, per: member, amount: 20}]",
        'packs: [{id: a, meter: m, units: 0, price: "1"}]',
        'packs: [{id: a, meter: m, units: 1, price: "1", expires_days: 0}]',
        "overage: maybe",
        "limits: [{id: a, meter: m, window: noon, max: 1}]",
        "limits: [{id: a, meter: m, window: day, max: 0.5}]",
        "limits: [{id: a, meter: m, window: day, max: 1, where: {model: 4}}]",
        "prices: [{meter: m, scheme: per_unit}]",
        "prices: [{meter: m, scheme: stairs}]",
        'prices: [{meter: m, scheme: volume, tiers: [{up_to: infinite, unit_price: "1"}]}]',
    ],
)
def test_an_editor_sees_the_mistakes_of_one_field(plan: str) -> None:
    assert schema_refuses(catalogue(plan))
    assert refusals(catalogue(plan))


def test_the_schema_has_no_secret_freedom() -> None:
    def objects(node: Any) -> list[dict[str, Any]]:
        if isinstance(node, list):
            return [found for entry in node for found in objects(entry)]
        if not isinstance(node, dict):
            return []
        own = [node] if "properties" in node and node.get("type") == "object" else []
        return own + [found for entry in node.values() for found in objects(entry)]

    found = objects(json_schema())
    assert len(found) >= 13
    assert all(entry["additionalProperties"] is False for entry in found)
