"""The running stack: what the control endpoints and the front page look at."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local.clock import StackClock
from local.functions import FunctionPool
from local.schedules import Scheduler
from local.settings import Settings
from local.template import Queue, Stack

_OUTBOX = "outbox"


class NoDouble(Exception):
    """The real Stripe sandbox is in use: it has no faults to inject and no clock to move."""


@dataclass(frozen=True, slots=True)
class RunningStack:
    """All parts of a stack that serves."""

    settings: Settings
    template: Stack
    clock: StackClock
    pools: Mapping[str, FunctionPool]
    scheduler: Scheduler
    dynamodb: Any
    sqs: Any

    def now(self) -> dict[str, Any]:
        """The stack's time."""
        now = datetime.fromtimestamp(self.clock.now(), UTC)
        return {
            "now": now.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            "offset_seconds": self.clock.offset_ns // 1_000_000_000,
        }

    async def advance(self, seconds: int) -> dict[str, Any]:
        """Move the whole stack's time and the double's; schedules that fall due by it start at once."""
        # The double first: where it refuses, nothing has moved, and it is never behind the stack's own time.
        if not self.settings.real_stripe:
            status, answer = await self.double("/_double/clock", {"advance_seconds": seconds})
            if status != 200:
                raise RuntimeError(f"the Stripe double answered {status} to the clock: {answer}")
        self.clock.advance(seconds)
        self.scheduler.clock_moved()
        return self.now()

    async def double(self, path: str, body: Any) -> tuple[int, Any]:
        """POST to the Stripe double; its status and JSON. Raises NoDouble with the real sandbox."""
        url = self.settings.stripe_url
        if url is None:
            raise NoDouble("STRIPE_SECRET_KEY is set, so this stack uses the real Stripe sandbox and no double.")
        return await asyncio.to_thread(post, url + path, body)

    async def queues(self) -> list[dict[str, Any]]:
        """How many messages wait in each queue, and how many are in a function's hands."""
        return await asyncio.to_thread(_count_messages, self.sqs, self.template.queues)

    async def outbox(self) -> list[dict[str, Any]]:
        """Messages of the outbox, newest first."""
        table = self.template.environment("TOLLGATE_BILLING_TABLE")
        if table is None:
            return []
        return await asyncio.to_thread(_read_outbox, self.dynamodb, table)


def post(url: str, body: Any) -> tuple[int, Any]:
    """POST JSON to a part of the stack; its status and JSON."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as refused:
        text = refused.read()
        try:
            return refused.code, json.loads(text)
        except ValueError:
            return refused.code, {"detail": text.decode("utf-8", "replace")}


def _count_messages(sqs: Any, queues: Sequence[Queue]) -> list[dict[str, Any]]:
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    counts = []
    for queue in queues:
        found = sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=list(names))["Attributes"]
        waiting, in_flight = (int(found[name]) for name in names)
        counts.append({"name": queue.logical_id, "waiting": waiting, "in_flight": in_flight})
    return counts


def _read_outbox(dynamodb: Any, table: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    arguments: dict[str, Any] = {
        "TableName": table,
        "KeyConditionExpression": "pk = :outbox",
        "ExpressionAttributeValues": {":outbox": {"S": _OUTBOX}},
        "ScanIndexForward": False,
        "ConsistentRead": True,
    }
    while True:
        page = dynamodb.query(**arguments)
        messages += [json.loads(item["message"]["S"]) for item in page["Items"]]
        if "LastEvaluatedKey" not in page:
            return messages
        arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]
