"""What the functions read from their environment, checked at their start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tollgate.clock import parse_rfc3339

PRIVATE_WEBHOOKS: Final = "TOLLGATE_PRIVATE_WEBHOOKS"
"""`true`: webhooks may go to private addresses and by plain http. Only the local stack sets it."""


class BadSetting(Exception):
    """An environment variable is missing or makes no sense; the function must not start."""


@dataclass(frozen=True, slots=True)
class SealSettings:
    """seal's environment, beside what `wiring` reads of it."""

    billing_table: str
    flush_queue_url: str
    stripe_events_queue_url: str
    seal_seconds: int
    grace_seconds: int

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> SealSettings:
        """Raises BadSetting."""
        return cls(
            billing_table=text(env, "TOLLGATE_BILLING_TABLE"),
            flush_queue_url=text(env, "TOLLGATE_FLUSH_QUEUE_URL"),
            stripe_events_queue_url=text(env, "TOLLGATE_STRIPE_EVENTS_QUEUE_URL"),
            seal_seconds=seconds(env, "TOLLGATE_SEAL_SECONDS"),
            grace_seconds=seconds(env, "TOLLGATE_SEAL_GRACE_SECONDS"),
        )


@dataclass(frozen=True, slots=True)
class StripeSettings:
    """How a function reaches Stripe: the SSM parameter of the key, and the mode, test or live, that it must be of.
    `api_base`, another address than Stripe's, is set by the local stack only."""

    secret_parameter: str
    mode: str
    api_base: str | None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> StripeSettings:
        """Raises BadSetting."""
        mode = text(env, "TOLLGATE_MODE")
        if mode not in ("test", "live"):
            raise BadSetting(f"TOLLGATE_MODE must be test or live, not {mode!r}")
        parameter = text(env, "TOLLGATE_STRIPE_SECRET_PARAMETER")
        return cls(parameter, mode, env.get("TOLLGATE_STRIPE_API_BASE") or None)


@dataclass(frozen=True, slots=True)
class FlushSettings:
    """flush's environment. `shadow`: nothing is sent. `restored_at`: epoch second at which the stack went on with
    tables that were restored from a backup."""

    billing_table: str
    stack: str
    stripe: StripeSettings
    shadow: bool = False
    restored_at: int | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> FlushSettings:
        """Raises BadSetting."""
        return cls(
            billing_table=text(env, "TOLLGATE_BILLING_TABLE"),
            stack=text(env, "TOLLGATE_STACK"),
            stripe=StripeSettings.from_env(env),
            shadow=switch(env, "TOLLGATE_SHADOW"),
            restored_at=moment(env, "TOLLGATE_RESTORED_AT"),
        )


@dataclass(frozen=True, slots=True)
class StripeEventsSettings:
    """stripe_events' environment, beside what `wiring` reads of it."""

    billing_table: str
    stack: str
    stripe: StripeSettings

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> StripeEventsSettings:
        """Raises BadSetting."""
        return cls(
            billing_table=text(env, "TOLLGATE_BILLING_TABLE"),
            stack=text(env, "TOLLGATE_STACK"),
            stripe=StripeSettings.from_env(env),
        )


@dataclass(frozen=True, slots=True)
class BillingSettings:
    """The billing function's environment, beside what `wiring` reads of it."""

    accounts_table: str
    billing_table: str
    stack: str
    stripe: StripeSettings

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> BillingSettings:
        """Raises BadSetting."""
        return cls(
            accounts_table=text(env, "TOLLGATE_ACCOUNTS_TABLE"),
            billing_table=text(env, "TOLLGATE_BILLING_TABLE"),
            stack=text(env, "TOLLGATE_STACK"),
            stripe=StripeSettings.from_env(env),
        )


def moment(env: Mapping[str, str], name: str) -> int | None:
    """A variable that is a time as in 2026-11-21T12:00:00Z, in epoch seconds; absent or empty: None. Raises
    BadSetting."""
    value = env.get(name)
    if not value:
        return None
    try:
        return parse_rfc3339(value) // 1000
    except ValueError as error:
        raise BadSetting(f"{name} must be a time as in 2026-11-21T12:00:00Z, not {value!r}") from error


def switch(env: Mapping[str, str], name: str) -> bool:
    """A variable that is `true` or `false`; absent: false. Raises BadSetting: a typing error must not start to send."""
    value = env.get(name, "false")
    if value not in ("true", "false"):
        raise BadSetting(f"{name} must be true or false, not {value!r}")
    return value == "true"


@dataclass(frozen=True, slots=True)
class ReconcileSettings:
    """reconcile's environment."""

    billing_table: str
    queue_url: str
    stack: str
    stripe: StripeSettings
    stripe_reads: int
    """GETs that reconciliation may use in a month."""
    seal_seconds: int
    grace_seconds: int

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> ReconcileSettings:
        """Raises BadSetting."""
        return cls(
            billing_table=text(env, "TOLLGATE_BILLING_TABLE"),
            queue_url=text(env, "TOLLGATE_RECONCILE_QUEUE_URL"),
            stack=text(env, "TOLLGATE_STACK"),
            stripe=StripeSettings.from_env(env),
            stripe_reads=whole(env, "TOLLGATE_STRIPE_READS_MONTHLY", least=1),
            seal_seconds=seconds(env, "TOLLGATE_SEAL_SECONDS"),
            grace_seconds=seconds(env, "TOLLGATE_SEAL_GRACE_SECONDS"),
        )


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """notify's environment. `private_webhooks`: set by the local stack only, where receivers are on this machine."""

    billing_table: str
    accounts_table: str
    config_table: str
    stack: str
    bus: str
    secrets_parameter: str
    private_webhooks: bool
    api_url: str

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> NotifySettings:
        """Raises BadSetting."""
        return cls(
            billing_table=text(env, "TOLLGATE_BILLING_TABLE"),
            accounts_table=text(env, "TOLLGATE_ACCOUNTS_TABLE"),
            config_table=text(env, "TOLLGATE_CONFIG_TABLE"),
            stack=text(env, "TOLLGATE_STACK"),
            bus=text(env, "TOLLGATE_NOTIFY_BUS"),
            secrets_parameter=text(env, "TOLLGATE_NOTIFY_SECRETS_PARAMETER"),
            private_webhooks=switch(env, PRIVATE_WEBHOOKS),
            api_url=text(env, "TOLLGATE_API_URL"),
        )


def text(env: Mapping[str, str], name: str) -> str:
    """A variable that must be set. Raises BadSetting."""
    value = env.get(name, "")
    if not value:
        raise BadSetting(f"{name} is not set")
    return value


def seconds(env: Mapping[str, str], name: str) -> int:
    """A variable that must hold a whole number of seconds, at least 1. Raises BadSetting."""
    value = text(env, name)
    if not (value.isascii() and value.isdecimal() and int(value) >= 1):
        raise BadSetting(f"{name} must be a whole number of seconds, at least 1, not {value!r}")
    return int(value)


def whole(env: Mapping[str, str], name: str, least: int = 0) -> int:
    """A variable that must hold a whole number, at least `least`. Raises BadSetting."""
    value = text(env, name)
    if not (value.isascii() and value.isdecimal() and int(value) >= least):
        raise BadSetting(f"{name} must be a whole number, at least {least}, not {value!r}")
    return int(value)
