"""Seal: freeze what accounts used in ended windows, derive batches and rollups, queue the batches.

For each account and ended window, in this order: claim the markers, read the rows, freeze the totals, put the batches,
keep the levels that stand for the next period, overwrite the rollups, queue, drop the markers. All but the freezing is
derived from what is frozen, and every step may be repeated: a crash anywhere leaves the markers, so the next seal does
the whole sequence again and finds most of it done. Nothing is ever incremented.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from tollgate.accounts.rules import Rules
from tollgate.alerts.outbox import Outbox
from tollgate.billing.batch import NO_CUSTOMER, REJECTED, SEALED, Batch, split, timestamp_of
from tollgate.billing.breakdown import CostOf, unknown_cost
from tollgate.billing.grid import Grid, GridWindow
from tollgate.billing.ports import BatchStore, EventReader, MarkerReader, Queue, RulesReader, SealStore
from tollgate.billing.sealed import (
    Carried,
    Inconsistent,
    LevelMark,
    MeterTotal,
    PeriodTotal,
    SealedWindow,
    added,
    later,
    standing,
    totals,
)
from tollgate.billing.trouble import tell
from tollgate.clock import Clock
from tollgate.quantities import ZERO
from tollgate.usage.markers import Marker, coalesced
from tollgate.usage.outcome import Event
from tollgate.windows import PERIOD, Calendar, window_at

TRIES = 8
_DAY_S = 86_400
_CLAIM_BYTES = 8


@dataclass(frozen=True, slots=True)
class SealDeps:
    """Everything that seal uses, made once per process."""

    rules: RulesReader
    events: EventReader
    markers: MarkerReader
    seals: SealStore
    batches: BatchStore
    queue: Queue
    outbox: Outbox
    clock: Clock
    seal_seconds: int
    grace_seconds: int
    """How long a window stays open for rows in flight: longer than a function's timeout, SDK retries and clock skew."""
    cost_of: CostOf = unknown_cost
    """The provider's price of rows that do not bring their cost."""

    @property
    def requeue_seconds(self) -> int:
        """After how long a batch is queued again if nothing came of its message."""
        return max(60, 2 * self.seal_seconds)


@dataclass(slots=True)
class Counts:
    """What a run did. `oldest` is the start of the oldest window that is not flushed, or could not be sealed."""

    windows: int = 0
    batches: int = 0
    queued: int = 0
    requeued: int = 0
    closes: int = 0
    """Period closes that were due and asked for."""
    left: int = 0
    """Accounts and batches put off, because the run's time was up."""
    oldest: int | None = None
    unsealed: int | None = None
    """End of the oldest window that is over its grace and could not be sealed."""
    failures: list[Exception] = field(default_factory=list)

    def waits_since(self, window_start: int) -> None:
        self.oldest = window_start if self.oldest is None else min(self.oldest, window_start)

    def not_sealed(self, windows: Iterable[GridWindow]) -> None:
        for window in windows:
            self.waits_since(window.start)
            self.unsealed = window.end if self.unsealed is None else min(self.unsealed, window.end)


def seal_shard(deps: SealDeps, grid: Grid, shard: int, counts: Counts, in_time: Callable[[], bool]) -> None:
    """Seal every ended window of a shard's accounts. A failure is kept in `counts` and stops no other account."""
    ended: dict[str, dict[GridWindow, list[Marker]]] = {}
    carried: dict[str, list[Carried]] = {}
    now = deps.clock() // 1000
    for marker in deps.markers.of_shard(shard):
        windows = marked_windows(grid, marker)
        if windows[-1].end + deps.grace_seconds <= now:
            for window in windows:
                ended.setdefault(marker.account, {}).setdefault(window, []).append(marker)
    # A level that nobody changes has no rows, hence no markers: what stands is kept for each period that begins.
    for one in deps.seals.carried(shard, now - deps.grace_seconds):
        (first,) = grid.windows(one.start, one.start + 1)
        if first.end + deps.grace_seconds <= now:
            ended.setdefault(one.account, {}).setdefault(first, [])
            carried.setdefault(one.account, []).append(one)
    for account, windows_of in ended.items():
        if not in_time():
            counts.left += 1
            counts.not_sealed(windows_of)
            continue
        try:
            seal_account(deps, grid, account, windows_of, counts, carried.get(account, ()))
        except Exception as error:  # noqa: BLE001 - kept, and raised by the caller once the others are sealed
            counts.not_sealed(windows_of)
            error.add_note(f"sealing account {account}")
            counts.failures.append(error)


def marked_windows(grid: Grid, marker: Marker) -> list[GridWindow]:
    """The windows of the grid that a marker may stand for."""
    return grid.windows(marker.window, marker.window + grid.reach(marker.window, marker.seal_seconds))


def seal_account(
    deps: SealDeps,
    grid: Grid,
    account: str,
    windows: dict[GridWindow, list[Marker]],
    counts: Counts,
    carried: Sequence[Carried] = (),
) -> None:
    """Seal ended windows of one account, queue their batches, and drop the markers. `carried`: levels that stood when
    periods began in these windows. The rows of an account that became another one are sealed where they stand, by that
    one's periods and for its customer."""
    rules = deps.rules.fresh(account)
    claim = os.urandom(_CLAIM_BYTES)
    # The claim comes before the rows are read: a marker that is written again from here on loses it, and stays.
    claimed = [marker for marker in _distinct(windows) if deps.seals.claim(marker, claim)]
    queue: list[Batch] = []
    left: dict[tuple[int, str], LevelMark] = {}
    """What the windows sealed just now leave to the period that begins at an instant, by meter."""
    for window, markers in sorted(windows.items()):
        begun = [
            one._replace(level=later(left.get((one.start, one.meter)), one.level) or one.level)
            for one in carried
            if window.start <= one.start < window.end and rules.account == account  # else what stands is the other's
        ]
        frozen = _freeze(deps, grid, account, rules, window, markers, begun, counts)
        # A crash here leaves frozen totals without (all) batches: their content is fixed, the next seal puts the rest.
        for item in frozen:
            queue += _put_batches(deps, rules, item, counts)
            for one in standing_levels(item):
                deps.seals.carry(one)
                left[one.start, one.meter] = later(left.get((one.start, one.meter)), one.level) or one.level
    for day in sorted({window.start // _DAY_S * _DAY_S for window in windows}):
        deps.seals.roll_up(account, day)
    # A crash here leaves batches unqueued: the markers are still there, and the rows come due by themselves.
    counts.queued += deps.queue.send(queue)
    # A crash here leaves markers of sealed windows: the next seal finds nothing to add and drops them.
    for marker in claimed:
        deps.seals.drop(marker, claim)
    for one in carried:
        deps.seals.carried_over(one)


def standing_levels(window: SealedWindow) -> list[Carried]:
    """The levels that stand at the end of a sealed window's billing period, as far as this window knows. One at 0
    is said once more, in the period after its change."""
    return [
        Carried(window.account, window.total.period_end, meter, amount.level)
        for meter, amount in window.total.meters.items()
        if amount.level is not None and (amount.level.units or amount.events)
    ]


def _distinct(windows: dict[GridWindow, list[Marker]]) -> list[Marker]:
    return list(dict.fromkeys(marker for markers in windows.values() for marker in markers))


# --- freezing --------------------------------------------------------------------------------------------------------


def _freeze(
    deps: SealDeps,
    grid: Grid,
    account: str,
    rules: Rules,
    window: GridWindow,
    markers: Sequence[Marker],
    carried: Sequence[Carried],
    counts: Counts,
) -> list[SealedWindow]:
    """Freeze what is not frozen yet of a window; returns all that is frozen of it.

    The number of the next supplement is part of the key, so of two seals at once one finds its place taken; it then
    reads rows and frozen items again.
    """
    trouble: Inconsistent | None = None
    # Of a period that was told of when the window was over, it knows nothing: it may be sealed already.
    known = rules.row.calendar.known_at(window.end)
    priced = rules.priced_meters()  # a level that stands on is billed by the plan that the period begins with
    carried = [one._replace(level=one.level._replace(priced=one.meter in priced)) for one in carried]
    for _ in range(TRIES):
        # First what is frozen, then the rows: every frozen row is then among the rows read.
        frozen = deps.seals.of_window(account, window.start)
        ranges = _range_starts(grid, window, markers, frozen)
        events = _rows(deps, account, ranges, window.seconds)
        current = totals(events, window.start, window.end, lambda at: _period(known, at), deps.cost_of)
        current = standing(current, carried, lambda at: _period(known, at))
        try:
            missing = added(current.values(), frozen)
        except Inconsistent as error:
            trouble = error
            continue
        new = [_sealed(deps, account, rules, window, total, frozen, ranges) for total in missing]
        put = [deps.seals.freeze(item) for item in new]
        counts.windows += sum(put)
        if all(put):
            return frozen + new
    raise trouble or Inconsistent(f"window {window.start} of {account} is being sealed by others all the time")


def _range_starts(
    grid: Grid, window: GridWindow, markers: Iterable[Marker], frozen: Iterable[SealedWindow]
) -> tuple[int, ...]:
    """The id ranges to read, as starts of stretches of the window's length: those marked, and those read before."""
    starts: set[int] = set()
    for marker in markers:
        last = marker.range_start + grid.reach(marker.range_start, marker.seal_seconds)
        first = marker.range_start // window.seconds * window.seconds
        starts.update(range(first, last, window.seconds))
    for item in frozen:
        starts.update(item.range_starts)
    return tuple(sorted(starts))


def _rows(deps: SealDeps, account: str, starts: Iterable[int], seconds: int) -> Iterator[Event]:
    for first_ms, last_ms in coalesced((start * 1000, (start + seconds) * 1000 - 1) for start in starts):
        yield from deps.events.events_between(account, first_ms, last_ms)


def _period(calendar: Calendar, at: int) -> tuple[int, int]:
    period = window_at(PERIOD, calendar, at)
    if period.end is None:
        raise ValueError("a billing period ends")
    return period.start, period.end


def _sealed(
    deps: SealDeps,
    account: str,
    rules: Rules,
    window: GridWindow,
    total: PeriodTotal,
    frozen: Iterable[SealedWindow],
    ranges: tuple[int, ...],
) -> SealedWindow:
    """An item to freeze. What is billed stands in the rows; under which name is decided here and frozen with the
    totals: batches put later, after a crash or a change of plan, are the same ones."""
    meters = {
        meter: replace(amount, event_name=_event_name(rules, meter) if amount.billed else None)
        for meter, amount in total.meters.items()
    }
    supplement = sum(1 for item in frozen if item.total.period_start == total.period_start)
    return SealedWindow(
        account=account,
        window_start=window.start,
        seal_seconds=window.seconds,
        supplement=supplement,
        total=replace(total, meters=meters),
        range_starts=ranges,
        sealed_at=deps.clock() // 1000,
    )


def _event_name(rules: Rules, meter: str) -> str:
    found = rules.meters.get(meter)
    return (found.stripe_event_name if found else None) or ""


# --- batches ---------------------------------------------------------------------------------------------------------


def _put_batches(deps: SealDeps, rules: Rules, window: SealedWindow, counts: Counts) -> list[Batch]:
    """Put the batches of a sealed window that are not there; returns those to queue."""
    queue = []
    for batch in batches_of(window, rules.row.stripe_customer_id, deps.clock() // 1000, deps.requeue_seconds):
        there = deps.batches.put_new(batch)
        counts.batches += there is None
        standing = there or batch
        if standing.state == SEALED and not standing.attempts:
            queue.append(standing)
        if standing.untold:
            tell(deps.outbox, deps.batches, standing)
    return queue


def batches_of(window: SealedWindow, customer: str | None, now: int, requeue_seconds: int) -> list[Batch]:
    """The batches of a sealed window as they are first put.

    Totals without billable units make none; a level makes one, also at 0. A priced meter without a name at the sink is
    parked as `rejected`, as is a total of more digits than a hundred values can carry, or a level than one can.
    """
    found = []
    for meter, amount in sorted(window.total.meters.items()):
        if amount.event_name is None:
            continue
        booked, reason = _booked(amount, timestamp_of(window.window_start, window.total.period_start))
        for part, (units, timestamp) in enumerate(booked):
            state = REJECTED if reason else SEALED if customer else NO_CUSTOMER
            found.append(
                Batch(
                    account=window.account,
                    meter=meter,
                    period_start=window.total.period_start,
                    period_end=window.total.period_end,
                    window_start=window.window_start,
                    window_end=window.window_end,
                    supplement=window.supplement,
                    part=part,
                    event_name=amount.event_name,
                    units=units,
                    timestamp=timestamp,
                    created_at=now,
                    state=state,
                    state_at=now,
                    customer=customer,
                    due_at=now + requeue_seconds,
                    untold=state != SEALED,
                    reason=reason or (None if customer else NO_CUSTOMER),
                )
            )
    return found


def _booked(amount: MeterTotal, timestamp: int) -> tuple[list[tuple[Decimal, int]], str | None]:
    """What the sink is told of a meter and when it books it; and why it cannot be told, where it cannot."""
    booked, reason = [], None
    if amount.billable > ZERO:
        parts = [amount.billable]
        if amount.event_name:
            try:
                parts = split(amount.billable)
            except ValueError:
                reason = "too_many_digits"
        booked = [(units, timestamp) for units in parts]
    level = amount.level
    if level is not None and level.priced:
        # At its own second: the sink takes the last of a period, and knows no other order.
        booked.append((level.units, level.at))
        if len(split(level.units)) > 1:
            reason = "too_many_digits"  # of two values, the sink would take the last
    return booked, reason if amount.event_name else "no_event_name"
