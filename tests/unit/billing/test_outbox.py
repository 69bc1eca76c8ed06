"""The outbox takes each id once, whoever puts it how often; and the alerts of batches."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.unit.billing.test_batch import BATCH
from tests.unit.billing.world import BILLING, NOON, World
from tollgate import dynamo
from tollgate.alerts.outbox import Alert
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.billing.trouble import alert_of
from tollgate.errors import Busy

ALERT = Alert("rejected#acme", "rejected", "acme", "Subject", "Text", NOON * 1000, {"meter": "ai_credits"})


def test_an_alert_is_one_message_whoever_puts_it(world: World) -> None:
    assert world.outbox.put(ALERT)
    assert not world.outbox.put(ALERT)
    world.now += 1
    assert not OutboxTable(BILLING, world.clock).put(replace(ALERT, text="Other words"))
    (row,) = world.alerts()
    assert row["sk"] == f"{NOON * 1000:013d}#rejected#acme"
    assert json.loads(row["message"]) == {
        "id": "rejected#acme",
        "kind": "rejected",
        "account": "acme",
        "subject": "Subject",
        "text": "Text",
        "at": "2026-11-21T12:00:00.000Z",
        "audience": "operator",
        "meter": "ai_credits",
    }


def test_messages_stand_in_the_order_of_their_putting_so_that_a_reader_misses_none(world: World) -> None:
    world.outbox.put(replace(ALERT, id="b", at_ms=NOON * 1000 - 5_000))
    world.now += 1
    world.outbox.put(replace(ALERT, id="a", at_ms=NOON * 1000 - 9_000))
    assert [row["sk"].partition("#")[2] for row in world.alerts()] == ["b", "a"]


def test_a_failure_of_the_store_is_no_success(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def transact_write_items(self, **request: object) -> None:
            answer: Any = {
                "Error": {"Code": "TransactionCanceledException"},
                "CancellationReasons": [{"Code": "None"}, {"Code": "ValidationError"}],
            }
            raise ClientError(answer, "TransactWriteItems")

    monkeypatch.setattr(dynamo, "client", Failing)
    with pytest.raises(ClientError):
        world.outbox.put(ALERT)
    monkeypatch.undo()
    assert world.outbox.put(ALERT)


class Contended:
    """The table, in which others have the rows of the first `times` transactions; `applied`: and one of these was the
    same alert's."""

    def __init__(self, times: int, applied: Alert | None = None) -> None:
        self.times, self.applied, self.sent, self.real = times, applied, 0, dynamo.client()

    def __call__(self) -> Any:
        return self

    def transact_write_items(self, **request: Any) -> Any:
        self.sent += 1
        if self.sent > self.times:
            return self.real.transact_write_items(**request)
        if self.applied is not None and self.sent == 1:
            self.real.transact_write_items(**request)
        answer: Any = {
            "Error": {"Code": "TransactionCanceledException"},
            "CancellationReasons": [{"Code": "TransactionConflict"}, {"Code": "None"}],
        }
        raise ClientError(answer, "TransactWriteItems")


@pytest.mark.parametrize("other_was_the_same", [False, True])
def test_a_put_that_meets_another_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, other_was_the_same: bool
) -> None:
    table, waits = Contended(3, ALERT if other_was_the_same else None), list[int]()
    monkeypatch.setattr(dynamo, "client", table)
    outbox = OutboxTable(BILLING, world.clock, waits.append)
    assert outbox.put(ALERT) is not other_was_the_same
    assert (table.sent, waits) == (4, [0, 1, 2])
    monkeypatch.undo()
    assert len(world.alerts()) == 1


def test_a_put_that_meets_others_each_time_is_busy_and_not_taken_for_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = list[int]()
    monkeypatch.setattr(dynamo, "client", Contended(6))
    outbox = OutboxTable(BILLING, world.clock, waits.append)
    with pytest.raises(Busy):
        outbox.put(ALERT)
    assert waits == [0, 1, 2, 3, 4, 5]
    assert outbox.put(ALERT)
    monkeypatch.undo()
    assert len(world.alerts()) == 1


@pytest.mark.parametrize("state", ["no_customer", "rejected", "expired", "unconfirmed"])
def test_each_parked_state_has_an_alert_that_says_what_to_do(state: str) -> None:
    alert = alert_of(replace(BATCH, state=state, reason="why", detail="400 x: y"))
    assert (alert.kind, alert.account) == (state, "acme")
    assert alert.facts == {"meter": "ai_credits", "reason": "why", "batch": BATCH.key.sk}
    for words in ("acme", "5 units of ai_credits", "why", "2026-11-21T12:00:00Z", "400 x: y"):
        assert words in alert.text


def test_the_same_trouble_has_one_id_a_day() -> None:
    first = replace(BATCH, state="rejected", reason="why", state_at=NOON)
    assert alert_of(replace(first, window_start=NOON + 300, part=1, units=BATCH.units * 2)).id == alert_of(first).id
    others = [
        replace(first, state_at=NOON + 12 * 3600),
        replace(first, account="other"),
        replace(first, meter="llm_tokens"),
        replace(first, reason="else"),
        replace(first, state="expired"),
    ]
    assert len({alert_of(batch).id for batch in [first, *others]}) == 6
