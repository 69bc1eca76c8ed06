"""Grant rows in the events table, beside the events that burned them.

Grant row: `pk` account, `sk` `g#<number, 8 digits>`. Source row: `sk` `gs#<source>#<source id>`, `n` the number; put in
the same transaction, so that a source gives once. Numbers are never used again, and may leave gaps.
"""

from __future__ import annotations

from random import randrange
from typing import Any

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.errors import Busy
from tollgate.usage.grant import FOREVER, Clawback, Ended, GrantRow, Pending

_TRIES = 20


class GrantTable:
    """GrantStore on DynamoDB."""

    def __init__(self, table: str) -> None:
        self._table = table

    def open(self, row: GrantRow) -> GrantRow:
        for tried in range(_TRIES):
            there = self.by_source(row.account, row.source, row.source_id)
            if there is not None:
                return there
            # Many members may come at once in the first second of a period: whoever lost a number looks further ahead.
            numbered = row._replace(number=self._newest(row.account) + 1 + randrange(1 + 4 * tried))
            source = _source_key(row.account, row.source, row.source_id)
            parts = [self._new(_item(numbered)), self._new({**source, "n": dynamo.n(numbered.number)})]
            try:
                dynamo.client().transact_write_items(TransactItems=parts)
            except ClientError as error:
                if dynamo.code_of(error) != "TransactionCanceledException":
                    raise
                continue  # the number or the source is taken: look again
            return numbered
        raise Busy

    def rows(self, account: str) -> list[GrantRow]:
        return [
            _row_of(raw)
            for raw in dynamo.query(
                self._table,
                KeyConditionExpression="pk = :pk AND begins_with(sk, :g)",
                ExpressionAttributeValues={":pk": dynamo.s(account), ":g": dynamo.s("g#")},
                ConsistentRead=True,
            )
        ]

    def get(self, account: str, number: int) -> GrantRow | None:
        found = dynamo.client().get_item(TableName=self._table, Key=_key(account, number), ConsistentRead=True)
        return _row_of(found["Item"]) if "Item" in found else None

    def by_source(self, account: str, source: str, source_id: str) -> GrantRow | None:
        key = _source_key(account, source, source_id)
        found = dynamo.client().get_item(TableName=self._table, Key=key, ConsistentRead=True)
        return self.get(account, int(found["Item"]["n"]["N"])) if "Item" in found else None

    def begin_clawback(self, row: GrantRow, pending: Pending) -> bool:
        return self._update(
            row,
            "SET pending = :new",
            "attribute_not_exists(pending) AND size(claws) = :seen",
            {":new": dynamo.wire(_fields(pending)), ":seen": dynamo.n(len(row.clawbacks))},
        )

    def end_clawback(self, row: GrantRow, done: Clawback) -> bool:
        return self._update(
            row,
            "SET claws = list_append(claws, :done) REMOVE pending",
            "pending.source_id = :id AND size(claws) = :seen",
            {
                ":done": dynamo.wire([_fields(done)]),
                ":id": dynamo.s(done.source_id),
                ":seen": dynamo.n(len(row.clawbacks)),
            },
        )

    def end(self, row: GrantRow, ended: Ended) -> None:
        values = {":e": dynamo.wire(_fields(ended))}
        if row.ended is not None:
            values[":seen"] = dynamo.wire(_fields(row.ended))
        seen = "attribute_not_exists(ended)" if row.ended is None else "ended = :seen"
        self._update(row, "SET ended = :e", f"attribute_exists(pk) AND {seen}", values)

    def _update(self, row: GrantRow, update: str, condition: str, values: dict[str, dynamo.Attr]) -> bool:
        try:
            dynamo.client().update_item(
                TableName=self._table,
                Key=_key(row.account, row.number),
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
            )
        except ClientError as error:
            if dynamo.failed_condition(error):
                return False
            raise
        return True

    def _newest(self, account: str) -> int:
        answer = dynamo.client().query(
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :g)",
            ExpressionAttributeValues={":pk": dynamo.s(account), ":g": dynamo.s("g#")},
            ScanIndexForward=False,
            Limit=1,
            ConsistentRead=True,
        )
        return int(answer["Items"][0]["sk"]["S"][2:]) if answer["Items"] else -1

    def _new(self, item: dynamo.Item) -> dict[str, Any]:
        return {"Put": {"TableName": self._table, "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}}


def _key(account: str, number: int) -> dynamo.Item:
    return {"pk": dynamo.s(account), "sk": dynamo.s(f"g#{number:08d}")}


def _source_key(account: str, source: str, source_id: str) -> dynamo.Item:
    return {"pk": dynamo.s(account), "sk": dynamo.s(f"gs#{source}#{source_id}")}


def _fields(record: Pending | Clawback | Ended) -> dict[str, Any]:
    return {name: value for name, value in record._asdict().items() if value is not None}


def _item(row: GrantRow) -> dynamo.Item:
    return dynamo.item(
        {
            "pk": row.account,
            "sk": f"g#{row.number:08d}",
            "meter": row.meter,
            "units": row.units,
            "source": row.source,
            "source_id": row.source_id,
            "priority": row.priority,
            "starts": row.starts,
            "ends": None if row.ends == FOREVER else row.ends,
            "created": row.created_ms,
            "reason": row.reason,
            "every": row.every or None,
            "member": row.member,
            "claws": [],
        }
    )


def _row_of(raw: dynamo.Item) -> GrantRow:
    row = dynamo.unitem(raw)
    pending, ended = row.get("pending"), row.get("ended")
    return GrantRow(
        account=row["pk"],
        number=int(row["sk"][2:]),
        meter=row["meter"],
        units=row["units"],
        source=row["source"],
        source_id=row["source_id"],
        priority=int(row["priority"]),
        starts=int(row["starts"]),
        ends=int(row.get("ends", FOREVER)),
        created_ms=int(row["created"]),
        reason=row.get("reason"),
        every=row.get("every", ""),
        clawbacks=tuple(_clawback_of(one) for one in row["claws"]),
        pending=None if pending is None else Pending(**{**pending, "at_ms": int(pending["at_ms"])}),
        ended=None if ended is None else Ended(ended["left"], ended["carried"], int(ended["at"])),
        member=row.get("member"),
    )


def _clawback_of(one: dict[str, Any]) -> Clawback:
    return Clawback(**{**one, "at_ms": int(one["at_ms"])})
