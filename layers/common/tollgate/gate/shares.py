"""Limits that accounts share: which counters a request takes from, and how a cap is parted into shards (pure).

One counter of a plan is taken from by every account on it, so it stands in several items, the *shards*, each with its
own part of the cap. The parts add up to the cap exactly, so no order of writes passes it, and no shard needs to know
of the others. A request takes its units from one shard; where none has room for all of them, in pieces from several.

A counter is named by its plan, meters, window kind, `where`, dimension and value, never by version or limit id: a
changed catalogue refills nothing. Windows are those of UTC, since the accounts have no other calendar in common.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from tollgate.accounts.rules import Item, Rules
from tollgate.catalog.model import SharedLimit, matches
from tollgate.gate.limits import SharedState
from tollgate.gate.steps import FAR
from tollgate.quantities import EXACT, ZERO, quantize
from tollgate.windows import Calendar, window_at

PREFIX = "%"
"""Begins the key of a shard in the gates table; no account id has it."""
PLAN_SHARDS = 16
VALUE_SHARDS = 4
"""One value of a dimension (an address, a device) is less busy than a whole plan."""
LEAST_PART = 64
"""Units: smaller parts would make most requests take pieces; a small cap is soon reached, so never long busy."""
FRESH_MS = 1_000
"""So long a process refuses by what it saw last, without asking again: a flood past the cap costs no requests."""
KNOWN = 2_000
"""Counters that a process remembers."""

_UTC = Calendar.of("UTC")


class Share(NamedTuple):
    """What one request asks of one shared counter in the window that is current."""

    limit: SharedLimit
    value: str | None
    """Of the limit's dimension; "" where the request does not say. None: the plan's own."""
    base: str
    """The counter's name, whatever the window."""
    window: int
    ends: int | None
    """Epoch seconds; None: the window never ends."""
    units: Decimal

    @property
    def counter(self) -> str:
        """The name of the counter in this window."""
        return f"{self.base}#{self.window}"

    @property
    def parts(self) -> tuple[Decimal, ...]:
        return parts(self.limit.max, PLAN_SHARDS if self.limit.dimension is None else VALUE_SHARDS)


@lru_cache(maxsize=256)
def parts(most: Decimal, shards: int) -> tuple[Decimal, ...]:
    """What each shard may hold of a cap: whole units, equal up to one, and what is less than a unit in the last. Adds
    up to `most`; fewer than `shards` where these would hold less than LEAST_PART each."""
    count = min(max(int(most // LEAST_PART), 1), shards)
    whole = int(most)
    each, more = divmod(whole, count)
    found = [Decimal(each + (index < more)) for index in range(count)]
    found[-1] = EXACT.add(found[-1], EXACT.subtract(most, Decimal(whole)))
    return tuple(found)


def wanted(rules: Rules, items: Iterable[Item], now: int) -> list[Share]:
    """What `items` together take from each counter at epoch second `now`: those of a dimension's value first, and the
    one that resets last first, so that a refusal names that one."""
    listed = list(items)
    found: dict[str, Share] = {}
    for limit in rules.plan.shared_limits:
        by_value: dict[str | None, Decimal] = {}
        for item in listed:
            if item.meter in limit.meters and matches(limit.where, item.dimensions):
                value = None if limit.dimension is None else item.dimensions.get(limit.dimension, "")
                by_value[value] = by_value.get(value, ZERO) + item.units
        if not by_value:
            continue
        window = window_at(limit.window, _UTC, now)
        for value, units in by_value.items():
            base = _base(rules.plan.id, limit, value)
            # Two limits may read one counter: it is taken from once, and the lower one binds.
            if base not in found or limit.max < found[base].limit.max:
                found[base] = Share(limit, value, base, window.start, window.end, units)
    return sorted(found.values(), key=_narrow_first)


def of_plan(plan_id: str, limits: Iterable[SharedLimit], now: int) -> list[Share]:
    """The counters that all accounts of a plan share, in the window that is current; values of dimensions have none
    that could be listed."""
    shares = []
    for limit in limits:
        if limit.dimension is None:
            window = window_at(limit.window, _UTC, now)
            shares.append(Share(limit, None, _base(plan_id, limit, None), window.start, window.end, ZERO))
    return shares


def _narrow_first(share: Share) -> tuple[bool, int, str]:
    return share.limit.dimension is None, -(FAR if share.ends is None else share.ends), share.base


def _base(plan: str, limit: SharedLimit, value: str | None) -> str:
    # Hashed, because values may be long, and because an address is nobody's business who reads the table.
    said = [sorted(limit.meters), limit.window.text, limit.where, limit.dimension, value]
    digest = hashlib.sha256(json.dumps(said, separators=(",", ":")).encode()).hexdigest()
    return f"{PREFIX}{plan}#{digest[:32]}"


class Send(NamedTuple):
    """Take `units` from a shard."""

    shard: int
    units: Decimal


@dataclass(frozen=True, slots=True)
class Look:
    """Read all shards: no known one has room for all."""


class Refuse(NamedTuple):
    remaining: Decimal


def plan(
    share: Share, need: Decimal, counts: Mapping[int, Decimal], random: int, *, looked: bool
) -> Send | Look | Refuse:
    """What to do next to take `need` units. `counts`: shards as seen last; `looked`: all of them, not long ago."""
    left = [EXACT.subtract(part, counts.get(shard, ZERO)) for shard, part in enumerate(share.parts)]
    room = sum((each for each in left if each > 0), ZERO)
    if looked:
        # Usage that was forced past a shard's part takes from what the others may still grant.
        room = max(min(room, EXACT.subtract(share.limit.max, sum(counts.values(), ZERO))), ZERO)
        if room < need:
            return Refuse(room)
    fitting = [shard for shard, each in enumerate(left) if each >= need]
    if fitting:
        return Send(fitting[random % len(fitting)], need)
    if not looked:
        return Look()
    shard = max(range(len(left)), key=left.__getitem__)
    return Send(shard, left[shard])


class Known:
    """The shards of counters as one process saw them last: a hint where room is, and for FRESH_MS after all were read
    also a reason to refuse."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[int, Decimal]] = {}
        self._looked: dict[str, int] = {}

    def counts(self, share: Share) -> dict[int, Decimal]:
        return self._counts.get(share.counter, {})

    def saw(self, counter: str, shard: int, count: Decimal) -> None:
        counts = self._counts.pop(counter, {})  # to the end: the oldest goes first
        counts[shard] = count
        self._counts[counter] = counts
        if len(self._counts) > KNOWN:
            oldest = next(iter(self._counts))
            del self._counts[oldest]
            self._looked.pop(oldest, None)

    def looked(self, share: Share, counts: Sequence[Decimal], now_ms: int) -> None:
        for shard, count in enumerate(counts):
            self.saw(share.counter, shard, count)
        self._looked[share.counter] = now_ms

    def fresh(self, share: Share, now_ms: int) -> bool:
        at = self._looked.get(share.counter)
        return at is not None and at <= now_ms < at + FRESH_MS

    def state(self, share: Share, now_ms: int, scale: int) -> SharedState | None:
        """The limit as an answer shows it; None where nothing was seen. Of shards that were not, it is taken that they
        are as full as the others."""
        counts, all_parts = self.counts(share), share.parts
        seen = sum((part for shard, part in enumerate(all_parts) if shard in counts), ZERO)
        counted = sum(counts.values(), ZERO)
        exact = self.fresh(share, now_ms) or len(all_parts) == 1
        if not counts:
            return None
        if len(counts) < len(all_parts) and seen:
            counted = quantize(EXACT.divide(EXACT.multiply(counted, share.limit.max), seen), scale)
        return SharedState(share.limit, share.value, share.window, share.ends, counted, exact)
