"""What Lambda deletes from a queue after a batch."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local.functions import Failure, Outcome
from local.queues import done_messages, sqs_event
from local.template import Queue

MESSAGES: list[dict[str, Any]] = [
    {"MessageId": "a", "ReceiptHandle": "ra", "Body": "1", "Attributes": {"MessageGroupId": "g"}},
    {"MessageId": "b", "ReceiptHandle": "rb", "Body": "2"},
]


def ids(payload: object, report: bool = True, failure: Failure | None = None) -> list[str]:
    outcome = Outcome(json.dumps(payload).encode(), failure)
    return [str(message["MessageId"]) for message in done_messages(MESSAGES, outcome, report)]


def test_all_is_done_where_nothing_failed() -> None:
    assert ids({"batchItemFailures": []}) == ids(None) == ids({}) == ["a", "b"]


def test_failed_items_stay() -> None:
    assert ids({"batchItemFailures": [{"itemIdentifier": "a"}]}) == ["b"]


def test_nothing_is_done_where_the_function_failed() -> None:
    assert ids({"batchItemFailures": []}, failure=Failure.CRASH) == []


@pytest.mark.parametrize(
    "answer",
    [
        {"batchItemFailures": [{"itemIdentifier": "unknown"}]},
        {"batchItemFailures": [{"id": "a"}]},
        {"batchItemFailures": ["a"]},
        {"batchItemFailures": 7},
        ["a"],
    ],
)
def test_nothing_is_done_where_the_answer_makes_no_sense(answer: object) -> None:
    assert ids(answer) == []


def test_without_partial_answers_all_is_done() -> None:
    assert ids({"batchItemFailures": [{"itemIdentifier": "a"}]}, report=False) == ["a", "b"]


def test_the_event_of_a_batch() -> None:
    queue = Queue("FlushQueue", "q.fifo", "http://q", "arn:aws:sqs:us-east-1:1:q.fifo", {})
    first, second = json.loads(sqs_event(MESSAGES, queue))["Records"]
    assert first == {
        "messageId": "a",
        "receiptHandle": "ra",
        "body": "1",
        "attributes": {"MessageGroupId": "g"},
        "messageAttributes": {},
        "md5OfBody": "c4ca4238a0b923820dcc509a6f75849b",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:1:q.fifo",
        "awsRegion": "us-east-1",
    }
    assert second["attributes"] == {}
