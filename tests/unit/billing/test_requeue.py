"""What has come due: lost messages, waits that are over; and that a queue is not flooded."""

from __future__ import annotations

import json
from dataclasses import replace

import boto3
import pytest

from tests.unit.billing.test_batch import BATCH
from tests.unit.billing.world import BILLING, NOON, World
from tollgate import dynamo
from tollgate.billing import queue_store
from tollgate.billing.batch import BatchKey
from tollgate.billing.batch_store import Due
from tollgate.billing.queue_store import FlushQueue, QueueRefused, key_of
from tollgate.billing.requeue import MOST_A_RUN
from tollgate.billing.run import run_seal
from tollgate.usage.markers import shard_of


def test_a_lost_message_is_queued_again_after_a_while_and_only_then(world: World) -> None:
    world.one_sealed()
    world.queue.waiting.clear()
    made_at = world.now
    while not world.queue.waiting:
        world.now += 60
        world.seal()
    assert world.now - made_at == 600
    assert world.flush_all() == ["flushed"]


def test_an_outage_does_not_fill_the_queue(world: World) -> None:
    """Nobody takes messages for an hour: a batch has six of them, not sixty."""
    world.one_sealed()
    for _ in range(60):
        world.now += 60
        world.seal()
    assert world.queue.sent == 7
    assert len(world.queue.ids) == 7


def test_two_seals_at_once_queue_a_due_batch_once(world: World) -> None:
    world.one_sealed()
    world.queue.waiting.clear()
    world.now += 600

    class Twice:
        """Another seal looks between this one's read of the row and its write."""

        done = False

        def __getattr__(self, name: str) -> object:
            return getattr(world.batches, name)

        def get(self, key: BatchKey) -> object:
            found = world.batches.get(key)
            if not self.done:
                self.done = True
                world.seal()
            return found

    world.seal(batches=Twice())
    assert len(world.queue.waiting) == 1


def test_a_batch_that_waits_is_not_queued_before_its_time(world: World) -> None:
    batch = world.one_sealed()
    world.queue.waiting.clear()
    world.force(batch, retry_at=world.now + 1000, due_at=world.now + 1000)
    world.now += 940
    world.seal()
    assert world.queue.waiting == []
    world.now += 60
    world.seal()
    assert world.flush_all() == ["flushed"]


def test_an_index_that_lags_behind_its_rows_does_no_harm(world: World) -> None:
    batch = world.one_sealed()
    world.flush_all()
    stale = [Due(batch.key, 0), Due(BatchKey("x", "m#0#0#0"), 0)]

    class Lagging:
        def __getattr__(self, name: str) -> object:
            return getattr(world.batches, name)

        def due(self, shard: int, *, waits_for_customer: bool = False, until: int | None = None) -> object:
            return iter([] if waits_for_customer else stale)

    assert world.seal(batches=Lagging()).requeued == 0
    assert world.queue.waiting == []


def test_the_oldest_unflushed_window_is_measured_also_when_nothing_is_due(world: World) -> None:
    world.one_sealed()
    world.record(1, at=NOON + 600)
    world.now = NOON + 1000
    world.seal()
    for batch in world.all_batches():
        world.force(batch, due_at=world.now + 10_000)
    assert world.seal().oldest == NOON
    world.flush_all()
    assert world.seal().oldest is None


def test_batches_that_wait_for_a_customer_are_not_measured(world: World) -> None:
    """They have their own alert; for weeks they would hide that Stripe gets nothing from the others."""
    world.one_sealed(customer=None)
    assert world.seal().oldest is None


def test_one_bad_row_stops_no_other(world: World) -> None:
    batch = world.one_sealed()
    row = {
        "pk": dynamo.s("batch#acme"),
        "sk": dynamo.s(f"a#{NOON:012d}#{NOON:012d}#000.0"),
        "due_shard": dynamo.s(f"{shard_of('acme'):02d}"),
        "due_at": dynamo.n(NOON),
    }
    dynamo.client().put_item(TableName=BILLING, Item=row)
    world.queue.waiting.clear()
    world.now += 600
    counts = run_seal(world.seal_deps(), [shard_of("acme")])
    assert len(counts.failures) == 1
    assert world.queue.waiting == [batch.key]


def test_a_run_takes_a_bounded_number_of_due_batches(world: World) -> None:
    assert MOST_A_RUN == 2_000
    world.one_sealed()
    world.now += 600
    counts = run_seal(world.seal_deps(), [shard_of("acme")], lambda: False)
    assert (counts.requeued, counts.left) == (0, 1)


# --- SQS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sqs_url(world: World) -> str:
    sqs = boto3.client("sqs", region_name="us-east-1")
    attributes = {"FifoQueue": "true", "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
    return str(sqs.create_queue(QueueName="flush.fifo", Attributes=attributes)["QueueUrl"])


def waiting(url: str) -> int:
    sqs = boto3.client("sqs", region_name="us-east-1")
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(found["Attributes"]["ApproximateNumberOfMessages"])


def received(url: str) -> list[dict[str, object]]:
    sqs = boto3.client("sqs", region_name="us-east-1")
    found: list[dict[str, object]] = []
    while True:
        page = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"])
        if not page.get("Messages"):
            return found
        found += page["Messages"]
        for message in page["Messages"]:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def test_messages_name_their_batch_in_its_group(sqs_url: str) -> None:
    assert FlushQueue(sqs_url).send([BATCH]) == 1
    (message,) = received(sqs_url)
    assert key_of(str(message["Body"])) == BATCH.key
    assert json.loads(str(message["Body"])) == {"pk": BATCH.key.pk, "sk": BATCH.key.sk}
    attributes = message["Attributes"]
    assert isinstance(attributes, dict)
    assert attributes["MessageGroupId"] == "cus_1#credits_used"


def test_a_send_repeated_is_one_message_and_a_requeue_is_another(sqs_url: str, world: World) -> None:
    queue = FlushQueue(sqs_url)
    batch = world.one_sealed()
    queue.send([batch])
    queue.send([batch])
    assert waiting(sqs_url) == 1
    world.now = batch.due_at or 0
    assert world.seal(queue=queue).requeued == 1
    assert waiting(sqs_url) == 2  # the first one was handled and deleted by now, but SQS still knows its id


def test_more_than_ten_batches_take_more_calls(sqs_url: str) -> None:
    batches = [replace(BATCH, window_start=NOON + 300 * n, customer=f"cus_{n}") for n in range(25)]
    assert FlushQueue(sqs_url).send(batches) == 25
    assert len({str(message["Body"]) for message in received(sqs_url)}) == 25


def test_a_message_that_sqs_refuses_is_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def send_message_batch(self, **request: object) -> dict[str, object]:
            return {"Successful": [], "Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": False}]}

    monkeypatch.setattr(queue_store, "_client", Refusing)
    with pytest.raises(QueueRefused, match="InternalError"):
        FlushQueue("https://example.com/flush.fifo").send([BATCH])


def test_what_sqs_refuses_is_reported_and_comes_due_again(world: World) -> None:
    world.one_sealed()
    world.queue.waiting.clear()
    world.queue.failing = True
    world.now += 600
    counts = run_seal(world.seal_deps(), [shard_of("acme")])
    assert [type(failure) for failure in counts.failures] == [QueueRefused]
    world.queue.failing = False
    world.now += 600
    world.seal()
    assert world.flush_all() == ["flushed"]


@pytest.mark.parametrize("body", ["", "{", "[]", "7", '{"pk": "x"}', '{"pk": 1, "sk": 2}', "null"])
def test_a_body_that_names_no_batch_is_refused(body: str) -> None:
    with pytest.raises(ValueError):
        key_of(body)
