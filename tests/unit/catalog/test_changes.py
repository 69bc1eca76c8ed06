"""What a catalogue would change in a published plan."""

from __future__ import annotations

from pathlib import Path

from tollgate.catalog.changes import Change, changes
from tollgate.catalog.frozen import PlanVersion, plan_from_json, plan_to_json
from tollgate.catalog.schema import parse_catalog

CATALOG = (Path(__file__).parents[3] / "catalog.yaml").read_text()


def published(plan: str) -> PlanVersion:
    catalog = parse_catalog(CATALOG)
    return plan_from_json(plan_to_json(catalog.plans[plan], catalog.meters.values()))


def found(plan: str, *edits: tuple[str, str]) -> list[Change]:
    text = CATALOG
    for before, after in edits:
        assert before in text
        text = text.replace(before, after)
    catalog = parse_catalog(text)
    return changes(published(plan), catalog.plans.get(plan), catalog.meters.values())


def test_an_unchanged_plan_has_no_changes() -> None:
    assert [found(plan) for plan in ("free", "pro", "team")] == [[], [], []]


def test_a_limit_is_named_by_its_id() -> None:
    assert found("free", ("window: day, max: 10}", "window: day, max: 12}")) == [
        Change("limits[daily].max", '"10"', '"12"')
    ]


def test_what_comes_before_moves_nothing() -> None:
    more = "limits:\n      - {id: first, meter: ai_credits, per: account, window: hour, max: 5}\n      - {id: daily,"
    changed = found("free", ("limits:\n      - {id: daily,", more))
    assert {change.path.split(".")[0] for change in changed} == {"limits[first]"}
    assert all(change.before is None for change in changed)


def test_a_price_and_a_weight() -> None:
    changed = found(
        "pro", ('unit_price: "0.000005"', 'unit_price: "0.000004"'), ('image}, weight: "5"', 'image}, weight: "6"')
    )
    assert [change.path for change in changed] == [
        "prices[ai_credits].tiers[1].unit_price",
        "meters[ai_credits].weights[0].weight",
    ]


def test_a_plan_that_is_new_or_gone() -> None:
    catalog = parse_catalog(CATALOG)
    new = changes(None, catalog.plans["free"], catalog.meters.values())
    gone = changes(published("free"), None, catalog.meters.values())
    assert {change.path for change in new} == {change.path for change in gone} >= {"name", "limits[daily].max"}
    assert all(change.before is None for change in new)
    assert all(change.after is None for change in gone)
