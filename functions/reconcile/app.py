"""reconcile: every night finds the pairs that changed and queues them; then, from the queue, compares them with Stripe.

Has Stripe's secret key: it reads totals, and cancels one of two identifiers of the same units.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from tollgate import wiring
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.billing.batch_store import BatchTable
from tollgate.billing.close_store import CloseTable
from tollgate.billing.parked import tell_weekly
from tollgate.billing.sealed_store import SealTable
from tollgate.clock import system_clock
from tollgate.gate.sweep_store import AuditLog
from tollgate.reconcile.budget import ReadBudget
from tollgate.reconcile.loose_store import LooseTable
from tollgate.reconcile.pair_store import PairTable
from tollgate.reconcile.ports import ReconcileDeps
from tollgate.reconcile.queue_store import PartQueue
from tollgate.reconcile.report_store import ReportTable
from tollgate.reconcile.run import Part, start_run, work
from tollgate.settings import ReconcileSettings
from tollgate.stripe_api.client import connector
from tollgate.stripe_api.invoices import StripeInvoices
from tollgate.stripe_api.reading import Connection
from tollgate.stripe_api.totals import StripeTotals
from tollgate.usage.marker_store import MarkerTable

logger = Logger()
metrics = Metrics()

PART_MS = 60_000
"""What is left of the function's time when it takes on no further part; SQS delivers the rest again."""


@lru_cache(maxsize=1)
def parts() -> tuple[ReconcileDeps, ReportTable, ReadBudget, PartQueue]:
    """Made at the first run; the environment decides."""
    settings = ReconcileSettings.from_env(os.environ)

    reports = ReportTable(settings.billing_table)
    budget = ReadBudget(reports, settings.stripe_reads, system_clock)
    connection = Connection(connector(settings.stripe))
    deps = ReconcileDeps(
        rules=wiring.rules_table(os.environ),
        events=wiring.event_table(os.environ),
        windows=SealTable(settings.billing_table),
        markers=MarkerTable(settings.billing_table, settings.seal_seconds),
        batches=BatchTable(settings.billing_table),
        totals=StripeTotals(connection, budget.spend),
        invoices=StripeInvoices(connection, budget.spend),
        closes=CloseTable(settings.billing_table),
        plans=wiring.catalog_table(os.environ),
        pairs=PairTable(settings.billing_table),
        loose=LooseTable(settings.billing_table),
        audits=AuditLog(settings.billing_table),
        outbox=OutboxTable(settings.billing_table, system_clock),
        clock=system_clock,
        stack=settings.stack,
        seal_seconds=settings.seal_seconds,
        grace_seconds=settings.grace_seconds,
    )
    return deps, reports, budget, PartQueue(settings.queue_url)


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """From the schedule: `{}` starts a run and answers `{"run", "parts", "pairs"}`; `{"task": "weekly"}` tells the
    operator what is parked, `{"parked"}`. From the queue: SQS records in, `{"batchItemFailures": [...]}` out."""
    if "Records" in event:
        return _work(event["Records"], context)
    deps, reports, _, queue = parts()
    if event.get("task") == "weekly":
        return {"parked": tell_weekly(deps.batches, deps.outbox, deps.clock())}
    run, number, pairs = start_run(deps, reports, queue.send)
    logger.info("a reconciliation starts", extra={"run": run, "parts": number, "pairs": pairs})
    return {"run": run, "parts": number, "pairs": pairs}


def _work(records: list[dict[str, Any]], context: Any) -> dict[str, Any]:
    deps, reports, budget, _ = parts()
    failures = []
    divergent = failed = 0
    for record in records:
        if int(context.get_remaining_time_in_millis()) < PART_MS:
            failures.append({"itemIdentifier": record["messageId"]})
            continue
        try:
            worked = work(deps, reports, budget, Part.of(record["body"]))
        except Exception:
            # One part's failure must not repeat the others; SQS repeats this one, and parks it in the end.
            logger.exception("a part was not reconciled", message_id=record["messageId"])
            failures.append({"itemIdentifier": record["messageId"]})
            continue
        for error in worked.failures:
            logger.error("an account was not reconciled", exc_info=error)
        failed += len(worked.failures)
        divergent += worked.divergent
    if divergent:  # CloudWatch bills a metric by the hours in which it has values; to the alarm silence is none
        metrics.add_metric(name="DivergentPairs", unit=MetricUnit.Count, value=divergent)
    if failed:
        metrics.add_metric(name="ReconcileFailures", unit=MetricUnit.Count, value=failed)
    return {"batchItemFailures": failures}
