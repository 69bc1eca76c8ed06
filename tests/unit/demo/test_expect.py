"""Expected units by hand-made examples; and what a lost, doubled or misplaced event does to the comparison."""

from __future__ import annotations

import ast
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

import demo
from demo.answers import Answer
from demo.expect import (
    CatalogUnreadable,
    Difference,
    Reading,
    compare,
    due_in_stripe,
    expect,
    plain,
    read_catalog,
    units_of,
)
from demo.trace import Item

from .making import answer, item, request

CATALOG = """
currency: usd
default_plan: free
meters:
  ai_credits:
    name: AI credits
    stripe_event_name: credits_event
    weights:
      - {when: {operation: image}, weight: "5"}
      - {when: {operation: video}, weight: "20"}
      - {when: {operation: [chat, code], model: "small-*"}, weight: "0.001"}
      - {when: {model: "a*b*c"}, weight: "3"}
      - {when: {model: "?x"}, weight: "4"}
    multipliers:
      - {when: {quality: hd}, factor: "2"}
      - {when: {rush: "*"}, factor: "1.5"}
  llm_tokens: {name: Tokens, scale: 3, stripe_event_name: tokens_event}
  internal: {name: Internal, scale: 0}
plans:
  free:
    name: Free
    limits: [{id: daily, meter: ai_credits, per: account, window: day, max: 10}]
  pro:
    name: Pro
    prices: [{meter: ai_credits, scheme: per_unit, unit_price: "0.1"}]
  team:
    name: Team
    prices:
      - {meter: ai_credits, scheme: per_unit, unit_price: "0.1"}
      - {meter: llm_tokens, scheme: per_unit, unit_price: "0.1"}
      - {meter: internal, scheme: per_unit, unit_price: "0.1"}
    weights:
      ai_credits:
        - {when: {operation: video}, weight: "15"}
"""


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    path = tmp_path / "catalog.yaml"
    path.write_text(CATALOG, encoding="utf-8")
    return read_catalog(path)


@pytest.mark.parametrize(
    ("plan", "used", "units"),
    [
        ("pro", item("ai_credits", "3", operation="image"), "15"),
        ("pro", item("ai_credits", "3", operation="image", quality="hd"), "30"),
        ("pro", item("ai_credits", "3", operation="image", quality="hd", rush="very"), "45"),
        ("pro", item("ai_credits", "3", operation="image", quality="HD"), "15"),
        ("pro", item("ai_credits", "1234", operation="chat", model="small-1"), "1.234"),
        ("pro", item("ai_credits", "1234", operation="code", model="small-"), "1.234"),
        ("pro", item("ai_credits", "1234", operation="chat", model="big"), "1234"),
        ("pro", item("ai_credits", "1234", operation="chat"), "1234"),
        ("pro", item("ai_credits", "2", model="a-b-c"), "6"),
        ("pro", item("ai_credits", "2", model="abb"), "2"),
        ("pro", item("ai_credits", "2", model="?x"), "8"),
        ("pro", item("ai_credits", "2", model="yx"), "2"),
        ("pro", item("ai_credits", "2", operation="video"), "40"),
        ("team", item("ai_credits", "2", operation="video"), "30"),
        ("team", item("ai_credits", "2", operation="image"), "10"),
        (None, item("ai_credits", "2", operation="image"), "10"),
        # Rounded once, to the meter's scale (six places where it names none), halves away from zero.
        ("pro", item("ai_credits", "0.0005", operation="chat", model="small-1"), "0.000001"),
        ("pro", item("ai_credits", "0.0004", operation="chat", model="small-1"), "0"),
        ("team", item("llm_tokens", "0.0005"), "0.001"),
        ("team", item("internal", "2.5"), "3"),
        ("pro", item("ai_credits", "123456789012345.123456"), "123456789012345.123456"),
    ],
)
def test_units_by_the_catalogue(reading: Reading, plan: str | None, used: Item, units: str) -> None:
    assert units_of(reading, plan, used) == Decimal(units)


def played() -> list[Answer]:
    image, chat = (
        item("ai_credits", "2", operation="image"),
        item("ai_credits", "500", operation="chat", model="small-1"),
    )
    tokens = item("llm_tokens", "70", direction="input"), item("llm_tokens", "30.5", direction="output")
    return [
        answer(request("one", image), "10"),
        answer(request("two", chat, sends=3), "0.5"),
        answer(request("cached", image, outcome="cached"), "0"),
        answer(request("refused", image), verdict="refused", end="none"),
        answer(request("failed", image, outcome="failed"), end="released"),
        answer(request("crashed", image, outcome="no_commit"), end="crashed"),
        answer(request("late", image, outcome="late"), "10"),
        answer(request("both", *tokens, image, account="zeta", plan="team"), "110.5"),
        answer(request("free", image, account="freda", plan="free"), "10"),
        answer(
            request("batch", image, image, chat, account="zeta", plan="team", call="usage"),
            "10.5",
            waived=("0", "0", "0"),
            counted=(True, False, True),
        ),
    ]


PLANS = {"acme": "pro", "zeta": "team", "freda": "free", "idle": "pro"}
DUE = {
    ("acme", "credits_event"): Decimal("20.5"),
    ("acme", "tokens_event"): Decimal(0),
    ("zeta", "credits_event"): Decimal("20.5"),
    ("zeta", "tokens_event"): Decimal("100.5"),
    ("idle", "credits_event"): Decimal(0),
    ("idle", "tokens_event"): Decimal(0),
}


def test_only_what_was_recorded_counts_and_only_once(reading: Reading) -> None:
    expected = expect(reading, PLANS, played())
    assert expected.objections == ()
    assert expected.committed == {
        ("acme", "ai_credits"): Decimal("20.5"),
        ("zeta", "ai_credits"): Decimal("20.5"),
        ("zeta", "llm_tokens"): Decimal("100.5"),
        ("freda", "ai_credits"): Decimal(10),
    }
    assert due_in_stripe(reading, PLANS, expected.billable) == DUE


def test_stripe_holding_exactly_that_is_no_difference() -> None:
    assert compare(DUE, dict(DUE)) == []
    assert compare(DUE, {pair: units for pair, units in DUE.items() if units}) == []


@pytest.mark.parametrize("pair", [pair for pair, units in DUE.items() if units])
def test_a_doubled_or_lost_event_is_a_difference(pair: tuple[str, str]) -> None:
    units = DUE[pair]
    assert compare(DUE, {**DUE, pair: 2 * units}) == [Difference(*pair, units, 2 * units)]
    assert compare(DUE, {**DUE, pair: Decimal(0)}) == [Difference(*pair, units, Decimal(0))]
    assert compare(DUE, {other: held for other, held in DUE.items() if other != pair}) == [
        Difference(*pair, units, Decimal(0))
    ]


def test_a_millionth_a_wrong_account_and_a_wrong_meter_are_differences() -> None:
    off = DUE["acme", "credits_event"] + Decimal("0.000001")
    assert len(compare(DUE, {**DUE, ("acme", "credits_event"): off})) == 1
    swapped = {**DUE, ("acme", "credits_event"): Decimal(0), ("idle", "credits_event"): Decimal("20.5")}
    assert [found.account for found in compare(DUE, swapped)] == ["acme", "idle"]
    assert [found.event_name for found in compare(DUE, {**DUE, ("idle", "tokens_event"): Decimal(1)})] == [
        "tokens_event"
    ]
    assert compare(DUE, {**DUE, ("freda", "credits_event"): Decimal(10)}) == [
        Difference("freda", "credits_event", Decimal(0), Decimal(10))
    ]


def test_waived_units_are_not_due(reading: Reading) -> None:
    image = item("ai_credits", "2", operation="image")
    answers = [
        answer(request("over", image), "10", waived=("4",)),
        answer(request("batch", image, image, call="usage"), "20", waived=("0", "10")),
    ]
    expected = expect(reading, PLANS, answers)
    assert expected.committed["acme", "ai_credits"] == 30
    assert expected.billable["acme", "ai_credits"] == 16
    assert expected.objections == ()


def test_waived_units_of_an_unknown_meter_are_told(reading: Reading) -> None:
    both = request("both", item("ai_credits", "1"), item("llm_tokens", "1"), account="zeta", plan="team")
    (objection,) = expect(reading, PLANS, [answer(both, "2", waived=("1",))]).objections
    assert objection == "both: 1 units waived over several meters; the answer names none"


def test_an_answer_that_counts_otherwise_is_told(reading: Reading) -> None:
    wrong = answer(request("one", item("ai_credits", "2", operation="image")), "2")
    (objection,) = expect(reading, PLANS, [wrong]).objections
    assert objection == "one: 10 units by the catalogue, 2 by Tollgate's answer"


def test_what_a_plan_has_no_price_for_is_not_due(reading: Reading) -> None:
    counted = {
        ("acme", "ai_credits"): Decimal(1),
        ("acme", "llm_tokens"): Decimal(2),
        ("freda", "ai_credits"): Decimal(3),
    }
    assert due_in_stripe(reading, {"acme": "pro", "freda": None}, counted) == {
        ("acme", "credits_event"): Decimal(1),
        ("acme", "tokens_event"): Decimal(0),
    }


def test_surprises_of_the_replay_are_objections(reading: Reading) -> None:
    image = item("ai_credits", "2", operation="image")
    odd = replace(answer(request("one", image), "10"), surprises=("one: counted again",))
    assert expect(reading, PLANS, [odd]).objections == ("one: counted again",)


def test_a_cached_answer_that_is_counted_is_told(reading: Reading) -> None:
    wrong = answer(request("one", item("ai_credits", "2", operation="image"), outcome="cached"), "10")
    assert expect(reading, PLANS, [wrong]).objections == ("one: 0 units by the catalogue, 10 by Tollgate's answer",)


@pytest.mark.parametrize("text", ["", "[]", "meters: {}", "a: [", "{default_plan: x, plans: {x: 3}, meters: {m: {}}}"])
def test_a_catalogue_that_is_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CatalogUnreadable, match=r"catalog\.yaml is no catalogue"):
        read_catalog(path)
    with pytest.raises(CatalogUnreadable, match="cannot be read: No such file"):
        read_catalog(tmp_path / "none.yaml")


def test_the_projects_own_catalogue_is_readable() -> None:
    reading = read_catalog(Path(__file__).resolve().parents[3] / "catalog.yaml")
    assert not reading.pays(None)
    assert reading.pays("pro")
    assert reading.pays("team")
    assert set(reading.event_names) == {"ai_credits", "llm_tokens", "storage"}


def test_the_demo_shares_no_code_with_the_product() -> None:
    files = sorted(Path(demo.__path__[0]).glob("*.py"))
    assert "expect.py" in {path.name for path in files}
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in ("tollgate", "tollgate_cli", "local")], path


@pytest.mark.parametrize(
    ("value", "text"), [("1.500", "1.5"), ("100", "100"), ("0.000", "0"), ("1E+3", "1000"), ("-2.50", "-2.5")]
)
def test_plain_decimals(value: str, text: str) -> None:
    assert plain(Decimal(value)) == text
