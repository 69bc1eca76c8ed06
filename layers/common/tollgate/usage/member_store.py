"""The members of an account, in the events table beside what they used.

Member row: `pk` account, `sk` `m#<member>`, `since` (ms) and, once removed, `gone` (ms) and `left` (what it had used
then, {slot -> [window, used]}). List row: `sk` `ml#<since, 13 digits>#<member>`, put in the same transaction. A member
is listed before its gate is made, so that no gate is without its row; a crash between leaves a member that has used
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.clock import Clock


class MemberRow(NamedTuple):
    """One member. `left`: what its counters had used when it was removed, by slot: (window, used)."""

    member: str
    since_ms: int
    removed_ms: int | None = None
    left: Mapping[int, tuple[int, Decimal]] = {}


class MemberTable:
    """Members on DynamoDB."""

    def __init__(self, table: str, clock: Clock) -> None:
        self._table, self._clock = table, clock

    def begins(self, subject: str) -> None:
        """A member's gate (`account#member`) is about to be made. Repeating it changes nothing."""
        account, _, member = subject.partition("#")
        now_ms = self._clock()
        row = {"pk": account, "sk": f"m#{member}", "since": now_ms}
        listed = {"pk": account, "sk": f"ml#{now_ms:013d}#{member}"}
        try:
            dynamo.client().transact_write_items(TransactItems=[self._new(row), self._new(listed)])
        except ClientError as error:
            if not _taken(error):
                raise

    def page(self, account: str, limit: int, before: str | None) -> tuple[list[MemberRow], str | None]:
        """Members, newest first, below list key `before`; and the key to go on from."""
        start = {"ExclusiveStartKey": {"pk": dynamo.s(account), "sk": dynamo.s(f"ml#{before}")}} if before else {}
        answer = dynamo.client().query(
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :ml)",
            ExpressionAttributeValues={":pk": dynamo.s(account), ":ml": dynamo.s("ml#")},
            ScanIndexForward=False,
            Limit=limit,
            ConsistentRead=True,
            **start,
        )
        names = [raw["sk"]["S"].split("#", 2)[2] for raw in answer["Items"]]
        rows = self._rows(account, names)
        after = answer.get("LastEvaluatedKey")
        return [rows[name] for name in names], after["sk"]["S"].removeprefix("ml#") if after else None

    def get(self, account: str, member: str) -> MemberRow | None:
        return self._rows(account, [member]).get(member)

    def remove(self, account: str, row: MemberRow, left: Mapping[int, tuple[int, Decimal]]) -> MemberRow:
        """Mark a member as removed; `left`: what its counters had used before anything that it uses from now on."""
        removed = row._replace(removed_ms=self._clock(), left=left)
        counters = {str(slot): [window, used] for slot, (window, used) in left.items()}
        dynamo.client().put_item(
            TableName=self._table,
            Item=dynamo.item(
                {
                    "pk": account,
                    "sk": f"m#{row.member}",
                    "since": row.since_ms,
                    "gone": removed.removed_ms,
                    "left": counters,
                }
            ),
        )
        return removed

    def _rows(self, account: str, names: Sequence[str]) -> dict[str, MemberRow]:
        keys = [{"pk": dynamo.s(account), "sk": dynamo.s(f"m#{name}")} for name in names]
        rows = (_row_of(raw) for raw in dynamo.batch_get(self._table, keys))
        return {row.member: row for row in rows}

    def _new(self, item: dict[str, Any]) -> dict[str, Any]:
        put = {"TableName": self._table, "Item": dynamo.item(item), "ConditionExpression": "attribute_not_exists(pk)"}
        return {"Put": put}


def _taken(error: ClientError) -> bool:
    """Whether the transaction failed because the member is listed already."""
    reasons = error.response.get("CancellationReasons", ())
    return dynamo.code_of(error) == "TransactionCanceledException" and any(
        reason.get("Code") == "ConditionalCheckFailed" for reason in reasons
    )


def _row_of(raw: dynamo.Item) -> MemberRow:
    row = dynamo.unitem(raw)
    gone = row.get("gone")
    left = {int(slot): (int(window), Decimal(used)) for slot, (window, used) in row.get("left", {}).items()}
    return MemberRow(row["sk"][2:], int(row["since"]), None if gone is None else int(gone), left)
