"""The events table: outcomes at their keys, and dedupe rows for keys that are no UUIDv7.

Outcome row: `pk` account, `sk` `<origin ms, 12 hex digits>.<key hash>`, `kind` event|void, `ia`/`im` incarnation on the
account's and the member's gate. Dedupe row: `sk` `k#<key hash>`, `origin` N. Rows are immutable, except that a void may
be raised, or become an event, by the conditions below.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tollgate import dynamo
from tollgate.errors import Busy
from tollgate.gate.item import GateWrite
from tollgate.quantities import ONE
from tollgate.usage.outcome import ACCOUNT, MEMBER, Event, Outcome, OutcomeKey, UsedItem, Void

PAGE = 200
"""Rows of the newest first, in one request."""
_FIELD = {ACCOUNT: "ia", MEMBER: "im"}


class EventTable:
    """OutcomeStore on DynamoDB. `gate_part` renders a GateWrite for a transaction (`gate.store.transact_part`)."""

    def __init__(self, table: str, gate_part: Callable[[GateWrite], dict[str, Any]]) -> None:
        self._table = table
        self._gate_part = gate_part

    def origin(self, account: str, key: str, proposed_ms: int) -> int:
        found = self._put(
            {"pk": dynamo.s(account), "sk": dynamo.s(f"k#{key}"), "origin": dynamo.n(proposed_ms)},
            "attribute_not_exists(pk)",
            {},
        )
        return proposed_ms if found is None else int(found["origin"]["N"])

    def find(self, account: str, key: str, origin_ms: int | None) -> Outcome | None:
        if origin_ms is None:
            at = {"pk": dynamo.s(account), "sk": dynamo.s(f"k#{key}")}
            row = dynamo.client().get_item(TableName=self._table, Key=at, ConsistentRead=True).get("Item")
            if row is None:
                return None
            origin_ms = int(row["origin"]["N"])
        return self.get(OutcomeKey(account, origin_ms, key))

    def put_event(self, event: Event) -> Outcome | None:
        conditions, values = [], {":void": dynamo.s("void")}
        for per, incarnation in event.incarnations.items():
            field = _FIELD[per]
            conditions.append(f"(attribute_not_exists({field}) OR {field} < :{field})")
            values[f":{field}"] = dynamo.b(incarnation)
        older = " AND ".join(["kind = :void", *conditions])
        found = self._put(event_item(event), f"attribute_not_exists(pk) OR ({older})", values)
        return None if found is None else outcome_of(found)

    def put_void(self, void: Void) -> Outcome | None:
        wanted = dict(void.incarnations)
        while True:
            found = self._raise_void(void, wanted)
            if found is None:
                return None
            there = outcome_of(found)
            if isinstance(there, Event):
                return there
            left = {per: own for per, own in wanted.items() if there.incarnations.get(per, b"") < own}
            if not left:
                return there
            wanted = left  # one gate's part is newer already: raise only the others

    def _raise_void(self, void: Void, wanted: Mapping[str, bytes]) -> dynamo.Item | None:
        sets = ["kind = :void", "why = :why", "vms = :vms"]
        conditions = []
        values = {":void": dynamo.s("void"), ":why": dynamo.s(void.why), ":vms": dynamo.n(void.voided_ms)}
        removes = []
        for name, value in (("rk", void.release_key), ("vc", void.call or None)):
            if value is None:
                removes.append(name)  # of the void that this one is raised from
            else:
                sets.append(f"{name} = :{name}")
                values[f":{name}"] = dynamo.wire(value)
        for per, incarnation in wanted.items():
            field = _FIELD[per]
            sets.append(f"{field} = :{field}")
            conditions.append(f"(attribute_not_exists({field}) OR {field} < :{field})")
            values[f":{field}"] = dynamo.b(incarnation)
        older = " AND ".join(["kind = :void", *conditions])
        try:
            dynamo.client().update_item(
                TableName=self._table,
                Key=_key(void.at),
                UpdateExpression="SET " + ", ".join(sets) + (f" REMOVE {', '.join(removes)}" if removes else ""),
                ConditionExpression=f"attribute_not_exists(pk) OR ({older})",
                ExpressionAttributeValues=values,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if dynamo.failed_condition(error):
                found: dynamo.Item = error.response["Item"]
                return found
            raise
        return None

    def get(self, at: OutcomeKey) -> Outcome | None:
        found = dynamo.client().get_item(TableName=self._table, Key=_key(at), ConsistentRead=True).get("Item")
        return outcome_of(found) if found else None

    def events_between(self, account: str, first_ms: int, last_ms: int) -> Iterator[Event]:
        for raw in dynamo.query(
            self._table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            FilterExpression="kind = :event",
            ExpressionAttributeValues={
                ":pk": dynamo.s(account),
                ":first": dynamo.s(f"{first_ms:012x}"),
                ":last": dynamo.s(f"{last_ms:012x}/"),
                ":event": dynamo.s("event"),
            },
            ConsistentRead=True,
        ):
            yield event_of(raw)

    def newest(self, account: str, first_ms: int, last: str, pages: int | None = None) -> Iterator[Event]:
        """Events from sort key `last` (included) down to origin time `first_ms`, newest first, page by page. `pages`:
        no more than so many, of `PAGE` rows each, are read, voids among them."""
        for raw in dynamo.query(
            self._table,
            pages,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            FilterExpression="kind = :event",
            ExpressionAttributeValues={
                ":pk": dynamo.s(account),
                ":first": dynamo.s(f"{first_ms:012x}"),
                ":last": dynamo.s(last),
                ":event": dynamo.s("event"),
            },
            ScanIndexForward=False,
            ConsistentRead=True,
            Limit=PAGE,
        ):
            yield event_of(raw)

    def commit_late(self, event: Event, over: Void, writes: Sequence[GateWrite]) -> bool:
        conditions, values = ["kind = :void"], {":void": dynamo.s("void")}
        for per, field in _FIELD.items():
            incarnation = over.incarnations.get(per)
            if incarnation is None:
                conditions.append(f"attribute_not_exists({field})")
            else:
                conditions.append(f"{field} = :{field}")
                values[f":{field}"] = dynamo.b(incarnation)
        put = {
            "TableName": self._table,
            "Item": event_item(event),
            "ConditionExpression": " AND ".join(conditions),
            "ExpressionAttributeValues": values,
        }
        try:
            dynamo.client().transact_write_items(
                TransactItems=[{"Put": put}, *(self._gate_part(write) for write in writes)]
            )
        except ClientError as error:
            if dynamo.code_of(error) in ("TransactionCanceledException", *dynamo.TRANSIENT):
                return False
            raise
        return True

    def _put(self, item: dynamo.Item, condition: str, values: dict[str, dynamo.Attr]) -> dynamo.Item | None:
        """A conditional put; returns the row in the way. Repeating it is harmless, so the SDK may."""
        try:
            dynamo.client().put_item(
                TableName=self._table,
                Item=item,
                ConditionExpression=condition,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **({"ExpressionAttributeValues": values} if values else {}),
            )
        except ClientError as error:
            if dynamo.failed_condition(error):
                found: dynamo.Item = error.response["Item"]
                return found
            if dynamo.code_of(error) in dynamo.TRANSIENT:
                raise Busy from error
            raise
        except BotoCoreError as error:
            raise Busy from error
        return None


def sort_key(at: OutcomeKey) -> str:
    return f"{at.origin_ms:012x}.{at.key}"


def _key(at: OutcomeKey) -> dynamo.Item:
    return {"pk": dynamo.s(at.account), "sk": dynamo.s(sort_key(at))}


def event_item(event: Event) -> dynamo.Item:
    """An event as its row."""
    return dynamo.item(
        {
            "pk": event.at.account,
            "sk": sort_key(event.at),
            "kind": "event",
            "ia": event.incarnations.get(ACCOUNT),
            "im": event.incarnations.get(MEMBER),
            "rec": event.recorded_ms,
            "items": [_item_fields(item) for item in event.items],
            "member": event.member,
            "plan": event.plan,
            "pv": event.plan_version,
            "occ": event.occurred_ms,
            "cached": event.cached or None,
            "cost": event.provider_cost,
            "meta": None
            if event.metadata is None
            else json.dumps(event.metadata, separators=(",", ":"), ensure_ascii=False),
            "uid": event.usage_id,
            "tok": event.token,
            "fp": event.fingerprint or None,
            "ck": event.commit_key,
            "call": event.call or None,
            "late": event.late or None,
            "over": event.over_reserved or None,
            "join": event.joined or None,
        }
    )


def _item_fields(item: UsedItem) -> dict[str, Any]:
    fields: dict[str, Any] = {"m": item.meter, "q": item.quantity, "u": item.units}
    if item.dimensions:
        fields["d"] = dict(item.dimensions)
    if item.credit_funded:
        fields["cf"] = item.credit_funded
    if item.credits:
        fields["cr"] = [[number, units] for number, units in item.credits]
    if item.waived:
        fields["wv"] = item.waived
    if not item.priced:
        fields["np"] = True
    if item.weight != ONE:
        fields["w"] = item.weight
    if item.level is not None:
        fields["lv"] = item.level
    return fields


def outcome_of(raw: dynamo.Item) -> Outcome:
    return event_of(raw) if raw["kind"]["S"] == "event" else void_of(raw)


def void_of(raw: dynamo.Item) -> Void:
    row = dynamo.unitem(raw)
    return Void(_at(row), _incarnations(row), row["why"], int(row["vms"]), row.get("rk"), bytes(row.get("vc", b"")))


def event_of(raw: dynamo.Item) -> Event:
    row = dynamo.unitem(raw)
    zero = Decimal(0)
    meta, occurred = row.get("meta"), row.get("occ")
    return Event(
        at=_at(row),
        incarnations=_incarnations(row),
        recorded_ms=int(row["rec"]),
        items=tuple(
            UsedItem(
                meter=one["m"],
                quantity=one["q"],
                units=one["u"],
                dimensions=one.get("d", {}),
                credit_funded=one.get("cf", zero),
                waived=one.get("wv", zero),
                priced=not one.get("np", False),
                weight=one.get("w", ONE),
                credits=tuple((int(number), units) for number, units in one.get("cr", ())),
                level=int(one["lv"]) if "lv" in one else None,
            )
            for one in row["items"]
        ),
        member=row.get("member"),
        plan=row.get("plan", ""),
        plan_version=int(row.get("pv", 0)),
        occurred_ms=None if occurred is None else int(occurred),
        cached=row.get("cached", False),
        provider_cost=row.get("cost"),
        metadata=None if meta is None else json.loads(meta),
        usage_id=row.get("uid"),
        token=row.get("tok"),
        fingerprint=row.get("fp", b""),
        commit_key=row.get("ck"),
        call=row.get("call", b""),
        late=row.get("late", False),
        over_reserved=row.get("over", False),
        joined=row.get("join", False),
    )


def _at(row: Mapping[str, Any]) -> OutcomeKey:
    origin, _, key = row["sk"].partition(".")
    return OutcomeKey(row["pk"], int(origin, 16), key)


def _incarnations(row: Mapping[str, Any]) -> dict[str, bytes]:
    return {per: bytes(row[field]) for per, field in _FIELD.items() if field in row}
