"""`tollgate reconcile`: events, batches, Stripe's totals and invoices side by side, with what makes them differ."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tollgate import wiring
from tollgate.accounts.store import AccountTable, RulesTable
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.billing.batch_store import BatchTable
from tollgate.billing.close_store import CloseTable
from tollgate.billing.grid import Grid
from tollgate.billing.sealed_store import SealTable
from tollgate.clock import Clock, rfc3339, system_clock
from tollgate.gate.sweep import audit_account
from tollgate.gate.sweep_store import AuditLog
from tollgate.quantities import plain
from tollgate.reconcile.account import DAY_S, PairReport, Wanted, wanted
from tollgate.reconcile.budget import ReadBudget
from tollgate.reconcile.invoiced import final_invoices, invoices_between
from tollgate.reconcile.loose_store import LooseTable
from tollgate.reconcile.pair_store import PairTable
from tollgate.reconcile.ports import ReconcileDeps
from tollgate.reconcile.report_store import ReportTable
from tollgate.reconcile.run import Part, begin, changed_pairs, run_id, work
from tollgate.stripe_api.invoices import StripeInvoices
from tollgate.stripe_api.totals import StripeTotals
from tollgate.usage.marker_store import MarkerTable
from tollgate_cli.output import err, fail, note, out, table
from tollgate_cli.stripe_target import stripe_of
from tollgate_cli.target import Profile, Region, StackName, Target, connected

GRACE_S = 60
COLUMNS = (
    "account",
    "meter",
    "from",
    "to",
    "events",
    "batches",
    "Stripe",
    "invoice",
    "class",
    "units",
    "repair",
    "evidence",
)


def reconcile(
    account: Annotated[str | None, typer.Option(help="Only this account, every day of --days, settled or not.")] = None,
    days: Annotated[int, typer.Option(min=1, max=62, help="How far back, with --account.")] = 31,
    apply: Annotated[
        bool, typer.Option("--apply", help="Repair, also what waits for a person's word; without it nothing changes.")
    ] = False,
    reads: Annotated[int, typer.Option(min=1, help="GETs at Stripe that this month may have used in the end.")] = 8_000,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Compare usage with what Stripe has, and say what makes them differ. Exit code 1 where something is unexplained,
    or an account could not be compared."""
    with connected(stack, profile, region) as target:
        store = ReportTable(target.env["TOLLGATE_BILLING_TABLE"])
        clock = clock_of(target)
        budget = ReadBudget(store, reads, clock)
        deps = deps_of(target, budget, clock)
        now_ms = deps.clock()
        now = now_ms // 1000
        if account:
            wants = [_all_days(account, now, days)]
            invoices = invoices_between(deps, account, min(wants[0].days), now)
        else:
            wants, invoices = wanted(changed_pairs(deps, now)), list(final_invoices(deps, now))
        run = run_id(now_ms, "on_demand")
        audits = begin(deps, store, run, 1)
        with _progress() as bar:
            task = bar.add_task("accounts and invoices", total=len(wants) + len(invoices))
            worked = work(
                deps,
                store,
                budget,
                Part(run, 0, invoices=tuple(invoices)),
                person=apply,
                repair=apply,
                settle=apply,
                each=lambda: bar.advance(task),
                wants=wants,
            )
        if account and not worked.failures:
            gate = replace(wiring.gate_deps(target.env, rules_of(target, clock)), clock=clock)
            equal = audit_account(gate, account, repair=apply)
            note(
                f"Counters of the gate {'equal' if equal else 'did not equal' if apply else 'do not equal'} the events."
            )
        for failure in worked.failures:
            note(f"{failure.__notes__[0] if hasattr(failure, '__notes__') else 'An account'}: {failure}")
    _show(target, worked.reports, budget.total, apply=apply)
    note(f"Gates, in the last 24 hours: {audits.audited} audits, {audits.repaired} had to be repaired.")
    if worked.failures or any(one.unexplained for one in worked.reports):
        fail("Not everything is explained." if not worked.failures else "Not everything was compared.")


def clock_of(target: Target) -> Clock:
    """A stack's time; a local one's may have been moved."""
    if not target.local or target.api is None:
        return system_clock
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{target.api}/_local/clock", timeout=5) as answer:
            ahead = int(json.loads(answer.read())["offset_seconds"]) * 1000
    except OSError:
        return system_clock  # its tables answer, or the command ends with what is wrong
    return lambda: system_clock() + ahead


def rules_of(target: Target, clock: Clock) -> RulesTable:
    return RulesTable(AccountTable(target.env["TOLLGATE_ACCOUNTS_TABLE"]), wiring.catalog_table(target.env), clock)


def deps_of(target: Target, budget: ReadBudget, clock: Clock) -> ReconcileDeps:
    """What a comparison uses, on a stack's tables and with its Stripe key."""
    billing = target.env["TOLLGATE_BILLING_TABLE"]
    windows = SealTable(billing)
    grid = windows.known_grid() or Grid.of(300)  # as the stack's own seal has it
    seconds = grid.reigns[-1][1]
    connection = stripe_of(target).connection
    return ReconcileDeps(
        rules=rules_of(target, clock),
        events=wiring.event_table(target.env),
        windows=windows,
        markers=MarkerTable(billing, seconds),
        batches=BatchTable(billing),
        totals=StripeTotals(connection, budget.spend),
        invoices=StripeInvoices(connection, budget.spend),
        closes=CloseTable(billing),
        plans=wiring.catalog_table(target.env),
        pairs=PairTable(billing),
        loose=LooseTable(billing),
        audits=AuditLog(billing),
        outbox=OutboxTable(billing, clock),
        clock=clock,
        stack=target.name,
        seal_seconds=seconds,
        grace_seconds=GRACE_S,
    )


def _all_days(account: str, now: int, days: int) -> Wanted:
    today = now // DAY_S * DAY_S
    return Wanted(account, {today - back * DAY_S: set() for back in range(days)}, every_meter=True)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err(), transient=True)


def _show(target: Target, reports: Iterable[PairReport], reads: int, *, apply: bool) -> None:
    shown = sorted(reports, key=lambda one: (one.account, one.meter, one.start))
    rows = [row for report in shown for row in _rows(report)]
    out().print(table(f"Usage and Stripe, {target.name}", COLUMNS, rows))
    differing = sum(not one.agrees for one in shown)
    note(f"{len(shown)} compared, {differing} differ; {reads} reads at Stripe.")
    if differing and not apply:
        note("Nothing was changed; --apply repairs what can be.")


def _span(report: PairReport) -> tuple[str, str]:
    """Days where they are whole ones; a stretch of an invoice, or of today, to the minute."""
    start, end = (rfc3339(at)[: 10 if at % DAY_S == 0 else 16] for at in (report.start, report.end))
    return start, end


def _rows(report: PairReport) -> list[tuple[object, ...]]:
    head = (
        report.account,
        report.meter,
        *_span(report),
        plain(report.events),
        plain(report.batches),
        "not read" if report.sink is None else plain(report.sink),
        None if report.invoices is None else plain(report.invoices),
    )
    found: list[tuple[object, ...]] = [
        (one.kind, plain(one.units), f"{one.repair}: done" if one.applied else one.repair, one.evidence)
        for one in report.findings
    ]
    if report.proposal is not None:
        made = report.proposal
        found.append((None, None, "proposed", f"{plain(made.total)} {made.currency}: {made.memo}"))
    if report.unexplained:
        found.append(("unexplained", plain(report.unexplained), None, None))
    if not found:
        return [(*head, "equal" if report.sink is not None else None, None, None, None)]
    return [(*(head if at == 0 else ("",) * len(head)), *one) for at, one in enumerate(found)]
