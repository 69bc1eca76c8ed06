"""The gate function: reservations and usage, before any money is spent. It never imports `stripe`."""

from __future__ import annotations

from tollgate import cold_start  # first: it keeps the garbage collector out of the start

# isort: split
import os
from typing import Any

from aws_lambda_powertools import Logger

from tollgate import dynamo, secrets, wiring
from tollgate.clock import system_clock
from tollgate.http.dispatch import Api
from tollgate.http.gate_routes import ROUTES, GateApiDeps
from tollgate.http.routing import Router
from tollgate.usage.idempotency_store import IdempotencyTable

TELL_S = 60
"""How often a busy container writes what it counted: a line with each request would cost as much as its log."""
MOST_LIMITS = 50
"""Limits that one line each is written of; CloudWatch bills a metric for each."""

logger = Logger()
counted: dict[tuple[str, str], int] = {}
"""By metric and limit, since it was told last."""
told_at = -TELL_S


def count(name: str, limit: str, number: int) -> None:
    counted[name, limit] = counted.get((name, limit), 0) + number


api = Api(
    Router(ROUTES),
    wiring.keys(os.environ),
    GateApiDeps(
        gate=wiring.gate_deps(os.environ, wiring.rules_table(os.environ), count),
        idempotency=IdempotencyTable(os.environ["TOLLGATE_EVENTS_TABLE"]),
        secret=secrets.read(os.environ["TOLLGATE_SIGNING_SECRET_PARAMETER"]).encode(),
    ),
    logger,
    dynamo.unavailable,
)
# The start has a whole CPU to itself, the first request about a third of one: so the clients are made here.
dynamo.client()
dynamo.client(retry=False)
cold_start.ready()


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    answer = api.answer(event)
    if counted:
        _tell()
    return answer


def _tell() -> None:
    """Write what was counted as metrics: at once after a quiet minute, else once a minute; a trip of the breaker always
    at once. What a container counted in its last minute and no later request tells dies with it."""
    global told_at
    now = system_clock() // 1000
    if 0 <= now - told_at < TELL_S and ("BreakerTrips", "") not in counted:
        return
    from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit  # with the first: the gate starts without

    told_at = now
    metrics = EphemeralMetrics()
    refused: dict[str, int] = {}
    for (name, limit), number in counted.items():
        if name == "Refusals":
            shown = limit if len(refused) < MOST_LIMITS else "others"
            refused[shown] = refused.get(shown, 0) + number
        else:
            metrics.add_metric(name, MetricUnit.Count, number)
    counted.clear()
    if refused:
        metrics.add_metric("Refusals", MetricUnit.Count, sum(refused.values()))
    metrics.flush_metrics()
    for limit, number in refused.items():
        metrics = EphemeralMetrics()
        metrics.add_dimension("limit", limit)
        metrics.add_metric("Refusals", MetricUnit.Count, number)
        metrics.flush_metrics()
