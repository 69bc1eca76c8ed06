"""A run: driven by what changed, added up once, within its reads, with an alarm where totals are apart."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.billing.world import BILLING
from tests.unit.reconcile.stage import HOUR, Stage
from tollgate.accounts.service import anchored, begun
from tollgate.gate.sweep_store import GateAudits
from tollgate.reconcile.account import DAY_S
from tollgate.reconcile.budget import ReadBudget
from tollgate.reconcile.pair_store import PairTable
from tollgate.reconcile.ports import OutOfReads, Pair
from tollgate.reconcile.report import sums_of
from tollgate.reconcile.report_store import ReportTable
from tollgate.reconcile.run import Part, changed_pairs, plan, work
from tollgate.usage.markers import SHARDS


def listed(stage: Stage) -> list[Pair]:
    pairs = PairTable(BILLING)
    return [pair for shard in range(SHARDS) for pair in pairs.changed(shard, stage.world.now)]


def test_a_day_that_agrees_is_settled_once_and_never_read_again(stage: Stage) -> None:
    stage.usage("3", "4")
    assert [pair.meter for pair in listed(stage)] == ["ai_credits"]
    idle = stage.nightly()
    assert idle.counts["pairs"] == 0  # the day is not over
    assert idle.fields()["finished_at"] is not None
    stage.later(DAY_S)
    first = stage.nightly()
    # One GET for the total, and one for the list of meters, once per process.
    assert (first.counts["pairs"], first.counts["settled"], first.counts["reads"]) == (1, 1, 2)
    assert first.meters["ai_credits"] == {"events": 7, "batches": 7, "sink": 7, "apart": 0}
    assert first.finished
    assert not first.divergent
    assert listed(stage) == []
    stage.world.now += 1
    assert stage.nightly().counts["pairs"] == 0


def test_a_day_is_listed_again_when_usage_is_found_later(stage: Stage) -> None:
    stage.usage("3")
    stage.later(DAY_S)
    stage.nightly()
    stage.world.record("5", at=stage.world.now - DAY_S, origin=stage.world.now - DAY_S)
    stage.later(600)
    assert len(listed(stage)) == 1
    run = stage.nightly()
    assert run.counts["settled"] == 1
    assert run.meters["ai_credits"]["sink"] == 8


@pytest.mark.parametrize("late", [20, 2_000])
def test_a_period_that_began_before_it_was_told_of_is_no_difference(stage: Stage, late: int) -> None:
    world = stage.world
    stage.usage("3")
    started = world.now + 7
    for moment in range(started - 3, started + 700, 50):
        world.now = moment
        world.record("1")
    world.now = started + late
    world.seal()
    row = anchored(world.rules.rows["acme"], started, world.now)
    world.rules.rows["acme"] = begun(row, started, started, world.now)
    stage.usage("5")
    stage.later(HOUR)
    report = stage.reconcile()
    assert [report.events, report.batches, report.sink, report.unexplained] == [23, 23, 23, 0]
    assert report.findings == ()


def test_a_rollup_that_changed_while_it_was_compared_stays_listed(stage: Stage) -> None:
    stage.usage("3")
    (pair,) = listed(stage)
    assert not PairTable(BILLING).settle(pair, 2)
    assert listed(stage) == [pair]
    assert PairTable(BILLING).settle(pair, 1)
    assert not PairTable(BILLING).settle(replace_meter(pair, "none"), 0)
    assert listed(stage) == []


def replace_meter(pair: Pair, meter: str) -> Pair:
    return pair._replace(meter=meter)


def test_a_day_that_differs_stays_listed_with_its_report_and_an_alarm(stage: Stage) -> None:
    stage.usage("3", "4")
    stage.send("100", stage.batches()[1].timestamp + 60)
    stage.later(DAY_S)
    run = stage.nightly()
    assert (run.counts["settled"], run.counts["differing"], run.classes) == (0, 1, {"foreign_event": 1})
    assert run.divergent == ["ai_credits"]
    assert len(listed(stage)) == 1
    (report,) = ReportTable(BILLING).pairs(run.id, 10)
    assert (report["account"], report["stripe"], report["unexplained"]) == ("acme", "107", "0")
    kinds = [json.loads(row["message"])["subject"] for row in stage.world.alerts()]
    assert len(kinds) == 2, kinds
    stage.later(DAY_S)
    stage.nightly()
    stage.world.now += 1
    alerts = [json.loads(row["message"]) for row in stage.world.alerts()]
    assert len([one for one in alerts if one["account"] == "acme"]) == 1  # the same trouble is told once


def test_a_small_difference_raises_no_alarm_for_the_account(stage: Stage) -> None:
    stage.usage("1000")
    stage.send("0.5", stage.batches()[0].timestamp + 60)
    stage.later(DAY_S)
    run = stage.nightly()
    assert (run.counts["differing"], run.divergent, stage.world.alerts()) == (1, [], [])


def test_a_run_stops_politely_when_its_reads_are_spent(stage: Stage) -> None:
    stage.usage("3")
    stage.later(DAY_S)
    assert stage.nightly(monthly=2).counts["reads"] == 2
    stage.usage("4")
    stage.later(DAY_S)
    run = stage.nightly(monthly=2)
    assert (run.counts["put_off"], run.counts["settled"]) == (1, 0)
    assert len(listed(stage)) == 1
    stage.world.now += 1
    assert stage.nightly(monthly=10).counts["settled"] == 1


def test_reads_are_counted_by_month(stage: Stage) -> None:
    store = ReportTable(BILLING)
    budget = ReadBudget(store, 3, stage.world.clock)
    budget.spend(2)
    budget.note()
    assert store.spent("2026-11") == 2
    with pytest.raises(OutOfReads):
        ReadBudget(store, 3, stage.world.clock).spend(2)
    stage.world.now += 31 * DAY_S
    budget.spend(3)
    budget.note()
    assert (store.spent("2026-11"), store.spent("2026-12")) == (2, 3)


def test_a_part_that_comes_twice_is_added_up_once(stage: Stage) -> None:
    stage.usage("3")
    stage.later(DAY_S)
    reports = ReportTable(BILLING)
    budget = ReadBudget(reports, 100, stage.world.clock)
    (part,) = plan("1795262400000.nightly", changed_pairs(stage.deps(), stage.world.now))
    reports.begin(part.run, 1, 0, GateAudits())
    for _ in range(2):
        work(stage.deps(), reports, budget, part)
    run = reports.get(part.run)
    assert run is not None
    assert (run.done, run.counts["pairs"], run.meters["ai_credits"]["events"]) == (1, 1, Decimal(3))


def test_one_accounts_failure_stops_no_other_one(stage: Stage) -> None:
    stage.usage("3")
    stage.world.rules.add("broken", customer=stage.other)
    stage.world.record("1", account="broken")
    stage.world.close_window()
    stage.world.seal()
    stage.later(DAY_S)
    stage.world.rules.change("broken", plan="none-such")
    run = stage.nightly()
    assert (run.counts["failed"], run.counts["settled"]) == (1, 1)
    assert [pair.account for pair in listed(stage)] == ["broken"]


def test_a_customer_that_stripe_does_not_know_fails_no_part(stage: Stage) -> None:
    stage.world.rules.add("typo", customer="cus_unknown")
    stage.world.record("1", account="typo")
    stage.world.close_window()
    stage.world.seal()
    stage.later(DAY_S)
    run = stage.nightly()
    assert (run.counts["failed"], run.counts["put_off"], run.counts["settled"]) == (0, 1, 0)
    report = stage.reconcile(account="typo")
    assert [(one.kind, one.repair) for one in report.findings] == [("rejected", "repair")]


def test_parts_keep_an_account_together() -> None:
    pairs = [Pair(f"a{at // 3}", "m", at) for at in range(12)]
    parts = list(plan("1.nightly", pairs, most=4))
    assert [len(part.pairs) for part in parts] == [6, 6]
    assert [pair for part in parts for pair in part.pairs] == pairs
    assert [Part.of(part.body()) for part in parts] == parts


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"run":"r","part":0,"pairs":[["a","b"]]}', '{"run":"r","pairs":[]}'])
def test_a_message_that_names_no_part(body: str) -> None:
    with pytest.raises(ValueError, match="names no part"):
        Part.of(body)


def test_runs_are_listed_newest_first_page_by_page(stage: Stage) -> None:
    store = ReportTable(BILLING)
    for at in range(3):
        store.begin(f"{at:013d}.nightly", 1, at, GateAudits(7, at))
    first, after = store.page(2, None)
    rest, end = store.page(2, after)
    assert [run.started_ms for run in (*first, *rest)] == [2, 1, 0]
    assert end is None
    shown: dict[str, Any] = first[0].fields()
    assert (shown["kind"], shown["finished_at"], shown["pairs"]) == ("nightly", None, 0)
    assert shown["gates"] == {"audited": 7, "repaired": 2}


def test_sums_leave_out_what_was_not_read(stage: Stage) -> None:
    stage.usage("3")
    stage.later(2 * HOUR)
    report = stage.reconcile()
    sums = sums_of([replace(report, sink=None, put_off=True)])
    assert "events#ai_credits" not in sums
    assert sums["n#put_off"] == 1
