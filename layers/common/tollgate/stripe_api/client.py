"""The one place that makes Stripe clients, and that names the API version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import stripe

from tollgate import secrets
from tollgate.settings import StripeSettings
from tollgate.stripe_api.key import of_mode

STRIPE_VERSION: Final = "2026-10-28.endive"
"""The API version that everything here was written for; the one place that names it."""
CONNECT_TIMEOUT_S: Final = 3
READ_TIMEOUT_MS: Final = 10_000


def client(secret_key: str, api_base: str | None = None, read_timeout_ms: int = READ_TIMEOUT_MS) -> stripe.StripeClient:
    """A client whose every call is one attempt. `api_base`: another address than Stripe's (the local stack)."""
    return stripe.StripeClient(
        secret_key,
        stripe_version=STRIPE_VERSION,
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=(CONNECT_TIMEOUT_S, read_timeout_ms / 1000)),
        base_addresses={"api": api_base, "meter_events": api_base} if api_base else {},
    )


def connector(settings: StripeSettings, read_timeout_ms: int = READ_TIMEOUT_MS) -> Callable[[], stripe.StripeClient]:
    """Makes a function's clients, each with the key as it is stored then: asked for at the first call and after a 401,
    as the key may have been rotated. The key is looked at here already: a function whose key is of the other mode must
    not start. Both raise WrongStripeKey, and ClientError where there is no such parameter."""

    def key() -> str:
        secrets.read.cache_clear()
        return of_mode(secrets.read(settings.secret_parameter), settings.mode, settings.secret_parameter)

    key()
    return lambda: client(key(), settings.api_base, read_timeout_ms)
