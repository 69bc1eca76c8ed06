"""seal: once a minute, for some shards, freeze ended windows and queue their batches."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from tollgate import wiring
from tollgate.alerts.outbox import CountedOutbox
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.billing.batch_store import BatchTable
from tollgate.billing.close_due import CloseDueDeps
from tollgate.billing.close_store import CloseTable
from tollgate.billing.queue_store import FlushQueue
from tollgate.billing.run import run_seal
from tollgate.billing.seal import SealDeps
from tollgate.billing.sealed_store import SealTable
from tollgate.clock import system_clock
from tollgate.margins.book_store import BookTable
from tollgate.settings import SealSettings, text
from tollgate.undone import undone
from tollgate.usage.marker_store import MarkerTable
from tollgate.usage.markers import SHARDS
from tollgate.webhooks.queue_store import StripeEventsQueue

logger = Logger()
metrics = Metrics()

RESERVE_MS = 10_000
"""What is left of the function's time when a run stops taking on more."""


@lru_cache(maxsize=1)
def deps() -> SealDeps:
    """Made at the first run; the environment decides."""
    settings = SealSettings.from_env(os.environ)
    return SealDeps(
        rules=wiring.rules_table(os.environ),
        events=wiring.event_table(os.environ),
        markers=MarkerTable(settings.billing_table, settings.seal_seconds),
        seals=SealTable(settings.billing_table),
        batches=BatchTable(settings.billing_table),
        queue=FlushQueue(settings.flush_queue_url),
        outbox=OutboxTable(settings.billing_table, system_clock),
        clock=system_clock,
        seal_seconds=settings.seal_seconds,
        grace_seconds=settings.grace_seconds,
        cost_of=BookTable(text(os.environ, "TOLLGATE_CONFIG_TABLE"), system_clock).cost_of,
    )


@lru_cache(maxsize=1)
def closes() -> CloseDueDeps:
    settings = SealSettings.from_env(os.environ)
    tasks = StripeEventsQueue(settings.stripe_events_queue_url)
    return CloseDueDeps(CloseTable(settings.billing_table), tasks, system_clock)


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, int]:
    """`{"shards": [0, 1]}`, absent: all. Answers `{"windows", "batches", "queued", "requeued"}`.

    Raises an ExceptionGroup once everything else is done, where some accounts or batches failed.
    """
    shards = event.get("shards", range(SHARDS))
    outbox = CountedOutbox(deps().outbox)  # it is told of every batch that gets parked
    counts = run_seal(replace(deps(), outbox=outbox), shards, _in_time(context), closes())
    age = 0 if counts.oldest is None else max(0, system_clock() // 1000 - counts.oldest)
    metrics.add_metric(name="OldestUnflushedSeconds", unit=MetricUnit.Seconds, value=age)
    if counts.unsealed is not None:
        late = max(0, system_clock() // 1000 - counts.unsealed)
        metrics.add_metric(name="OldestUnsealedSeconds", unit=MetricUnit.Seconds, value=late)
    counted = {
        "WindowsSealed": counts.windows,
        "BatchesMade": counts.batches,
        "BatchesRequeued": counts.requeued,
        "BatchesParked": outbox.told,
        "ClosesAsked": counts.closes,
    }
    for name, value in counted.items():
        if value:  # CloudWatch bills a metric by the hours in which it has values, and the alarms take silence for none
            metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
    answer = {
        "windows": counts.windows,
        "batches": counts.batches,
        "queued": counts.queued,
        "requeued": counts.requeued,
    }
    if counts.left or any(answer.values()):
        logger.info("sealed", extra={**answer, "left": counts.left})
    if counts.failures:
        raise undone(logger, "seal left work undone", counts.failures)
    return answer


def _in_time(context: Any) -> Callable[[], bool]:
    return lambda: int(context.get_remaining_time_in_millis()) > RESERVE_MS
