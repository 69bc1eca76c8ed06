"""How far learning came, in the billing table: `pk` `breaker`, `sk` `learning` and `looked`, each a JSON `text`."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from tollgate import dynamo
from tollgate.breaker.learn import Looked, Progress
from tollgate.quantities import plain


class LearnTable:
    """LearnStore on DynamoDB (billing table)."""

    def __init__(self, table: str) -> None:
        self._table = table

    def progress(self) -> Progress | None:
        found = self._read("learning")
        if found is None:
            return None
        samples = {
            plan: {meter: {name: Decimal(day) for name, day in days.items()} for meter, days in meters.items()}
            for plan, meters in found["samples"].items()
        }
        return Progress(found["day"], found["after"], samples)

    def put_progress(self, progress: Progress) -> None:
        samples = {
            plan: {meter: {name: plain(day) for name, day in days.items()} for meter, days in meters.items()}
            for plan, meters in progress.samples.items()
        }
        self._put("learning", {"day": progress.day, "after": progress.after, "samples": samples})

    def looked(self) -> Looked | None:
        found = self._read("looked")
        if found is None:
            return None
        return Looked(found["at"], {int(day): Decimal(cost) for day, cost in found["costs"].items()})

    def put_looked(self, looked: Looked) -> None:
        costs = {str(day): plain(cost) for day, cost in looked.costs.items()}
        self._put("looked", {"at": looked.at, "costs": costs})

    def _read(self, name: str) -> Any:
        key = {"pk": dynamo.s("breaker"), "sk": dynamo.s(name)}
        found = dynamo.client().get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        return json.loads(found["text"]["S"]) if found else None

    def _put(self, name: str, value: dict[str, Any]) -> None:
        text = json.dumps(value, separators=(",", ":"))
        dynamo.client().put_item(TableName=self._table, Item=dynamo.item({"pk": "breaker", "sk": name, "text": text}))
