"""Margins in the billing table, each a JSON `text`.

| row | pk | sk |
| --- | --- | --- |
| how far today's look came | `margins` | `progress` |
| a month's sums | `margins` | `<yyyy-mm>`, for 800 days |
| an account's month | `margins#<yyyy-mm>` | account, for 800 days |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any, Final

from tollgate import dynamo
from tollgate.billing.rollup import DAY_S
from tollgate.margins.margin import Line, Margin
from tollgate.margins.run import PlanLine, Progress, Ranked, Summary
from tollgate.quantities import plain

KEPT_S: Final = 800 * DAY_S
_PK: Final = "margins"


class MarginTable:
    """MarginStore on DynamoDB (billing table)."""

    def __init__(self, table: str) -> None:
        self._table = table

    def progress(self) -> Progress | None:
        found = self._read(_PK, "progress")
        return None if found is None else Progress(found["after"], _summary_of(found["summary"]))

    def put_progress(self, progress: Progress) -> None:
        self._put(_PK, "progress", {"after": progress.after, "summary": _summary_row(progress.summary)})

    def put_summary(self, summary: Summary) -> None:
        self._put(_PK, summary.month, _summary_row(summary), summary.as_of + KEPT_S)

    def summary(self, month: str) -> Summary | None:
        """A month's sums as of the last look that was through."""
        found = self._read(_PK, month)
        return None if found is None else _summary_of(found)

    def put_account(self, month: str, as_of: int, margin: Margin) -> None:
        """The row of an account's month: overwritten by each look."""
        self._put(f"{_PK}#{month}", margin.account, {"as_of": as_of, **_margin_row(margin)}, as_of + KEPT_S)

    def margin(self, month: str, account: str) -> Margin | None:
        """An account's month, as the last look at it left it."""
        found = self._read(f"{_PK}#{month}", account)
        return None if found is None else _margin_of(found)

    def page(self, month: str, limit: int, after: str | None) -> tuple[list[tuple[int, Margin]], str | None]:
        """Accounts of a month in their order beyond `after`, each with the epoch second until which usage is in it; and
        the account to go on from."""
        pk = f"{_PK}#{month}"
        answer = dynamo.client().query(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": dynamo.s(pk)},
            Limit=limit,
            **({"ExclusiveStartKey": {"pk": dynamo.s(pk), "sk": dynamo.s(after)}} if after else {}),
        )
        rows = [json.loads(raw["text"]["S"]) for raw in answer["Items"]]
        found = [(row["as_of"], _margin_of(row)) for row in rows]
        return found, found[-1][1].account if "LastEvaluatedKey" in answer else None

    def _read(self, pk: str, sk: str) -> Any:
        key = {"pk": dynamo.s(pk), "sk": dynamo.s(sk)}
        found = dynamo.client().get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        return json.loads(found["text"]["S"]) if found else None

    def _put(self, pk: str, sk: str, value: Mapping[str, Any], ttl: int | None = None) -> None:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_plain)
        row = dynamo.item({"pk": pk, "sk": sk, "text": text, "ttl": ttl})
        dynamo.client().put_item(TableName=self._table, Item=row)


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    raise TypeError(f"{value!r} is no part of a margin")


def _margin_row(margin: Margin) -> dict[str, Any]:
    return {**asdict(margin), "models": margin.models}


def _margin_of(row: Mapping[str, Any]) -> Margin:
    return Margin(
        account=row["account"],
        plan=row["plan"],
        version=row["version"],
        currency=row["currency"],
        fixed=Decimal(row["fixed"]),
        usage=Decimal(row["usage"]),
        cost=Decimal(row["cost"]),
        usd=_decimal(row["usd"]),
        level=row["level"],
        unpriced={meter: Decimal(units) for meter, units in row["unpriced"].items()},
        credits=row["credits"],
        models=_lines(row["models"]),
    )


def _summary_row(summary: Summary) -> dict[str, Any]:
    row = {name: getattr(summary, name) for name in ("month", "as_of", "accounts", "unpriced", "unconverted", "levels")}
    return {
        **row,
        "plans": [[*key, *line] for key, line in summary.plans.items()],
        "models": summary.models,
        "losing": [asdict(one) for one in summary.losing],
        "spenders": [asdict(one) for one in summary.spenders],
    }


def _summary_of(row: Mapping[str, Any]) -> Summary:
    return Summary(
        month=row["month"],
        as_of=row["as_of"],
        accounts=row["accounts"],
        unpriced=row["unpriced"],
        unconverted=row["unconverted"],
        levels=row["levels"],
        plans={
            (plan, currency): PlanLine(accounts, Decimal(revenue), _decimal(usd), Decimal(cost))
            for plan, currency, accounts, revenue, usd, cost in row["plans"]
        },
        models=_lines(row["models"]),
        losing=tuple(_ranked(one) for one in row["losing"]),
        spenders=tuple(_ranked(one) for one in row["spenders"]),
    )


def _ranked(row: Mapping[str, Any]) -> Ranked:
    revenue, usd, cost = Decimal(row["revenue"]), _decimal(row["usd"]), Decimal(row["cost"])
    return Ranked(row["account"], row["plan"], row["currency"], revenue, usd, cost)


def _lines(rows: Mapping[str, Any]) -> dict[str, Line]:
    return {name: Line(Decimal(revenue), Decimal(cost)) for name, (revenue, cost) in rows.items()}


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
