"""Time windows: the stretches of time that limits count in (pure; every instant is an integer epoch second, UTC).

A window is named by its start. For one kind and one calendar the windows tile time: each instant lies in exactly one
window, and a later instant never lies in an earlier window. That must hold when clocks are put forward or back, in
zones that skip a day, and across a change of the account's timezone; the rules below exist for those cases.

- `minute` and `hour` follow the zone's offset (in a zone at +05:45 hours start at :15 UTC) and last their length. Only
  where an offset change moves their grid (Lord Howe's half hour) does one end early and the next start short.
- `day`, `week` (from Monday) and `month` follow the local date. Where clocks are put back over midnight, the date that
  comes a second time stays in the window that had begun: a window, once ended, never comes back.
- `period` is the calendar month for now.
- `lifetime` is one window without end.
- `first_use` starts with its first use, so its start is stored with its counter: `first_use_at`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tollgate.errors import FieldError, Invalid

HOUR: Final = 3600
LAST_INSTANT: Final = 253_370_764_799
"""The end of the year 9998: past it the standard library's dates give out."""
MAX_FIRST_USE_HOURS: Final = 24 * 366

_GRID: Final = {"minute": 60, "hour": HOUR}
_NAMES: Final = frozenset({"minute", "hour", "day", "week", "month", "period", "lifetime"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_LOCAL: Final = datetime(1970, 1, 1)
_ZONE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}", re.ASCII)
_NOT_PLACES: Final = ("posix/", "right/", "localtime", "posixrules", "Factory")
"""Files beside the zones: `right/` counts leap seconds, `localtime` means another place on every machine."""


class UnknownTimezone(Invalid):
    code = "unknown_timezone"

    def __init__(self, name: str, path: str = "timezone") -> None:
        super().__init__(
            f"No timezone `{name}`; use an IANA name such as Europe/Berlin.", (FieldError(path, "unknown_timezone"),)
        )


class Window(NamedTuple):
    """`start <= t < end` in epoch seconds; `end` is None where the window never ends. The start is the window's id."""

    start: int
    end: int | None


@dataclass(frozen=True, slots=True)
class WindowKind:
    """What a limit counts in. `hours` is set for `first_use` only."""

    name: str
    hours: int | None = None

    def __post_init__(self) -> None:
        if self.name == "first_use":
            if self.hours is None or not 1 <= self.hours <= MAX_FIRST_USE_HOURS:
                raise ValueError(f"a first_use window lasts 1 to {MAX_FIRST_USE_HOURS} hours")
        elif self.name not in _NAMES or self.hours is not None:
            raise ValueError(f"no window kind {self.name!r}; use one of {', '.join(sorted(_NAMES))} or first_use")

    @property
    def text(self) -> str:
        """The canonical form, `day` or `first_use:5`; `WindowKind.parse` reads it back."""
        return self.name if self.hours is None else f"{self.name}:{self.hours}"

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> WindowKind:
        """The kind of a canonical form. Raises ValueError for anything else."""
        name, colon, hours = text.partition(":")
        kind = cls(name, int(hours)) if colon and hours.isdecimal() else cls(text)
        if kind.text != text:
            raise ValueError(f"not the canonical form of a window kind: {text!r}")
        return kind

    @classmethod
    def first_use(cls, hours: int) -> WindowKind:
        return cls("first_use", hours)


MINUTE: Final = WindowKind("minute")
HOURLY: Final = WindowKind("hour")
DAY: Final = WindowKind("day")
WEEK: Final = WindowKind("week")
MONTH: Final = WindowKind("month")
PERIOD: Final = WindowKind("period")
LIFETIME: Final = WindowKind("lifetime")

CALENDAR_KINDS: Final = (MINUTE, HOURLY, DAY, WEEK, MONTH, PERIOD, LIFETIME)
"""The kinds that `window_at` answers: all but `first_use`."""

_LIFETIME_WINDOW: Final = Window(0, None)


class Segment(NamedTuple):
    """From `since` (epoch seconds) on, the account lives in `timezone`. A billing period's anchor will stand here."""

    since: int
    timezone: str


@dataclass(frozen=True, slots=True)
class Calendar:
    """An account's history of timezones, oldest first; the first segment holds from the beginning of time (0).

    A change at instant T binds each window kind from the end of the window (as it then was) that contains T. The window
    after it runs from there to the next boundary of the new zone. So a change moves no window that has begun.

    Keep the object as long as the rules it came with: it remembers the last window of each kind. Raises ValueError for
    segments out of order and UnknownTimezone for a name that is none.
    """

    segments: tuple[Segment, ...]
    _last: dict[str, Window] = field(default_factory=dict, init=False, repr=False, compare=False)
    _binding: dict[WindowKind, tuple[tuple[int, ZoneInfo], ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not self.segments or self.segments[0].since != 0:
            raise ValueError("a calendar begins with a segment at 0")
        since = [segment.since for segment in self.segments]
        if any(late < early for early, late in zip(since, since[1:], strict=False)):
            raise ValueError("a calendar's segments stand in order of time")
        for segment in self.segments:
            zone(segment.timezone)

    @classmethod
    def of(cls, timezone: str) -> Calendar:
        """The calendar of an account that never moved."""
        return cls((Segment(0, timezone),))

    @property
    def timezone(self) -> str:
        """The timezone chosen last (it may not bind every window kind yet)."""
        return self.segments[-1].timezone

    def moved(self, since: int, timezone: str) -> Calendar:
        """This calendar with one more change at `since`; itself where the timezone stays the same."""
        if timezone == self.timezone:
            return self
        return Calendar((*self.segments, Segment(since, timezone)))


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The zone of an IANA name. Raises UnknownTimezone."""
    if not _ZONE_NAME.fullmatch(name) or name.startswith(_NOT_PLACES):
        raise UnknownTimezone(name)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: a folder of zones, such as "America"
        raise UnknownTimezone(name) from error


def window_at(kind: WindowKind, calendar: Calendar, epoch_s: int) -> Window:
    """The window of a kind that contains an instant (epoch seconds).

    Raises ValueError for `first_use` (its start is stored: `first_use_at`) and for an instant outside 1970 to 9998.
    """
    last = calendar._last.get(kind.name)
    if last is not None and last.start <= epoch_s and (last.end is None or epoch_s < last.end):
        return last
    if not 0 <= epoch_s <= LAST_INSTANT:
        raise ValueError(f"no instant that windows are counted in: {epoch_s}")
    window = _compute(kind, calendar, epoch_s)
    calendar._last[kind.name] = window
    return window


def first_use_window(start: int, hours: int) -> Window:
    """The window of `hours` hours that a first use at `start` opened."""
    return Window(start, start + hours * HOUR)


def first_use_at(stored_start: int | None, hours: int, epoch_s: int) -> Window:
    """The current window of a `first_use` counter whose stored start is `stored_start` (None: never used).

    A use before the stored start comes from a clock that is behind: the stored window is the current one.
    """
    if stored_start is not None:
        stored = first_use_window(stored_start, hours)
        if epoch_s < stored_start + hours * HOUR:
            return stored
    return first_use_window(epoch_s, hours)


def _compute(kind: WindowKind, calendar: Calendar, epoch_s: int) -> Window:
    if kind.name == "first_use":
        raise ValueError("a first_use window starts with a stored instant; ask first_use_at")
    if kind.name == "lifetime":
        return _LIFETIME_WINDOW
    binding = calendar._binding.get(kind)
    if binding is None:
        binding = calendar._binding[kind] = _binding_zones(kind, calendar.segments)
    return Window(*_window_under(kind, binding, epoch_s))


def _binding_zones(kind: WindowKind, segments: tuple[Segment, ...]) -> tuple[tuple[int, ZoneInfo], ...]:
    """When each segment's zone begins to bind this kind: (epoch second, zone), in order."""
    binding: tuple[tuple[int, ZoneInfo], ...] = ((-1 << 62, zone(segments[0].timezone)),)
    for segment in segments[1:]:
        _, end = _window_under(kind, binding, segment.since)
        # Two changes in one window bind from the same end; asked from the latest, only the second one is ever found.
        binding = (*binding, (end, zone(segment.timezone)))
    return binding


def _window_under(kind: WindowKind, binding: tuple[tuple[int, ZoneInfo], ...], epoch_s: int) -> tuple[int, int]:
    """The window at an instant, its start moved up to where its zone begins to bind.

    No end needs moving: by construction each zone's reign ends with a window.
    """
    since, place = next(entry for entry in reversed(binding) if entry[0] <= epoch_s)
    step = _GRID.get(kind.name)
    start, end = _grid_window(place, step, epoch_s) if step else _date_window(place, _DATES[kind.name], epoch_s)
    return max(start, since), end


# --- windows of elapsed time: minute, hour ---------------------------------------------------------------------------


def _grid_window(place: ZoneInfo, step: int, epoch_s: int) -> tuple[int, int]:
    """The window on the grid of local whole steps; cut where an offset change shifts the grid."""
    phase = _offset(place, epoch_s) % step
    start = (epoch_s + phase) // step * step - phase
    end = start + step
    if _offset(place, start) % step != phase:
        start = _first(start, epoch_s, lambda t: _offset(place, t) % step == phase)
    if _offset(place, end - 1) % step != phase:
        end = _first(epoch_s, end - 1, lambda t: _offset(place, t) % step != phase)
    return start, end


# --- windows of the local date: day, week, month ---------------------------------------------------------------------


def _next_day(day: date) -> date:
    return day + timedelta(days=1)


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _next_week(monday: date) -> date:
    return monday + timedelta(days=7)


def _first_of_month(day: date) -> date:
    return day.replace(day=1)


def _next_month(first: date) -> date:
    return (first + timedelta(days=31)).replace(day=1)


class _Dates(NamedTuple):
    first: Callable[[date], date]
    """The first date of the window that a date lies in."""
    following: Callable[[date], date]
    """The first date of the window after the one with this first date."""


_MONTHS: Final = _Dates(_first_of_month, _next_month)
_DATES: Final = {
    "day": _Dates(lambda day: day, _next_day),
    "week": _Dates(_monday, _next_week),
    "month": _MONTHS,
    "period": _MONTHS,
}


def _date_window(place: ZoneInfo, dates: _Dates, epoch_s: int) -> tuple[int, int]:
    """The window whose first date is the highest one reached so far, not the one the clock shows.

    The two differ only after clocks were put back over midnight. A window between dates that a zone skips has no
    instant, and the loop steps over it.
    """
    first = dates.first((_EPOCH + timedelta(seconds=epoch_s)).astimezone(place).date())
    start = _reached(place, first)
    first = dates.following(first)
    end = _reached(place, first)
    while end <= epoch_s:
        start = end
        first = dates.following(first)
        end = _reached(place, first)
    return start, end


def _reached(place: ZoneInfo, day: date) -> int:
    """The first instant at which the local date is `day` or later."""
    midnight = datetime(day.year, day.month, day.day)
    seconds = (midnight - _EPOCH_LOCAL).days * 86_400
    before = seconds - _seconds(midnight.replace(tzinfo=place).utcoffset())
    after = seconds - _seconds(midnight.replace(tzinfo=place, fold=1).utcoffset())
    if before <= after:  # midnight happens once, or twice (clocks put back): then its first time counts
        return before
    # Midnight was skipped: `before` and `after` read it with the offsets on either side, and the change lies between.
    offset_after = seconds - after
    return _first(after, before, lambda t: _offset(place, t) == offset_after)


def _offset(place: ZoneInfo, epoch_s: int) -> int:
    return _seconds((_EPOCH + timedelta(seconds=epoch_s)).astimezone(place).utcoffset())


def _seconds(offset: timedelta | None) -> int:
    if offset is None:
        raise ValueError("a zone without an offset")
    return offset.days * 86_400 + offset.seconds


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The first instant in (low, high] where `holds`, which is false at low and true from some instant on to high."""
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
