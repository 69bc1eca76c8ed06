"""The thread that carries deliveries to endpoints: signed POSTs, one after another."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from local.stripe_double import checkout_sessions
from local.stripe_double.deliveries import Attempt, Delivery
from local.stripe_double.endpoints import Endpoint
from local.stripe_double.settle import settle

if TYPE_CHECKING:
    from local.stripe_double.state import Double

_logger = logging.getLogger("stripe_double")

LOOK_SECONDS = 0.1
"""How often the clock is looked at: time, real or moved, makes deliveries due without any call."""
TIMEOUT_SECONDS = 20.0


def signature(body: str, secret: str, now: int) -> str:
    """The `Stripe-Signature` header: HMAC-SHA256 of `{t}.{body}` in hex [docs: webhooks, verify manually; SDK:
    WebhookSignature]."""
    signed = hmac.new(secret.encode(), f"{now}.{body}".encode(), hashlib.sha256).hexdigest()
    return f"t={now},v1={signed}"


@contextmanager
def carrying(double: Double) -> Iterator[None]:
    """A courier for this double while the context lasts."""
    courier = _Courier(double)
    thread = threading.Thread(target=courier.run, name="stripe-double-courier", daemon=True)
    thread.start()
    try:
        yield
    finally:
        courier.stop()
        thread.join(TIMEOUT_SECONDS + 1)


class _Courier:
    def __init__(self, double: Double) -> None:
        self._double = double
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True
        self._double.deliveries.wake.set()

    def run(self) -> None:
        while not self._stopped:
            wake = self._double.deliveries.wake
            wake.wait(LOOK_SECONDS)
            wake.clear()
            try:
                self._let_time_pass()
                while not self._stopped and self._one():
                    pass
            except Exception:
                # A mistake of the double's own must not end all delivery in silence.
                _logger.exception("delivering failed")

    def _let_time_pass(self) -> None:
        """What comes with time, not with a call: invoices, reports, sessions that expire."""
        double = self._double
        with double.lock:
            settle(double)
            checkout_sessions.settle(double)
            now_ms = double.clock.now_ms()
            for report in double.error_reports.published(now_ms):
                double.deliveries.thin(report, double.endpoints.all(), now_ms)

    def _one(self) -> bool:
        """Send one delivery; False where there is none to send."""
        double = self._double
        with double.lock:
            now_ms = double.clock.now_ms()
            deliveries = double.deliveries
            delivery = deliveries.next(now_ms)
            if delivery is None:
                return False
            endpoint = double.endpoints.get(delivery.endpoint_id)
            if endpoint is None or not endpoint.enabled:
                deliveries.drop(delivery)
                return True
        # Without the lock: whoever gets the event may ask this very double for more.
        attempt = _post(endpoint, delivery, now_ms)
        with double.lock:
            deliveries.attempted(delivery, attempt)
        return True


def _post(endpoint: Endpoint, delivery: Delivery, now_ms: int) -> Attempt:
    """One POST, straight to the endpoint (no proxy) and without following redirects: those count as failures [docs:
    webhooks]."""
    parts = urlsplit(endpoint.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        "Stripe-Signature": signature(delivery.body, endpoint.secret, now_ms // 1000),
    }
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("POST", path, delivery.body.encode(), headers)
        answer = connection.getresponse()
        answer.read()
        return Attempt(now_ms, answer.status)
    except (OSError, http.client.HTTPException) as problem:
        return Attempt(now_ms, 0, f"{type(problem).__name__}: {problem}")
    finally:
        connection.close()
