"""Counts what the product asks of AWS: every request, and for DynamoDB its units from exact item sizes.

It listens on the product's own botocore session and looks at the items before and after each call through a session of
its own, which nobody counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from typing import Any

from bench.sizing import Item, index_write_units, item_size, read_units, write_units

ZERO = Decimal(0)
_PLACEHOLDER = re.compile(r"[:#][A-Za-z0-9_]+")
_READS = ("BatchGetItem", "GetItem", "Query", "Scan")
_WRITES = ("PutItem", "UpdateItem", "DeleteItem")


@dataclass(frozen=True, slots=True)
class Call:
    """One request. Units of the table itself and of its indexes apart; `bytes` is the item's size (reads: all)."""

    service: str
    operation: str
    table: str
    write: int = 0
    index_write: int = 0
    read: Decimal = ZERO
    bytes: int = 0
    refused: bool = False
    """Its condition failed."""


@dataclass(slots=True)
class Tally:
    """The calls of one stretch of work."""

    calls: list[Call] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Requests to DynamoDB."""
        return sum(1 for call in self.calls if call.service == "dynamodb")

    @property
    def write(self) -> int:
        return sum(call.write + call.index_write for call in self.calls)

    @property
    def read(self) -> Decimal:
        return sum((call.read for call in self.calls), ZERO)

    def to(self, table: str, *operations: str) -> int:
        """Requests to one table, of some operations or all."""
        return sum(1 for call in self.calls if call.table == table and (not operations or call.operation in operations))

    def named(self) -> str:
        """`Update gates, 3 x Put events`, in order."""
        runs = groupby(f"{call.operation.removesuffix('Item')} {call.table}".strip() for call in self.calls)
        counted = [(name, len(list(run))) for name, run in runs]
        return ", ".join(name if many == 1 else f"{many} x {name}" for name, many in counted)


class Ledger:
    """Listens to a session. `look` is a DynamoDB client that is not listened to."""

    def __init__(self, session: Any, look: Any) -> None:
        self._look = look
        self._open: list[Tally] = []
        self._indexes: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        session.register("before-parameter-build", self._before)
        session.register("after-call", self._after)

    @contextmanager
    def counting(self) -> Iterator[Tally]:
        """Everything that is asked inside goes into the tally."""
        tally = Tally()
        self._open.append(tally)
        try:
            yield tally
        finally:
            self._open.remove(tally)

    # -- listening -------------------------------------------------------------------------------------------------

    def _before(self, params: Mapping[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        if not self._open:
            return
        touched = []
        if model.service_model.service_name == "dynamodb":
            check_placeholders(params)
            touched = [(table, key, self._item(table, key)) for table, key in self._touched(model.name, params)]
        context["ledger"] = (dict(params), touched)

    def _after(self, parsed: Mapping[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        if "ledger" not in context:
            return
        params, touched = context.pop("ledger")
        service = model.service_model.service_name
        if service != "dynamodb":
            calls = [Call(service, model.name, "")]
        elif model.name in _READS:
            calls = [self._read(model.name, params, parsed)]
        else:
            refused = "Error" in parsed
            factor = 2 if model.name == "TransactWriteItems" else 1
            calls = [self._write(model.name, table, key, before, factor, refused) for table, key, before in touched]
            # One request, however many items: the units of the others go onto the first one.
            calls = [_together(calls)] if len(calls) > 1 else calls
        for tally in self._open:
            tally.calls += calls

    def _touched(self, operation: str, params: Mapping[str, Any]) -> list[tuple[str, Item]]:
        if operation in _READS:
            return []
        if operation == "TransactWriteItems":
            parts = [part for one in params["TransactItems"] for part in one.values()]
        elif operation in _WRITES:
            parts = [params]
        else:
            raise NotImplementedError(f"the ledger does not know what {operation} costs")
        return [(part["TableName"], part.get("Key") or self._key_of(part)) for part in parts]

    def _key_of(self, put: Mapping[str, Any]) -> Item:
        return {name: put["Item"][name] for name in ("pk", "sk") if name in put["Item"]}

    def _item(self, table: str, key: Item) -> Item | None:
        found: Item | None = self._look.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")
        return found

    def _write(self, operation: str, table: str, key: Item, before: Item | None, factor: int, refused: bool) -> Call:
        after = self._item(table, key)
        index = sum(
            index_write_units(_projected(before, names), _projected(after, names)) for _, names in self._of(table)
        )
        return Call(
            "dynamodb",
            operation,
            table,
            write=factor * write_units(before, after),
            index_write=factor * index,
            bytes=max((item_size(item) for item in (before, after) if item is not None), default=0),
            refused=refused,
        )

    def _read(self, operation: str, params: Mapping[str, Any], parsed: Mapping[str, Any]) -> Call:
        if operation == "BatchGetItem":
            return self._read_batch(params, parsed)
        if operation == "GetItem":
            items = [parsed["Item"]] if "Item" in parsed else []
        else:
            items = self._listed(operation, params)
        units = read_units(items, consistent=bool(params.get("ConsistentRead")))
        size = sum(item_size(item) for item in items)
        return Call("dynamodb", operation, params["TableName"], read=units, bytes=size)

    def _read_batch(self, params: Mapping[str, Any], parsed: Mapping[str, Any]) -> Call:
        """Each item is rounded up by itself, and one that is not there costs what the smallest does."""
        ((table, asked),) = params["RequestItems"].items()
        consistent = bool(asked.get("ConsistentRead"))
        items = parsed["Responses"].get(table, [])
        found = [*items, *({} for _ in range(len(asked["Keys"]) - len(items)))]
        units = sum((read_units([item], consistent=consistent) for item in found), ZERO)
        size = sum(item_size(item) for item in items)
        return Call("dynamodb", "BatchGetItem", table, read=units, bytes=size)

    def _listed(self, operation: str, params: Mapping[str, Any]) -> list[Item]:
        """The items that a query read: a filter drops some after they were read and paid for."""
        again = {name: value for name, value in params.items() if name != "ProjectionExpression"}
        if "FilterExpression" in again:
            again["FilterExpression"] = f"attribute_exists(pk) OR ({again['FilterExpression']})"
        found: list[Item] = (self._look.query if operation == "Query" else self._look.scan)(**again)["Items"]
        index = params.get("IndexName")
        if index is None:
            return found
        names = dict(self._of(params["TableName"]))[index]
        return [entry for item in found if (entry := _projected(item, names)) is not None]

    def _of(self, table: str) -> list[tuple[str, tuple[str, ...]]]:
        """(name, projected attributes) of the table's indexes."""
        if table not in self._indexes:
            described = self._look.describe_table(TableName=table)["Table"]
            keys = [entry["AttributeName"] for entry in described["KeySchema"]]
            self._indexes[table] = []
            for index in described.get("GlobalSecondaryIndexes", ()):
                if index["Projection"]["ProjectionType"] != "KEYS_ONLY":
                    raise NotImplementedError("the ledger knows KEYS_ONLY indexes")
                own = [entry["AttributeName"] for entry in index["KeySchema"]]
                self._indexes[table].append((index["IndexName"], (*own, *keys)))
        return self._indexes[table]


class UnusedPlaceholder(Exception):
    """DynamoDB refuses a request that names a value or an attribute and does not use it; emulators let some pass."""


def check_placeholders(params: Mapping[str, Any]) -> None:
    """Hold a request's names and values against its expressions. Raises UnusedPlaceholder."""
    for part in [params, *(part for one in params.get("TransactItems", ()) for part in one.values())]:
        used = {
            placeholder
            for name, text in part.items()
            if name.endswith("Expression")
            for placeholder in _PLACEHOLDER.findall(text)
        }
        given = {*part.get("ExpressionAttributeValues", ()), *part.get("ExpressionAttributeNames", ())}
        if used != given:
            raise UnusedPlaceholder(
                f"{sorted(given - used)} given and not used, {sorted(used - given)} used and not given"
            )


def _projected(item: Item | None, names: tuple[str, ...]) -> Item | None:
    if item is None or any(name not in item for name in names):
        return None
    return {name: item[name] for name in names}


def _together(calls: list[Call]) -> Call:
    first = calls[0]
    return Call(
        first.service,
        first.operation,
        "+".join(dict.fromkeys(call.table for call in calls)),
        write=sum(call.write for call in calls),
        index_write=sum(call.index_write for call in calls),
        bytes=sum(call.bytes for call in calls),
        refused=first.refused,
    )
