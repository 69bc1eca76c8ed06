"""Alerts: what an operator or a customer must be told. They wait in the outbox until `tollgate/notify` delivers them.

The same trouble is one alert: its id is made of what the trouble is, and the outbox takes an id once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol

from tollgate.clock import rfc3339_ms

Audience = Literal["operator", "customer", "both"]
SHOWN: Final = ("meter", "limit", "window", "threshold", "resets_at")
"""Facts that a customer sees, too; all others are the operator's."""


class Words(NamedTuple):
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Alert:
    """One message. `id` is stable for the same trouble; `at_ms` is when the trouble began (epoch milliseconds)."""

    id: str
    kind: str
    account: str
    subject: str
    text: str
    at_ms: int
    facts: Mapping[str, str] = field(default_factory=dict)
    """What a program may want to know besides: meter, reason, batch."""
    audience: Audience = "operator"
    """Whom it concerns. Whatever has the customer among it is also listed for the account's own app to show."""
    customer: Words | None = None
    """What the customer reads, where that is not `subject` and `text`."""
    guarded_until: int = 0
    """Epoch second until which the same trouble may be met again, where that is longer than the outbox remembers."""

    def __post_init__(self) -> None:
        if self.for_customer and not self.account:
            raise ValueError(f"{self.id} is for a customer, and names no account")

    @property
    def for_customer(self) -> bool:
        return self.audience != "operator"

    @property
    def to_customer(self) -> Words:
        return self.customer or Words(self.subject, self.text)

    @property
    def shown(self) -> dict[str, str]:
        """The facts that a customer may see."""
        return {name: self.facts[name] for name in SHOWN if name in self.facts}

    def message(self) -> str:
        """The message as JSON: `{id, kind, account, audience, subject, text, at, customer?, ...facts}`."""
        return json.dumps(
            {
                **self.facts,
                **({} if self.customer is None else {"customer": self.customer._asdict()}),
                "audience": self.audience,
                "id": self.id,
                "kind": self.kind,
                "account": self.account,
                "subject": self.subject,
                "text": self.text,
                "at": rfc3339_ms(self.at_ms),
            },
            ensure_ascii=False,
            sort_keys=True,
        )


def message_id(put_ms: int, alert_id: str) -> str:
    """A message's name on every channel and each time that it is sent; by name, messages stand in order of putting."""
    return f"msg_{put_ms:013d}{hashlib.sha256(alert_id.encode()).hexdigest()[:20]}"


class Outbox(Protocol):
    def put(self, alert: Alert) -> bool:
        """Put an alert, once for each id. Returns whether it is new."""


class CountedOutbox:
    """An outbox that counts what it is told in one run."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.told = 0
        """Also what is not new: one alert speaks for all batches of a day that have the same trouble."""

    def put(self, alert: Alert) -> bool:
        new = self._outbox.put(alert)
        self.told += 1
        return new
