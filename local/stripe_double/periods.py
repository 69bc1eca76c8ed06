"""Billing periods: counted from an anchor, in UTC, by calendar months where the interval is one.

A month that lacks the anchor's day ends the period on its last day, and the next one returns to the anchor's day
[docs: billing cycle]. Times are epoch seconds.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "year": 12}


def shifted(anchor: int, interval: str, steps: int, day: int | None = None) -> int:
    """The anchor moved by `steps` intervals; `day` is the wanted day of the month, the anchor's unless given."""
    if interval in _DAYS:
        return anchor + steps * _DAYS[interval] * 86_400
    moment = datetime.fromtimestamp(anchor, UTC)
    months = moment.year * 12 + moment.month - 1 + steps * _MONTHS[interval]
    year, month = divmod(months, 12)
    last = monthrange(year, month + 1)[1]
    return int(moment.replace(year=year, month=month + 1, day=min(day or moment.day, last)).timestamp())


def around(anchor: int, interval: str, count: int, moment: int, day: int | None = None) -> tuple[int, int]:
    """The period `start <= moment < end` of this anchor."""
    length = {"day": 86_400, "week": 604_800, "month": 2_629_746, "year": 31_556_952}[interval] * count
    step = (moment - anchor) // length - 1
    while shifted(anchor, interval, (step + 1) * count, day) <= moment:
        step += 1
    while shifted(anchor, interval, step * count, day) > moment:
        step -= 1
    return shifted(anchor, interval, step * count, day), shifted(anchor, interval, (step + 1) * count, day)


def next_anchor(config: Mapping[str, int], now: int) -> int:
    """The first moment after `now` that the configuration names; hour, minute and second are those of `now` unless
    given [docs: billing cycle].
    """
    moment = datetime.fromtimestamp(now, UTC)
    time = {name: config.get(name, getattr(moment, name)) for name in ("hour", "minute", "second")}
    for ahead in range(14):
        year, month = divmod(moment.year * 12 + moment.month - 1 + ahead, 12)
        day = min(config["day_of_month"], monthrange(year, month + 1)[1])
        found = datetime(year, month + 1, day, tzinfo=UTC) + timedelta(
            hours=time["hour"], minutes=time["minute"], seconds=time["second"]
        )
        if int(found.timestamp()) > now and config.get("month", month + 1) == month + 1:
            return int(found.timestamp())
    raise ValueError("no such month")
