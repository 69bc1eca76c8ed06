"""A meter's total as the attributes of a row: the same in sealed windows and in daily rollups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tollgate.billing.sealed import LevelMark, MeterTotal


def amounts(total: MeterTotal) -> dict[str, Any]:
    row: dict[str, Any] = {
        "events": total.events,
        "units": total.units,
        "billable": total.billable,
        "credit_funded": total.credit_funded,
        "waived": total.waived,
    }
    if total.event_name is not None:
        row["event_name"] = total.event_name
    if total.level is not None:
        level = total.level
        row["level"] = {"n": level.number, "v": level.units, "at": level.at, "priced": level.priced}
    return row


def amounts_of(row: Mapping[str, Any]) -> MeterTotal:
    return MeterTotal(
        events=int(row["events"]),
        units=row["units"],
        credit_funded=row["credit_funded"],
        waived=row["waived"],
        billable=row["billable"],
        event_name=row.get("event_name"),
        level=_level_of(row["level"]) if "level" in row else None,
    )


def _level_of(row: Mapping[str, Any]) -> LevelMark:
    return LevelMark(int(row["n"]), row["v"], int(row["at"]), row["priced"])
