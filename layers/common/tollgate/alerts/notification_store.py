"""Notifications of an account, for its own app to show: in the billing table, beside the outbox that puts them.

Row: `pk` `note#<account>`, `sk` the message's id, `kind`, `subject`, `text`, `at` (ms), `facts`, and `read` once it was
marked. The mark of all up to a message is one row: `sk` `read`, `up_to`. A row ends by its `ttl`, read or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from typing import Any, Final, NamedTuple

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.alerts.outbox import Alert, message_id

KEPT_S: Final = 180 * 86_400
MAX_READ: Final = 2_000
"""Rows looked at for one page: a filter that matches little answers a short page and a key to go on from."""
_MARK: Final = "read"
_FIRST, _LAST = "msg_", "msg_~"


class Notification(NamedTuple):
    """One message to an account; `at_ms`: when it was put."""

    id: str
    account: str
    kind: str
    subject: str
    text: str
    at_ms: int
    facts: Mapping[str, str]
    read: bool


def notification_item(alert: Alert, now_ms: int) -> dynamo.Item:
    """The row of an alert that has the customer among its audience."""
    words = alert.to_customer
    return dynamo.item(
        {
            "pk": _partition(alert.account),
            "sk": message_id(now_ms, alert.id),
            "kind": alert.kind,
            "subject": words.subject,
            "text": words.text,
            "at": now_ms,
            "facts": alert.shown,
            "ttl": now_ms // 1000 + KEPT_S,
        }
    )


class NotificationTable:
    """Notifications on DynamoDB (billing table). `homes`: the account's id, then the ids that became it."""

    def __init__(self, table: str) -> None:
        self._table = table

    def page(
        self, homes: Sequence[str], limit: int, before: str | None, *, unread: bool
    ) -> tuple[list[Notification], str | None]:
        """Notifications below id `before`, newest first; `unread`: those only. And the id to go on below."""
        marks = {home: self._mark(home) for home in homes}  # what a guest had read stays read once it is known
        mark = marks[homes[0]]
        found: list[Notification] = []
        last = before
        for looked, one in enumerate(
            merge(*(self._newest(home, max(mark, marks[home]), before) for home in homes), key=_id, reverse=True)
        ):
            if unread and one.id <= mark:
                return found, None  # all older ones are marked
            if len(found) == limit or looked == MAX_READ:
                return found, last
            last = one.id
            if not (unread and one.read):
                found.append(one)
        return found, None

    def mark(self, homes: Sequence[str], notification: str, now_ms: int) -> Notification | None:
        """Mark one as read; None where there is none. Marking it again changes nothing."""
        for home in homes:
            try:
                raw = dynamo.client().update_item(
                    TableName=self._table,
                    Key={"pk": dynamo.s(_partition(home)), "sk": dynamo.s(notification)},
                    UpdateExpression="SET #read = if_not_exists(#read, :now)",
                    ConditionExpression="attribute_exists(pk)",
                    ExpressionAttributeNames={"#read": "read"},
                    ExpressionAttributeValues={":now": dynamo.n(now_ms)},
                    ReturnValues="ALL_NEW",
                )["Attributes"]
            except ClientError as error:
                if not dynamo.failed_condition(error):
                    raise
                continue
            return _notification(home, raw, "")
        return None

    def mark_up_to(self, account: str, notification: str) -> None:
        """Mark all up to one as read, in one write. The mark never goes back, so repeating it is harmless."""
        try:
            dynamo.client().update_item(
                TableName=self._table,
                Key={"pk": dynamo.s(_partition(account)), "sk": dynamo.s(_MARK)},
                UpdateExpression="SET up_to = :id",
                ConditionExpression="attribute_not_exists(pk) OR up_to < :id",
                ExpressionAttributeValues={":id": dynamo.s(notification)},
            )
        except ClientError as error:
            if not dynamo.failed_condition(error):
                raise

    def _mark(self, account: str) -> str:
        key = {"pk": dynamo.s(_partition(account)), "sk": dynamo.s(_MARK)}
        found = dynamo.client().get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        return str(found["up_to"]["S"]) if found else ""

    def _newest(self, account: str, mark: str, before: str | None) -> Iterator[Notification]:
        for raw in dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues={
                ":pk": dynamo.s(_partition(account)),
                ":first": dynamo.s(_FIRST),
                ":last": dynamo.s(before or _LAST),
            },
            ScanIndexForward=False,
            ConsistentRead=True,
            Limit=101,
        ):
            if raw["sk"]["S"] != before:
                yield _notification(account, raw, mark)


def _partition(account: str) -> str:
    return f"note#{account}"


def _id(notification: Notification) -> str:
    return notification.id


def _notification(account: str, raw: dynamo.Item, mark: str) -> Notification:
    row: dict[str, Any] = dynamo.unitem(raw)
    return Notification(
        id=row["sk"],
        account=account,
        kind=row["kind"],
        subject=row["subject"],
        text=row["text"],
        at_ms=int(row["at"]),
        facts=row["facts"],
        read="read" in row or row["sk"] <= mark,
    )
