"""Time windows: the stretches of time that limits count in (pure; every instant is an integer epoch second, UTC).

A window is named by its start. For one kind and one calendar the windows tile time: each instant lies in exactly one
window, and a later instant never lies in an earlier window. That must hold when clocks are put forward or back, in
zones that skip a day, and across a change of the account's timezone; the rules below exist for those cases.

- `minute` and `hour` follow the zone's offset (in a zone at +05:45 hours start at :15 UTC) and last their length. Only
  where an offset change moves their grid (Lord Howe's half hour) does one end early and the next start short.
- `day`, `week` (from Monday) and `month` follow the local date. Where clocks are put back over midnight, the date that
  comes a second time stays in the window that had begun: a window, once ended, never comes back.
- `period` is the billing period of the account's plan, by its rule of interval and anchor (`periods`).
- `lifetime` is one window without end.
- `first_use` starts with its first use, so its start is stored with its counter: `first_use_at`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tollgate.errors import FieldError, Invalid
from tollgate.periods import CALENDAR_MONTH, LAST_INSTANT, PeriodRule, first, offset, period_at

HOUR: Final = 3600
MAX_FIRST_USE_HOURS: Final = 24 * 366

_GRID: Final = {"minute": 60, "hour": HOUR}
_DATES: Final = {"day": PeriodRule("day"), "week": PeriodRule("week"), "month": CALENDAR_MONTH}
_NAMES: Final = frozenset({"minute", "hour", "day", "week", "month", "period", "lifetime"})
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
    """From `since` (epoch seconds) on, the account lives in `timezone` and its billing periods follow `period`.

    `begins`: a billing period begins at this very second, wherever the rule has its boundaries, because one began at
    Stripe; `since` is when that was learnt. None: the change waits for the end of the period that runs.
    """

    since: int
    timezone: str
    period: PeriodRule = CALENDAR_MONTH
    begins: int | None = None


class _Reign(NamedTuple):
    """From `since` on, windows of one kind follow a zone and, but for minutes and hours, a rule."""

    since: int
    place: ZoneInfo
    rule: PeriodRule | None


@dataclass(frozen=True, slots=True)
class Calendar:
    """An account's history of timezones and billing periods, oldest first; the first segment holds from the beginning
    of time (0).

    A change at instant T binds each window kind from the end of the window (as it then was) that contains T. The window
    after it runs from there to the next boundary under the new zone and rule. So a change moves no window that has
    begun, and refills nothing before its time; the window that follows it may be a short one. Only `begun` ends a
    billing period before its time.

    Keep the object as long as the rules it came with: it remembers the last window of each kind. Raises ValueError for
    segments out of order and UnknownTimezone for a name that is none.
    """

    segments: tuple[Segment, ...]
    _last: dict[str, Window] = field(default_factory=dict, init=False, repr=False, compare=False)
    _reigns: dict[WindowKind, tuple[_Reign, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    last_begun: int = field(default=0, init=False, repr=False, compare=False)
    """Where the latest period begins of which was learnt when it ran; 0: none. Every call to a gate asks for it."""

    def __post_init__(self) -> None:
        if not self.segments or self.segments[0].since != 0:
            raise ValueError("a calendar begins with a segment at 0")
        since = [segment.since for segment in self.segments]
        if any(late < early for early, late in zip(since, since[1:], strict=False)):
            raise ValueError("a calendar's segments stand in order of time")
        for segment in self.segments:
            zone(segment.timezone)
        begun = max((segment.begins for segment in self.segments if segment.begins is not None), default=0)
        object.__setattr__(self, "last_begun", begun)

    @classmethod
    def of(cls, timezone: str, period: PeriodRule = CALENDAR_MONTH) -> Calendar:
        """The calendar of an account that never changed."""
        return cls((Segment(0, timezone, period),))

    @property
    def timezone(self) -> str:
        """The timezone chosen last (it may not bind every window kind yet)."""
        return self.segments[-1].timezone

    @property
    def period(self) -> PeriodRule:
        """The rule of billing periods chosen last (it may not bind yet)."""
        return self.segments[-1].period

    def moved(self, since: int, timezone: str | None = None, period: PeriodRule | None = None) -> Calendar:
        """This calendar with one more change at `since`; None stays as it is. Itself where that changes nothing.

        A change by a clock that is behind the one of the last change counts as made right after that.
        """
        last = self.segments[-1]
        segment = Segment(
            max(since, last.since),
            last.timezone if timezone is None else timezone,
            last.period if period is None else period,
        )
        if segment == last._replace(since=segment.since, begins=None):
            return self
        return Calendar((*self.segments, segment))

    def begun(self, since: int, begins: int) -> Calendar:
        """This calendar with a billing period of the rule chosen last that begins at `begins`, as was learnt at `since`
        (which may be later): the period that ran then ends there. Other windows are untouched. Itself where that is so
        already."""
        last, there = self.segments[-1], window_at(PERIOD, self, begins)
        ends = period_at(last.period, zone(last.timezone), begins)[1]
        if there.start == begins and (there.end == ends or begins == self.last_begun):
            return self
        told = last._replace(since=max(since, last.since), begins=begins)
        # What was chosen at the same second is part of this segment; the first one holds from the beginning of time.
        kept = self.segments[:-1] if last.since == told.since and last.begins is None else self.segments
        return Calendar((*(kept or self.segments), told))

    def known_at(self, instant: int) -> Calendar:
        """This calendar without periods of which it was learnt at `instant` or later that they had begun before."""
        if all(segment.begins is None or segment.since < instant for segment in self.segments):
            return self
        return Calendar(tuple(segment for segment in self.segments if not segment.since or segment.since < instant))


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
    reigns = calendar._reigns.get(kind)
    if reigns is None:
        reigns = calendar._reigns[kind] = _reigns_of(kind, calendar.segments)
    return Window(*_window_under(kind, reigns, epoch_s))


def _reigns_of(kind: WindowKind, segments: tuple[Segment, ...]) -> tuple[_Reign, ...]:
    """When each segment begins to bind this kind, in order."""
    reigns: tuple[_Reign, ...] = ()
    for segment in segments:
        if segment.begins is not None and kind.name == "period":
            since = segment.begins
            reigns = tuple(reign for reign in reigns if reign.since < since)
        else:
            # Two changes in one window bind from the same end; asked from the latest, only the second is ever found.
            since = _window_under(kind, reigns, segment.since)[1] if reigns else -1 << 62
        rule = segment.period if kind.name == "period" else _DATES.get(kind.name)
        reigns = (*reigns, _Reign(since, zone(segment.timezone), rule))
    return reigns


def _window_under(kind: WindowKind, reigns: tuple[_Reign, ...], epoch_s: int) -> tuple[int, int]:
    """The window at an instant, its start moved up to where its zone and rule begin to bind.

    Each reign ends with a window, but for one that ends where a billing period was begun: that window ends there, too.
    """
    number = next(number for number in reversed(range(len(reigns))) if reigns[number].since <= epoch_s)
    reign = reigns[number]
    if reign.rule is None:
        start, end = _grid_window(reign.place, _GRID[kind.name], epoch_s)
    else:
        start, end = period_at(reign.rule, reign.place, epoch_s)
    if number + 1 < len(reigns):
        end = min(end, reigns[number + 1].since)
    return max(start, reign.since), end


def _grid_window(place: ZoneInfo, step: int, epoch_s: int) -> tuple[int, int]:
    """The window on the grid of local whole steps; cut where an offset change shifts the grid."""
    phase = offset(place, epoch_s) % step
    start = (epoch_s + phase) // step * step - phase
    end = start + step
    if offset(place, start) % step != phase:
        start = first(start, epoch_s, lambda t: offset(place, t) % step == phase)
    if offset(place, end - 1) % step != phase:
        end = first(epoch_s, end - 1, lambda t: offset(place, t) % step != phase)
    return start, end
