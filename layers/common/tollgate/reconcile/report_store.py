"""Runs and their reports in the billing table, and the month's reads.

| row | pk | sk |
| --- | --- | --- |
| run | `reconcile` | `<started ms, 13 digits>.<kind>`, which is its id; sums that its parts add to |
| part of a run | `reconcile#<run>` | `part#<number>`: added up once, however often it is delivered |
| pair that differs | `reconcile#<run>` | `pair#<account>#<meter>#<start>` |
| reads of a month | `reads#<yyyy-mm>` | `stripe` |
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from botocore.exceptions import ClientError

from tollgate import dynamo
from tollgate.gate.sweep_store import GateAudits
from tollgate.reconcile.account import PairReport
from tollgate.reconcile.report import Run, pair_fields

KEPT_S: Final = 400 * 86_400
_TRIES: Final = 8


class ReportTable:
    """Reports on DynamoDB (billing table)."""

    def __init__(self, table: str, wait: Callable[[int], None] | None = None) -> None:
        self._table, self._wait = table, wait or _pause

    # -- runs ----------------------------------------------------------------------------------------------------------

    def begin(self, run: str, parts: int, started_ms: int, audits: GateAudits) -> None:
        """Put a run's row. Repeating it changes nothing."""
        row = {"pk": "reconcile", "sk": run, "parts": parts, "started": started_ms, "done": 0}
        row |= {"gates_audited": audits.audited, "gates_repaired": audits.repaired}
        if not parts:
            row["finished"] = started_ms  # nothing comes after it
        row["ttl"] = started_ms // 1000 + KEPT_S
        try:
            dynamo.client().put_item(
                TableName=self._table, Item=dynamo.item(row), ConditionExpression="attribute_not_exists(pk)"
            )
        except ClientError as error:
            if not dynamo.failed_condition(error):
                raise

    def add(self, run: str, part: int, sums: Mapping[str, int | Decimal], now_ms: int) -> Run | None:
        """Add a part's sums to its run; the run as it stands then, None where the part was added before."""
        names = {f"#n{at}": name for at, name in enumerate(sums)}
        values = {f":n{at}": dynamo.n(value) for at, value in enumerate(sums.values())}
        update = {
            "TableName": self._table,
            "Key": {"pk": dynamo.s("reconcile"), "sk": dynamo.s(run)},
            "UpdateExpression": "SET finished = :now ADD done :one"
            + "".join(f", #n{at} :n{at}" for at in range(len(sums))),
            "ExpressionAttributeValues": {**values, ":one": dynamo.n(1), ":now": dynamo.n(now_ms)},
            **({"ExpressionAttributeNames": names} if names else {}),
        }
        item = {"pk": f"reconcile#{run}", "sk": f"part#{part:06d}", "at": now_ms, "ttl": now_ms // 1000 + KEPT_S}
        put = {
            "TableName": self._table,
            "Item": dynamo.item(item),
            "ConditionExpression": "attribute_not_exists(pk)",
        }
        for tried in range(_TRIES):
            try:
                # The part's row and the sums in one transaction: a message that is delivered again adds nothing.
                dynamo.client().transact_write_items(TransactItems=[{"Put": put}, {"Update": update}])
            except ClientError as error:
                if _there(error):
                    return None
                if tried + 1 == _TRIES or dynamo.code_of(error) not in (
                    "TransactionCanceledException",
                    *dynamo.TRANSIENT,
                ):
                    raise
                self._wait(tried)  # many parts add to one row
                continue
            return self.get(run)
        raise AssertionError("unreachable")

    def get(self, run: str) -> Run | None:
        key = {"pk": dynamo.s("reconcile"), "sk": dynamo.s(run)}
        found = dynamo.client().get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        return Run.of(dynamo.unitem(found)) if found else None

    def page(self, limit: int, before: str | None) -> tuple[list[Run], str | None]:
        """Runs, newest first, from before a run's id on; and the id to go on from."""
        request: dict[str, Any] = {"ExclusiveStartKey": _run_key(before)} if before else {}
        answer = dynamo.client().query(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": dynamo.s("reconcile")},
            ScanIndexForward=False,
            Limit=limit,
            **request,
        )
        found = [Run.of(dynamo.unitem(raw)) for raw in answer["Items"]]
        return found, found[-1].id if answer.get("LastEvaluatedKey") else None

    # -- pairs that differ ---------------------------------------------------------------------------------------------

    def put_pair(self, run: str, report: PairReport, now_ms: int) -> None:
        """Put (or overwrite) the report of a pair that differs."""
        row = {
            "pk": f"reconcile#{run}",
            "sk": f"pair#{report.account}#{report.meter}#{report.start:012d}",
            "ttl": now_ms // 1000 + KEPT_S,
            "report": pair_fields(report),
        }
        dynamo.client().put_item(TableName=self._table, Item=dynamo.item(row))

    def pairs(self, run: str, limit: int) -> list[dict[str, Any]]:
        """The first `limit` reports of a run, as `pair_fields` made them."""
        answer = dynamo.client().query(
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :pair)",
            ExpressionAttributeValues={":pk": dynamo.s(f"reconcile#{run}"), ":pair": dynamo.s("pair#")},
            Limit=limit,
        )
        return [dynamo.unitem(raw)["report"] for raw in answer["Items"]]

    # -- reads ---------------------------------------------------------------------------------------------------------

    def spent(self, month: str) -> int:
        found = dynamo.client().get_item(TableName=self._table, Key=_reads_key(month), ConsistentRead=True).get("Item")
        return int(found["spent"]["N"]) if found else 0

    def add_reads(self, month: str, reads: int) -> None:
        dynamo.client().update_item(
            TableName=self._table,
            Key=_reads_key(month),
            UpdateExpression="ADD spent :reads",
            ExpressionAttributeValues={":reads": dynamo.n(reads)},
        )


def _pause(tried: int) -> None:
    """Up to 2**n times 20 ms: parts that add to one run part quickly."""
    time.sleep(random.randrange(20_000 * 2**tried) / 1_000_000)


def _run_key(run: str) -> dynamo.Item:
    return {"pk": dynamo.s("reconcile"), "sk": dynamo.s(run)}


def _reads_key(month: str) -> dynamo.Item:
    return {"pk": dynamo.s(f"reads#{month}"), "sk": dynamo.s("stripe")}


def _there(error: ClientError) -> bool:
    if dynamo.code_of(error) != "TransactionCanceledException":
        return False
    reasons = error.response.get("CancellationReasons") or [{}]
    return bool(reasons[0].get("Code") == "ConditionalCheckFailed")
