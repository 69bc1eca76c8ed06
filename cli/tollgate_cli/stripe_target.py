"""Which Stripe account a command talks to, and with which key: always of the stack's own mode."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import stripe

from tollgate import secrets
from tollgate.errors import WrongStripeKey
from tollgate.stripe_api.client import client
from tollgate.stripe_api.key import of_mode
from tollgate.stripe_api.reading import Connection
from tollgate_cli.output import WRONG, fail
from tollgate_cli.target import DEFAULT_PORT, Target

LOCAL_KEY: Final = "sk_test_local"
"""What the local stack's Stripe double is called with; any other test key means Stripe's own sandbox."""


@dataclass(frozen=True, slots=True)
class StripeTarget:
    """Stripe within reach. `where`: for people; `api_base`: None for Stripe itself."""

    connection: Connection
    mode: str
    where: str
    api_base: str | None


def key_parameter(stack: str) -> str:
    """The SSM parameter of a deployed stack's Stripe key, as template.yaml has it."""
    return f"/tollgate/{stack}/stripe-secret-key"


def stripe_of(target: Target, before: Callable[[], None] = lambda: None) -> StripeTarget:
    """As `stripe_at`; ends the command (exit code 2) for a key of the other mode."""
    try:
        return stripe_at(target, before)
    except WrongStripeKey as wrong:
        fail(wrong.detail, WRONG)


def stripe_at(target: Target, before: Callable[[], None] = lambda: None) -> StripeTarget:
    """Stripe as a stack uses it. STRIPE_SECRET_KEY in the environment comes before the stack's own key, which may be a
    restricted one that may not do what an operator does. `before` is called before each request. Raises
    WrongStripeKey."""
    key = os.environ.get("STRIPE_SECRET_KEY", "")
    found_in = "STRIPE_SECRET_KEY"
    if not key:
        found_in = "the local key" if target.local else key_parameter(target.name)
        key = LOCAL_KEY if target.local else secrets.read(found_in)
    of_mode(key, target.mode, found_in)
    base = _api_base(target, key)

    def connect() -> stripe.StripeClient:
        return client(key, base)

    return StripeTarget(Connection(connect, before=before), target.mode, base or f"Stripe, {target.mode} mode", base)


def _api_base(target: Target, key: str) -> str | None:
    """Another address than Stripe's: the local stack's double, unless a key of a real sandbox is given."""
    if not target.local:
        return None  # a deployed stack has no other Stripe; a leftover variable of a local one must not divert a key
    if said := os.environ.get("TOLLGATE_STRIPE_API_BASE"):
        return said
    if key != LOCAL_KEY:
        return None
    return f"http://127.0.0.1:{int(os.environ.get('TOLLGATE_PORT', str(DEFAULT_PORT))) + 1}"
