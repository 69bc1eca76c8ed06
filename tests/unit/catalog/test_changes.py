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
        "meters[ai_credits].weights[operation=image].weight",
    ]


def test_weights_are_named_by_what_they_are_for() -> None:
    first = "weights:                      # units for each quantity; the first match wins, else 1\n"
    new = first + '      - {when: {operation: [edit, mask], model: "b-*"}, weight: "3"}\n'
    assert found("free", (first, new)) == [
        Change("meters[ai_credits].weights[model=b-*,operation=edit|mask].weight", None, '"3"')
    ]


def test_two_rules_for_the_same_are_named_by_their_place() -> None:
    image = '      - {when: {operation: image}, weight: "5"}\n'
    twice = found("free", (image, image + image.replace('"5"', '"7"')))
    assert Change("meters[ai_credits].weights[1].weight", None, '"7"') in twice
    assert Change("meters[ai_credits].weights[1].when.operation", None, '["image"]') in twice


def test_a_rule_that_only_moves_is_a_change() -> None:
    image, video = (
        '      - {when: {operation: image}, weight: "5"}\n',
        '      - {when: {operation: video}, weight: "20"}\n',
    )
    assert found("free", (image + video, video + image)) == [
        Change(
            "meters[ai_credits].weights (order)",
            '["operation=image", "operation=video"]',
            '["operation=video", "operation=image"]',
        )
    ]


def test_the_order_shown_is_of_what_moved_among_what_stays() -> None:
    lines = [f'      - {{when: {{operation: {name}}}, weight: "5"}}\n' for name in "abcde"]
    head = "weights:                      # units for each quantity; the first match wins, else 1\n"
    before = CATALOG.replace(head, head + "".join(lines))
    after = CATALOG.replace(head, head + "".join(lines[place] for place in (0, 2, 1, 4)))
    catalog = parse_catalog(before)
    version = plan_from_json(plan_to_json(catalog.plans["free"], catalog.meters.values()))
    catalog = parse_catalog(after)
    moved, *gone = sorted(changes(version, catalog.plans["free"], catalog.meters.values()))
    assert moved == Change(
        "meters[ai_credits].weights (order)", '["operation=b", "operation=c"]', '["operation=c", "operation=b"]'
    )
    assert [change.path for change in gone] == ["meters[ai_credits].weights[operation=d].weight"]


def test_the_kind_of_a_meter_packs_and_limits_of_money_and_of_all() -> None:
    more = """packs: [{id: small, meter: ai_credits, units: 500, price: "9.00"}]
    limits:
      - {id: money, per: member, amount: "20.00"}
      - {id: ip, meter: ai_credits, per: "dimension:ip", window: day, max: 7}
      - {id: premium,"""
    level = ("\nplans:\n", "  seats: {kind: level, unit: seat}\n\nplans:\n")
    changed = found("pro", ("limits:\n      - {id: premium,", more), level)
    texts = {change.path: change.after for change in changed if change.before is None}
    assert texts["packs[small].price"] == '"9"'
    assert texts["limits[money].amount"] == '"20"'
    assert (texts["shared_limits[ip].dimension"], texts["shared_limits[ip].max"]) == ('"ip"', '"7"')
    assert texts["meters[seats].kind"] == '"level"'


def test_a_plan_that_is_new_or_gone() -> None:
    catalog = parse_catalog(CATALOG)
    new = changes(None, catalog.plans["free"], catalog.meters.values())
    gone = changes(published("free"), None, catalog.meters.values())
    assert {change.path for change in new} == {change.path for change in gone} >= {"name", "limits[daily].max"}
    assert all(change.before is None for change in new)
    assert all(change.after is None for change in gone)
