"""The reconcile queue (SQS FIFO): parts of runs. Group and deduplication id are the part's own name, so a part that is
queued again within five minutes is one message, and parts do not wait for each other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from botocore.config import Config

from tollgate import dynamo
from tollgate.reconcile.run import Part

_MOST = 10
"""Messages in one SendMessageBatch."""


class QueueRefused(Exception):
    """SQS refused parts of a run; their pairs stay in the index for the next one."""


@lru_cache(maxsize=1)
def _client() -> Any:
    return dynamo.session().create_client(
        "sqs",
        config=Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}),
    )


class PartQueue:
    """Sends parts."""

    def __init__(self, url: str) -> None:
        self._url = url

    def send(self, parts: Sequence[Part]) -> None:
        """Raises QueueRefused where SQS refused any."""
        for first in range(0, len(parts), _MOST):
            entries = [
                {
                    "Id": str(at),
                    "MessageBody": part.body(),
                    "MessageGroupId": name_of(part),
                    "MessageDeduplicationId": name_of(part),
                }
                for at, part in enumerate(parts[first : first + _MOST])
            ]
            answer = _client().send_message_batch(QueueUrl=self._url, Entries=entries)
            if answer.get("Failed"):
                raise QueueRefused(str([failed.get("Code") for failed in answer["Failed"]]))


def name_of(part: Part) -> str:
    return hashlib.sha256(f"{part.run}\x00{part.number}".encode()).hexdigest()
