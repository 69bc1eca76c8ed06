"""The gate table: one item per subject, changed by one conditional UpdateItem per decision.

Item: `pk` subject, `rev` N, `w` {slot -> {id N, t N, held N}}, `h` {hold name -> packed hold B}, `p` {id N,
s N (spend), x L (past), meter slot -> {t N, h N (held), c N (credited), w N (waived)}} or empty, `g` {grant number ->
{m N (meter slot), l N (left), p N (priority), s N (starts), e N (ends, if ever), r S (every), u N (units), c N
(carried), k N (clawed), o N (moved over), f B (whose)}}, `c` N grants that ever came (absent: 0), `l` {meter slot ->
{n N (number), v N (units), a N (set at, ms), b (priced), o S (open)}} once a level was set, `z` recount nonce while
frozen, `m` N accounts that became this one and are counted here (absent: 0). The expressions below mean what
`gate/apply.py` does; a test compares them on random writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tollgate import dynamo
from tollgate.errors import Busy
from tollgate.gate.item import (
    CLOSED,
    Count,
    CounterWrite,
    Gate,
    GateWrite,
    Grant,
    Level,
    LevelSet,
    Money,
    MoneyAdd,
    MoneySet,
    Paid,
    Recounted,
    Step,
    Written,
)
from tollgate.gate.ports import AnswerLost
from tollgate.quantities import EXACT, ZERO
from tollgate.usage.grant import FOREVER

_MONEY = ("id", "s", "x")
_PAID = ("t", "h", "c", "w")
"""The fields of `Paid`, in its order."""
_SELDOM = ("u", "c", "k", "o")
"""Of a grant, only where they are not 0: `units`, `carried`, `clawed`, `moved`."""
RECALLED = 2_000
"""Gates whose money a process remembers."""


class GateTable:
    """GateStore on DynamoDB. `begins` is told of each member's gate (its subject) before it is made: the table has no
    order in which an account's members could be found."""

    def __init__(self, table: str, begins: Callable[[str], None] | None = None) -> None:
        self._table = table
        self._begins = begins
        self._last: dict[str, Gate] = {}

    def recall(self, subject: str) -> Gate | None:
        return self._last.get(subject)

    def _seen(self, raw: dynamo.Item) -> Gate:
        gate = gate_of(raw)
        if gate.money is not None or gate.grants:
            self._last.pop(gate.subject, None)  # to the end: the oldest goes first
            self._last[gate.subject] = replace(gate, counts={}, holds={})
            if len(self._last) > RECALLED:
                del self._last[next(iter(self._last))]
        return gate

    def write(self, write: GateWrite, *, retry: bool = True) -> Written:
        if write.rev is None and self._begins is not None and "#" in write.subject:
            self._begins(write.subject)
        request = update_request(self._table, write)
        # Spelled like everywhere else: `client(retry=True)` would be a second client, with connections of its own.
        client = dynamo.client() if retry else dynamo.client(retry=False)
        try:
            answer = client.update_item(**request)
        except ClientError as error:
            if dynamo.failed_condition(error):
                found = error.response.get("Item")
                return Written(False, self._seen(found) if found else None)
            if dynamo.code_of(error) in dynamo.TRANSIENT or _status(error) >= 500:
                raise AnswerLost if not retry else Busy from error
            raise
        except BotoCoreError as error:
            raise AnswerLost if not retry else Busy from error
        return Written(True, self._seen(answer["Attributes"]))

    def read(self, subject: str) -> Gate | None:
        answer = dynamo.client().get_item(TableName=self._table, Key={"pk": dynamo.s(subject)}, ConsistentRead=True)
        found = answer.get("Item")
        return self._seen(found) if found else None

    def read_all(self, subjects: Sequence[str]) -> dict[str, Gate]:
        """Consistent reads of up to 100 gates; those that are not there are left out."""
        keys = [{"pk": dynamo.s(subject)} for subject in subjects]
        return {raw["pk"]["S"]: gate_of(raw) for raw in dynamo.batch_get(self._table, keys)}

    def finish_recount(self, write: Recounted) -> bool:
        sets, names, values = ["rev = :new", "w = :w", "h = :h", "p = :p"], {}, {}
        if write.merged:
            sets.append("m = :m")
            values[":m"] = dynamo.n(write.merged)
        for number, grant in write.new_grants:
            sets.append(f"g.#g{number} = :g{number}")
            names[f"#g{number}"], values[f":g{number}"] = str(number), _grant(grant)
        if write.new_grants:
            sets.append("c = if_not_exists(c, :none) + :came")
            values[":none"], values[":came"] = dynamo.n(0), dynamo.n(len(write.new_grants))
        try:
            dynamo.client().update_item(
                TableName=self._table,
                Key={"pk": dynamo.s(write.subject)},
                UpdateExpression=f"SET {', '.join(sets)} REMOVE z",
                ConditionExpression="rev = :frozen AND z = :nonce",
                **({"ExpressionAttributeNames": names} if names else {}),
                ExpressionAttributeValues={
                    **values,
                    ":new": dynamo.n(write.new_rev),
                    ":frozen": dynamo.n(write.frozen_rev),
                    ":nonce": dynamo.s(write.nonce),
                    ":w": {"M": {str(slot): _count(count) for slot, count in write.counts.items()}},
                    ":h": {"M": {key: dynamo.b(raw) for key, raw in write.holds.items()}},
                    ":p": _money(write.money),
                },
            )
        except ClientError as error:
            if dynamo.failed_condition(error):
                return False
            raise
        return True

    def close(self, subject: str) -> Gate:
        empty = ", ".join(f"{name} = if_not_exists({name}, :empty)" for name in ("w", "h", "p", "g"))
        answer = dynamo.client().update_item(
            TableName=self._table,
            Key={"pk": dynamo.s(subject)},
            UpdateExpression=f"SET rev = :closed, {empty} REMOVE z",
            ExpressionAttributeValues={":closed": dynamo.n(CLOSED), ":empty": {"M": {}}},
            ReturnValues="ALL_NEW",
        )
        self._last.pop(subject, None)
        return gate_of(answer["Attributes"])

    def scan(self, start: str | None, limit: int) -> tuple[list[Gate], str | None]:
        """Up to `limit` gates after subject `start`, and where to go on (None: the end)."""
        request: dict[str, Any] = {"TableName": self._table, "Limit": limit}
        if start is not None:
            request["ExclusiveStartKey"] = {"pk": dynamo.s(start)}
        page = dynamo.client().scan(**request)
        after = page.get("LastEvaluatedKey")
        # Shards of shared limits stand among the gates (`shared_store.py`); only gates have counters.
        gates = [gate_of(raw) for raw in page.get("Items", ()) if "w" in raw]
        return gates, after["pk"]["S"] if after else None


def gate_of(raw: dynamo.Item) -> Gate:
    """A gate item as read from DynamoDB."""
    counts = {}
    for slot, attr in raw["w"]["M"].items():
        fields = attr["M"]
        counts[int(slot)] = Count(int(fields["id"]["N"]), Decimal(fields["t"]["N"]), Decimal(fields["held"]["N"]))
    holds = {key: bytes(attr["B"]) for key, attr in raw["h"]["M"].items()}
    nonce = raw.get("z")
    return Gate(
        raw["pk"]["S"],
        int(raw["rev"]["N"]),
        counts,
        holds,
        nonce["S"] if nonce else None,
        _money_of(raw["p"]["M"]),
        {int(number): _grant_of(attr["M"]) for number, attr in raw["g"]["M"].items()},
        {int(slot): _level_of(attr["M"]) for slot, attr in raw["l"]["M"].items()} if "l" in raw else {},
        int(raw["m"]["N"]) if "m" in raw else 0,
        int(raw["c"]["N"]) if "c" in raw else 0,
    )


def _money_of(raw: dynamo.Item) -> Money | None:
    if not raw:
        return None
    paid = {
        int(name): Paid(*(Decimal(attr["M"][field]["N"]) for field in _PAID))
        for name, attr in raw.items()
        if name not in _MONEY
    }
    past = tuple(Decimal(attr["N"]) for attr in raw["x"]["L"])
    return Money(int(raw["id"]["N"]), Decimal(raw["s"]["N"]), paid, past)


def _money(money: Money | None) -> dynamo.Attr:
    if money is None:
        return {"M": {}}
    fields: dict[str, dynamo.Attr] = {
        str(slot): {"M": {field: dynamo.n(value) for field, value in zip(_PAID, paid, strict=True)}}
        for slot, paid in money.paid.items()
    }
    fields["id"], fields["s"] = dynamo.n(money.period), dynamo.n(money.spend)
    fields["x"] = {"L": [dynamo.n(spend) for spend in money.past]}
    return {"M": fields}


def _grant_of(raw: dynamo.Item) -> Grant:
    ends = int(raw["e"]["N"]) if "e" in raw else FOREVER
    meter, starts = int(raw["m"]["N"]), int(raw["s"]["N"])
    units, carried, clawed, moved = (Decimal(raw[name]["N"]) if name in raw else ZERO for name in _SELDOM)
    every = raw["r"]["S"] if "r" in raw else ""
    left, priority, whose = Decimal(raw["l"]["N"]), int(raw["p"]["N"]), bytes(raw["f"]["B"]) if "f" in raw else b""
    return Grant(meter, left, priority, starts, ends, every, units, carried, clawed, moved, whose)


def _grant(grant: Grant) -> dynamo.Attr:
    fields = {"m": dynamo.n(grant.meter), "l": dynamo.n(grant.left), "p": dynamo.n(grant.priority)}
    fields["s"] = dynamo.n(grant.starts)
    if grant.ends != FOREVER:
        fields["e"] = dynamo.n(grant.ends)
    if grant.every:
        fields["r"] = dynamo.s(grant.every)
    if grant.whose:
        fields["f"] = dynamo.b(grant.whose)
    for name, value in zip(_SELDOM, (grant.units, grant.carried, grant.clawed, grant.moved), strict=True):
        if value:
            fields[name] = dynamo.n(value)
    return {"M": fields}


def _level_of(raw: dynamo.Item) -> Level:
    return Level(
        int(raw["n"]["N"]),
        Decimal(raw["v"]["N"]),
        int(raw["a"]["N"]),
        "b" in raw,
        raw["o"]["S"] if "o" in raw else "",
    )


def _level(level: Level) -> dynamo.Attr:
    fields = {"n": dynamo.n(level.number), "v": dynamo.n(level.units), "a": dynamo.n(level.at_ms)}
    if level.priced:
        fields["b"] = {"BOOL": True}
    if level.open:
        fields["o"] = dynamo.s(level.open)
    return {"M": fields}


def update_request(table: str, write: GateWrite) -> dict[str, Any]:
    """The UpdateItem that means `write`."""
    assert write.rev != CLOSED, "nothing is written to a gate whose account became another one"
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
    if isinstance(write.money, MoneySet):
        _set_money(expression, write.money)
    elif write.money is not None:
        _add_money(expression, write.money)
    _add_grants(expression, write)
    if write.level is not None:
        _set_level(expression, write.level)
    return expression.request(table, write.subject)


def _set_level(expression: _Expression, write: LevelSet) -> None:
    if write.first:
        # Few gates have levels, so the map is made with the first of them.
        expression.conditions.append("attribute_not_exists(l)")
        expression.sets.append(f"l = {expression.value({'M': {str(write.slot): _level(write.new)}})}")
        return
    path = f"l.{expression.name(f'#l{write.slot}', str(write.slot))}"
    if write.expect:
        expression.conditions.append(f"{path}.n = {expression.number(write.expect)}")
    else:
        expression.conditions.append(f"attribute_not_exists({path})")
    expression.sets.append(f"{path} = {expression.value(_level(write.new))}")


def _set_money(expression: _Expression, write: MoneySet) -> None:
    before = write.expect
    entries = 0 if before is None else len(_MONEY) + len(before.paid)
    expression.conditions.append(f"size(p) = {expression.number(entries)}")
    if before is not None:
        # Leaf by leaf: equal numbers are equal however they are spelled, which maps compared whole may not be.
        expression.conditions.append(f"p.id = {expression.number(before.period)}")
        expression.conditions.append(f"p.s = {expression.number(before.spend)}")
        for slot, paid in before.paid.items():
            path = f"p.{expression.name(f'#p{slot}', str(slot))}"
            for field, value in zip(_PAID, paid, strict=True):
                expression.conditions.append(f"{path}.{field} = {expression.number(value)}")
    for slot, count in write.sure:
        path = f"w.{expression.name(f'#{slot}', str(slot))}"
        if count is None:
            expression.conditions.append(f"attribute_not_exists({path})")
            continue
        expression.conditions.append(
            f"{path}.id = {expression.number(count.window)} AND {path}.t = {expression.number(count.taken)}"
            f" AND {path}.held = {expression.number(count.held)}"
        )
    expression.sets.append(f"p = {expression.value(_money(write.new))}")


def _add_money(expression: _Expression, write: MoneyAdd) -> None:
    expression.conditions.append(f"p.id = {expression.number(write.period)}")
    if write.most is not None:
        expression.conditions.append(f"p.s <= {expression.number(write.most)}")
    if write.d_spend:
        expression.sets.append(f"p.s = p.s {expression.change(write.d_spend)}")
    for move in write.moves:
        path = f"p.{expression.name(f'#p{move.slot}', str(move.slot))}"
        bounds = [f"attribute_exists({path})"]
        if move.low is not None:
            bounds = [f"{path}.t {'>' if move.low_open else '>='} {expression.number(move.low)}"]
        if move.high is not None:
            bounds.append(f"{path}.t <= {expression.number(move.high)}")
        expression.conditions += bounds
        changes = (move.d_taken, move.d_held, move.d_credited, move.d_waived)
        for field, change in zip(_PAID, changes, strict=True):
            if change:
                expression.sets.append(f"{path}.{field} = {path}.{field} {expression.change(change)}")


def _add_grants(expression: _Expression, write: GateWrite) -> None:
    if write.grants_known is not None:
        expression.conditions.append(
            f"c = {expression.number(write.grants_known)}" if write.grants_known else "attribute_not_exists(c)"
        )
    for move in write.grants:
        path = f"g.{expression.name(f'#g{move.number}', str(move.number))}"
        if move.exactly is not None:
            expression.conditions.append(f"{path}.l = {expression.number(move.exactly)}")
        elif move.low is not None:
            expression.conditions.append(f"{path}.l >= {expression.number(move.low)}")
        else:
            expression.conditions.append(f"attribute_exists({path})")
        if move.clawed is not None:
            before, after = move.clawed
            expression.conditions.append(
                f"{path}.k = {expression.number(before)}" if before else f"attribute_not_exists({path}.k)"
            )
            if after:
                expression.sets.append(f"{path}.k = {expression.number(after)}")
        if move.moved:
            expression.sets.append(f"{path}.o = {expression.number(move.moved)}")
        if move.change:
            expression.sets.append(f"{path}.l = {path}.l {expression.change(move.change)}")
    for number, left in write.gone_grants:
        path = f"g.{expression.name(f'#g{number}', str(number))}"
        expression.conditions.append(f"{path}.l = {expression.number(left)}")
        expression.removes.append(path)
    for number, new in write.new_grants:
        path = f"g.{expression.name(f'#g{number}', str(number))}"
        expression.conditions.append(f"attribute_not_exists({path})")
        expression.sets.append(f"{path} = {expression.value(_grant(new))}")
    if write.new_grants:
        none, came = expression.number(0), expression.number(len(write.new_grants))
        expression.sets.append(f"c = if_not_exists(c, {none}) + {came}")


def _add_counter(expression: _Expression, write: CounterWrite) -> None:
    path = f"w.{expression.name(f'#{write.slot}', str(write.slot))}"
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
        placeholder = f":{len(self._values)}"  # short: DynamoDB takes 4 KB of expression
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
    money = None
    if write.money is not None:
        assert isinstance(write.money, MoneySet)
        money = write.money.new
    for name, attr in (
        ("rev", dynamo.n(write.new_rev)),
        ("w", {"M": counts}),
        ("h", {"M": holds}),
        ("p", _money(money)),
        ("g", {"M": {str(number): _grant(grant) for number, grant in write.new_grants}}),
    ):
        expression.sets.append(f"{name} = {expression.value(attr)}")
    if write.new_grants:
        expression.sets.append(f"c = {expression.number(len(write.new_grants))}")
    if write.freeze is not None:
        expression.sets.append(f"z = {expression.value(dynamo.s(write.freeze))}")
    if write.level is not None:
        _set_level(expression, write.level)
    return expression.request(table, write.subject)


def transact_part(table: str, write: GateWrite) -> dict[str, Any]:
    """`write` as a part of a transaction: an update, or a check where it changes nothing."""
    request = update_request(table, write)
    del request["ReturnValues"]
    if "UpdateExpression" in request:
        return {"Update": request}
    return {"ConditionCheck": request}


def closing_part(table: str, gate: Gate) -> dict[str, Any]:
    """A part of a transaction: close a gate that nothing was paid for on when it was seen, if that is still so."""
    expression = _Expression()
    expression.sets.append(f"rev = {expression.number(CLOSED)}")
    expression.removes.append("z")
    entries = 0 if gate.money is None else len(_MONEY) + len(gate.money.paid)
    expression.conditions.append(f"size(p) = {expression.number(entries)}")
    if gate.money is not None:
        expression.conditions.append(
            f"p.s = {expression.number(ZERO)} AND p.id = {expression.number(gate.money.period)}"
        )
        for slot in gate.money.paid:
            expression.conditions.append(f"p.{expression.name(f'#p{slot}', str(slot))}.t = {expression.number(ZERO)}")
    if not gate.levels:
        expression.conditions.append("attribute_not_exists(l)")
    for slot, level in gate.levels.items():
        path = expression.name(f"#l{slot}", str(slot))
        expression.conditions.append(f"l.{path}.n = {expression.number(level.number)}")
    request = expression.request(table, gate.subject)
    del request["ReturnValues"]
    return {"Update": request}


def _count(count: Count) -> dynamo.Attr:
    return {"M": {"id": dynamo.n(count.window), "t": dynamo.n(count.taken), "held": dynamo.n(count.held)}}


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
