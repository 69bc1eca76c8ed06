"""The gate function: reservations and usage, before any money is spent. It never imports `stripe`."""

from __future__ import annotations

from tollgate import cold_start  # first: it keeps the garbage collector out of the start

# isort: split
import os
from typing import Any

from aws_lambda_powertools import Logger

from tollgate import dynamo, secrets, wiring
from tollgate.http.dispatch import Api
from tollgate.http.gate_routes import ROUTES, GateApiDeps
from tollgate.http.routing import Router
from tollgate.usage.idempotency_store import IdempotencyTable

logger = Logger()
api = Api(
    Router(ROUTES),
    wiring.keys(os.environ),
    GateApiDeps(
        gate=wiring.gate_deps(os.environ, wiring.rules_table(os.environ)),
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
    return api.answer(event)
