"""A run's sums, and reports as they are kept and answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from tollgate.alerts.outbox import Alert
from tollgate.billing.invoice import CreditNoteProposal
from tollgate.clock import rfc3339, rfc3339_ms
from tollgate.gate.sweep_store import GateAudits
from tollgate.quantities import ZERO, plain
from tollgate.reconcile.account import PairReport
from tollgate.reconcile.findings import CLASSES, CREDIT_NOTE, INVOICE_ITEM, UNEXPLAINED

ACCOUNT_SHARE: Final = Decimal("0.01")
OVERALL_SHARE: Final = Decimal("0.001")
"""How far totals may be apart before it is an alarm: of one account's units, and of all."""
_COUNTS: Final = ("pairs", "invoices", "settled", "differing", "put_off", "failed", "reads")
_TOTALS: Final = ("events", "batches", "sink", "apart")


@dataclass(frozen=True, slots=True)
class Run:
    """One comparison of many pairs, in `parts` of which `done` are through."""

    id: str
    started_ms: int
    finished_ms: int | None
    parts: int
    done: int
    counts: Mapping[str, int]
    classes: Mapping[str, int]
    meters: Mapping[str, Mapping[str, Decimal]] = field(default_factory=dict)
    gates: GateAudits = GateAudits()
    """What the sweep's audits found in the day before it started."""

    @property
    def finished(self) -> bool:
        return self.done >= self.parts

    @property
    def divergent(self) -> list[str]:
        """Meters whose totals are further apart than the overall share."""
        return sorted(meter for meter, sums in self.meters.items() if far(sums["apart"], sums["events"], OVERALL_SHARE))

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Run:
        """From its row."""
        meters: dict[str, dict[str, Decimal]] = {}
        for name, value in row.items():
            kind, _, rest = name.partition("#")
            if kind in _TOTALS and rest:
                meters.setdefault(rest, dict.fromkeys(_TOTALS, ZERO))[kind] = value
        return cls(
            row["sk"],
            int(row["started"]),
            int(row["finished"]) if "finished" in row else None,
            int(row["parts"]),
            int(row["done"]),
            {name: int(row.get(f"n#{name}", 0)) for name in _COUNTS},
            {name: int(row[f"class#{name}"]) for name in CLASSES if f"class#{name}" in row},
            meters,
            GateAudits(int(row.get("gates_audited", 0)), int(row.get("gates_repaired", 0))),
        )

    def fields(self, pairs: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """As it is answered over HTTP."""
        return {
            "id": self.id,
            "kind": self.id.partition(".")[2],
            "started_at": rfc3339_ms(self.started_ms),
            "finished_at": rfc3339_ms(self.finished_ms) if self.finished and self.finished_ms else None,
            **{("stripe_reads" if name == "reads" else name): count for name, count in self.counts.items()},
            "differences": [{"class": name, "count": count} for name, count in self.classes.items()],
            "meters": [
                {
                    "id": meter,
                    "events": plain(sums["events"]),
                    "batches": plain(sums["batches"]),
                    "stripe": plain(sums["sink"]),
                    "apart": plain(sums["apart"]),
                }
                for meter, sums in sorted(self.meters.items())
            ],
            "divergent": self.divergent,
            "gates": self.gates._asdict(),
            "reports": list(pairs),
        }


def sums_of(reports: Iterable[PairReport], failed: int = 0, reads: int = 0) -> dict[str, int | Decimal]:
    """What reports, and the GETs they took, add to their run. Invoices add to counts only, as the days that they cover
    are added up already; so do pairs whose sink's total was not read."""
    sums: dict[str, int | Decimal] = {"n#failed": failed, "n#reads": reads}
    reports = list(reports)
    invoices = {one.invoice for one in reports if one.invoice is not None}

    def add(name: str, value: int | Decimal) -> None:
        sums[name] = sums.get(name, 0) + value

    add("n#invoices", len(invoices))
    for one in reports:
        add("n#pairs", int(one.invoice is None))
        add("n#settled", int(one.settled))
        add("n#differing", int(not one.agrees))
        add("n#put_off", int(one.put_off))
        for finding in one.findings:
            add(f"class#{finding.kind}", 1)
        if one.unexplained:
            add("class#unexplained", 1)
        if one.sink is not None and one.invoice is None:
            for name, units in (
                ("events", one.events),
                ("batches", one.batches),
                ("sink", one.sink),
                ("apart", one.lasting),
            ):
                add(f"{name}#{one.meter}", units)
    return sums


def pair_fields(report: PairReport) -> dict[str, Any]:
    """A pair's report as it is kept and answered: units as plain strings, times in RFC 3339."""
    return {
        "account": report.account,
        "meter": report.meter,
        "from": rfc3339(report.start),
        "to": rfc3339(report.end),
        "events": plain(report.events),
        "batches": plain(report.batches),
        "stripe": None if report.sink is None else plain(report.sink),
        "invoices": None if report.invoices is None else plain(report.invoices),
        "invoice": report.invoice,
        "proposal": _proposal(report),
        "unexplained": plain(report.unexplained),
        "put_off": report.put_off,
        "differences": [
            {
                "class": one.kind,
                "units": plain(one.units),
                "repair": one.repair,
                "applied": one.applied,
                "evidence": one.evidence,
                "batch": one.batch.key.sk if one.batch else None,
            }
            for one in report.findings
        ],
    }


def _proposal(report: PairReport) -> dict[str, Any] | None:
    made = report.proposal
    if made is None:
        return None
    credit = isinstance(made, CreditNoteProposal)
    lines = made.lines if isinstance(made, CreditNoteProposal) else {}
    return {
        "repair": CREDIT_NOTE if credit else INVOICE_ITEM,
        "amount": plain(made.total),
        "currency": made.currency,
        "memo": made.memo,
        "lines": [{"id": line, "amount": plain(amount)} for line, amount in lines.items()],
    }


def far(apart: Decimal, events: Decimal, share: Decimal) -> bool:
    """Whether totals are apart by more than a share of the events' units; of nothing, anything is."""
    return apart > share * events


def account_alert(report: PairReport, now_ms: int) -> Alert | None:
    """The alarm of a pair that is further apart than its share: once for each pair and class of trouble."""
    if not far(report.lasting, report.events, ACCOUNT_SHARE):
        return None
    kinds = _kinds(report)
    day = rfc3339(report.start)[:10]
    return Alert(
        id=f"reconcile#{report.account}#{report.meter}#{day}#{','.join(kinds)}",
        kind="divergence",
        account=report.account,
        subject=f"Usage and Stripe differ: {report.account}",
        text=(
            f"Account {report.account}, {report.meter} from {day}: {plain(report.events)} units were used, Stripe has "
            f"{'none to compare' if report.sink is None else plain(report.sink)} ({', '.join(kinds)}). "
            f"`tollgate reconcile --account {report.account}` shows why; with --apply it repairs what can be."
        ),
        at_ms=now_ms,
        facts={"meter": report.meter, "apart": plain(report.lasting)},
    )


def invoice_alert(report: PairReport, now_ms: int) -> Alert | None:
    """A final invoice that does not bill what was used is told of, however little it is; it is compared once."""
    if not report.final or not report.lasting:
        return None
    kinds = _kinds(report)
    made = _proposal(report)
    said = "Look at it at Stripe."
    if made is not None:
        said = f"Proposed: {made['repair'].replace('_', ' ')} of {made['amount']} {made['currency']}, by hand."
    return Alert(
        id=f"invoice_differs#{report.invoice}#{report.meter}#{report.start}",
        kind="invoice_differs",
        account=report.account,
        subject=f"Usage and an invoice differ: {report.account}",
        text=(
            f"Invoice {report.invoice} of account {report.account}, {report.meter} from {rfc3339(report.start)} to "
            f"{rfc3339(report.end)}: {plain(report.events)} units were used, "
            f"{plain(report.invoices or ZERO)} are billed ({', '.join(kinds)}). {said}"
        ),
        at_ms=now_ms,
        facts={"invoice": report.invoice or "", "meter": report.meter},
    )


def overall_alert(run: Run, now_ms: int) -> Alert | None:
    """The alarm of a run in which all accounts together are further apart than their share."""
    if not run.finished or not run.divergent:
        return None
    shown = ", ".join(f"{meter} by {plain(run.meters[meter]['apart'])} units" for meter in run.divergent)
    return Alert(
        id=f"reconcile#{run.id}",
        kind="divergence",
        account="",
        subject="Usage and Stripe differ by more than 0.1 % overall",
        text=f"Run {run.id}: {shown}. GET /v1/reconciliations has the accounts, docs/reconcile.md the classes.",
        at_ms=now_ms,
    )


def _kinds(report: PairReport) -> list[str]:
    """The classes of what does not pass by itself."""
    kinds = {one.kind for one in report.findings if not one.passing}
    return sorted({*kinds, UNEXPLAINED} if report.unexplained else kinds)
