"""Where the sweep stopped, and what its audits found: billing table, `pk` `sweep`, `sk` `cursor` or
`audit#<ms, 13 digits>`, one row for each run that audited anything.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tollgate import dynamo

KEPT_S: Final = 40 * 86_400
_KEY = {"pk": dynamo.s("sweep"), "sk": dynamo.s("cursor")}


class SweepCursor:
    def __init__(self, table: str) -> None:
        self._table = table

    def read(self) -> str | None:
        """The subject after which to go on; None: from the beginning."""
        found = dynamo.client().get_item(TableName=self._table, Key=_KEY).get("Item")
        return found["after"]["S"] if found and "after" in found else None

    def write(self, after: str | None) -> None:
        item = dynamo.item({"pk": "sweep", "sk": "cursor", "after": after})
        dynamo.client().put_item(TableName=self._table, Item=item)


class GateAudits(NamedTuple):
    """Gates whose counters were compared with events and open holds, and those of them that had to be repaired."""

    audited: int = 0
    repaired: int = 0


class AuditLog:
    def __init__(self, table: str) -> None:
        self._table = table

    def add(self, at_ms: int, audits: GateAudits) -> None:
        """Note a run's figures. One that dies before it is not counted; its gates have their turn again."""
        row = {"pk": "sweep", "sk": f"audit#{at_ms:013d}", "audited": audits.audited, "repaired": audits.repaired}
        item = dynamo.item({**row, "ttl": at_ms // 1000 + KEPT_S})
        dynamo.client().put_item(TableName=self._table, Item=item)

    def between(self, first_ms: int, last_ms: int) -> GateAudits:
        """Of all runs that ended in these milliseconds, both included."""
        audited = repaired = 0
        for raw in dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues={
                ":pk": dynamo.s("sweep"),
                ":first": dynamo.s(f"audit#{first_ms:013d}"),
                ":last": dynamo.s(f"audit#{last_ms:013d}"),
            },
        ):
            audited += int(raw["audited"]["N"])
            repaired += int(raw["repaired"]["N"])
        return GateAudits(audited, repaired)
