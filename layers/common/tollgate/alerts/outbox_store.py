"""The outbox in the billing table.

Message row: `pk` `outbox`, `sk` `<created ms, 13 digits>#<alert id>`, `message` JSON. Guard row: `pk` `alert#<id>`,
`sk` `first`, kept so long that the same trouble cannot come again under its id. One transaction puts both, and the
notification where the customer is among the audience (`notification_store`), so an id has its message exactly once,
whoever puts it how often.
"""

from __future__ import annotations

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.alerts.notification_store import notification_item
from tollgate.alerts.outbox import Alert
from tollgate.clock import Clock

_GUARDED_S = 90 * 86_400
_REMEMBERED = 10_000


class OutboxTable:
    """Outbox on DynamoDB (billing table)."""

    def __init__(self, table: str, clock: Clock) -> None:
        self._table, self._clock = table, clock
        self._put_before: set[str] = set()

    def put(self, alert: Alert) -> bool:
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
        row = {"pk": "outbox", "sk": f"{now_ms:013d}#{alert.id}", "kind": alert.kind, "message": alert.message()}
        puts = [
            {"TableName": self._table, "Item": dynamo.item(guard), "ConditionExpression": "attribute_not_exists(pk)"},
            {"TableName": self._table, "Item": dynamo.item(row)},
        ]
        if alert.for_customer:
            puts.append({"TableName": self._table, "Item": notification_item(alert, now_ms)})
        new = True
        try:
            dynamo.client().transact_write_items(TransactItems=[{"Put": put} for put in puts])
        except ClientError as error:
            if not _guarded(error):
                raise
            new = False
        if len(self._put_before) >= _REMEMBERED:
            self._put_before.clear()
        self._put_before.add(alert.id)
        return new


def _guarded(error: ClientError) -> bool:
    if dynamo.code_of(error) != "TransactionCanceledException":
        return False
    reasons = error.response.get("CancellationReasons") or [{}]
    return bool(reasons[0].get("Code") == "ConditionalCheckFailed")
