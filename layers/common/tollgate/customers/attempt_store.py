"""Attempts to make a Stripe customer. Accounts table: `pk` account, `sk` `customer_attempt`, `n`, `since`.

Their number never begins anew: what is left after the customer is stored is the number only, so that a customer made
in place of a deleted one has a key of its own.
"""

from __future__ import annotations

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.customers.ports import Attempt


class AttemptTable:
    """AttemptStore on DynamoDB."""

    def __init__(self, table: str) -> None:
        self._table = table

    def begin(self, account: str, now: int) -> Attempt:
        answer = dynamo.client().update_item(
            TableName=self._table,
            Key=_key(account),
            UpdateExpression="SET n = if_not_exists(n, :zero), since = if_not_exists(since, :now)",
            ExpressionAttributeValues={":zero": dynamo.n(0), ":now": dynamo.n(now)},
            ReturnValues="ALL_OLD",
        )
        before = answer.get("Attributes", {})
        number = int(before["n"]["N"]) if "n" in before else 0
        if "since" not in before:
            return Attempt(number, now, again=False)
        return Attempt(number, int(before["since"]["N"]), again=True)

    def next(self, account: str, attempt: Attempt) -> None:
        try:
            dynamo.client().update_item(
                TableName=self._table,
                Key=_key(account),
                UpdateExpression="SET n = :next",
                ConditionExpression="n = :n",
                ExpressionAttributeValues={":n": dynamo.n(attempt.number), ":next": dynamo.n(attempt.number + 1)},
            )
        except ClientError as error:
            if not dynamo.failed_condition(error):
                raise

    def end(self, account: str) -> None:
        dynamo.client().update_item(
            TableName=self._table,
            Key=_key(account),
            UpdateExpression="SET n = if_not_exists(n, :zero) + :one REMOVE since",
            ExpressionAttributeValues={":zero": dynamo.n(0), ":one": dynamo.n(1)},
        )


def _key(account: str) -> dynamo.Item:
    return {"pk": dynamo.s(account), "sk": dynamo.s("customer_attempt")}
