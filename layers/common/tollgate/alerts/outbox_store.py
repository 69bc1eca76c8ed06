"""The outbox in the billing table.

Message row: `pk` `outbox`, `sk` `<created ms, 13 digits>#<alert id>`, `message` JSON, due at once in the index `due`;
from then on it is `notify/letter_store`'s. Guard row: `pk` `alert#<id>`,
`sk` `first`, kept so long that the same trouble cannot come again under its id. One transaction puts both, and the
notification where the customer is among the audience (`notification_store`), so an id has its message exactly once,
whoever puts it how often.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.alerts.notification_store import notification_item
from tollgate.alerts.outbox import Alert
from tollgate.clock import Clock
from tollgate.errors import Busy

OUTBOX: Final = "outbox"
DUE: Final = "notify"
"""What is to be delivered, in the index `due`."""
_GUARDED_S = 90 * 86_400
_REMEMBERED = 10_000
_TRIES = 6
_OTHERS = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
"""Reasons of a part that says nothing against putting it again [docs]."""


def _pause(tried: int) -> None:
    """Up to 2**n times 20 ms: of transactions that met on a row, one was applied at once."""
    time.sleep(random.randrange(20_000 * 2**tried) / 1_000_000)


class OutboxTable:
    """Outbox on DynamoDB (billing table)."""

    def __init__(self, table: str, clock: Clock, pause: Callable[[int], None] = _pause) -> None:
        self._table, self._clock, self._pause = table, clock, pause
        self._put_before: set[str] = set()

    def put(self, alert: Alert) -> bool:
        """Raises Busy where others had its rows each time; what is told by a gate's write `backstop.py` tells later."""
        if alert.id in self._put_before:
            return False
        now_ms = self._clock()
        guard = {
            "pk": f"alert#{alert.id}",
            "sk": "first",
            "at": alert.at_ms,
            "ttl": max(now_ms // 1000, alert.guarded_until) + _GUARDED_S,
        }
        # The time of putting, not of the trouble: a reader that goes through the outbox in order must not be overtaken.
        row = {
            "pk": OUTBOX,
            "sk": f"{now_ms:013d}#{alert.id}",
            "kind": alert.kind,
            "message": alert.message(),
            "version": 0,
            "due_shard": DUE,
            "due_at": now_ms // 1000,
        }
        puts = [
            {"TableName": self._table, "Item": dynamo.item(guard), "ConditionExpression": "attribute_not_exists(pk)"},
            {"TableName": self._table, "Item": dynamo.item(row)},
        ]
        if alert.for_customer:
            puts.append({"TableName": self._table, "Item": notification_item(alert, now_ms)})
        new = self._put_once(puts)
        self._remember(alert.id)
        return new

    def _put_once(self, puts: Sequence[Mapping[str, object]]) -> bool:
        last: ClientError | None = None
        for tried in range(_TRIES):
            try:
                dynamo.client().transact_write_items(TransactItems=[{"Put": put} for put in puts])
            except ClientError as error:
                if _guarded(error):
                    return False
                if not _may_pass(error):
                    raise
                last = error  # another transaction has a row of it; the SDK tries that no second time
                self._pause(tried)
                continue
            return True
        raise Busy from last

    def knows(self, alert_id: str) -> bool:
        """Whether the alert was put before (consistent). Cheaper than putting it again."""
        if alert_id in self._put_before:
            return True
        key = {"pk": dynamo.s(f"alert#{alert_id}"), "sk": dynamo.s("first")}
        answer = dynamo.client().get_item(
            TableName=self._table, Key=key, ConsistentRead=True, ProjectionExpression="sk"
        )
        if "Item" not in answer:
            return False
        self._remember(alert_id)
        return True

    def _remember(self, alert_id: str) -> None:
        if len(self._put_before) >= _REMEMBERED:
            self._put_before.clear()
        self._put_before.add(alert_id)


def _guarded(error: ClientError) -> bool:
    return _reasons(error)[:1] == ["ConditionalCheckFailed"]


def _may_pass(error: ClientError) -> bool:
    """Whether it failed by what others did at the same moment, and by nothing else."""
    reasons = {reason for reason in _reasons(error) if reason != "None"}
    return dynamo.code_of(error) == "TransactionInProgressException" or bool(reasons and reasons <= _OTHERS)


def _reasons(error: ClientError) -> list[str]:
    """Why a transaction was cancelled, by its parts; empty where the error is another one."""
    if dynamo.code_of(error) != "TransactionCanceledException":
        return []
    return [str(reason.get("Code")) for reason in error.response.get("CancellationReasons") or ()]
