"""Messages of the outbox as rows (billing table), their index, and what each channel has sent in an hour.

Row: as `alerts/outbox_store` puts it, with `ways` {channel -> {s, at, n, since, why}} once its channels are chosen and
`version`. While something is left to do it carries `due_shard` `notify` and `due_at`, the keys of the index `due`; one
that failed on some channel is listed there as `notify.failed` until it is replayed. Every write asserts `version`.
Count row: `pk` `sent#<channel>`, `sk` the hour, `n`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.alerts.outbox import message_id
from tollgate.alerts.outbox_store import DUE, OUTBOX
from tollgate.notify.letter import KEPT_S, Delivery, Letter

FAILED_LIST: Final = f"{DUE}.failed"
_HOUR: Final = 3600
_KEPT_COUNT_S: Final = 86_400


class LetterTable:
    """The outbox as the notify function sees it."""

    def __init__(self, table: str) -> None:
        self._table = table

    def due(self, now: int) -> Iterator[str]:
        """Places of what is due, oldest first. The index may lag behind."""
        for raw in self._listed(DUE, " AND due_at <= :until", {":until": dynamo.n(now)}):
            yield raw["sk"]["S"]

    def get(self, place: str) -> Letter | None:
        """A consistent read."""
        found = dynamo.client().get_item(TableName=self._table, Key=_key(place), ConsistentRead=True).get("Item")
        return letter_of(found) if found else None

    def replace(self, before: Letter, after: Letter, now: int) -> Letter | None:
        """Write `after` where the row still is `before`. Returns it as it stands now, None where it changed."""
        written = replace(after, version=before.version + 1)
        try:
            dynamo.client().update_item(**self._update(before, written, now))
        except ClientError as error:
            if not dynamo.failed_condition(error):
                raise
            return None
        return written

    def put_digest(self, digest: Letter, parts: Sequence[tuple[Letter, Letter]], now: int) -> bool:
        """Put a digest and write what it holds as digested (each before and after), all or nothing. False where one
        of them changed."""
        row = {
            "pk": OUTBOX,
            "sk": digest.place,
            "kind": digest.kind,
            "message": json.dumps(digest.message, ensure_ascii=False, sort_keys=True),
            "ways": _ways(digest.deliveries or {}),
            "version": 0,
            "due_shard": DUE,
            "due_at": digest.due_at,
        }
        put = {"TableName": self._table, "Item": dynamo.item(row), "ConditionExpression": "attribute_not_exists(pk)"}
        updates = [
            {"Update": self._update(before, replace(after, version=before.version + 1), now)} for before, after in parts
        ]
        try:
            dynamo.client().transact_write_items(TransactItems=[{"Put": put}, *updates])
        except ClientError as error:
            if dynamo.code_of(error) != "TransactionCanceledException":
                raise
            return False
        return True

    def take(self, counted_as: str, per_hour: int, now: int) -> bool:
        """Count one more message of this hour, unless there were `per_hour`. A crash after it loses one of them."""
        hour = now // _HOUR * _HOUR
        try:
            dynamo.client().update_item(
                TableName=self._table,
                Key={"pk": dynamo.s(f"sent#{counted_as}"), "sk": dynamo.s(f"{hour:012d}")},
                UpdateExpression="SET #ttl = :ttl ADD n :one",
                ConditionExpression="attribute_not_exists(n) OR n < :most",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues={
                    ":ttl": dynamo.n(hour + _KEPT_COUNT_S),
                    ":one": dynamo.n(1),
                    ":most": dynamo.n(per_hour),
                },
            )
        except ClientError as error:
            if not dynamo.failed_condition(error):
                raise
            return False
        return True

    def find(self, name: str) -> Letter | None:
        """The message of an id (`msg_…`)."""
        put_ms = name[4:17]
        for raw in dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :ms)",
            ExpressionAttributeValues={":pk": dynamo.s(OUTBOX), ":ms": dynamo.s(f"{put_ms}#")},
            ConsistentRead=True,
        ):
            if message_id(int(put_ms), raw["sk"]["S"].partition("#")[2]) == name:
                return letter_of(raw)
        return None

    def open(self) -> Iterator[Letter]:
        """What is on its way or failed, oldest due time first."""
        for shard in (FAILED_LIST, DUE):
            for raw in self._listed(shard, "", {}):
                letter = self.get(raw["sk"]["S"])
                if letter is not None:
                    yield letter

    def newest(self) -> Iterator[Letter]:
        """All messages of the last 90 days, newest first."""
        for raw in dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": dynamo.s(OUTBOX)},
            ScanIndexForward=False,
            Limit=100,
        ):
            yield letter_of(raw)

    def _listed(self, shard: str, more: str, values: Mapping[str, dynamo.Attr]) -> Iterator[dynamo.Item]:
        return dynamo.query(
            self._table,
            IndexName="due",
            KeyConditionExpression=f"due_shard = :shard{more}",
            ExpressionAttributeValues={":shard": dynamo.s(shard), **values},
        )

    def _update(self, before: Letter, after: Letter, now: int) -> dict[str, Any]:
        values = {
            ":ways": dynamo.wire(_ways(after.deliveries or {})),
            ":before": dynamo.n(before.version),
            ":version": dynamo.n(after.version),
        }
        sets = ["ways = :ways", "version = :version"]
        removes = []
        names: dict[str, str] = {"#ttl": "ttl"}
        if after.due_at is not None or after.failed:
            failed_at = max((one.at for one in (after.deliveries or {}).values()), default=now)
            sets += ["due_shard = :shard", "due_at = :due"]
            values[":shard"] = dynamo.s(DUE if after.due_at is not None else FAILED_LIST)
            values[":due"] = dynamo.n(failed_at if after.due_at is None else after.due_at)
            removes.append("#ttl")
        else:
            removes += ["due_shard", "due_at"]
            sets.append("#ttl = :ttl")
            values[":ttl"] = dynamo.n(now + KEPT_S)
        return {
            "TableName": self._table,
            "Key": _key(before.place),
            "UpdateExpression": f"SET {', '.join(sets)} REMOVE {', '.join(removes)}",
            "ConditionExpression": "version = :before",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
        }


def letter_of(raw: dynamo.Item) -> Letter:
    row = dynamo.unitem(raw)
    ways = row.get("ways")
    deliveries = None
    if ways is not None:
        deliveries = {
            name: Delivery(one["s"], int(one["at"]), int(one["n"]), int(one["since"]), one["why"])
            for name, one in ways.items()
        }
    due = row.get("due_at") if row.get("due_shard") == DUE else None
    return Letter(
        row["sk"], json.loads(row["message"]), deliveries, None if due is None else int(due), int(row.get("version", 0))
    )


def _ways(deliveries: Mapping[str, Delivery]) -> dict[str, Any]:
    return {
        name: {"s": one.state, "at": one.at, "n": one.attempts, "since": one.since, "why": one.reason}
        for name, one in deliveries.items()
    }


def _key(place: str) -> dynamo.Item:
    return {"pk": dynamo.s(OUTBOX), "sk": dynamo.s(place)}
