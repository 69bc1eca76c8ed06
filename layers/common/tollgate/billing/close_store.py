"""Closes in the billing table: `pk` `close#<Stripe customer>`, `sk` `<invoice>`, one row for each invoice that bills
usage. Until it is closed, and then until it is compared, a row carries `due_shard` and `due_at`, the keys of the index
`due`. Every write replaces the row and asserts its `version`. `ttl` ends a row long after its period.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.billing.close_row import KEPT_S, Close, CloseKey, due_shard, final_shard, partition

_FIELDS = tuple(field.name for field in fields(Close))
_INTEGERS = frozenset(
    (
        *("start", "end", "created_at", "deadline", "finalizes_at", "next_at", "due_at", "waits", "review_until"),
        "version",
    )
)


class CloseTable:
    """Closes on DynamoDB."""

    def __init__(self, table: str) -> None:
        self._table = table

    def put_new(self, close: Close) -> Close | None:
        """Put a close where there is none. Returns None where it now stands by this call, else the one there."""
        return self._put(close, "attribute_not_exists(pk)", {})

    def get(self, key: CloseKey) -> Close | None:
        """A consistent read."""
        at = {"pk": dynamo.s(key.pk), "sk": dynamo.s(key.invoice)}
        found = dynamo.client().get_item(TableName=self._table, Key=at, ConsistentRead=True).get("Item")
        return close_of(found) if found else None

    def replace(self, before: Close, after: Close) -> Close | None:
        """Write `after` where the row still is `before`. Returns the row as it stands now, None where it changed."""
        written = replace(after, version=before.version + 1)
        there = self._put(written, "version = :version", {":version": dynamo.n(before.version)})
        return written if there is None else None

    def of_customer(self, customer: str) -> Iterator[Close]:
        """A customer's closes (one for each billing period), consistently read."""
        for raw in dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": dynamo.s(partition(customer))},
            ConsistentRead=True,
        ):
            yield close_of(raw)

    def due(self, shard: int, until: int) -> Iterator[CloseKey]:
        """What the index lists as due by then, oldest first. It may lag behind."""
        return self._listed(due_shard(shard), until)

    def final(self, shard: int, until: int) -> Iterator[CloseKey]:
        """What is closed and to be compared by then, oldest first. The index may lag behind."""
        return self._listed(final_shard(shard), until)

    def _listed(self, shard: str, until: int) -> Iterator[CloseKey]:
        for raw in dynamo.query(
            self._table,
            IndexName="due",
            KeyConditionExpression="due_shard = :shard AND due_at <= :until",
            ExpressionAttributeValues={":shard": dynamo.s(shard), ":until": dynamo.n(until)},
        ):
            yield CloseKey(raw["pk"]["S"].partition("#")[2], raw["sk"]["S"])

    def _put(self, close: Close, condition: str, values: dict[str, dynamo.Attr]) -> Close | None:
        nonce = os.urandom(6)
        request: dict[str, Any] = {"ExpressionAttributeValues": values} if values else {}
        try:
            dynamo.client().put_item(
                TableName=self._table,
                Item=close_item(close) | {"nonce": dynamo.b(nonce)},
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
            return close_of(there)
        return None


def close_item(close: Close) -> dynamo.Item:
    """A close as its row; what is None is left out."""
    values = {name: getattr(close, name) for name in _FIELDS}
    values |= {"pk": close.key.pk, "sk": close.invoice, "due_shard": close.due_shard}
    values["ttl"] = close.end + KEPT_S
    return dynamo.item(values)


def close_of(raw: dynamo.Item) -> Close:
    row = dynamo.unitem(raw)
    known: dict[str, Any] = {name: row[name] for name in _FIELDS if name in row}
    known |= {name: int(known[name]) for name in _INTEGERS if name in known}
    return Close(**{"subscription": None, **known, "meters": tuple(known["meters"])})
