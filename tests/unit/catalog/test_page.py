"""The sentence and the worked examples of a pricing page."""

from __future__ import annotations

import textwrap
from decimal import Decimal

import pytest
from hypothesis import given

from tests.unit.rating.making import prices
from tollgate.catalog.examples import LEVELS, Example, examples
from tollgate.catalog.model import Catalog, Meter, Plan, Price
from tollgate.catalog.page import sentence
from tollgate.catalog.schema import parse_catalog
from tollgate.catalog.wording import Noun, money, noun, number, plural, rate
from tollgate.rating.bill import bill

METERS = """
  m: {name: Messages, unit: message, stripe_event_name: m}
  c: {name: AI credits, unit: credit, stripe_event_name: c}
  i: {name: Input tokens, unit: token, stripe_event_name: i}
  o: {name: Output tokens, unit: token, stripe_event_name: o}
  d: {name: Storage, unit: GB, kind: level, stripe_event_name: d}
"""
FREE_100 = (
    'prices: [{meter: m, scheme: graduated, tiers: [{up_to: 100, unit_price: "0"}, {up_to: inf, unit_price: "0.02"}]}]'
)
MILLION = """
prices:
  - meter: c
    scheme: graduated
    tiers: [{up_to: 1000000, unit_price: "0"}, {up_to: inf, unit_price: "0.000005"}]
"""
STAIRS = '[{up_to: 5, unit_price: "7", flat: "10"}, {up_to: 10, unit_price: "6.50"}, {up_to: inf, unit_price: "6"}]'


def catalogue(plan: str, currency: str = "usd") -> Catalog:
    body = textwrap.indent(textwrap.dedent(plan).strip("\n"), "    ")
    return parse_catalog(f"currency: {currency}\ndefault_plan: p\nmeters:{METERS}plans:\n  p:\n    name: P\n{body}\n")


def said(plan: str, currency: str = "usd") -> str:
    catalog = catalogue(plan, currency)
    return sentence(catalog.plans["p"], catalog.meters, currency)


def worked(plan: str, currency: str = "usd") -> list[Example]:
    catalog = catalogue(plan, currency)
    return examples(catalog.plans["p"], catalog.meters, currency)


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (FREE_100 + '\nspend_cap: "20"', "First 100 messages free, then $0.02 each, capped at $20/month"),
        (
            FREE_100 + '\nspend_cap: "20"\nperiod: {interval: year}',
            "First 100 messages free, then $0.02 each, capped at $20/year",
        ),
        ('base_fee: "3"\n' + FREE_100, "$3/month with 100 messages included, then $0.02 each"),
        (
            'base_fee: "29.00"\nspend_cap: "60"' + MILLION,
            "$29/month with 1,000,000 credits included, then $5 per 1,000,000, usage capped at $60/month",
        ),
        (
            'prices: [{meter: m, scheme: graduated, tiers: [{up_to: 100, unit_price: "0"}, '
            '{up_to: 500, unit_price: "0.010"}, {up_to: inf, unit_price: "0.007"}]}]',
            "First 100 messages free, then $0.01 each up to 500, then $0.007 each",
        ),
        (
            'prices: [{meter: i, scheme: package, package_size: 1000, package_price: "0.04"}]',
            "$0.04 per started 1,000 tokens",
        ),
        (
            'base_fee: "5"\nprices: [{meter: i, scheme: package, package_size: 1, package_price: "2", round: down}]',
            "$5/month plus $2 per full token",
        ),
        ('prices: [{meter: m, scheme: per_unit, unit_price: "0.5"}]', "$0.50 per message"),
        ('prices: [{meter: m, scheme: per_unit, unit_price: "0.5", markup: "10"}]', "$0.55 per message"),
        ('prices: [{meter: m, scheme: per_unit, unit_price: "0"}]', "Unlimited messages free"),
        (
            'prices: [{meter: i, scheme: per_unit, unit_price: "0.000003"}, '
            '{meter: o, scheme: per_unit, unit_price: "0.015"}]\nspend_cap: "100"',
            "$3 per 1,000,000 input tokens; $0.015 each for output tokens; capped at $100/month",
        ),
        (
            f"prices: [{{meter: m, scheme: graduated, tiers: {STAIRS}}}]",
            "First 5 messages $10 flat and $7 each, then $6.50 each up to 10, then $6 each",
        ),
        (
            f"prices: [{{meter: m, scheme: volume, tiers: {STAIRS}}}]",
            "One price for all messages: $10 flat and $7 each up to 5, $6.50 each up to 10, $6 each above",
        ),
        (
            'prices: [{meter: m, scheme: volume, tiers: [{up_to: 5, unit_price: "0"}, {up_to: inf, unit_price: "6"}]}]',
            "One price for all messages: free up to 5, $6 each above",
        ),
        (
            'prices: [{meter: m, scheme: graduated, tiers: [{up_to: 5, unit_price: "0", flat: "9"}, '
            '{up_to: inf, unit_price: "0"}]}]',
            "$9 flat for any number of messages",
        ),
        (
            'prices: [{meter: m, scheme: graduated, tiers: [{up_to: 5, unit_price: "1"}, {up_to: 9, unit_price: "1"}, '
            '{up_to: inf, unit_price: "2"}]}]',
            "First 9 messages $1 each, then $2 each",
        ),
        (
            'seats: {unit_price: "20", minimum: 3}\nbase_fee: "10"\n'
            'prices: [{meter: m, scheme: per_unit, unit_price: "0.5", included_per_seat: 100, minimum: "5"}]',
            "$10/month plus $20/month per seat (3 at least) with 100 messages per seat included, then $0.50 each, "
            "at least $5/month",
        ),
        ('seats: {unit_price: "20"}', "$20/month per seat"),
        ("overage: off\n" + FREE_100, "First 100 messages free"),
        ('overage: off\nbase_fee: "9"\n' + FREE_100, "$9/month with 100 messages included"),
        (
            'overage: off\nprices: [{meter: m, scheme: graduated, tiers: [{up_to: 5, unit_price: "0"}, '
            '{up_to: 9, unit_price: "1"}, {up_to: inf, unit_price: "0"}]}]',
            "First 5 messages free",
        ),
        (
            'prices: [{meter: m, scheme: graduated, tiers: [{up_to: 5, unit_price: "1"}, '
            '{up_to: inf, unit_price: "1", flat: "3"}]}]',
            "First 5 messages $1 each, then $3 flat and $1 each",
        ),
        ("overage: opt_in\n" + FREE_100, "First 100 messages free, then, if switched on, $0.02 each"),
        ('overage: opt_in\nprices: [{meter: m, scheme: per_unit, unit_price: "1"}]', "If switched on, $1 per message"),
        (
            'overage: off\nbase_fee: "9"\nprices: [{meter: c, scheme: per_unit, unit_price: "1"}]\n'
            "grants: [{meter: c, units: 1500, every: month}]",
            "$9/month, plus 1,500 credits each month",
        ),
        ("limits: [{id: a, meter: c, window: day, max: 10}]", "Free, up to 10 credits a day"),
        ("limits: [{id: a, meter: c, window: day, max: 1}]", "Free, up to 1 credit a day"),
        (
            "limits: [{id: a, meter: c, window: hour, max: 10}, "
            "{id: b, meter: m, per: member, window: lifetime, max: 5}, {id: d, concurrent: 3}, "
            "{id: e, meter: m, window: day, max: 5, where: {x: y}}]",
            "Free, up to 10 credits an hour and 5 messages per member in all",
        ),
        (
            "limits: [{id: a, meters: [i, o], window: {hours: 5, starts: first_use}, max: 9}]",
            "Free, up to 9 input tokens and output tokens in 5 hours",
        ),
        ("limits: [{id: a, meter: c, window: period, max: 1000}]", "Free, up to 1,000 credits a month"),
        ("unlimited: true", "Free, unlimited"),
        ("unlimited: false", "Free"),
        ('base_fee: "290"\nperiod: {interval: year}', "$290/year"),
        # packs
        (
            "overage: off\nlimits: [{id: a, meter: c, window: day, max: 10}]\n"
            'prices: [{meter: c, scheme: per_unit, unit_price: "1"}]\n'
            'packs: [{id: a, meter: c, units: 500, price: "9.50"}, {id: b, meter: c, units: 2000, price: "30"}]',
            "Packs of 500 credits for $9.50 and of 2,000 credits for $30, up to 10 credits a day",
        ),
        (
            'packs: [{id: a, meter: c, units: 1, price: "1"}, {id: b, meter: m, units: 2, price: "2"}, '
            '{id: d, meter: c, units: 3, price: "3"}]',
            "Free, extra packs of 1 credit for $1, of 2 messages for $2 and of 3 credits for $3",
        ),
        (
            'base_fee: "15"\noverage: off\nprices: [{meter: c, scheme: per_unit, unit_price: "1"}]\n'
            'grants: [{meter: c, units: 500, every: month}]\npacks: [{id: a, meter: c, units: 500, price: "20"}]',
            "$15/month, plus 500 credits each month, extra packs of 500 credits for $20",
        ),
        (
            'overage: off\nprices: [{meter: c, scheme: per_unit, unit_price: "1"}]\n'
            'grants: [{meter: c, units: 5, every: month}]\npacks: [{id: a, meter: c, units: 500, price: "20"}]',
            "Free, plus 5 credits each month, extra packs of 500 credits for $20",
        ),
        (
            'prices: [{meter: i, scheme: per_unit, unit_price: "1"}, {meter: o, scheme: per_unit, unit_price: "2"}]\n'
            'packs: [{id: a, meter: i, units: 500, price: "20"}]\nspend_cap: "50"',
            "$1 each for input tokens; $2 each for output tokens; capped at $50/month; "
            "extra packs of 500 tokens for $20",
        ),
        # a member's money
        (
            FREE_100 + '\nspend_cap: "2000"\nlimits: [{id: a, per: member, amount: "75.00"}]',
            "First 100 messages free, then $0.02 each, capped at $2,000/month and $75/month per member",
        ),
        (
            'base_fee: "5"\nperiod: {interval: year}\nlimits: [{id: a, per: member, amount: "7.50"}]\n' + FREE_100,
            "$5/year with 100 messages included, then $0.02 each, usage capped at $7.50/year per member",
        ),
        # levels, and limits that are no part of what one account buys
        ("limits: [{id: a, meter: d, max: 50}]", "Free, up to 50 GB at any time"),
        ('prices: [{meter: d, scheme: per_unit, unit_price: "0.1"}]', "$0.10 per GB"),
        (
            "limits: [{id: a, meter: c, window: day, max: 10}, {id: b, meter: c, per: plan, window: day, max: 99}]",
            "Free, up to 10 credits a day",
        ),
    ],
)
def test_sentence(plan: str, expected: str) -> None:
    assert said(plan) == expected


def test_other_currencies() -> None:
    assert said('base_fee: "1500"\n' + FREE_100, "jpy") == "¥1,500/month with 100 messages included, then ¥20 per 1,000"
    assert (
        said('base_fee: "1.5"\n' + FREE_100, "kwd") == "KWD 1.500/month with 100 messages included, then KWD 0.020 each"
    )
    assert said('base_fee: "5"', "eur") == "€5/month"


@pytest.mark.parametrize(
    ("plan", "texts"),
    [
        (
            'base_fee: "3"\n' + FREE_100,
            ["20 messages: $3/month", "200 messages: $5/month", "1,000 messages: $21/month"],
        ),
        (
            'base_fee: "29"' + MILLION,
            ["200,000 credits: $29/month", "2,000,000 credits: $34/month", "10,000,000 credits: $74/month"],
        ),
        (
            'spend_cap: "5"\n' + FREE_100,
            ["20 messages: $0/month", "200 messages: $2/month", "350 messages: $5/month, where the cap stops usage"],
        ),
        (
            "overage: off\n" + FREE_100,
            ["20 messages: $0/month", "100 messages: $0/month", "100 messages: $0/month"],
        ),
        (
            FREE_100 + "\nlimits: [{id: a, meter: m, window: period, max: 150}]",
            ["20 messages: $0/month", "150 messages: $1/month", "150 messages: $1/month"],
        ),
        (
            'prices: [{meter: i, scheme: package, package_size: 1000, package_price: "0.04"}]',
            ["20,000 tokens: $0.80/month", "100,000 tokens: $4/month", "500,000 tokens: $20/month"],
        ),
        (
            'prices: [{meter: m, scheme: per_unit, unit_price: "700"}]',
            ["1 message: $700/month", "2 messages: $1,400/month", "5 messages: $3,500/month"],
        ),
        (
            'prices: [{meter: m, scheme: per_unit, unit_price: "0"}]',
            ["100 messages: $0/month", "1,000 messages: $0/month", "10,000 messages: $0/month"],
        ),
        (
            'prices: [{meter: c, scheme: per_unit, unit_price: "1"}]\ngrants: [{meter: c, units: 50, every: month}]',
            ["10 credits: $0/month", "100 credits: $50/month", "500 credits: $450/month"],
        ),
        (
            'period: {interval: year}\nprices: [{meter: c, scheme: per_unit, unit_price: "1"}]\n'
            "grants: [{meter: c, units: 50, every: month}]",
            ["120 credits: $0/year", "1,200 credits: $600/year", "6,000 credits: $5,400/year"],
        ),
        (
            'seats: {unit_price: "20", pooled: false}\n'
            'prices: [{meter: m, scheme: per_unit, unit_price: "0.5", included_per_seat: 100}]',
            [
                "1 seat, 20 messages: $20/month",
                "3 seats, 600 messages: $210/month",
                "10 seats, 10,000 messages: $4,700/month",
            ],
        ),
        (
            'seats: {unit_price: "20", minimum: 2}',
            ["2 seats: $40/month", "6 seats: $120/month", "20 seats: $400/month"],
        ),
        ('base_fee: "9"', []),
        (
            'overage: off\nprices: [{meter: m, scheme: per_unit, unit_price: "1"}]\n'
            'packs: [{id: a, meter: m, units: 500, price: "20"}]',
            [],
        ),
        (
            'seats: {unit_price: "20"}\npacks: [{id: a, meter: m, units: 500, price: "20"}]',
            ["1 seat: $20/month", "3 seats: $60/month", "10 seats: $200/month"],
        ),
        (
            'prices: [{meter: d, scheme: per_unit, unit_price: "0.1"}]\nlimits: [{id: a, meter: d, max: 60}]',
            ["10 GB: $1/month", "50 GB: $5/month", "60 GB: $6/month"],
        ),
    ],
)
def test_examples(plan: str, texts: list[str]) -> None:
    assert [example.text for example in worked(plan)] == texts


def test_examples_are_bills_of_the_rating_engine() -> None:
    catalog = catalogue('base_fee: "3"\n' + FREE_100)
    for example in examples(catalog.plans["p"], catalog.meters, "usd"):
        assert example.bill == bill(catalog.plans["p"], "usd", example.used, example.seats or 0)


@given(prices())
def test_no_price_is_without_a_sentence_or_past_its_cap(price: Price) -> None:
    plan = Plan("p", 1, "P", prices=(price,), spend_cap=Decimal(20))
    meters = {"m": Meter("m", "Messages", "message")}
    text = sentence(plan, meters, "usd")
    assert text
    assert text[0] == text[0].upper()
    assert "  " not in text
    found = examples(plan, meters, "usd")
    assert [example.name for example in found] == list(LEVELS)
    due_anyway = bill(plan, "usd", {}).usage
    assert all(example.bill.usage <= max(Decimal(20), due_anyway) for example in found if price.scheme != "volume")


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("20", "usd", "$20"),
        ("20.00", "usd", "$20"),
        ("6.5", "usd", "$6.50"),
        ("0.007", "usd", "$0.007"),
        ("1234567.5", "usd", "$1,234,567.50"),
        ("0", "usd", "$0"),
        ("500", "jpy", "¥500"),
        ("1.5", "kwd", "KWD 1.500"),
        ("5", "chf", "CHF 5"),
    ],
)
def test_money(amount: str, currency: str, text: str) -> None:
    assert money(Decimal(amount), currency) == text


@pytest.mark.parametrize(
    ("unit_price", "shown", "many"),
    [
        ("0.02", "0.02", 1),
        ("0.001", "0.001", 1),
        ("0.0005", "0.5", 1000),
        ("0.00004", "0.04", 1000),
        ("0.000015", "15", 1000000),
        ("0.0000075", "7.5", 1000000),
        ("0.000000000001", "1", 1000000000000),
    ],
)
def test_rate(unit_price: str, shown: str, many: int) -> None:
    assert rate(Decimal(unit_price), "usd") == (Decimal(shown), Decimal(many))


def test_nouns() -> None:
    assert [plural(unit) for unit in ("message", "query", "day", "GB", "box", "search")] == [
        "messages",
        "queries",
        "days",
        "GB",
        "boxes",
        "searches",
    ]
    tokens = [Meter("i", "Input tokens", "token"), Meter("o", "LLM output", "token")]
    assert [noun(meter, tokens) for meter in tokens] == [Noun(None, "input tokens"), Noun(None, "LLM output")]
    assert noun(tokens[0], tokens[:1]) == Noun("token", "tokens")
    assert noun(Meter("x", "Minutes", "unit"), ()) == Noun(None, "minutes")
    assert Noun("token", "tokens").counted(Decimal(1)) == "1 token"
    assert number(Decimal("1234.50")) == "1,234.5"


def test_credits_pay_for_what_is_beyond_the_included_units() -> None:
    found = worked(FREE_100 + "\ngrants: [{meter: m, units: 50}]")
    assert [example.used["m"].credit_funded for example in found] == [0, 50, 50]
    assert [example.text for example in found] == [
        "20 messages: $0/month",
        "200 messages: $1/month",
        "1,000 messages: $17/month",
    ]
