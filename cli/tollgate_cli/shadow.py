"""`tollgate shadow`: what a stack in shadow mode would have billed, beside what another system did bill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Final

import typer

from tollgate import wiring
from tollgate.accounts.rules import Rules
from tollgate.accounts.store import AccountTable
from tollgate.billing.batch import FLUSHED, SHADOWED, Batch
from tollgate.billing.batch_store import BatchTable
from tollgate.billing.close_usage import whole_minutes
from tollgate.billing.shadow import Billed, Compared, Pair, compare, rated, sums
from tollgate.billing.sink import SinkUnavailable
from tollgate.clock import parse_rfc3339, rfc3339
from tollgate.errors import UnknownAccount
from tollgate.quantities import plain
from tollgate.reconcile.budget import ReadBudget
from tollgate.reconcile.ports import OutOfReads
from tollgate.reconcile.report_store import ReportTable
from tollgate.stripe_api.totals import StripeTotals
from tollgate_cli.other_bill import WrongBill, read_bill
from tollgate_cli.output import FAILED, WRONG, err, fail, note, out, table
from tollgate_cli.reconcile import clock_of, rules_of
from tollgate_cli.stripe_sync import published
from tollgate_cli.stripe_target import stripe_of
from tollgate_cli.target import Profile, Region, StackName, Target, connected

app = typer.Typer(no_args_is_help=True)

COLUMNS: Final = ("account", "meter", "units", "theirs", "difference", "%", "rated", "billed", "difference", "%")
_SHOWN: Final = 200
"""Rows that differ in the table; the rest is counted."""


@app.callback()
def _group() -> None:
    """Compare what shadow mode held back with what another system billed."""


@app.command("compare")
def compare_bills(
    csv: Annotated[
        Path | None, typer.Option("--csv", help="The other bill: header account,meter,units[,amount], a line a pair.")
    ] = None,
    at_stripe: Annotated[
        bool, typer.Option("--stripe", help="The other system sends meter events: take Stripe's totals.")
    ] = False,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="In UTC; without it the last one.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Instead of a month: from this date or time.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Up to this date or time, not included.")] = None,
    tolerance: Annotated[
        str, typer.Option(metavar="PERCENT", help="How far a pair may be apart, in units and in money.")
    ] = "0",
    reads: Annotated[int, typer.Option(min=1, help="--stripe: GETs that this month may have used in the end.")] = 8_000,
    stack: StackName = None,
    profile: Profile = None,
    region: Region = None,
) -> None:
    """Units and money of shadowed batches, account by account and meter by meter, beside the other system's.

    Exit code 1 where anything differs by more than --tolerance.
    """
    allowed = _percent(tolerance)
    if (csv is None) != at_stripe:
        fail("Say what to compare with: --csv FILE, or --stripe.", WRONG)
    with connected(stack, profile, region) as target:
        clock = clock_of(target)
        first, last = _stretch(month, start, end, clock() // 1000)
        try:
            given = {} if csv is None else read_bill(csv, _meters(target))
        except WrongBill as wrong:
            fail("\n".join(wrong.mistakes), WRONG)
        budget = ReadBudget(ReportTable(target.env["TOLLGATE_BILLING_TABLE"]), reads, clock)
        totals = StripeTotals(stripe_of(target).connection, budget.spend) if at_stripe else None
        gathered = Gathered(first, last, totals)
        rules = rules_of(target, clock)
        try:
            with err().status("Reading batches…"):
                gathered.read(target, rules.fresh)
                theirs = gathered.theirs if at_stripe else _under_own_ids(given, rules.fresh)
        except (SinkUnavailable, OutOfReads, LookupError) as trouble:
            fail(f"Stripe's totals could not be read: {trouble}. Run the command again, or compare with --csv.")
        finally:
            budget.note()
        rows = compare(gathered.ours, theirs)
    _report(target, gathered, rows, allowed)


@dataclass
class Gathered:
    """Our side, and with `totals` Stripe's, of [start, end) in epoch seconds."""

    start: int
    end: int
    totals: StripeTotals | None
    ours: dict[Pair, Billed] = field(default_factory=dict)
    theirs: dict[Pair, Billed] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    """Batches that are not shadowed, by state."""
    cut: set[str] = field(default_factory=set)
    """Accounts with a billing period that is not all inside."""
    currencies: set[str] = field(default_factory=set)

    def read(self, target: Target, fresh: Callable[[str], Rules]) -> None:
        """All accounts there are. Raises SinkUnavailable, OutOfReads, LookupError."""
        batches = BatchTable(target.env["TOLLGATE_BILLING_TABLE"])
        for account in AccountTable(target.env["TOLLGATE_ACCOUNTS_TABLE"]).ids():
            rules = fresh(account)
            for meter, billed in rated(self._shadowed(batches, rules), rules).items():
                self.ours[account, meter] = billed
                self._at_stripe(rules, meter)
            if rules.plan.prices:
                self.currencies.add(rules.plan.currency)

    def _shadowed(self, batches: BatchTable, rules: Rules) -> Iterable[Batch]:
        for home in rules.homes:
            for meter in batches.meters(home):
                for batch in batches.booked(home, meter, self.start, self.end):
                    if batch.state != SHADOWED:
                        self.others[batch.state] += 1
                        continue
                    if batch.period_start < self.start or batch.period_end > self.end:
                        self.cut.add(rules.account)
                    yield batch

    def _at_stripe(self, rules: Rules, meter: str) -> None:
        known, customer = rules.meters.get(meter), rules.row.stripe_customer_id
        if self.totals is None or customer is None or known is None or not known.stripe_event_name:
            return
        first, last = whole_minutes(self.start, self.end)
        units = self.totals.total(customer, known.stripe_event_name, first, last)
        self.theirs[rules.account, meter] = Billed(units, None)


def _under_own_ids(given: Mapping[Pair, Billed], fresh: Callable[[str], Rules]) -> dict[Pair, Billed]:
    """The other bill with accounts that became another one counted as that one; unknown ones as they stand there."""
    found: dict[Pair, Billed] = {}
    for (account, meter), billed in given.items():
        try:
            pair = (fresh(account).account, meter)
        except UnknownAccount:
            pair = (account, meter)
        found[pair] = found[pair].plus(billed) if pair in found else billed
    return found


def _meters(target: Target) -> set[str]:
    versions = published(wiring.catalog_table(target.env), all_versions=True)
    if versions is None:
        fail(f"{target.name} has no catalogue yet: `tollgate catalog load` publishes one.")
    return {meter for version in versions for meter in version.meters}


# --- what is asked for -----------------------------------------------------------------------------------------------


def _percent(text: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal(-1)
    if not found.is_finite() or found < 0:
        fail(f"--tolerance `{text}` is no percentage: a number from 0 on, as in 0.5.", WRONG)
    return found


def _stretch(month: str | None, start: str | None, end: str | None, now: int) -> tuple[int, int]:
    """Epoch seconds [from, to). Ends the command (exit code 2) for what makes no sense."""
    if (start is None) != (end is None) or (month is not None and start is not None):
        fail("Give --month, or both --from and --to, or nothing for the last month.", WRONG)
    if start is not None and end is not None:
        first, last = _time("--from", start), _time("--to", end)
        if first >= last:
            fail("--from must lie before --to.", WRONG)
        return first, last
    if month is None:
        today = datetime.fromtimestamp(now, UTC)
        first_day = datetime(today.year - (today.month == 1), (today.month - 2) % 12 + 1, 1, tzinfo=UTC)
    else:
        try:
            first_day = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
        except ValueError:
            fail(f"--month `{month}` is no month: as in 2026-11.", WRONG)
    after = datetime(first_day.year + (first_day.month == 12), first_day.month % 12 + 1, 1, tzinfo=UTC)
    return _seconds(first_day), _seconds(after)


def _time(option: str, text: str) -> int:
    try:
        return parse_rfc3339(f"{text}T00:00:00Z" if len(text) == len("2026-11-01") else text) // 1000
    except ValueError:
        fail(f"{option} `{text}` is no time: a date in UTC as in 2026-11-01, or with an offset.", WRONG)


def _seconds(moment: datetime) -> int:
    return parse_rfc3339(moment.isoformat()) // 1000


# --- what is said ----------------------------------------------------------------------------------------------------


def _report(target: Target, gathered: Gathered, rows: list[Compared], allowed: Decimal) -> None:
    stretch = f"{rfc3339(gathered.start)} to {rfc3339(gathered.end)}"
    if not rows:
        fail(f"Nothing was shadowed or billed from {stretch}: is it the right time, and was Shadow=true?")
    differing = sorted(
        (row for row in rows if row.differs(allowed)),
        key=lambda row: (abs(row.amount or 0), abs(row.units)),
        reverse=True,
    )
    shown = [_cells(row) for row in differing[:_SHOWN]]
    if len(gathered.currencies) > 1:
        note(f"Plans are in {', '.join(sorted(gathered.currencies))}: money is not added up.")
        shown += [_cells(row._replace(account="all", ours=row.ours._replace(amount=None))) for row in sums(rows)]
    else:
        shown += [_cells(row._replace(account="all")) for row in sums(rows)]
    out().print(table(f"{target.name} in shadow and the other bill, {stretch}", COLUMNS, shown))
    if len(differing) > _SHOWN:
        note(f"{len(differing) - _SHOWN} more differ; these differ most.")
    if gathered.others:
        said = ", ".join(f"{count} {state}" for state, count in sorted(gathered.others.items()))
        note(f"Batches that are not shadowed, and not in the table: {said}.")
    if gathered.others[FLUSHED]:
        note("Flushed ones were sent by this stack: if the other system billed that time too, it is billed twice.")
    if gathered.cut:
        note(
            f"{len(gathered.cut)} accounts have billing periods that reach beyond this time: their money is of the "
            "part inside. --from and --to can fit them."
        )
    if differing:
        note(f"Next: tollgate batches list {differing[0].account} --state {SHADOWED}")
        fail(f"{len(differing)} of {len(rows)} differ by more than {plain(allowed)} %.", FAILED)
    note(f"All {len(rows)} agree within {plain(allowed)} %.")
    note("Next, when the next billing period begins: deploy with Shadow=false, in the minute the other system stops.")


def _cells(row: Compared) -> tuple[object, ...]:
    return (
        row.account,
        row.meter,
        plain(row.ours.units),
        plain(row.theirs.units),
        plain(row.units),
        _shown(row.units_percent),
        _shown(row.ours.amount),
        _shown(row.theirs.amount),
        _shown(row.amount),
        _shown(row.amount_percent),
    )


def _shown(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)
