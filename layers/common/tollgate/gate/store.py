"""The gate table: one item per subject, changed by one conditional UpdateItem per decision.

Item: `pk` subject, `rev` N, `w` {slot -> {id N, t N, held N}}, `p` and `g` (money and credits, next), `h` {key hash ->
packed hold B}, `z` recount nonce while frozen. The expressions below mean what `gate/apply.py` does; a test compares
them on random writes.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tollgate import dynamo
from tollgate.errors import Busy
from tollgate.gate.item import Count, CounterWrite, Gate, GateWrite, Recounted, Step, Written
from tollgate.gate.ports import AnswerLost
from tollgate.quantities import EXACT, ZERO


class GateTable:
    """GateStore on DynamoDB."""

    def __init__(self, table: str) -> None:
        self._table = table

    def write(self, write: GateWrite, *, retry: bool = True) -> Written:
        request = update_request(self._table, write)
        # Spelled like everywhere else: `client(retry=True)` would be a second client, with connections of its own.
        client = dynamo.client() if retry else dynamo.client(retry=False)
        try:
            answer = client.update_item(**request)
        except ClientError as error:
            if dynamo.failed_condition(error):
                found = error.response.get("Item")
                return Written(False, gate_of(found) if found else None)
            if dynamo.code_of(error) in dynamo.TRANSIENT or _status(error) >= 500:
                raise AnswerLost if not retry else Busy from error
            raise
        except BotoCoreError as error:
            raise AnswerLost if not retry else Busy from error
        return Written(True, gate_of(answer["Attributes"]))

    def read(self, subject: str) -> Gate | None:
        answer = dynamo.client().get_item(TableName=self._table, Key={"pk": dynamo.s(subject)}, ConsistentRead=True)
        found = answer.get("Item")
        return gate_of(found) if found else None

    def finish_recount(self, write: Recounted) -> bool:
        try:
            dynamo.client().update_item(
                TableName=self._table,
                Key={"pk": dynamo.s(write.subject)},
                UpdateExpression="SET rev = :new, w = :w, h = :h REMOVE z",
                ConditionExpression="rev = :frozen AND z = :nonce",
                ExpressionAttributeValues={
                    ":new": dynamo.n(write.new_rev),
                    ":frozen": dynamo.n(write.frozen_rev),
                    ":nonce": dynamo.s(write.nonce),
                    ":w": {"M": {str(slot): _count(count) for slot, count in write.counts.items()}},
                    ":h": {"M": {key: dynamo.b(raw) for key, raw in write.holds.items()}},
                },
            )
        except ClientError as error:
            if dynamo.failed_condition(error):
                return False
            raise
        return True

    def scan(self, start: str | None, limit: int) -> tuple[list[Gate], str | None]:
        """Up to `limit` gates after subject `start`, and where to go on (None: the end)."""
        request: dict[str, Any] = {"TableName": self._table, "Limit": limit}
        if start is not None:
            request["ExclusiveStartKey"] = {"pk": dynamo.s(start)}
        page = dynamo.client().scan(**request)
        after = page.get("LastEvaluatedKey")
        return [gate_of(raw) for raw in page.get("Items", ())], after["pk"]["S"] if after else None


def gate_of(raw: dynamo.Item) -> Gate:
    """A gate item as read from DynamoDB."""
    counts = {}
    for slot, attr in raw["w"]["M"].items():
        fields = attr["M"]
        counts[int(slot)] = Count(int(fields["id"]["N"]), Decimal(fields["t"]["N"]), Decimal(fields["held"]["N"]))
    holds = {key: bytes(attr["B"]) for key, attr in raw["h"]["M"].items()}
    nonce = raw.get("z")
    return Gate(raw["pk"]["S"], int(raw["rev"]["N"]), counts, holds, nonce["S"] if nonce else None)


def update_request(table: str, write: GateWrite) -> dict[str, Any]:
    """The UpdateItem that means `write`."""
    if write.rev is None:
        return _create_request(table, write)
    expression = _Expression()
    expression.conditions.append(f"rev = {expression.number(write.rev)}")
    if write.new_rev != write.rev:
        expression.sets.append(f"rev = {expression.number(write.new_rev)}")
    if write.freeze is not None:
        expression.sets.append(f"z = {expression.value(dynamo.s(write.freeze))}")
    for index, hold in enumerate(write.holds):
        path = f"h.{expression.name(f'#k{index}', hold.key)}"
        if hold.expect is None:
            expression.conditions.append(f"attribute_not_exists({path})")
        else:
            expression.conditions.append(f"{path} = {expression.value(dynamo.b(hold.expect))}")
        if hold.new is None:
            if hold.expect is not None:
                expression.removes.append(path)
        elif hold.new != hold.expect:
            expression.sets.append(f"{path} = {expression.value(dynamo.b(hold.new))}")
    if write.max_holds is not None:
        expression.conditions.append(f"size(h) < {expression.number(write.max_holds)}")
    for counter in write.counters:
        _add_counter(expression, counter)
    return expression.request(table, write.subject)


def _add_counter(expression: _Expression, write: CounterWrite) -> None:
    path = f"w.{expression.name(f'#c{write.slot}', str(write.slot))}"
    if write.step is Step.FIRST:
        expression.conditions.append(f"attribute_not_exists({path})")
        count = Count(write.window, write.d_taken, write.d_held)
        expression.sets.append(f"{path} = {expression.value(_count(count))}")
        return
    if write.step is Step.BACK:
        expression.conditions.append(f"attribute_exists({path})")
        _add(expression, path, "t", write)
        return
    assert write.expect is not None
    low, high = write.expect
    if low == high:
        expression.conditions.append(f"{path}.id = {expression.number(low)}")
    else:
        bounds = f"{expression.number(low)} AND {expression.number(high)}"
        expression.conditions.append(f"{path}.id BETWEEN {bounds}")
    base = "t"
    if write.step is Step.ROLL:
        base = "held"
        expression.sets.append(f"{path}.id = {expression.number(write.window)}")
    if write.cap is not None:
        room = EXACT.subtract(write.cap, write.d_taken)
        expression.conditions.append(f"{path}.{base} <= {expression.number(room)}")
    _add(expression, path, base, write)


def _add(expression: _Expression, path: str, base: str, write: CounterWrite) -> None:
    """Taken becomes `base` and the change, held grows by its own."""
    # A value that no expression uses is refused by DynamoDB: each change is named only where it is written.
    if write.d_taken or base != "t":
        expression.sets.append(f"{path}.t = {path}.{base} {expression.change(write.d_taken)}")
    if write.d_held:
        expression.sets.append(f"{path}.held = {path}.held {expression.change(write.d_held)}")


class _Expression:
    """Collects the parts of one UpdateItem; equal numbers share a placeholder."""

    def __init__(self) -> None:
        self.conditions: list[str] = []
        self.sets: list[str] = []
        self.removes: list[str] = []
        self._names: dict[str, str] = {}
        self._values: dict[str, dynamo.Attr] = {}
        self._numbers: dict[str, str] = {}

    def name(self, placeholder: str, name: str) -> str:
        self._names[placeholder] = name
        return placeholder

    def value(self, attr: dynamo.Attr) -> str:
        placeholder = f":v{len(self._values)}"
        self._values[placeholder] = attr
        return placeholder

    def number(self, value: int | Decimal) -> str:
        attr = dynamo.n(value)
        text: str = attr["N"]  # as key, because a Decimal is slow to hash
        known = self._numbers.get(text)
        if known is None:
            known = self._numbers[text] = self.value(attr)
        return known

    def change(self, change: Decimal) -> str:
        """`+ :v` or `- :v`. With copy_abs, as abs() and minus round to the context's digits."""
        return f"{'-' if change < ZERO else '+'} {self.number(change.copy_abs())}"

    def request(self, table: str, subject: str) -> dict[str, Any]:
        parts = []
        if self.sets:
            parts.append("SET " + ", ".join(self.sets))
        if self.removes:
            parts.append("REMOVE " + ", ".join(self.removes))
        found: dict[str, Any] = {
            "TableName": table,
            "Key": {"pk": dynamo.s(subject)},
            "ConditionExpression": " AND ".join(self.conditions),
            "ExpressionAttributeValues": self._values,
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if parts:
            found["UpdateExpression"] = " ".join(parts)
        if self._names:
            found["ExpressionAttributeNames"] = self._names
        return found


def _create_request(table: str, write: GateWrite) -> dict[str, Any]:
    """The gate made with all its maps, so that later writes can address paths inside them."""
    expression = _Expression()
    expression.conditions.append("attribute_not_exists(pk)")
    counts = {}
    for counter in write.counters:
        assert counter.step is Step.FIRST
        counts[str(counter.slot)] = _count(Count(counter.window, counter.d_taken, counter.d_held))
    holds = {hold.key: dynamo.b(hold.new) for hold in write.holds if hold.new is not None}
    empty: dynamo.Attr = {"M": {}}
    for name, attr in (
        ("rev", dynamo.n(write.new_rev)),
        ("w", {"M": counts}),
        ("h", {"M": holds}),
        ("p", empty),
        ("g", empty),
    ):
        expression.sets.append(f"{name} = {expression.value(attr)}")
    if write.freeze is not None:
        expression.sets.append(f"z = {expression.value(dynamo.s(write.freeze))}")
    return expression.request(table, write.subject)


def transact_part(table: str, write: GateWrite) -> dict[str, Any]:
    """`write` as a part of a transaction: an update, or a check where it changes nothing."""
    request = update_request(table, write)
    del request["ReturnValues"]
    if "UpdateExpression" in request:
        return {"Update": request}
    return {"ConditionCheck": request}


def _count(count: Count) -> dynamo.Attr:
    return {"M": {"id": dynamo.n(count.window), "t": dynamo.n(count.taken), "held": dynamo.n(count.held)}}


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
