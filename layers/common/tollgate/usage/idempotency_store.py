"""Remembered Idempotency-Keys of writes that are repeatable by themselves (extend, usage batches, account changes).

Such a write may simply run again; what must not pass is the same key with another body. Row: `pk` account (or `*`),
`sk` `i#<route>#<key hash>`, `fp` digest of the body, `ttl`.
"""

from __future__ import annotations

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.errors import IdempotencyMismatch
from tollgate.ids import key_hash

KEPT_S = 7 * 86_400


class IdempotencyTable:
    """Claims in the events or accounts table."""

    def __init__(self, table: str) -> None:
        self._table = table

    def claim(self, account: str, route: str, key: str, digest: bytes, now: int) -> None:
        """Tie `key` to a body, once the body is known to be valid. Raises IdempotencyMismatch."""
        try:
            dynamo.client().put_item(
                TableName=self._table,
                Item=dynamo.item(
                    {"pk": account, "sk": f"i#{route}#{key_hash(route, key)}", "fp": digest, "ttl": now + KEPT_S}
                ),
                ConditionExpression="attribute_not_exists(pk) OR fp = :fp OR #ttl <= :now",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues={":fp": dynamo.b(digest), ":now": dynamo.n(now)},
            )
        except ClientError as error:
            if dynamo.failed_condition(error):
                raise IdempotencyMismatch from None
            raise

    def forget(self, account: str, route: str, key: str) -> None:
        """Drop a claim whose request was refused: refusals are not remembered."""
        dynamo.client().delete_item(
            TableName=self._table,
            Key={"pk": dynamo.s(account), "sk": dynamo.s(f"i#{route}#{key_hash(route, key)}")},
        )
