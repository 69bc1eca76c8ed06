"""How far projected totals are from what months come to, at 10, 50 and 90 %, on the demo's trace (`bench.months`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

from bench.months import BURST, PERIODS, WEEKEND, Read, Stream, World, with_burst, world
from bench.report import Check, Listing, Section
from demo.generate import generate
from tollgate.projection import SILENT_S, MeterState, Money, project, projected_units
from tollgate.quantities import ZERO
from tollgate.rating.bill import Used, bill

REQUESTS: Final = 40_000
SHARES: Final = (10, 50, 90)
"""Per cent of the period."""
BUSY: Final = 60
"""Calls in the projected month from which a meter of an account counts as busy."""
SLIGHT: Final = 10
"""Calls below which it counts as slight."""
COLUMNS: Final = ("known", "how many", *(f"{share} %: {what}" for share in SHARES for what in ("median", "p90")))
PRICED: Final = "team"
"""The plan whose usage costs something from the first unit on."""

_HUNDRED: Final = Decimal(100)


class Errors(NamedTuple):
    """|projected - actual| / actual in per cent, by share of the period."""

    found: Mapping[int, Sequence[Decimal]]
    below: int = 0
    """Projections below what was used or spent already."""

    def row(self, name: str) -> tuple[str | int | Decimal, ...]:
        cells: list[Decimal] = []
        for share in SHARES:
            cells += (_quantile(self.found[share], 50), _quantile(self.found[share], 90))
        return (name, len(self.found[SHARES[0]]), *cells)


def _quantile(values: Sequence[Decimal], per_cent: int) -> Decimal:
    """The nearest rank, in whole per cent or tenths of one."""
    ranked = sorted(values)
    found = ranked[max(0, -(-len(ranked) * per_cent // 100) - 1)]
    return found.quantize(Decimal("0.1") if found < 10 else Decimal(1))


def _error(projected: Decimal, actual: Decimal) -> Decimal:
    return abs(projected - actual) / actual * _HUNDRED


def unit_errors(of: World, read: Read, chosen: Callable[[int], bool]) -> Errors:
    """Of every meter of every account that was used in the period; `chosen` by the number of calls in it."""
    errors: dict[int, list[Decimal]] = {share: [] for share in SHARES}
    below = 0
    for stream, actual in _used(of, chosen):
        scale = of.catalog.meters[stream.meter].scale
        for share in SHARES:
            now = of.moment(share)
            used = stream.between(of.period[0], now)
            projected = projected_units(of.period, now, used, scale, read(stream))
            below += projected < used
            errors[share].append(_error(projected, actual))
    return Errors(errors, below)


def straight_line(of: World, chosen: Callable[[int], bool]) -> Errors:
    """For comparison: units so far by the share of the period that is over."""
    errors: dict[int, list[Decimal]] = {share: [] for share in SHARES}
    for stream, actual in _used(of, chosen):
        for share in SHARES:
            used = stream.between(of.period[0], of.moment(share))
            errors[share].append(_error(used * 100 / share, actual))
    return Errors(errors)


def known_mean(of: World, chosen: Callable[[int], bool]) -> Errors:
    """For comparison: units so far, and then the mean of all four months, which nobody knows yet."""
    errors: dict[int, list[Decimal]] = {share: [] for share in SHARES}
    first, end = of.months[0][0], of.period[1]
    for stream, actual in _used(of, chosen):
        mean = stream.between(first, end) / (end - first)
        for share in SHARES:
            now = of.moment(share)
            errors[share].append(_error(stream.between(of.period[0], now) + mean * (end - now), actual))
    return Errors(errors)


def _used(of: World, chosen: Callable[[int], bool]) -> Iterator[tuple[Stream, Decimal]]:
    start, end = of.period
    for stream in of.streams:
        many = sum(1 for at, _ in stream.uses if start <= at < end)
        actual = stream.between(start, end)
        if actual and chosen(many):
            yield stream, actual


def money_errors(of: World, plan: str, read: Read) -> tuple[Errors, Errors]:
    """Of the accounts on a plan: of the total with base fee, and of usage charges alone where there are any."""
    totals: dict[int, list[Decimal]] = {share: [] for share in SHARES}
    charges: dict[int, list[Decimal]] = {share: [] for share in SHARES}
    below = 0
    currency = of.catalog.currency
    by_account: dict[str, list[Stream]] = {}
    for stream in of.streams:
        if of.plans[stream.account].id == plan:
            by_account.setdefault(stream.account, []).append(stream)
    for account, streams in by_account.items():
        plan_of = of.plans[account]

        def used_until(end: int, some: Sequence[Stream] = streams) -> dict[str, Used]:
            return {stream.meter: Used(stream.between(of.period[0], end)) for stream in some}

        actual = bill(plan_of, currency, used_until(of.period[1]))
        for share in SHARES:
            now = of.moment(share)
            used = used_until(now)
            spent = bill(plan_of, currency, used)
            states = {stream.meter: MeterState(used[stream.meter], read(stream)) for stream in streams}
            money = Money(plan_of, currency, spent.usage, cap=plan_of.spend_cap)
            projected = project(of.period, now, states, of.catalog.meters, money)
            assert projected is not None
            below += projected.total < spent.total
            totals[share].append(_error(projected.total, actual.total))
            if actual.usage:
                charges[share].append(_error(projected.usage, actual.usage))
    return Errors(totals, below), Errors(charges)


def section(requests: int = REQUESTS) -> Section:
    """Generate, project, compare. Raises IndexError for a trace so short that a table would be empty."""
    trace = generate(requests=requests)
    of = world(trace)
    totals, charges = money_errors(of, PRICED, of.everything)
    readings = {
        "the demo's trace": _by_knowledge(of),
        "quiet weekends": _by_knowledge(world(trace, weekends=True)),
        "a burst in the second hour": _by_knowledge(with_burst(of)),
    }
    sizes = [
        (f"{SLIGHT} to {BUSY - 1} calls", unit_errors(of, of.everything, lambda many: SLIGHT <= many < BUSY)),
        (f"fewer than {SLIGHT} calls", unit_errors(of, of.everything, lambda many: many < SLIGHT)),
    ]
    sums = [("total, with base fee", totals), ("usage charges alone", charges)]
    tables = {
        **{f"Units of one meter of an account, {BUSY} calls or more: {name}": rows for name, rows in readings.items()},
        "Units of one meter of an account with fewer calls, everything known": sizes,
        f"Money, accounts on `{PRICED}`, everything known": sums,
    }
    below = sum(errors.below for rows in tables.values() for _, errors in rows)
    early = sum(_before_six_hours(of, stream) for stream in of.streams)
    return Section(
        "Error of projected totals, in % of what the month came to",
        [Listing(COLUMNS, [errors.row(name) for name, errors in rows], title) for title, rows in tables.items()],
        [
            Check("projections below what is used or spent", below, 0, "projections", exact=True),
            Check("projections in a period's first six hours", early, 0, "projections", exact=True),
        ],
        [
            f"{requests} calls of {len(of.plans)} accounts by the demo's generator and seed, over {PERIODS} months; "
            "the last one is projected. The first row and the last are for comparison; the last knows the future.",
            "Most of the total is the base fee: see the charges alone.",
            f"Quiet weekends: {WEEKEND:%} of a working day. Burst: {BURST:%} of the month's units once more, on top.",
        ],
        {"accounts": len(of.plans), "meters of accounts": len(of.streams), "calls": requests},
    )


def _by_knowledge(of: World) -> list[tuple[str, Errors]]:
    def busy(many: int) -> bool:
        return many >= BUSY

    return [
        ("straight line", straight_line(of, busy)),
        ("units so far", unit_errors(of, of.nothing, busy)),
        ("+ this month's days", unit_errors(of, of.own_days, busy)),
        ("+ last month's days", unit_errors(of, of.more_days, busy)),
        ("+ three closed months", unit_errors(of, of.everything, busy)),
        ("mean of all four months", known_mean(of, busy)),
    ]


def _before_six_hours(of: World, stream: Stream) -> int:
    """1 where something is projected in the last second in which nothing may be."""
    now = of.period[0] + SILENT_S - 1
    plan = of.plans[stream.account]
    state = MeterState(Used(stream.between(of.period[0], now)), of.everything(stream))
    found = project(of.period, now, {stream.meter: state}, of.catalog.meters, Money(plan, of.catalog.currency, ZERO))
    return int(found is not None)
