"""Injected damage over the Stripe double: each is found, classed and repaired, and Stripe ends with what was used."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.unit.billing.world import NOON
from tests.unit.reconcile.stage import HOUR, Stage
from tollgate.billing.sink import Refused, Unknown
from tollgate.reconcile.account import DAY_S, PairReport


def seen(report: PairReport, *names: str) -> list[Any]:
    """Fields of each finding."""
    return [tuple(getattr(one, name) for name in names) for one in report.findings]


def healed(stage: Stage, units: str, *, person: bool = False) -> None:
    report = stage.heal(person=person)
    assert not report.findings, report
    assert report.unexplained == 0
    assert report.events == report.batches == report.sink == Decimal(units) == stage.counted()


def test_books_that_agree_cost_one_read_and_the_meters_list(stage: Stage) -> None:
    stage.usage("3", "4.5")
    stage.later(2 * HOUR)
    report = stage.reconcile()
    assert (report.events, report.batches, report.sink) == (Decimal("7.5"),) * 3
    assert (report.findings, report.reads, stage.reads) == ((), 1, 2)


def test_a_deleted_batch_that_had_arrived_is_put_again_as_flushed(stage: Stage) -> None:
    stage.usage("3", "4", "5")
    stage.delete(stage.batches()[1])
    stage.later(2 * HOUR)
    report = stage.reconcile()
    assert seen(report, "kind", "repair", "applied", "units") == [("unsent", "restore_flushed", True, 0)]
    healed(stage, "12")


def test_a_deleted_batch_that_had_not_arrived_is_sent(stage: Stage) -> None:
    stage.usage("3")
    stage.world.record("4")
    stage.world.close_window()
    stage.world.seal()
    stage.delete(stage.batches()[1])
    stage.world.flush_all()
    stage.later(2 * HOUR)
    report = stage.reconcile()
    assert seen(report, "kind", "repair", "units") == [("unsent", "restore", -4)]
    healed(stage, "7")


def test_a_lost_send_is_sent_again_under_its_identifier(stage: Stage) -> None:
    stage.usage("3", "4")
    lost = stage.batches()[0]
    stage.lose(lost)
    stage.later(2 * HOUR)
    report = stage.reconcile()
    assert seen(report, "kind", "repair", "applied") == [("unsent", "resend", True)]
    stage.later(2 * HOUR)
    (sent,) = [one for one in stage.batches() if one.key == lost.key]
    assert (sent.state, sent.identifier) == ("flushed", lost.identifier)


def test_a_send_that_stays_lost_is_sent_anew_by_a_person_only(stage: Stage) -> None:
    stage.usage("3", "4")
    stage.lose(stage.batches()[0])
    stage.later(30 * HOUR)
    report = stage.reconcile()
    assert seen(report, "kind", "repair", "applied") == [("unsent", "send_lost_anew", False)]
    healed(stage, "7", person=True)


def test_a_stray_event_is_foreign_and_taken_back_by_a_person(stage: Stage) -> None:
    stage.usage("3", "4")
    stage.send("100", NOON + 500)
    stage.later(2 * HOUR)
    report = stage.reconcile()
    (one,) = report.findings
    assert seen(report, "kind", "units", "repair", "applied") == [("foreign_event", 100, "correct", False)]
    assert one.at == (NOON + 500) // 60 * 60
    assert report.unexplained == 0
    healed(stage, "7", person=True)


def test_an_event_doubled_under_another_identifier_is_a_duplicate(stage: Stage) -> None:
    stage.usage("3", "4")
    stage.send("4", stage.batches()[1].timestamp)
    stage.later(2 * HOUR)
    report = stage.reconcile()
    assert seen(report, "kind", "units", "applied") == [("duplicate", 4, False)]
    healed(stage, "7", person=True)


@pytest.mark.parametrize("arrives", [True, False])
def test_an_unconfirmed_batch_is_settled_by_the_totals(stage: Stage, arrives: bool) -> None:
    stage.usage("3")
    sink = stage.world.sink

    class Silent:
        """No answer ever; the first attempt arrives, or does not."""

        def __getattr__(self, name: str) -> object:
            return getattr(sink, name)

        def send(self, event: object) -> Unknown:
            if arrives:
                sink.send(event)
            return Unknown("test")

    stage.world.sink = Silent()
    stage.usage("4")
    for _ in range(30):
        stage.later(HOUR)
    stage.world.sink = sink
    assert stage.batches()[1].state == "unconfirmed"
    report = stage.reconcile()
    expected = ("note_arrival", 0) if arrives else ("send_anew", -4)
    assert seen(report, "kind", "repair", "units") == [("unconfirmed", *expected)]
    healed(stage, "7")


@pytest.mark.parametrize("sent_after_the_backup", [True, False])
def test_tables_from_a_backup_are_settled_by_the_totals(stage: Stage, sent_after_the_backup: bool) -> None:
    stage.usage("3")
    stage.world.record("4")
    stage.world.close_window()
    stage.world.seal()
    backup = stage.batches()[1]
    assert backup.state == "sealed"
    if sent_after_the_backup:
        stage.world.flush_all()
        stage.delete(stage.batches()[1])
        stage.world.batches.put_new(backup)
    stage.world.now += 2 * DAY_S  # Stripe has forgotten the identifier: sent again it would count again
    stage.world.restored_at = stage.world.now
    stage.later(2 * HOUR)
    assert stage.batches()[1].state == "unconfirmed"
    stage.later(2 * HOUR)
    report = stage.reconcile()
    wanted = "note_arrival" if sent_after_the_backup else "send_anew"
    assert seen(report, "kind", "repair", "applied") == [("unconfirmed", wanted, True)]
    healed(stage, "7")


def test_a_zero_is_not_believed_within_the_hour(stage: Stage) -> None:
    stage.usage("3", "4")
    batch = stage.batches()[0]
    stage.lose(batch)
    stage.later(HOUR)
    stage.world.force(batch, state="unconfirmed", state_at=stage.world.now)
    assert seen(stage.reconcile(), "kind", "repair") == [("unconfirmed", "wait")]
    stage.world.now += HOUR
    assert [one.repair for one in stage.reconcile().findings] == ["send_anew"]


def test_both_of_a_repaired_pair_counted_is_a_duplicate_and_cancelled(stage: Stage) -> None:
    stage.usage("3", "4")
    batch = stage.batches()[0]
    stage.lose(batch)
    stage.later(2 * HOUR)
    stage.world.force(batch, state="unconfirmed", state_at=stage.world.now - 2 * HOUR)
    stage.reconcile()
    stage.later(120)  # the successor is sent; the first one turns up all the same
    event = stage.stripe.double.meter_events.latest(batch.identifier or "")
    assert event is not None
    event.cancelled_ms = None
    stage.later(2 * HOUR)
    stage.stripe.double.lag_ms = 20 * 60_000
    report = stage.reconcile()
    assert seen(report, "kind", "repair", "applied") == [("duplicate", "cancel", True)]
    assert seen(stage.reconcile(person=True), "kind", "repair") == [("duplicate", "wait")]  # it shows later
    healed(stage, "7")


def test_a_rejected_batch_is_repaired_by_a_person_once_its_cause_is_gone(stage: Stage) -> None:
    stage.usage("3")
    stage.world.rules.change("acme", stripe_customer_id="cus_gone")
    stage.usage("4")
    stage.world.rules.change("acme", stripe_customer_id=stage.customer)
    stage.later(2 * HOUR)
    report = stage.reconcile()
    assert seen(report, "kind", "repair", "applied") == [("rejected", "repair", False)]
    healed(stage, "7", person=True)


def test_a_rejected_batch_whose_cause_stays_is_left(stage: Stage) -> None:
    stage.usage("3")
    sink = stage.world.sink

    class Refuses:
        def __getattr__(self, name: str) -> object:
            return getattr(sink, name)

        def send(self, event: object) -> Refused:
            return Refused(400, "too_many_digits", "digits", False)

    stage.world.sink = Refuses()
    stage.usage("4")
    stage.world.sink = sink
    stage.later(2 * HOUR)
    report = stage.reconcile(person=True)
    assert seen(report, "kind", "applied") == [("rejected", False)]


def test_usage_sent_for_another_customer_is_moved_by_a_person(stage: Stage) -> None:
    stage.usage("3")
    stage.world.rules.change("acme", stripe_customer_id=stage.other)
    stage.usage("4")
    stage.world.rules.change("acme", stripe_customer_id=stage.customer)
    stage.later(2 * HOUR)
    report = stage.reconcile()
    assert seen(report, "kind", "units", "repair") == [("wrong_customer", -4, "move")]
    healed(stage, "7", person=True)
    assert stage.counted(stage.other) == 0


def test_an_event_that_went_to_another_customer_is_known_from_both_ends(stage: Stage) -> None:
    stage.world.rules.add("other", customer=stage.other)
    stage.world.record("9", account="other")
    stage.usage("3", "4")
    (lost,) = [one for one in stage.batches() if one.units == 4]
    stage.lose(lost)
    stage.send("4", lost.timestamp, customer=stage.other)
    stage.later(2 * HOUR)
    found = [seen(stage.reconcile(account=name, repair=False), "kind", "units") for name in ("acme", "other", "acme")]
    assert found == [[("unsent", -4)], [("wrong_customer", 4)], [("wrong_customer", -4)]]
    for _ in range(11):
        for name in ("acme", "other"):
            stage.reconcile(account=name, person=True)
        stage.later(2 * HOUR)
    assert not stage.reconcile(account="other").findings
    healed(stage, "7")
    assert stage.counted(stage.other) == 9


def test_a_row_that_was_never_marked_is_sealed(stage: Stage) -> None:
    stage.usage("3")
    stage.usage("4", mark=False)
    stage.later(2 * HOUR)
    report = stage.reconcile()
    assert seen(report, "kind", "units", "applied") == [("unsealed_row", -4, True)]
    healed(stage, "7")


def test_rows_of_an_open_window_are_in_flight(stage: Stage) -> None:
    stage.usage("3")
    stage.world.now += 1200
    stage.world.record("4", at=stage.world.now - 920)
    report = stage.reconcile()
    assert seen(report, "kind", "repair") == [("in_flight", "wait")]


def test_a_batch_whose_answer_was_lost_is_in_flight_and_no_foreign_event(stage: Stage) -> None:
    stage.usage("3", "4")
    sent = stage.batches()[1]
    stage.later(1200)
    stage.world.force(
        sent, state="sending", sent_at=stage.world.now, doubt_since=stage.world.now, due_at=stage.world.now
    )
    report = stage.reconcile(person=True)
    assert seen(report, "kind", "units", "applied") == [("in_flight", -4, False), ("in_flight", 4, False)]
    assert report.unexplained == 0
    healed(stage, "7")


def test_what_stripe_does_not_show_yet_is_lag(stage: Stage) -> None:
    stage.usage("3")
    stage.stripe.double.lag_ms = 40 * 60_000
    stage.later(1200)
    report = stage.reconcile()
    assert seen(report, "kind", "units") == [("lag", -3)]
    healed(stage, "3")


def test_several_differences_add_up(stage: Stage) -> None:
    stage.usage("3", "4", "5", "6")
    first, second, _, last = stage.batches()
    stage.delete(first)
    stage.lose(second)
    stage.send("50", last.timestamp + 60, identifier="one")
    stage.send("0.25", last.timestamp - 4000, identifier="two")
    stage.usage("7", mark=False)
    stage.later(2 * HOUR)
    report = stage.reconcile(repair=False)
    assert stage.kinds(report) == ["foreign_event", "foreign_event", "unsealed_row", "unsent", "unsent"]
    assert report.unexplained == 0
    assert report.sink is not None
    assert sum(one.units for one in report.findings) == report.sink - report.events
    stage.heal(person=True, rounds=16)
    healed(stage, "25", person=True)
