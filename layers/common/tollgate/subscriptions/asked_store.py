"""Sales that were asked for, in the accounts table.

`pk` account, `sk` `sale#<route>#<key hash>`: `fp` digest of the body, `at` epoch seconds of the first try, `plan` and
`version` that it was for, `answer` once there was one, `ttl`. `sk` `selling`: `until` epoch seconds, while one is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.errors import IdempotencyMismatch
from tollgate.ids import key_hash
from tollgate.subscriptions.checkout import Asked

KEPT_S = 7 * 86_400
LOCKED_S = 60
"""Longer than the function may run: who holds a lock that long is dead."""


class AskedTable:
    """The port of `checkout` on DynamoDB."""

    def __init__(self, table: str) -> None:
        self._table = table

    def begin(self, account: str, route: str, key: str, digest: bytes, wanted: Asked) -> Asked:
        item = _key(account, route, key) | dynamo.item(
            {"fp": digest, "at": wanted.at, "plan": wanted.plan, "version": wanted.version, "ttl": wanted.at + KEPT_S}
        )
        try:
            dynamo.client().put_item(
                TableName=self._table,
                Item=item,
                ConditionExpression="attribute_not_exists(pk) OR #ttl <= :now",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues={":now": dynamo.n(wanted.at)},
            )
        except ClientError as error:
            if not dynamo.failed_condition(error):
                raise
        else:
            return wanted
        raw = (
            dynamo.client()
            .get_item(TableName=self._table, Key=_key(account, route, key), ConsistentRead=True)
            .get("Item")
        )
        if raw is None:
            # The first try was refused and forgotten between the two calls: this one is the first now.
            return self.begin(account, route, key, digest, wanted)
        if raw["fp"]["B"] != digest:
            raise IdempotencyMismatch
        answer = json.loads(raw["answer"]["S"]) if "answer" in raw else None
        return Asked(int(raw["at"]["N"]), raw["plan"]["S"], int(raw["version"]["N"]), answer)

    def answered(self, account: str, route: str, key: str, answer: Mapping[str, str | int]) -> None:
        dynamo.client().update_item(
            TableName=self._table,
            Key=_key(account, route, key),
            UpdateExpression="SET answer = :answer",
            ConditionExpression="attribute_exists(pk)",
            ExpressionAttributeValues={":answer": dynamo.s(json.dumps(dict(answer)))},
        )

    def forget(self, account: str, route: str, key: str) -> None:
        dynamo.client().delete_item(TableName=self._table, Key=_key(account, route, key))

    def lock(self, account: str, now: int) -> bool:
        try:
            dynamo.client().put_item(
                TableName=self._table,
                Item=_lock(account) | {"until": dynamo.n(now + LOCKED_S), "ttl": dynamo.n(now + LOCKED_S)},
                ConditionExpression="attribute_not_exists(pk) OR #until <= :now",
                ExpressionAttributeNames={"#until": "until"},
                ExpressionAttributeValues={":now": dynamo.n(now)},
            )
        except ClientError as error:
            if dynamo.failed_condition(error):
                return False
            raise
        return True

    def unlock(self, account: str) -> None:
        dynamo.client().delete_item(TableName=self._table, Key=_lock(account))


def _key(account: str, route: str, key: str) -> dynamo.Item:
    return {"pk": dynamo.s(account), "sk": dynamo.s(f"sale#{route}#{key_hash(route, key)}")}


def _lock(account: str) -> dynamo.Item:
    return {"pk": dynamo.s(account), "sk": dynamo.s("selling")}
