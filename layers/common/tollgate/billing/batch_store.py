"""Batch rows in the billing table, and the index of those that have to be looked at again.

Batch row: `pk` `batch#<account>`, `sk` `<meter>#<period start>#<window start>#<supplement>.<part>` (`.r<revision>`
after a repair). While something is left to do it carries `due_shard` and `due_at`, the keys of the index `due`. A
flushed one stays in that index, in partitions of its own (`sent#<shard>#<quarter of an hour>`), by the second at which
it was written down as sent: Stripe reports later what it did not count, and names a time. One that is parked for good
is listed there apart, until it is repaired. Every write replaces the row and asserts its `version`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.billing.batch import (
    FLUSHED,
    PARKED,
    REPAIRABLE,
    Batch,
    BatchKey,
    due_shard,
    parked_shard,
    partition,
)
from tollgate.usage.markers import SHARDS, shard_of

_INTEGERS = frozenset(
    {
        "period_start",
        "period_end",
        "window_start",
        "window_end",
        "supplement",
        "part",
        "revision",
        "timestamp",
        "created_at",
        "state_at",
        "attempts",
        "sent_at",
        "retry_at",
        "doubt_since",
        "lease_until",
        "due_at",
        "version",
    }
)
_QUARTER_S = 900
_FIELDS = tuple(field.name for field in fields(Batch))


class Due(NamedTuple):
    key: BatchKey
    due_at: int


class BatchTable:
    """Batches on DynamoDB."""

    def __init__(self, table: str) -> None:
        self._table = table

    def put_new(self, batch: Batch) -> Batch | None:
        """Put a batch where there is none. Returns None where it now stands by this call, else the one there."""
        return self._put(batch, "attribute_not_exists(pk)", {})

    def get(self, key: BatchKey) -> Batch | None:
        """A consistent read."""
        found = dynamo.client().get_item(TableName=self._table, Key=_key(key), ConsistentRead=True).get("Item")
        return batch_of(found) if found else None

    def replace(self, before: Batch, after: Batch) -> Batch | None:
        """Write `after` where the row still is `before`. Returns the row as it stands now, None where it changed."""
        written = replace(after, version=before.version + 1)
        there = self._put(written, "version = :version", {":version": dynamo.n(before.version)})
        return written if there is None else None

    def due(self, shard: int, *, waits_for_customer: bool = False, until: int | None = None) -> Iterator[Due]:
        """What the index lists for a shard, by due time; `until`: only what is due by then. It may lag behind."""
        condition = "due_shard = :shard"
        values = {":shard": dynamo.s(due_shard(shard, waits_for_customer=waits_for_customer))}
        if until is not None:
            condition += " AND due_at <= :until"
            values[":until"] = dynamo.n(until)
        for raw in dynamo.query(
            self._table, IndexName="due", KeyConditionExpression=condition, ExpressionAttributeValues=values
        ):
            yield Due(BatchKey(raw["pk"]["S"], raw["sk"]["S"]), int(raw["due_at"]["N"]))

    def sent_between(self, first: int, last: int) -> Iterator[BatchKey]:
        """Keys of the batches that were written down as sent in epoch seconds first to last. The index may lag."""
        for quarter in range(first // _QUARTER_S, last // _QUARTER_S + 1):
            for shard in range(SHARDS):
                for raw in dynamo.query(
                    self._table,
                    IndexName="due",
                    KeyConditionExpression="due_shard = :shard AND due_at BETWEEN :first AND :last",
                    ExpressionAttributeValues={
                        ":shard": dynamo.s(_sent_shard(shard, quarter)),
                        ":first": dynamo.n(first),
                        ":last": dynamo.n(last),
                    },
                ):
                    yield BatchKey(raw["pk"]["S"], raw["sk"]["S"])

    def parked(self) -> Iterator[Batch]:
        """Every batch that is parked and not repaired, also those that wait for a customer; by shard, oldest first."""
        for shard in range(SHARDS):
            for name in (parked_shard(shard), due_shard(shard, waits_for_customer=True)):
                for raw in dynamo.query(
                    self._table,
                    IndexName="due",
                    KeyConditionExpression="due_shard = :shard",
                    ExpressionAttributeValues={":shard": dynamo.s(name)},
                ):
                    batch = self.get(BatchKey(raw["pk"]["S"], raw["sk"]["S"]))
                    if batch is not None and batch.state in PARKED and batch.repaired_by is None:
                        yield batch

    def of_account(self, account: str, state: str | None = None) -> Iterator[Batch]:
        """An account's batches (in one state), by meter and time; consistent."""
        request: dict[str, Any] = {
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": dynamo.s(partition(account))},
            "ConsistentRead": True,
        }
        if state is not None:
            request["FilterExpression"] = "#state = :state"
            request["ExpressionAttributeNames"] = {"#state": "state"}
            request["ExpressionAttributeValues"][":state"] = dynamo.s(state)
        for raw in dynamo.query(self._table, **request):
            yield batch_of(raw)

    def meters(self, account: str) -> Iterator[str]:
        """The meters that an account ever had batches of: one small read for each."""
        after = " "  # before every id
        while True:
            page = dynamo.client().query(
                TableName=self._table,
                KeyConditionExpression="pk = :pk AND sk > :after",
                ExpressionAttributeValues={":pk": dynamo.s(partition(account)), ":after": dynamo.s(after)},
                ProjectionExpression="sk",
                ConsistentRead=True,
                Limit=1,
            )
            if not page.get("Items"):
                return
            meter = page["Items"][0]["sk"]["S"].partition("#")[0]
            yield meter
            after = f"{meter}$"  # the character after "#": past all batches of this meter

    def booked(self, account: str, meter: str, start: int, end: int) -> Iterator[Batch]:
        """An account's batches of a meter that are booked in [start, end), newest period first; consistent. Reads
        those periods only."""
        for raw in dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues={
                ":pk": dynamo.s(partition(account)),
                ":first": dynamo.s(f"{meter}#"),
                ":last": dynamo.s(f"{meter}#{end:012d}"),
            },
            ScanIndexForward=False,
            ConsistentRead=True,
        ):
            batch = batch_of(raw)
            if batch.period_end <= start:
                return  # periods follow each other: all further ones ended sooner
            if start <= batch.timestamp < end:
                yield batch

    def between(self, account: str, meter: str, period_start: int, start: int, end: int) -> Iterator[Batch]:
        """Batches of a meter and billing period whose window begins in [start, end), by time; consistent."""
        prefix = f"{meter}#{period_start:012d}#"
        for raw in dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues={
                ":pk": dynamo.s(partition(account)),
                ":first": dynamo.s(f"{prefix}{start:012d}"),
                ":last": dynamo.s(f"{prefix}{end:012d}"),
            },
            ConsistentRead=True,
        ):
            yield batch_of(raw)

    def _put(self, batch: Batch, condition: str, values: dict[str, dynamo.Attr]) -> Batch | None:
        nonce = os.urandom(6)
        request: dict[str, Any] = {"ExpressionAttributeValues": values} if values else {}
        try:
            dynamo.client().put_item(
                TableName=self._table,
                Item=batch_item(batch) | {"nonce": dynamo.b(nonce)},
                ConditionExpression=condition,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **request,
            )
        except ClientError as error:
            if not dynamo.failed_condition(error):
                raise
            there = error.response["Item"]
            if there.get("nonce") == dynamo.b(nonce):
                return None  # our own write: its answer was lost and the SDK sent it again
            return batch_of(there)
        return None


def batch_item(batch: Batch) -> dynamo.Item:
    """A batch as its row; what is None or False is left out."""
    values = {name: getattr(batch, name) for name in _FIELDS}
    values |= {"pk": batch.key.pk, "sk": batch.key.sk, "due_shard": batch.due_shard, "untold": batch.untold or None}
    if batch.state == FLUSHED:
        shard = _sent_shard(shard_of(batch.account), batch.state_at // _QUARTER_S)
        values |= {"due_shard": shard, "due_at": batch.state_at}
    if batch.due_at is None and batch.state in REPAIRABLE and batch.repaired_by is None:
        values |= {"due_shard": parked_shard(shard_of(batch.account)), "due_at": batch.state_at}
    return dynamo.item(values)


def batch_of(raw: dynamo.Item) -> Batch:
    row = dynamo.unitem(raw)
    known: dict[str, Any] = {name: row[name] for name in _FIELDS if name in row}
    known |= {name: int(known[name]) for name in _INTEGERS if name in known}
    if known["state"] == FLUSHED:
        known.pop("due_at", None)  # its place among the sent ones: nothing is left to do
    if row.get("due_shard", "").endswith(".parked"):
        del known["due_at"]  # it only lists the row
    return Batch(**known)


def _sent_shard(shard: int, quarter: int) -> str:
    return f"sent#{shard:02d}#{quarter}"


def _key(key: BatchKey) -> dynamo.Item:
    return {"pk": dynamo.s(key.pk), "sk": dynamo.s(key.sk)}
