"""Audit entries in the accounts table: `pk` account, `sk` `audit#<revision>`, put once and never changed.

A revision is written once (the rules row is guarded by the one before), so its entry is, too.
"""

from __future__ import annotations

import json

from tollgate import dynamo
from tollgate.accounts.audit import Change, Entry

_PREFIX = "audit#"


def entry_item(account: str, entry: Entry) -> dynamo.Item:
    changes = [list(change) for change in entry.changes]
    return dynamo.item(
        {
            "pk": account,
            "sk": _key(entry.rev),
            "at": entry.at_ms,
            "by": entry.by,
            "changes": json.dumps(changes, separators=(",", ":"), ensure_ascii=False),
        }
    )


def entry_page(table: str, account: str, limit: int, before: int | None) -> tuple[list[Entry], int | None]:
    """The entries of an account, newest first, of revisions below `before`; and the revision to go on from."""
    answer = dynamo.client().query(
        TableName=table,
        KeyConditionExpression="pk = :pk AND begins_with(sk, :audit)",
        ExpressionAttributeValues={":pk": dynamo.s(account), ":audit": dynamo.s(_PREFIX)},
        ScanIndexForward=False,
        Limit=limit,
        ConsistentRead=True,
        **({"ExclusiveStartKey": {"pk": dynamo.s(account), "sk": dynamo.s(_key(before))}} if before else {}),
    )
    found = [_entry_of(raw) for raw in answer["Items"]]
    return found, found[-1].rev if answer.get("LastEvaluatedKey") else None


def _key(rev: int) -> str:
    return f"{_PREFIX}{rev:012d}"


def _entry_of(raw: dynamo.Item) -> Entry:
    row = dynamo.unitem(raw)
    changes = tuple(Change(*stored) for stored in json.loads(row["changes"]))
    return Entry(int(row["sk"].removeprefix(_PREFIX)), int(row["at"]), row.get("by"), changes)
