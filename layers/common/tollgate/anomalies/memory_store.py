"""What the look for anomalies remembers, in the billing table.

| row | pk | sk |
| --- | --- | --- |
| where it stands | `anomalies` | `state` |
| what was told | `anomaly#<account>` | `<yyyy-mm-dd>#<kind>`, for 90 days |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.anomalies.run import Noted, Pass, State, Sums
from tollgate.billing.rollup import DAY_S
from tollgate.clock import rfc3339

_KEPT_S: Final = 90 * DAY_S
_STATE: Final = {"pk": "anomalies", "sk": "state"}


class AnomalyTable:
    """Memory on DynamoDB (billing table)."""

    def __init__(self, table: str) -> None:
        self._table = table

    def state(self) -> State:
        found = dynamo.client().get_item(TableName=self._table, Key=dynamo.item(_STATE), ConsistentRead=True)
        if "Item" not in found:
            return State()
        row = dynamo.unitem(found["Item"])
        until = row.get("over_until")
        return State(
            under_way=_pass_of(row["pass"]) if "pass" in row else None,
            over_until=None if until is None else int(until),
            hour=int(row["hour"]),
            sums=_sums_of(row["sums"]),
        )

    def save(self, state: State) -> None:
        row: dict[str, Any] = {
            **_STATE,
            "pass": None if state.under_way is None else _pass_row(state.under_way),
            "over_until": state.over_until,
            "hour": state.hour,
            "sums": _sums_row(state.sums),
        }
        dynamo.client().put_item(TableName=self._table, Item=dynamo.item(row))

    def noted(self, account: str, day: int) -> Mapping[str, Noted]:
        found = {}
        for raw in dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :day)",
            ExpressionAttributeValues={
                ":pk": dynamo.s(f"anomaly#{account}"),
                ":day": dynamo.s(f"{rfc3339(day)[:10]}#"),
            },
            ConsistentRead=True,
        ):
            row = dynamo.unitem(raw)
            found[row["sk"].partition("#")[2]] = Noted(row["score"], int(row["number"]))
        return found

    def note(self, account: str, day: int, kind: str, noted: Noted) -> None:
        row = {
            "pk": f"anomaly#{account}",
            "sk": f"{rfc3339(day)[:10]}#{kind}",
            "score": noted.score,
            "number": noted.number,
            "ttl": day + _KEPT_S,
        }
        try:
            dynamo.client().put_item(
                TableName=self._table,
                Item=dynamo.item(row),
                ConditionExpression="attribute_not_exists(pk) OR #number < :number"
                " OR (#number = :number AND score < :score)",
                ExpressionAttributeNames={"#number": "number"},
                ExpressionAttributeValues={":number": dynamo.n(noted.number), ":score": dynamo.n(noted.score)},
            )
        except ClientError as error:
            if not dynamo.failed_condition(error):
                raise  # else a run beside this one has noted more


def _pass_row(current: Pass) -> dict[str, Any]:
    row = {
        "day": current.day,
        "over": current.over,
        "hour": current.hour,
        "shard": current.shard,
        "sums": _sums_row(current.sums),
    }
    return row if current.after is None else {**row, "after": current.after}


def _pass_of(row: Mapping[str, Any]) -> Pass:
    return Pass(
        int(row["day"]), row["over"], int(row["hour"]), int(row["shard"]), row.get("after"), _sums_of(row["sums"])
    )


def _sums_row(sums: Sums) -> list[list[Any]]:
    return [[plan, meter, accounts, units] for (plan, meter), (accounts, units) in sums.items()]


def _sums_of(rows: list[list[Any]]) -> Sums:
    return {(plan, meter): (accounts, units) for plan, meter, accounts, units in rows}
