"""Where the sweep stopped: billing table, `pk` `sweep`, `sk` `cursor`."""

from __future__ import annotations

from tollgate import dynamo

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
