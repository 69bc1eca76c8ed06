"""The flush queue (SQS FIFO). A message is a hint to look at a batch's row: losing or repeating one does no harm.

Body: `{"pk", "sk"}` of the row. Group: `Batch.group`. The deduplication id holds the row's `due_at`, which moves
forward before every further message: so a send repeated within SQS's five minutes is one message, and a batch queued
again within them is not swallowed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from botocore.config import Config

from tollgate import dynamo
from tollgate.billing.batch import Batch, BatchKey

_MOST = 10
"""Messages in one SendMessageBatch."""


class QueueRefused(Exception):
    """SQS took some messages of a call and refused others. Their rows come due again by themselves."""


@lru_cache(maxsize=1)
def _client() -> Any:
    return dynamo.session().create_client(
        "sqs",
        config=Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}),
    )


class FlushQueue:
    """Sends hints to flush."""

    def __init__(self, url: str) -> None:
        self._url = url

    def send(self, batches: Iterable[Batch]) -> int:
        """Queue batches, in order; returns how many. Raises QueueRefused where SQS refused any."""
        entries = [
            {
                "Id": str(at % _MOST),
                "MessageBody": json.dumps({"pk": batch.key.pk, "sk": batch.key.sk}, separators=(",", ":")),
                "MessageGroupId": batch.group,
                "MessageDeduplicationId": deduplication_id(batch),
            }
            for at, batch in enumerate(batches)
        ]
        for first in range(0, len(entries), _MOST):
            answer = _client().send_message_batch(QueueUrl=self._url, Entries=entries[first : first + _MOST])
            if answer.get("Failed"):
                raise QueueRefused(str([failed.get("Code") for failed in answer["Failed"]]))
        return len(entries)


def deduplication_id(batch: Batch) -> str:
    return hashlib.sha256(f"{batch.key.pk}\x00{batch.key.sk}\x00{batch.due_at}".encode()).hexdigest()


def key_of(body: str) -> BatchKey:
    """The batch that a message names. Raises ValueError for a body that names none."""
    try:
        fields = json.loads(body)
        pk, sk = fields["pk"], fields["sk"]
    except (KeyError, TypeError) as error:
        raise ValueError("a flush message without pk and sk") from error
    if not (isinstance(pk, str) and isinstance(sk, str)):
        raise ValueError("a flush message whose pk and sk are no strings")
    return BatchKey(pk, sk)
