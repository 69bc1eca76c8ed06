"""The probe of each point. All of them begin, then all wait together for what Stripe does later."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.sandbox import probes_billing as billing
from tests.sandbox import probes_objects as objects
from tests.sandbox import probes_usage as usage
from tests.sandbox.points import PATIENCE_S, POINTS, NotProbed, Probe, Result, Seen
from tests.sandbox.side import Probing, Side

PROBES: Final[Mapping[str, Callable[[Side], Probe | Seen]]] = {
    "identifier-scope": usage.identifier_scope,
    "identifier-later": usage.identifier_later,
    "timestamp-ahead": usage.timestamp_ahead,
    "meter-archived": usage.meter_archived,
    "customer-unknown": usage.customer_unknown,
    "customer-deleted": usage.customer_deleted,
    "report-request": usage.report_request,
    "summary-freshness": usage.summary_freshness,
    "summary-edge": usage.summary_edge,
    "pre-aggregated-customer": usage.pre_aggregated_customer,
    "pre-aggregated-order": usage.pre_aggregated_order,
    "last-same-second": usage.last_same_second,
    "tier-lines": billing.tier_lines,
    "concurrency": usage.concurrency,
    "clock-timestamps": usage.clock_timestamps,
    "finalizes-at": billing.finalizes_at,
    "duplicate": usage.duplicate,
    "timestamp-old": usage.timestamp_old,
    "digits": usage.digits,
    "no-meter": usage.no_meter,
    "decimals": usage.decimals,
    "negative": usage.negative,
    "cancel": usage.cancel,
    "last": usage.last,
    "lines": billing.lines,
    "subscription": billing.subscription,
    "catalogue": objects.catalogue,
    "unique": objects.unique,
    "customer-list": objects.customer_list,
    "customer-search": objects.customer_search,
    "idempotency": objects.idempotency,
    "events": objects.events,
    "checkout": billing.checkout,
    "destinations": objects.destinations,
}
EVERY_S: Final = 15
"""Between two looks; one costs a GET or two for each probe that waits."""


@dataclass
class _Waiting:
    probe: Probe
    for_what: Probing
    since: int


def carry_out(
    side: Side,
    points: Iterable[str],
    tell: Callable[[str], None] = lambda line: None,
    results: dict[str, Result] | None = None,
) -> dict[str, Result]:
    """What the probes of these points saw. `tell` gets a line of progress now and then; `results` is filled one by one,
    for whoever interrupts."""
    run = _Run(side, {} if results is None else results)
    for point in points:
        run.begin(point)
    while run.waiting:
        tell(run.progress())
        side.time.pass_by(EVERY_S)
        for point in list(run.waiting):
            run.look(point)
    return run.results


class _Run:
    def __init__(self, side: Side, results: dict[str, Result]) -> None:
        self._side, self._begun = side, side.now()
        self.results = results
        self.waiting: dict[str, _Waiting] = {}

    def begin(self, point: str) -> None:
        def first() -> None:
            probe = PROBES[point](self._side)
            if isinstance(probe, Seen):
                self._saw(point, probe)
            else:
                self._wait(point, probe, next(probe))

        self._step(point, first)

    def look(self, point: str) -> None:
        def again() -> None:
            waiting = self.waiting[point]
            came = waiting.for_what()
            if came or self._side.now() - waiting.since >= PATIENCE_S:
                self._wait(point, waiting.probe, waiting.probe.send(came))

        self._step(point, again)

    def progress(self) -> str:
        passed = self._side.now() - self._begun
        return f"{passed:>5} s  points seen: {len(self.results)}, waiting for {', '.join(self.waiting)}"

    def _wait(self, point: str, probe: Probe, for_what: Probing) -> None:
        self.waiting[point] = _Waiting(probe, for_what, self._side.now())

    def _saw(self, point: str, seen: Seen) -> None:
        self._end(point, Result("confirmed" if seen.agrees else "contradicted", seen.text))

    def _end(self, point: str, result: Result) -> None:
        self.waiting.pop(point, None)
        self.results[point] = result

    def _step(self, point: str, step: Callable[[], None]) -> None:
        try:
            step()
        except StopIteration as ended:
            self._saw(point, ended.value)
        except NotProbed as reason:
            self._end(point, Result("not probed", str(reason)))
        except Exception as trouble:  # noqa: BLE001 - told in the table; the other points are still worth an answer
            traceback.print_exc()
            self._end(point, Result("not probed", f"broke: {type(trouble).__name__}: {trouble}", broke=True))


def report(results: Mapping[str, Result], where: str) -> Table:
    """Every point, also those without a result."""
    table = Table(title=f"What the product takes Stripe to do, against {where}", show_lines=True)
    for heading in ("point", "expected", "seen", "result"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "point")
    for point in POINTS:
        found = results.get(point.id, Result("not probed", "not asked for"))
        expected = point.expected
        if found.verdict == "contradicted":
            expected += f"\nIf not: {point.otherwise}"
        cells = (point.id + (" [?]" if point.open else ""), expected, found.seen, found.verdict)
        table.add_row(*(Text(cell) for cell in cells))  # what was seen is no markup
    return table


def show(results: Mapping[str, Result], where: str, console: Console) -> None:
    console.print(report(results, where))
    counts = dict.fromkeys(("confirmed", "contradicted", "not probed"), 0)
    for point in POINTS:
        counts[results[point.id].verdict if point.id in results else "not probed"] += 1
    console.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    console.print("[?]: no documentation settles it.", markup=False)
