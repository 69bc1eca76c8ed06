"""stripe_webhook: Stripe delivers here (Lambda function URL, payload 2.0). Verify, queue, answer.

The work is the worker's (`stripe_events`).

Answers 202 once the delivery is queued, 400 for a signature that does not fit, 405, 413; anything that raises is a 502,
and Stripe delivers again.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from typing import Any

from aws_lambda_powertools import Logger

from tollgate import secrets
from tollgate.clock import system_clock
from tollgate.errors import MalformedBody, MethodNotAllowed, TollgateError
from tollgate.settings import text
from tollgate.webhooks.ingress import accept
from tollgate.webhooks.keyring import Keyring
from tollgate.webhooks.queue_store import StripeEventsQueue

logger = Logger()

_PARAMETER = text(os.environ, "TOLLGATE_WEBHOOK_SECRETS_PARAMETER")
queue = StripeEventsQueue(text(os.environ, "TOLLGATE_STRIPE_EVENTS_QUEUE_URL"))


def _stored() -> str:
    secrets.read.cache_clear()  # the keyring decides how long a value is kept
    return secrets.read(_PARAMETER)


keyring = Keyring(_stored, system_clock)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """A delivery in, an empty 202 out."""
    try:
        if event["requestContext"]["http"]["method"] != "POST":
            raise MethodNotAllowed("Deliveries are sent with POST.")
        accept(keyring, queue, _raw(event), event["headers"].get("stripe-signature", ""))
    except TollgateError as refused:
        request_id = event["requestContext"].get("requestId", "")
        reason = getattr(refused, "reason", None)
        logger.info("a delivery was refused", code=refused.code, reason=reason, request_id=request_id)
        problem = {"status": refused.status, "code": refused.code, "title": refused.title, "detail": refused.detail}
        headers = {"content-type": "application/problem+json"}
        if isinstance(refused, MethodNotAllowed):
            headers["allow"] = "POST"
        return {
            "statusCode": refused.status,
            "headers": headers,
            "body": json.dumps({"type": "about:blank", **problem}),
        }
    return {"statusCode": 202, "headers": {"content-type": "text/plain"}, "body": ""}


def _raw(event: dict[str, Any]) -> bytes:
    """The body's bytes as they were sent."""
    body: str = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return body.encode()
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise MalformedBody("The body is not base64.") from error
