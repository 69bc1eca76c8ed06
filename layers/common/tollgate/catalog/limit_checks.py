"""What the fields of a limit mean together: of units in a window, open reservations, a level, money; own or shared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tollgate.catalog.document import LimitEntry, PlanEntry
from tollgate.catalog.errors import Path

Mistake = tuple[Path, str]

_ONE_KIND = "give exactly one of `window` (with `max`), `concurrent` and `amount`"


def check_limits(at: Path, plan: PlanEntry, levels: frozenset[str]) -> Iterator[Mistake]:
    """The mistakes in a plan's limits, apart from meters that are not there. `levels`: the ids of level meters."""
    yield from repeated(at, "id", [limit.id for limit in plan.limits])
    money: int | None = None
    for index, limit in enumerate(plan.limits):
        here = (*at, index)
        if limit.amount is not None:
            yield from _check_money(here, limit)
            if not plan.prices:
                yield (*here, "amount"), "the plan has no `prices`, so usage comes to nothing"
            if money is not None:
                yield (*here, "amount"), f"a plan has one money limit for members; the first is at [{money}]"
            money = index if money is None else money
        elif not levels.isdisjoint(limit.named):
            yield from _check_level(here, limit)
        elif limit.concurrent is not None:
            yield from _check_concurrent(here, limit)
        else:
            yield from _check_window(here, limit)


def _check_money(at: Path, limit: LimitEntry) -> Iterator[Mistake]:
    for field in ("meter", "meters", "window", "max", "concurrent"):
        if getattr(limit, field) is not None:
            yield (*at, field), "an `amount` holds for all that a member uses in a billing period: remove it"
    if limit.where:
        yield (*at, "where"), "an `amount` holds for all that a member uses in a billing period: remove it"
    if limit.per != "member":
        yield (*at, "per"), "an `amount` is a member's: write `per: member` (`spend_cap` is the account's)"
    if limit.amount == 0:
        yield (*at, "amount"), "must be above 0"


def _check_level(at: Path, limit: LimitEntry) -> Iterator[Mistake]:
    yield from _check_meters(at, limit)
    if len(limit.named) > 1:
        yield (*at, "meters"), "a limit of a level counts one meter"
    if limit.window is not None:
        yield (*at, "window"), "a level stands until it is set anew, in no window: remove it"
    if limit.concurrent is not None:
        yield (*at, "concurrent"), "a level is no reservation: remove it"
    if limit.where:
        yield (*at, "where"), "a level has no dimensions: remove it"
    if limit.per != "account":
        yield (*at, "per"), "a level is an account's: write `per: account`"
    if limit.max is None:
        yield (*at, "max"), "is required"


def _check_concurrent(at: Path, limit: LimitEntry) -> Iterator[Mistake]:
    if limit.window is not None:
        yield at, _ONE_KIND
        return
    for field in ("meter", "meters", "max"):
        if getattr(limit, field) is not None:
            yield (*at, field), "a `concurrent` limit counts open reservations of every meter: remove it"
    if limit.where:
        yield (*at, "where"), "a `concurrent` limit counts every open reservation: remove it"
    if limit.per not in ("account", "member"):
        yield (*at, "per"), "open reservations are counted for an account or a member"


def _check_window(at: Path, limit: LimitEntry) -> Iterator[Mistake]:
    if limit.window is None:
        yield at, _ONE_KIND
        return
    if limit.per not in ("account", "member") and limit.window.name in ("period", "first_use"):
        shown = "minute, hour, day, week, month or lifetime"
        yield (*at, "window"), f"accounts that share a limit have no such window in common: use {shown}"
    if limit.max is None:
        yield (*at, "max"), "is required with `window`"
    yield from _check_meters(at, limit)


def _check_meters(at: Path, limit: LimitEntry) -> Iterator[Mistake]:
    if (limit.meter is None) == (limit.meters is None):
        yield at, "give exactly one of `meter` and `meters`"
    yield from repeated((*at, "meters"), None, limit.meters or ())


def repeated(at: Path, field: str | None, values: Iterable[str]) -> Iterator[Mistake]:
    """The values in a list that stand there a second time; `field` names what they are of each entry."""
    first: dict[str, int] = {}
    for index, value in enumerate(values):
        if first.setdefault(value, index) != index:
            path = (*at, index) if field is None else (*at, index, field)
            yield path, f"`{value}` is given twice, first at [{first[value]}]"
