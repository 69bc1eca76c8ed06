"""The manage function: accounts, usage, events, keys, plans; also the HTTP API's `$default` route (our 404)."""

from __future__ import annotations

import os
from typing import Any

from aws_lambda_powertools import Logger
from tollgate import wiring
from tollgate.http.dispatch import Api
from tollgate.http.manage_routes import ROUTES, ManageApiDeps
from tollgate.http.openapi import document_text
from tollgate.http.routing import Router
from tollgate.usage.idempotency_store import IdempotencyTable

logger = Logger()
keys = wiring.keys(os.environ)
api = Api(
    Router(ROUTES),
    keys,
    ManageApiDeps(
        accounts=wiring.account_deps(os.environ),
        events=wiring.event_table(os.environ),
        keys=keys,
        idempotency=IdempotencyTable(os.environ["TOLLGATE_ACCOUNTS_TABLE"]),
        mode=os.environ["TOLLGATE_MODE"],
        openapi=document_text,
        customer_mapped=lambda rules: None,
    ),
    logger,
)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    return api.answer(event)
