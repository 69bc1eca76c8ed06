"""Channels: where messages go, which of them, and when not. Pure; `channel_store` keeps them.

email      to the operator's addresses                     what concerns the operator
slack      an incoming webhook (its URL is a secret)        what concerns the operator
bus        the stack's EventBridge bus                      everything
customers  by email, to the account's own address           what concerns the customer
whe_…      signed webhooks, made with /v1/webhook_endpoints everything
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

from tollgate.notify.letter import Letter
from tollgate.windows import UnknownTimezone, zone

EMAIL, SLACK, BUS, CUSTOMERS = "email", "slack", "bus", "customers"
NAMED: Final = (EMAIL, SLACK, BUS, CUSTOMERS)
CRITICAL: Final = ("breaker*",)
"""Kinds that no quiet hours and no limit holds back, unless the settings name others."""
MOST_PER_HOUR: Final = 10_000
MOST_ADDRESSES: Final = 50
"""SES refuses a message to more."""
_ADDRESS: Final = re.compile(r'[^@\s,;<>"()\\]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?', re.ASCII)
_PATTERN: Final = re.compile(r"[a-z0-9_.*?-]{1,64}", re.ASCII)
_HOURS: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


class WrongChannel(Exception):
    """Settings that make no sense; the text says what is wanted."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """Hours of the day, minutes since midnight in a timezone; they may pass midnight."""

    start: int
    end: int
    timezone: str

    @classmethod
    def parse(cls, text: str, timezone: str) -> Quiet:
        """`22:00-07:00`. Raises WrongChannel."""
        found = _HOURS.fullmatch(text)
        if found is None:
            raise WrongChannel(f"quiet hours are written 22:00-07:00, not {text!r}")
        try:
            zone(timezone)
        except UnknownTimezone as error:
            raise WrongChannel(error.detail) from None
        start, end = (int(found[n]) * 60 + int(found[n + 1]) for n in (1, 3))
        if start == end:
            raise WrongChannel("quiet hours that begin when they end are none")
        return cls(start, end, timezone)

    @property
    def text(self) -> str:
        return "-".join(f"{one // 60:02d}:{one % 60:02d}" for one in (self.start, self.end))

    def until(self, now: int) -> int | None:
        """The end of the quiet hours that `now` (epoch s) lies in; None outside of them."""
        place = zone(self.timezone)
        local = datetime.fromtimestamp(now, UTC).astimezone(place)
        minute = local.hour * 60 + local.minute
        inside = self.start <= minute < self.end if self.start < self.end else not self.end <= minute < self.start
        if not inside:
            return None
        day = local.date() + timedelta(days=1 if minute >= self.end else 0)
        ends = datetime(day.year, day.month, day.day, self.end // 60, self.end % 60, tzinfo=place)
        # Where clocks go back, the end may be an hour that came already: then it has come.
        return at if (at := int(ends.timestamp())) > now else now + 60


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel. `to`: addresses, or the URL of a webhook; `secrets`: what it is signed with, newest first."""

    name: str
    to: tuple[str, ...] = ()
    events: tuple[str, ...] = ("*",)
    quiet: Quiet | None = None
    per_hour: int | None = None
    secrets: tuple[str, ...] = ()

    def wants(self, letter: Letter) -> bool:
        if self.name == CUSTOMERS and letter.audience == "operator":
            return False
        if self.name in (EMAIL, SLACK) and letter.audience == "customer":
            return False
        return any(fnmatchcase(letter.kind, pattern) for pattern in self.events)

    def counted_as(self, letter: Letter) -> str:
        """What its limit an hour counts: each customer's messages apart."""
        return f"{self.name}#{letter.account}" if self.name == CUSTOMERS else self.name


@dataclass(frozen=True, slots=True)
class Smtp:
    """A mail server. `security`: `tls` from the first byte, `starttls`, or `none`. With a user, its password is in the
    secrets."""

    host: str
    port: int
    security: str = "starttls"
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """All channels. `sender`: where mail comes from; without `smtp` it goes by SES. `product`: what customers know."""

    channels: Mapping[str, Channel] = field(default_factory=dict)
    sender: str | None = None
    product: str = "Tollgate"
    smtp: Smtp | None = None
    critical: tuple[str, ...] = CRITICAL

    def is_critical(self, kind: str) -> bool:
        return any(fnmatchcase(kind, pattern) for pattern in self.critical)


def is_address(text: str) -> bool:
    """Whether mail can be sent there: one address, nothing that ends a header or begins another."""
    return _ADDRESS.fullmatch(text) is not None


def check_channel(channel: Channel) -> Channel:
    """Raises WrongChannel."""
    if channel.name not in NAMED:
        raise WrongChannel(f"{channel.name!r} is no channel; there are {', '.join(NAMED)}, and webhook endpoints")
    if channel.name == EMAIL and not channel.to:
        raise WrongChannel("email needs an address")
    if channel.name != EMAIL and channel.to:
        raise WrongChannel(f"{channel.name} takes no address")
    if len(channel.to) > MOST_ADDRESSES:
        raise WrongChannel(f"a message goes to {MOST_ADDRESSES} addresses at most")
    for address in channel.to:
        if not is_address(address):
            raise WrongChannel(f"{address!r} is no email address")
    for pattern in channel.events:
        if not _PATTERN.fullmatch(pattern):
            raise WrongChannel(f"{pattern!r} is no kind of message, nor a pattern such as breaker*")
    if channel.per_hour is not None and not 1 <= channel.per_hour <= MOST_PER_HOUR:
        raise WrongChannel(f"a limit is 1 to {MOST_PER_HOUR} messages an hour")
    return channel


def settings_fields(settings: Settings) -> dict[str, Any]:
    """The settings as plain values, without webhook endpoints: those have rows of their own."""
    smtp = settings.smtp
    return {
        "product": settings.product,
        "sender": settings.sender,
        "smtp": None if smtp is None else [smtp.host, smtp.port, smtp.security, smtp.user],
        "critical": list(settings.critical),
        "channels": {
            name: {
                "to": list(one.to),
                "events": list(one.events),
                "quiet": None if one.quiet is None else [one.quiet.text, one.quiet.timezone],
                "per_hour": one.per_hour,
            }
            for name, one in settings.channels.items()
            if name in NAMED
        },
    }


def settings_of(fields: Mapping[str, Any]) -> Settings:
    smtp = fields["smtp"]
    return Settings(
        channels={
            name: Channel(
                name,
                tuple(one["to"]),
                tuple(one["events"]),
                None if one["quiet"] is None else Quiet.parse(*one["quiet"]),
                None if one["per_hour"] is None else int(one["per_hour"]),
            )
            for name, one in fields["channels"].items()
        },
        sender=fields["sender"],
        product=fields["product"],
        smtp=None if smtp is None else Smtp(smtp[0], int(smtp[1]), smtp[2], smtp[3]),
        critical=tuple(fields["critical"]),
    )
