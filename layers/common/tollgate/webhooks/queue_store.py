"""The queue of Stripe's events (SQS standard): what was delivered, as it was sent, and the worker's own tasks.

A message: a delivery's body, or `{"task": <name>, …}`. Neither order nor once is promised, and neither is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from botocore.config import Config

from tollgate import dynamo

CUSTOMER_TASK: Final = "customer"
"""Make the Stripe customer of `account`, unless it has one."""


@lru_cache(maxsize=1)
def _client() -> Any:
    # Stripe waits about 10 s for an answer; the function has as long.
    return dynamo.session().create_client(
        "sqs", config=Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2})
    )


class StripeEventsQueue:
    """Sends to the worker."""

    def __init__(self, url: str) -> None:
        self._url = url

    def send(self, body: str) -> None:
        """Queue a delivery's body."""
        _client().send_message(QueueUrl=self._url, MessageBody=body)

    def task(self, name: str, fields: Mapping[str, str]) -> None:
        """Queue a task of our own."""
        self.send(json.dumps({"task": name, **fields}, separators=(",", ":")))
