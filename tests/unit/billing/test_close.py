"""The period close: what an invoice waits for, when it goes out, and that nothing is lost in silence around it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.billing.closing import (
    CUSTOMER,
    DAY,
    DEADLINE_S,
    DECEMBER,
    INVOICE,
    KEY,
    NOVEMBER,
    REVIEW_S,
    Closing,
)
from tests.unit.billing.world import Crash, Cut
from tollgate.billing.batch import EXPIRED, FLUSHED, NO_CUSTOMER, REJECTED, UNCONFIRMED
from tollgate.billing.close import IGNORED, MISSING, WAITING, finalized, step
from tollgate.billing.close_row import BACKSTOP_S, CLOSED, CLOSING, IN_DOUBT, LATE, LEAST_S, REVIEW, SHUT, Close
from tollgate.billing.sealed import Carried, LevelMark
from tollgate.errors import UnknownAccount
from tollgate.usage.markers import Marker
from tollgate.usage.outcome import Event, OutcomeKey, UsedItem

SETTLED = DECEMBER + LEAST_S
HOLD = 4
"""The call of a close that gives the draft its deadline: after reading it, its two prices, and the row."""


@pytest.fixture
def closing() -> Closing:
    return Closing()


# --- beginning -------------------------------------------------------------------------------------------------------


def test_the_draft_has_its_deadline_at_stripe_before_anything_else(closing: Closing) -> None:
    draft = closing.draft()
    closing.around = Cut(HOLD, after=True).around
    with pytest.raises(Crash):
        closing.begin()
    closing.around = lambda target: target
    expected = draft.created + DEADLINE_S + BACKSTOP_S
    assert (closing.closes.rows, closing.stripe.invoices[INVOICE].finalizes_at) == ({}, expected)
    assert closing.begin() == CLOSING
    assert closing.stripe.invoices[INVOICE].finalizes_at == closing.row.finalizes_at == expected
    assert (closing.row.start, closing.row.end, closing.row.meters) == (NOVEMBER, DECEMBER, ("ai_credits",))


def test_a_delivery_that_is_repeated_changes_nothing(closing: Closing) -> None:
    closing.draft()
    closing.begin()
    before, writes = closing.row, len(closing.stripe.writes)
    closing.now += 3000
    assert closing.begin() == CLOSING
    assert closing.row == before
    assert len(closing.stripe.writes) == writes


def test_an_invoice_without_usage_is_left_to_stripe(closing: Closing) -> None:
    closing.draft(prices=())
    assert closing.begin() == IGNORED
    assert (closing.closes.rows, closing.stripe.writes) == ({}, [])


def test_another_ones_customer_is_left_to_stripe(closing: Closing) -> None:
    closing.stripe.invoices[INVOICE] = closing.draft()._replace(customer="cus_other")
    assert closing.begin() == IGNORED
    assert closing.stripe.writes == []


def test_a_deleted_draft_is_missing(closing: Closing) -> None:
    assert closing.begin() == MISSING
    assert closing.step() == MISSING


# --- the way out -----------------------------------------------------------------------------------------------------


def test_the_invoice_goes_out_when_all_usage_is_there(closing: Closing) -> None:
    closing.draft()
    first, second = closing.flushed("7.5"), closing.batch("2", at=DECEMBER - 300)
    closing.begin()
    closing.run_until(SETTLED - 60, flushing=False)
    assert closing.stripe.invoices[INVOICE].draft
    closing.run_until(SETTLED + 300)
    assert closing.row.state == CLOSED
    assert closing.stripe.billed[INVOICE] == {"credits_used": first.units + second.units}
    assert closing.kinds == []
    closing.check_loud()


def test_a_month_without_trouble_takes_few_calls(closing: Closing) -> None:
    closing.draft()
    closing.flushed("7.5")
    closing.begin()
    closing.run_until(SETTLED + 3600)
    assert closing.stripe.reads == ["invoice", "invoice", "total credits_used", "before"]
    assert [write.split()[0] for write in closing.stripe.writes] == ["hold", "finalize"]


def test_nothing_is_asked_of_stripe_while_rows_are_not_sealed(closing: Closing) -> None:
    closing.draft()
    closing.begin()
    reads = len(closing.stripe.reads)
    closing.markers.left = [Marker("acme", DECEMBER - 300, DECEMBER - 300, 300)]
    closing.run_until(SETTLED + 2 * 3600)
    assert len(closing.stripe.reads) == reads
    assert closing.row.reason == "usage that is not sealed"
    closing.markers.left = [Marker("acme", DECEMBER, DECEMBER, 300)]  # of the next period
    closing.run_until(SETTLED + 3 * 3600)
    assert closing.row.state == CLOSED


def test_a_level_that_stands_is_awaited(closing: Closing) -> None:
    closing.draft()
    closing.begin()
    closing.levels.left = [Carried("acme", NOVEMBER, "storage", LevelMark(1, Decimal(3), NOVEMBER, priced=True))]
    closing.run_until(SETTLED + 3600)
    assert closing.row.state == CLOSING
    closing.levels.left = [Carried("acme", DECEMBER, "storage", LevelMark(1, Decimal(3), DECEMBER, priced=True))]
    closing.run_until(SETTLED + 3 * 3600)
    assert closing.row.state == CLOSED


@pytest.mark.parametrize("state", [REJECTED, UNCONFIRMED, NO_CUSTOMER])
def test_parked_usage_is_awaited_until_it_is_repaired(closing: Closing, state: str) -> None:
    closing.draft()
    parked = closing.batch("2", state=state)
    closing.begin()
    closing.run_until(SETTLED + DAY, flushing=False)
    assert closing.row.state == CLOSING
    closing.batches.replace(parked, replace(parked, state=REJECTED, repaired_by="x"))
    closing.run_until(SETTLED + DAY + 3600, flushing=False)
    assert closing.row.state == CLOSED


def test_stripes_lag_is_awaited(closing: Closing) -> None:
    closing.draft()
    closing.flushed("3")
    closing.stripe.hidden = set(closing.stripe.counted)
    closing.begin()
    closing.run_until(SETTLED + 1200)
    assert closing.row.state == CLOSING
    assert closing.row.reason == "credits_used: sent 3, Stripe's total is 0"
    closing.stripe.hidden = set()
    closing.run_until(SETTLED + 3600)
    assert closing.row.state == CLOSED
    closing.check_loud()


def test_usage_that_is_not_ours_holds_the_invoice(closing: Closing) -> None:
    closing.draft(prices=("credits", "tokens"))
    sent = closing.flushed("3")
    foreign = next(iter(closing.stripe.counted.values()))
    closing.stripe.counted["foreign"] = replace(foreign, identifier="foreign", event_name="tokens_used")
    closing.begin()
    closing.run_until(SETTLED + 3600)
    assert closing.row.reason == "tokens_used: sent 0, Stripe's total is 3"
    closing.run_until(DECEMBER + DEADLINE_S + 3600)
    assert (closing.row.state, closing.row.outcome) == (CLOSED, "deadline")
    assert sent.units == 3


def test_of_a_level_the_last_one_counts(closing: Closing) -> None:
    closing.draft(prices=("storage",))
    closing.flushed("8", meter="storage", at=DECEMBER - 600)
    closing.flushed("5", meter="storage", at=DECEMBER - 300)
    closing.begin()
    closing.run_until(SETTLED + 120)
    assert closing.row.state == CLOSED


def test_periods_that_begin_inside_a_minute_are_compared_by_whole_minutes(closing: Closing) -> None:
    edge = DECEMBER + 7
    closing.draft(start=NOVEMBER + 7, end=edge)
    closing.flushed("3", at=DECEMBER - 300, period_end=edge)
    closing.flushed("4", at=DECEMBER + 7, period_start=edge, period_end=edge + 31 * DAY)  # the next period's first
    closing.begin()
    closing.run_until(SETTLED + 300)
    assert closing.row.state == CLOSED
    assert closing.stripe.billed[INVOICE] == {"credits_used": Decimal(3)}


def test_the_usage_of_accounts_that_became_this_one_is_awaited(closing: Closing) -> None:
    closing.draft()
    closing.rules.add("guest", customer=None)
    closing.rules.change("acme", merged=("guest",))
    closing.begin()
    closing.markers.left = [Marker("guest", DECEMBER - 300, DECEMBER - 300, 300)]
    closing.run_until(SETTLED + 1200)
    assert closing.row.state == CLOSING


# --- the deadline ----------------------------------------------------------------------------------------------------


def test_past_the_deadline_the_invoice_goes_out_without_the_rest(closing: Closing) -> None:
    closing.draft()
    closing.flushed("7")
    closing.begin()
    closing.batch("2", at=DECEMBER - 300)
    closing.run_until(DECEMBER + DEADLINE_S + 180, flushing=False)
    assert (closing.row.state, closing.row.outcome) == (CLOSED, "deadline")
    assert closing.stripe.billed[INVOICE] == {"credits_used": Decimal(7)}
    late = next(batch for batch in closing.batches.rows.values() if batch.units == 2)
    assert (late.state, late.reason) == (EXPIRED, LATE)
    assert closing.kinds == ["close_deadline", "expired"]
    text = closing.outbox.alerts[f"close_deadline#{INVOICE}"].text
    assert "2 of ai_credits (sealed)" in text
    assert "not charged for" in text
    assert closing.flush(late.key) == EXPIRED
    closing.check_loud()


def test_an_outage_over_the_deadline_ends_with_it(closing: Closing) -> None:
    closing.draft()
    closing.flushed("7")
    closing.begin()
    closing.batch("2", at=DECEMBER - 300)
    closing.stripe.down = True
    closing.run_until(DECEMBER + DEADLINE_S + 1200)
    assert closing.stripe.invoices[INVOICE].draft
    assert closing.row.outcome == "deadline"
    closing.stripe.down = False
    closing.run_until(closing.now + 1200)
    assert closing.row.state == CLOSED
    assert closing.stripe.writes[-1] == "finalize"
    closing.check_loud()


def test_an_outage_over_the_end_of_the_period_loses_nothing(closing: Closing) -> None:
    closing.draft()
    closing.begin()
    closing.batch("2", at=DECEMBER - 300)
    closing.stripe.down = True
    closing.run_until(DECEMBER + 6 * 3600)
    closing.stripe.down = False
    closing.run_until(DECEMBER + 8 * 3600)
    assert (closing.row.state, closing.row.outcome) == (CLOSED, "matched")
    assert closing.stripe.billed[INVOICE] == {"credits_used": Decimal(2)}


# --- Stripe's own finalization ---------------------------------------------------------------------------------------


def test_without_us_stripe_finalizes_and_later_usage_expires(closing: Closing) -> None:
    closing.draft()
    closing.begin()
    closing.now = closing.row.finalizes_at + 10
    closing.stripe.pass_time()
    late = closing.batch("2", at=DECEMBER - 300)
    assert closing.flush(late.key) == EXPIRED  # nobody has told of the finalization yet
    assert finalized(closing.deps(), INVOICE, CUSTOMER) == CLOSED
    assert closing.row.outcome == "elsewhere"
    closing.check_loud()


def test_nothing_is_sent_shortly_before_stripe_finalizes_by_itself(closing: Closing) -> None:
    closing.draft()
    closing.begin()
    batch = closing.batch("2", at=DECEMBER - 300)
    closing.now = closing.row.finalizes_at - 120
    assert closing.flush(batch.key) == EXPIRED


def test_an_invoice_whose_creation_was_never_heard_of_shuts_its_period(closing: Closing) -> None:
    closing.stripe.invoices[INVOICE] = closing.draft()._replace(finalizes_at=DECEMBER + 3600)
    waiting, doubtful = closing.batch("2", at=DECEMBER - 300), closing.batch("3", at=DECEMBER - 600, meter="llm_tokens")
    doubtful_row = replace(doubtful, state="sending", sent_at=DECEMBER, attempts=1, retry_at=DECEMBER + 7200)
    closing.batches.replace(doubtful, doubtful_row)
    closing.now = DECEMBER + 3700
    closing.stripe.pass_time()
    assert finalized(closing.deps(), INVOICE) == CLOSED
    rows = closing.batches.rows
    assert (rows[waiting.key].state, rows[waiting.key].reason) == (EXPIRED, LATE)
    assert (rows[doubtful.key].state, rows[doubtful.key].reason) == (UNCONFIRMED, IN_DOUBT)
    assert closing.kinds == ["expired", "unconfirmed"]


def test_usage_of_the_next_period_is_sent(closing: Closing) -> None:
    closing.draft()
    closing.begin()
    closing.run_until(SETTLED + 300)
    assert closing.row.state == CLOSED
    batch = closing.batch("2", at=DECEMBER, period_start=DECEMBER, period_end=DECEMBER + 31 * DAY)
    assert closing.flush(batch.key) == FLUSHED
    last = closing.batch("2", at=DECEMBER - 60)
    assert closing.flush(last.key) == EXPIRED


def test_a_deleted_draft_shuts_nothing(closing: Closing) -> None:
    closing.draft()
    closing.begin()
    del closing.stripe.invoices[INVOICE]
    closing.run_until(SETTLED + 300)
    assert (closing.row.state, closing.row.outcome) == (CLOSED, "gone")
    assert closing.row.due_at is None  # there is nothing to compare
    batch = closing.batch("2")
    assert closing.flush(batch.key) == FLUSHED


def test_a_person_who_finalizes_early_is_noticed(closing: Closing) -> None:
    closing.draft()
    closing.begin()
    closing.stripe.finalize(INVOICE)
    closing.run_until(SETTLED + 300)
    assert (closing.row.state, closing.row.outcome) == (CLOSED, "elsewhere")


def test_the_word_of_a_person_s_finalization_shuts_the_period_at_once(closing: Closing) -> None:
    closing.draft()
    closing.begin()
    batch = closing.batch("2", at=DECEMBER - 300)
    closing.stripe.finalize(INVOICE)
    assert finalized(closing.deps(), INVOICE) == CLOSED
    assert closing.batches.rows[batch.key].state == EXPIRED


def test_a_late_word_of_finalization_costs_nothing(closing: Closing) -> None:
    closing.draft()
    closing.begin()
    closing.run_until(SETTLED + 300)
    reads = len(closing.stripe.reads)
    assert finalized(closing.deps(), INVOICE, CUSTOMER) == CLOSED
    assert len(closing.stripe.reads) == reads


# --- review ----------------------------------------------------------------------------------------------------------


def event(member: str, units: str, at: int, meter: str = "ai_credits") -> Event:
    item = UsedItem(meter, Decimal(units), Decimal(units))
    key = OutcomeKey("acme", at * 1000, f"{member}{at}")
    return Event(key, {"account": b"1"}, at * 1000, (item,), member=member)


def test_an_invoice_much_higher_than_the_last_is_held_and_told_with_its_drivers(closing: Closing) -> None:
    closing.draft("20", start=NOVEMBER - 31 * DAY, end=NOVEMBER, invoice="in_1", status="paid")
    closing.draft("30.01")
    closing.events.rows = [event("ann", "1", NOVEMBER - DAY), event("bob", "500", DECEMBER - DAY)]
    closing.flushed("7")
    closing.begin()
    closing.run_until(SETTLED + 120)
    assert closing.row.state == REVIEW
    (alert,) = closing.outbox.alerts.values()
    assert alert.kind == "invoice_review"
    assert "30.01 usd, the one before (in_1) to 20" in alert.text
    assert "ai_credits from -9 to 1.01 usd" in alert.text
    assert "bob from 0 to 500 units of ai_credits" in alert.text
    assert "ann" not in alert.text
    until = closing.row.review_until
    assert until is not None
    closing.run_until(until - 60)
    assert closing.stripe.invoices[INVOICE].draft
    closing.run_until(until + 120)
    assert closing.row.state == CLOSED
    assert closing.kinds == ["invoice_review"]
    closing.check_loud()


def test_half_as_much_again_is_not_much_higher(closing: Closing) -> None:
    closing.draft("20", start=NOVEMBER - 31 * DAY, end=NOVEMBER, invoice="in_1", status="paid")
    closing.draft("30.00")
    closing.begin()
    closing.run_until(SETTLED + 120)
    assert (closing.row.state, closing.kinds) == (CLOSED, [])


def test_a_review_that_outlasts_the_deadline_moves_it_at_stripe_first(closing: Closing) -> None:
    closing.settings = replace(closing.settings, review_seconds=3 * DAY)
    closing.draft("20", start=NOVEMBER - 31 * DAY, end=NOVEMBER, invoice="in_1", status="paid")
    closing.draft("31")
    closing.begin()
    closing.run_until(SETTLED + 120)
    until = closing.row.review_until
    assert until is not None
    assert until > DECEMBER + DEADLINE_S
    assert closing.stripe.invoices[INVOICE].finalizes_at == closing.row.finalizes_at > until
    closing.run_until(until + 120)
    assert (closing.row.state, closing.row.outcome) == (CLOSED, "matched")


def test_usage_that_comes_in_review_is_billed(closing: Closing) -> None:
    closing.draft("20", start=NOVEMBER - 31 * DAY, end=NOVEMBER, invoice="in_1", status="paid")
    closing.draft("31")
    closing.begin()
    closing.run_until(SETTLED + 120)
    closing.batch("4", at=DECEMBER - 300)
    closing.run_until(SETTLED + REVIEW_S + 600)
    assert closing.row.state == CLOSED
    assert closing.stripe.billed[INVOICE] == {"credits_used": Decimal(4)}


def test_without_a_review_time_it_is_told_and_let_go(closing: Closing) -> None:
    closing.settings = replace(closing.settings, review_seconds=0)
    closing.draft("20", start=NOVEMBER - 31 * DAY, end=NOVEMBER, invoice="in_1", status="paid")
    closing.draft("31")
    closing.begin()
    closing.run_until(SETTLED + 120)
    assert (closing.row.state, closing.kinds) == (CLOSED, ["invoice_review"])


def test_the_first_invoice_follows_a_rule_of_its_own(closing: Closing) -> None:
    closing.draft("500")
    closing.begin()
    closing.now = SETTLED
    assert step(closing.deps(first_invoice=lambda row, invoice: "migrated in November"), KEY) == REVIEW
    assert "migrated in November" in closing.outbox.alerts[f"invoice_review#{INVOICE}"].text


# --- flush and close at once -----------------------------------------------------------------------------------------


class Meanwhile:
    """Lets something happen before or after one of somebody's calls."""

    def __init__(self, at: int, happens: Any, *, after: bool) -> None:
        self.at, self.happens, self.after, self.calls = at, happens, after, 0

    def around(self, target: Any) -> Any:
        outer = self

        class Watched:
            def __getattr__(self, name: str) -> Any:
                method = getattr(target, name)

                def call(*args: Any, **kwargs: Any) -> Any:
                    here = outer.calls == outer.at
                    outer.calls += 1
                    if here and not outer.after:
                        outer.happens()
                    answer = method(*args, **kwargs)
                    if here and outer.after:
                        outer.happens()
                    return answer

                return call

        return Watched()


@pytest.mark.parametrize("late", [False, True], ids=["matching", "past the deadline"])
@pytest.mark.parametrize("after", [False, True])
def test_a_step_at_any_call_of_a_flush_loses_nothing_in_silence(late: bool, after: bool) -> None:
    for at in range(12):
        closing = Closing()
        closing.draft()
        closing.flushed("7")
        closing.begin()
        closing.now = DECEMBER + DEADLINE_S + 70 if late else SETTLED + 10
        batch = closing.batch("2", at=DECEMBER - 300)
        meanwhile = Meanwhile(at, closing.step, after=after)
        closing.flush_around = meanwhile.around
        closing.flush(batch.key)
        closing.flush_around = lambda target: target
        closing.run_until(DECEMBER + DEADLINE_S + 2 * DAY)
        assert closing.row.state == CLOSED
        closing.check_loud()
        if meanwhile.calls <= at:
            return
    raise AssertionError("a flush makes more calls than were tried")


@pytest.mark.parametrize("late", [False, True], ids=["matching", "past the deadline"])
@pytest.mark.parametrize("after", [False, True])
def test_a_batch_and_its_flush_at_any_call_of_a_step_lose_nothing_in_silence(late: bool, after: bool) -> None:
    for at in range(40):
        closing = Closing()
        closing.draft()
        closing.flushed("7")
        closing.begin()
        closing.now = DECEMBER + DEADLINE_S + 70 if late else SETTLED + 10

        def turns_up(closing: Closing = closing) -> None:
            closing.flush(closing.batch("2", at=DECEMBER - 300).key)

        meanwhile = Meanwhile(at, turns_up, after=after)
        closing.around = meanwhile.around
        closing.step()
        closing.around = lambda target: target
        closing.run_until(DECEMBER + DEADLINE_S + 2 * DAY)
        assert closing.row.state == CLOSED
        closing.check_loud()
        if meanwhile.calls <= at:
            return
    raise AssertionError("a step makes more calls than were tried")


def test_a_batch_that_comes_while_the_period_is_being_shut_is_billed_all_the_same(closing: Closing) -> None:
    closing.draft()
    closing.flushed("7")
    closing.begin()
    closing.now = SETTLED
    write = closing.closes.replace

    def shutting(before: Close, after: Close) -> Close | None:
        if after.state == SHUT and len(closing.batches.rows) == 1:
            closing.batch("2", at=DECEMBER - 300)
        return write(before, after)

    closing.closes.replace = shutting  # type: ignore[method-assign]
    assert closing.step() == WAITING
    assert closing.row.state == CLOSING
    closing.run_until(SETTLED + 1200)
    assert (closing.row.state, closing.row.outcome) == (CLOSED, "matched")
    assert closing.stripe.billed[INVOICE] == {"credits_used": Decimal(9)}


# --- crashes ---------------------------------------------------------------------------------------------------------


def scene(kind: str) -> Closing:
    closing = Closing()
    if kind == "review":
        closing.draft("20", start=NOVEMBER - 31 * DAY, end=NOVEMBER, invoice="in_1", status="paid")
        closing.settings = replace(closing.settings, review_seconds=3 * DAY)
    closing.draft("31")
    closing.flushed("7")
    return closing


def lives(closing: Closing, kind: str) -> None:
    """A close from its beginning to its end, one delivery of each event and the schedule; crashes are repeated."""
    closing.begin()
    if kind == "elsewhere":
        if closing.stripe.invoices[INVOICE].draft:
            closing.stripe.finalize(INVOICE)
            closing.batch("2", at=DECEMBER - 300)
        finalized(closing.deps(), INVOICE)
    if kind == "deadline" and len(closing.batches.rows) == 1:
        closing.batch("2", at=DECEMBER - 300)
    closing.now = max(closing.now, DECEMBER + DEADLINE_S - 120 if kind == "deadline" else SETTLED)
    closing.run_until(DECEMBER + DEADLINE_S + 4 * DAY, flushing=kind != "deadline")


def ended(closing: Closing) -> tuple[Any, ...]:
    row = closing.row
    return (
        row.state,
        row.outcome,
        closing.stripe.billed,
        sorted((batch.units, batch.state, batch.reason) for batch in closing.batches.rows.values()),
        closing.kinds,
    )


@pytest.mark.parametrize("kind", ["matched", "deadline", "review", "elsewhere"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_call_ends_in_the_same_state(kind: str, after: bool) -> None:
    whole = scene(kind)
    lives(whole, kind)
    assert whole.row.state == CLOSED
    at = 0
    while True:
        closing = scene(kind)
        cut = Cut(at, after=after)
        closing.around = cut.around
        try:
            lives(closing, kind)
        except Crash:
            lives(closing, kind)  # the event is delivered again, and the schedule goes on
        else:
            assert at > 13
            return
        assert ended(closing) == ended(whole), at
        closing.check_loud()
        at += 1


def test_a_crash_for_good_leaves_an_invoice_that_finalizes_by_itself() -> None:
    """Whatever call of the close is its last one, after the first word to Stripe."""
    at = HOLD
    while True:
        closing = scene("matched")
        cut = Cut(at, after=True)
        closing.around = cut.around
        try:
            closing.begin()
            closing.run_until(SETTLED + 600)
        except Crash:
            closing.now = DECEMBER + DEADLINE_S + BACKSTOP_S + 120
            closing.stripe.pass_time()
            assert not closing.stripe.invoices[INVOICE].draft, at
            assert closing.stripe.billed[INVOICE] == {"credits_used": Decimal(7)}
            at += 1
        else:
            assert at > 10
            return


def test_an_account_that_is_gone_is_an_error_in_sight(closing: Closing) -> None:
    closing.draft()
    closing.begin()
    closing.now = SETTLED
    closing.rules.rows.clear()
    with pytest.raises(UnknownAccount):
        closing.step()


def test_a_step_too_early_waits(closing: Closing) -> None:
    closing.draft()
    closing.begin()
    assert closing.step() == WAITING
    closing.now = SETTLED - 10
    assert closing.step() == WAITING
    closing.now = SETTLED - 5
    assert closing.step() == CLOSED
