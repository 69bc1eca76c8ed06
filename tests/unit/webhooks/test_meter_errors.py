"""Usage that Stripe took and did not count: every batch of a report's window is looked at, none left in silence."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import pytest

from tests.unit.webhooks.stage import NOON, Stage
from tollgate.billing.batch import FLUSHED, REJECTED, SEALED, SENDING, UNCONFIRMED, Batch, successor
from tollgate.billing.trouble import tell
from tollgate.webhooks.meter_errors import MeterErrors

REPORT, NO_METER = "v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"
NOT_FOUND = "meter_event_customer_not_found"


def batch(name: str, sent_at: int = NOON, state: str = FLUSHED, event_name: str = "credits") -> Batch:
    return Batch(
        account=f"account-{name}",
        meter=event_name,
        period_start=NOON - 86_400,
        period_end=NOON + 86_400,
        window_start=NOON - 600,
        window_end=NOON - 300,
        supplement=0,
        part=0,
        event_name=event_name,
        units=Decimal(3),
        timestamp=NOON - 600,
        created_at=NOON - 100,
        state=state,
        state_at=sent_at,
        customer=f"cus_{name}",
        identifier=f"tg_{name}",
    )


def report(total: int, *samples: tuple[str, str], meter: str | None = "mtr_credits") -> MeterErrors:
    codes = tuple(sorted({code for code, _ in samples}))
    return MeterErrors("evt_r", meter, NOON * 1000, (NOON + 10) * 1000, total, codes, samples, "There were errors")


def stage_with(found: MeterErrors, *batches: Batch) -> Stage:
    stage = Stage()
    stage.stripe.reports = {f"evt_{n}": found for n in range(1, 9)}
    stage.batches.rows = {one.key: one for one in batches}
    return stage


def states(stage: Stage) -> dict[str, tuple[str, str | None]]:
    return {one.account.removeprefix("account-"): (one.state, one.reason) for one in stage.batches.rows.values()}


def test_a_sampled_batch_is_rejected_told_and_repairable() -> None:
    stage = stage_with(report(1, ("archived_meter", "tg_a")), batch("a"), batch("b"))
    assert stage.happened(REPORT) == "looked_at=2 rejected=1 unconfirmed=0"
    assert states(stage) == {"a": (REJECTED, "no_active_meter"), "b": (FLUSHED, None)}
    assert stage.told() == [REJECTED]
    parked = next(one for one in stage.batches.rows.values() if one.state == REJECTED)
    assert not parked.untold
    assert successor(parked, NOON).revision == 1


def test_what_the_samples_do_not_show_is_in_doubt() -> None:
    stage = stage_with(report(2, ("meter_event_invalid_value", "tg_a")), batch("a"), batch("b"), batch("c", NOON - 301))
    stage.happened(REPORT)
    assert states(stage)["a"] == (REJECTED, "meter_event_invalid_value")
    assert states(stage)["b"] == (UNCONFIRMED, "in_an_error_report")
    assert states(stage)["c"] == (FLUSHED, None), "sent long before the window"
    assert sorted(stage.told()) == ["meter_errors", REJECTED, UNCONFIRMED]


def test_missing_customers_are_asked_for_one_by_one() -> None:
    stage = stage_with(report(40, (NOT_FOUND, "tg_a")), *(batch(name) for name in "abcd"))
    stage.stripe.gone = {"cus_a", "cus_c"}
    stage.happened(REPORT)
    found = states(stage)
    assert found["a"] == found["c"] == (REJECTED, "customer_not_found")
    assert found["b"] == found["d"] == (FLUSHED, None)


def test_only_batches_of_the_meter_and_only_sent_ones_are_changed() -> None:
    others = [batch("m", event_name="tokens"), batch("s", state=SENDING), batch("w", state=SEALED)]
    stage = stage_with(report(9, ("archived_meter", "tg_x")), *others)
    assert stage.happened(REPORT) == "looked_at=0 rejected=0 unconfirmed=0"
    assert states(stage) == {"m": (FLUSHED, None), "s": (SENDING, None), "w": (SEALED, None)}
    assert stage.told() == ["meter_errors"], "what was found nowhere is not passed over in silence"


def test_without_a_meter_every_batch_of_the_window_is_looked_at() -> None:
    stage = stage_with(report(1, ("no_meter", "tg_a"), meter=None), batch("a", event_name="tokens"), batch("b"))
    stage.happened(NO_METER)
    assert states(stage) == {"a": (REJECTED, "no_active_meter"), "b": (FLUSHED, None)}


def test_a_sample_without_an_identifier_counts_as_hidden() -> None:
    stage = stage_with(report(1, ("archived_meter", "")), batch("a"))
    stage.happened(REPORT)
    assert states(stage)["a"] == (UNCONFIRMED, "in_an_error_report")


@pytest.mark.parametrize("crash_at", range(1, 30))
def test_a_crash_at_any_call_parks_and_tells_all_the_same(crash_at: int) -> None:
    found = report(5, (NOT_FOUND, "tg_a"), (NOT_FOUND, "tg_b"))
    stage = stage_with(found, *(batch(name) for name in "abc"))
    stage.stripe.gone = {"cus_c"}
    body = stage.event(REPORT)
    stage.calls, stage.crash_at = 0, crash_at
    stage.deliver(body)
    assert {state for state, _ in states(stage).values()} == {REJECTED}
    due = [one for one in stage.batches.rows.values() if one.untold]
    assert all(one.due_at is not None and one.due_at <= stage.world.now_ms // 1000 for one in due), "seal tells it"
    for one in due:
        tell(stage.outbox, cast(Any, stage.batches), one)
    assert len([kind for kind in stage.told() if kind == REJECTED]) == 3
    assert all(not one.untold for one in stage.batches.rows.values())


def test_another_writer_in_between_is_not_overwritten() -> None:
    stage = stage_with(report(1, ("archived_meter", "tg_a")), batch("a"))

    def meanwhile(name: str) -> None:
        if name == "batches.replace":
            stage.at_call = lambda name: None
            (key,) = stage.batches.rows
            stage.batches.rows[key] = replace(stage.batches.rows[key], repaired_by="x", version=5)

    stage.at_call = meanwhile
    stage.happened(REPORT)
    (row,) = stage.batches.rows.values()
    assert (row.state, row.repaired_by) == (REJECTED, "x")
