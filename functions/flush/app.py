"""flush: sends queued batches to Stripe."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from tollgate.alerts.outbox import CountedOutbox
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.billing.batch_store import BatchTable
from tollgate.billing.close_store import CloseTable
from tollgate.billing.customer_store import CustomerTable
from tollgate.billing.flush import FlushDeps, flush
from tollgate.billing.queue_store import key_of
from tollgate.billing.stripe_sink import StripeSink
from tollgate.clock import system_clock
from tollgate.settings import FlushSettings
from tollgate.stripe_api.client import connector

logger = Logger()
metrics = Metrics()

SEND_MS = 30_000
"""What one batch may take: two calls to Stripe at their timeouts, and the writes around them."""


@lru_cache(maxsize=1)
def deps() -> FlushDeps:
    """Made at the first run; the environment decides."""
    settings = FlushSettings.from_env(os.environ)

    return FlushDeps(
        batches=BatchTable(settings.billing_table),
        sink=StripeSink(connector(settings.stripe)),
        customers=CustomerTable(settings.billing_table),
        closes=CloseTable(settings.billing_table),
        outbox=OutboxTable(settings.billing_table, system_clock),
        clock=system_clock,
        stack=settings.stack,
        shadow=settings.shadow,
        restored_at=settings.restored_at,
    )


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, list[dict[str, str]]]:
    """SQS records in, `{"batchItemFailures": [...]}` out. A batch that is put off is no failure: its row says when."""
    outcomes: Counter[str] = Counter()
    failures = []
    outbox = CountedOutbox(deps().outbox)  # it is told of every batch that gets parked
    run = replace(deps(), outbox=outbox)
    for record in event["Records"]:
        try:
            key = key_of(record["body"])
            outcome = flush(run, key, lambda: int(context.get_remaining_time_in_millis()) > SEND_MS)
        except Exception:
            # One batch's failure must not repeat the others; SQS repeats this one, and parks it in the end.
            logger.exception("a batch was not flushed", message_id=record["messageId"])
            failures.append({"itemIdentifier": record["messageId"]})
            outcomes["failed"] += 1
            continue
        outcomes[outcome] += 1
        if outcome != "flushed":
            logger.info("a batch was not flushed", outcome=outcome, pk=key.pk, sk=key.sk)
    for outcome, count in sorted(outcomes.items()):
        metrics.add_metric(name=f"Batches{outcome.title().replace('_', '')}", unit=MetricUnit.Count, value=count)
    if outbox.told:
        metrics.add_metric(name="BatchesParked", unit=MetricUnit.Count, value=outbox.told)
    return {"batchItemFailures": failures}
