"""stripe_events: the worker behind the webhook. Each message is an event of Stripe, or a task of our own."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from tollgate.alerts.outbox import CountedOutbox
from tollgate.settings import StripeEventsSettings
from tollgate.stripe_api.client import connector
from tollgate.stripe_api.reading import Connection
from tollgate.webhooks.dispatch import UNKNOWN, EventDeps, receive
from tollgate.webhooks.inbox import FAILED, InHand
from tollgate.webhooks.wiring import event_deps

logger = Logger()
metrics = Metrics()


@lru_cache(maxsize=1)
def deps() -> EventDeps:
    """Made at the first run; the environment decides."""
    settings = StripeEventsSettings.from_env(os.environ)

    return event_deps(os.environ, settings, Connection(connector(settings.stripe)))


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, list[dict[str, str]]]:
    """SQS records in, `{"batchItemFailures": [...]}` out."""
    outcomes: Counter[str] = Counter()
    parked = CountedOutbox(deps().meters.outbox)  # it is told of every batch that gets parked
    run = replace(deps(), meters=replace(deps().meters, outbox=parked))
    failures = []
    for record in event["Records"]:
        try:
            done = receive(run, record["body"])
        except InHand as busy:
            logger.info("an event is in other hands", reason=str(busy), message_id=record["messageId"])
        except Exception:
            # One event's failure must not repeat the others; SQS repeats this one, and parks it in the end.
            logger.exception("an event was not processed", message_id=record["messageId"])
            outcomes["Failed"] += 1
        else:
            outcomes["Unknown" if done.outcome == UNKNOWN else "Failed" if done.outcome == FAILED else "Processed"] += 1
            if done.outcome in (UNKNOWN, FAILED):
                logger.info("an event was not acted on", outcome=done.outcome, message_id=record["messageId"])
            continue
        failures.append({"itemIdentifier": record["messageId"]})
    for outcome, count in sorted(outcomes.items()):
        metrics.add_metric(name=f"StripeEvents{outcome}", unit=MetricUnit.Count, value=count)
    if parked.told:
        metrics.add_metric(name="BatchesParked", unit=MetricUnit.Count, value=parked.told)
    return {"batchItemFailures": failures}
