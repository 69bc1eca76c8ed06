"""SQS event source mappings: take batches from a queue, invoke the function, delete what it has done."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.functions import FunctionPool, Outcome
from local.logs import console
from local.settings import REGION
from local.template import Queue, QueueMapping

_WAIT_SECONDS = 2
_PAUSE_SECONDS = 1.0


def sqs_event(messages: list[dict[str, Any]], queue: Queue) -> bytes:
    """The event that Lambda makes of received messages."""
    records = [
        {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": {
                name: {
                    key[0].lower() + key[1:]: value
                    for key, value in attribute.items()
                    if key in ("StringValue", "DataType")
                }
                | {"stringListValues": [], "binaryListValues": []}
                for name, attribute in message.get("MessageAttributes", {}).items()
            },
            "md5OfBody": message.get("MD5OfBody")
            or hashlib.md5(message["Body"].encode(), usedforsecurity=False).hexdigest(),
            "eventSource": "aws:sqs",
            "eventSourceARN": queue.arn,
            "awsRegion": REGION,
        }
        for message in messages
    ]
    return json.dumps({"Records": records}).encode()


def done_messages(messages: list[dict[str, Any]], outcome: Outcome, report_item_failures: bool) -> list[dict[str, Any]]:
    """The messages of a batch that Lambda deletes after this outcome.

    With ReportBatchItemFailures an empty or null answer means all done; a malformed one, or a name that is not in the
    batch, means none.
    """
    if outcome.failure is not None:
        return []
    if not report_item_failures:
        return messages
    try:
        answer = json.loads(outcome.payload)
        failures = (answer or {}).get("batchItemFailures") or []
        failed = {failure["itemIdentifier"] for failure in failures}
    except (ValueError, TypeError, KeyError, AttributeError):
        return []
    if not failed <= {message["MessageId"] for message in messages}:
        return []
    return [message for message in messages if message["MessageId"] not in failed]


class QueuePoller:
    """One consumer of a queue. Several may run; a FIFO group is never in two hands, because SQS holds it back."""

    def __init__(self, sqs: Any, queue: Queue, mapping: QueueMapping, pool: FunctionPool) -> None:
        self._sqs = sqs
        self._queue = queue
        self._mapping = mapping
        self._pool = pool

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            try:
                await self.poll_once()
            except (BotoCoreError, ClientError) as problem:
                console(f"  {self._queue.name}: {problem}")
                await asyncio.sleep(_PAUSE_SECONDS)

    async def poll_once(self) -> int:
        """Take one batch and process it; the number of messages taken."""
        answer = await asyncio.to_thread(
            self._sqs.receive_message,
            QueueUrl=self._queue.url,
            MaxNumberOfMessages=min(self._mapping.batch_size, 10),
            WaitTimeSeconds=_WAIT_SECONDS,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        if not messages:
            return 0
        outcome = await self._pool.invoke(sqs_event(messages, self._queue))
        if outcome.failure is not None:
            console(
                f"  {self._mapping.function} failed on {len(messages)} message(s) of {self._queue.name} "
                f"({outcome.failure.value}): {outcome.payload.decode('utf-8', 'replace')}"
            )
        done = done_messages(messages, outcome, self._mapping.report_item_failures)
        if done:
            entries = [{"Id": str(i), "ReceiptHandle": message["ReceiptHandle"]} for i, message in enumerate(done)]
            await asyncio.to_thread(self._sqs.delete_message_batch, QueueUrl=self._queue.url, Entries=entries)
        return len(messages)
