"""A run over all pairs that changed and all invoices that became final: planned from the index, cut into messages,
worked off part by part.

A part is a hint, as every message: what is to be compared stands in the index, so a part that is lost is found again
the night after, and one that comes twice is added up once. One account's failure stops no other one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from tollgate.billing.close_row import CloseKey
from tollgate.errors import UnknownAccount
from tollgate.gate.sweep_store import GateAudits
from tollgate.reconcile.account import DAY_S, PairReport, Wanted, reconcile_account, wanted
from tollgate.reconcile.budget import ReadBudget
from tollgate.reconcile.invoiced import final_invoices, reconcile_invoice
from tollgate.reconcile.ports import Pair, ReconcileDeps
from tollgate.reconcile.report import Run, account_alert, invoice_alert, overall_alert, sums_of
from tollgate.usage.markers import SHARDS

PAIRS_A_PART: Final = 20
OVER_S: Final = 7_200
"""So long after its end a day is compared first: by then its batches are sent, and Stripe's totals show them."""


class Reports(Protocol):
    def begin(self, run: str, parts: int, started_ms: int, audits: GateAudits) -> None: ...
    def add(self, run: str, part: int, sums: Any, now_ms: int) -> Run | None: ...
    def put_pair(self, run: str, report: PairReport, now_ms: int) -> None: ...


class Part(NamedTuple):
    """Some pairs or invoices of a run, on their way through the queue."""

    run: str
    number: int
    pairs: tuple[Pair, ...] = ()
    invoices: tuple[CloseKey, ...] = ()

    def body(self) -> str:
        said = {"run": self.run, "part": self.number, "pairs": self.pairs, "invoices": self.invoices}
        return json.dumps(said, separators=(",", ":"))

    @classmethod
    def of(cls, body: str) -> Part:
        """Raises ValueError for a body that names no part."""
        try:
            said = json.loads(body)
            pairs = tuple(Pair(str(account), str(meter), int(day)) for account, meter, day in said["pairs"])
            invoices = tuple(CloseKey(str(customer), str(invoice)) for customer, invoice in said["invoices"])
            return cls(str(said["run"]), int(said["part"]), pairs, invoices)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("a message that names no part of a reconciliation") from error


@dataclass(frozen=True, slots=True)
class Worked:
    """What became of a part."""

    reports: list[PairReport]
    failures: list[Exception]
    divergent: int


def run_id(started_ms: int, kind: str) -> str:
    return f"{started_ms:013d}.{kind}"


def changed_pairs(deps: ReconcileDeps, now: int, shards: Iterable[int] = range(SHARDS)) -> Iterator[Pair]:
    """Pairs whose day is over and that changed since they were last settled, each account's together."""
    for shard in shards:
        yield from sorted(deps.pairs.changed(shard, now - DAY_S - OVER_S))


def plan(
    run: str, pairs: Iterable[Pair], invoices: Iterable[CloseKey] = (), most: int = PAIRS_A_PART
) -> Iterator[Part]:
    """Cut pairs, then invoices, into parts of about `most`; an account's pairs stay in one part."""
    number, some = 0, list[Pair]()
    for pair in pairs:
        if len(some) >= most and pair.account != some[-1].account:
            yield Part(run, number, tuple(some))
            number, some = number + 1, []
        some.append(pair)
    if some:
        yield Part(run, number, tuple(some))
        number += 1
    keys = tuple(invoices)
    for first in range(0, len(keys), most):
        yield Part(run, number, invoices=keys[first : first + most])
        number += 1


def start_run(
    deps: ReconcileDeps, reports: Reports, send: Callable[[list[Part]], None], kind: str = "nightly"
) -> tuple[str, int, int]:
    """Plan a run and queue its parts; returns its id, and how many parts and pairs it has."""
    now_ms = deps.clock()
    run = run_id(now_ms, kind)
    parts = list(plan(run, changed_pairs(deps, now_ms // 1000), final_invoices(deps, now_ms // 1000)))
    begin(deps, reports, run, len(parts))
    # A crash from here on leaves a run that is never through; its pairs stay in the index for the next one.
    send(parts)
    return run, len(parts), sum(len(part.pairs) for part in parts)


def begin(deps: ReconcileDeps, reports: Reports, run: str, parts: int) -> GateAudits:
    """Put a run's row, with what the audits of gates found in the day before."""
    now_ms = deps.clock()
    audits = deps.audits.between(now_ms - DAY_S * 1000, now_ms)
    reports.begin(run, parts, int(run.partition(".")[0]), audits)
    return audits


def work(
    deps: ReconcileDeps,
    reports: Reports,
    budget: ReadBudget,
    part: Part,
    *,
    person: bool = False,
    repair: bool = True,
    settle: bool = True,
    each: Callable[[], None] = lambda: None,
    wants: Iterable[Wanted] | None = None,
) -> Worked:
    """Compare a part's accounts and invoices, keep the reports of those that differ, tell of those that are far
    apart. `wants` takes the place of the part's pairs."""
    found: list[PairReport] = []
    failures: list[Exception] = []
    divergent = 0
    reads = budget.total
    tasks: list[tuple[str, Callable[[], list[PairReport]]]] = []
    for want in wanted(part.pairs) if wants is None else wants:
        compare = partial(reconcile_account, deps, want, person=person, repair=repair, settle=settle)
        tasks.append((f"account {want.account}", compare))
    tasks += [(f"invoice {key.invoice}", partial(reconcile_invoice, deps, key, settle=settle)) for key in part.invoices]
    for name, task in tasks:
        try:
            some = task()
        except UnknownAccount:
            some = []  # deleted meanwhile
        except Exception as error:  # noqa: BLE001 - kept; it stays in the index, and the others are compared
            error.add_note(f"reconciling {name}")
            failures.append(error)
            some = []
        for report in some:
            if not report.agrees:
                reports.put_pair(part.run, report, deps.clock())
            alert = (
                account_alert(report, deps.clock()) if report.invoice is None else invoice_alert(report, deps.clock())
            )
            if alert is not None:
                divergent += 1
                deps.outbox.put(alert)
        found += some
        each()
    budget.note()
    # A crash before this compares the part again: what agreed is settled and costs one read more.
    sums = sums_of(found, len(failures), budget.total - reads)
    run = reports.add(part.run, part.number, sums, deps.clock())
    overall = overall_alert(run, deps.clock()) if run is not None else None
    if overall is not None:
        deps.outbox.put(overall)
    return Worked(found, failures, divergent)
