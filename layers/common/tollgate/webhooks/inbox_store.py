"""Inbox rows in the billing table: `pk` `inbox#<event id>`, `sk` `event`; gone 40 days after the last change."""

from __future__ import annotations

from typing import Any, Final

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.webhooks.inbox import DONE, FAILED, KEPT_S, PROCESSING, Letter

_TAKE: Final = (
    "SET #state = :processing, #type = :type, lease_until = :lease, attempts = if_not_exists(attempts, :none) + :one, "
    "#ttl = :ttl, first_at = if_not_exists(first_at, :now)"
)
_FREE: Final = "attribute_not_exists(pk) OR #state = :failed OR (#state = :processing AND lease_until <= :now)"
_NAMES: Final = {"#state": "state", "#type": "type", "#ttl": "ttl"}


class InboxTable:
    """Inbox on DynamoDB (billing table)."""

    def __init__(self, table: str) -> None:
        self._table = table

    def take(self, event: str, kind: str, now: int, lease_s: int) -> tuple[Letter, bool]:
        values = {
            ":processing": dynamo.s(PROCESSING),
            ":failed": dynamo.s(FAILED),
            ":type": dynamo.s(kind),
            ":lease": dynamo.n(now + lease_s),
            ":none": dynamo.n(0),
            ":one": dynamo.n(1),
            ":ttl": dynamo.n(now + KEPT_S),
            ":now": dynamo.n(now),
        }
        try:
            answer = dynamo.client().update_item(
                TableName=self._table,
                Key=_key(event),
                UpdateExpression=_TAKE,
                ConditionExpression=_FREE,
                ExpressionAttributeNames=_NAMES,
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if not dynamo.failed_condition(error):
                raise
            # Also our own write whose answer was lost: then its lease ends, and the event is delivered again.
            return _letter_of(error.response["Item"]), False
        return _letter_of(answer["Attributes"]), True

    def end(
        self, letter: Letter, state: str, now: int, *, reason: str | None = None, outcome: str | None = None
    ) -> bool:
        said = {":reason": reason, ":outcome": outcome}
        sets = [f"{name[1:]} = {name}" for name, value in said.items() if value is not None]
        gone = ["lease_until", *(name[1:] for name, value in said.items() if value is None)]
        values = {name: dynamo.s(value) for name, value in said.items() if value is not None}
        try:
            dynamo.client().update_item(
                TableName=self._table,
                Key=_key(letter.id),
                UpdateExpression=f"SET {', '.join(['#state = :state', '#ttl = :ttl', *sets])} REMOVE {', '.join(gone)}",
                # Done is done, whichever attempt it was; a failure only ends the attempt that is the last one.
                ConditionExpression="attribute_exists(pk) AND #state <> :done AND (attempts = :mine OR :state = :done)",
                ExpressionAttributeNames={"#state": "state", "#ttl": "ttl"},
                ExpressionAttributeValues={
                    ":state": dynamo.s(state),
                    ":done": dynamo.s(DONE),
                    ":mine": dynamo.n(letter.attempts),
                    ":ttl": dynamo.n(now + KEPT_S),
                    **values,
                },
            )
        except ClientError as error:
            if dynamo.failed_condition(error):
                return False
            raise
        return True

    def get(self, event: str) -> Letter | None:
        """A consistent read."""
        found = dynamo.client().get_item(TableName=self._table, Key=_key(event), ConsistentRead=True).get("Item")
        return _letter_of(found) if found else None


def _key(event: str) -> dynamo.Item:
    return {"pk": dynamo.s(f"inbox#{event}"), "sk": dynamo.s("event")}


def _letter_of(raw: dynamo.Item) -> Letter:
    row: dict[str, Any] = dynamo.unitem(raw)
    return Letter(
        id=row["pk"].removeprefix("inbox#"),
        type=row["type"],
        state=row["state"],
        attempts=int(row["attempts"]),
        lease_until=int(row.get("lease_until", 0)),
        reason=row.get("reason"),
        outcome=row.get("outcome"),
    )
