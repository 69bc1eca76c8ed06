"""Sends a message on a channel: which words, by which outlet, to whom."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formataddr, parseaddr
from typing import Any, Final

from tollgate.clock import Clock
from tollgate.notify.channels import BUS, CUSTOMERS, EMAIL, SLACK, Channel, Settings, Smtp, is_address
from tollgate.notify.letter import Letter, NoReceiver, NotDelivered
from tollgate.notify.signing import headers
from tollgate.notify.templates import Mail, addressed, for_customer, for_operator, for_program, for_slack

SLACK_SECRET: Final = "slack_url"
SMTP_SECRET: Final = "smtp_password"


@dataclass(frozen=True, slots=True)
class Outlets:
    """The ways out, each raising NotDelivered. `secrets`: those of the stack's notify parameter; `address_of`: an
    account's email, None where it has none; `post`: url, body, headers."""

    ses: Callable[[str, Sequence[str], Mail, str], None]
    smtp: Callable[[Smtp, str | None, tuple[str, str], Sequence[str], Mail, str, int], None]
    bus: Callable[[str, str, int], None]
    post: Callable[[str, bytes, Mapping[str, str]], None]
    secrets: Callable[[], Mapping[str, str]]
    address_of: Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends messages of one run. `stack`: what the operator's messages call it. `api`: the API's address, for links."""

    settings: Settings
    outlets: Outlets
    stack: str
    clock: Clock
    api: str

    def __call__(self, channel: Channel, letter: Letter) -> None:
        """Raises NotDelivered; NoReceiver where there is nobody to send it to."""
        letter = addressed(letter, self.api)
        if channel.name == EMAIL:
            self._mail(channel.to, for_operator(letter, self.stack), letter)
        elif channel.name == CUSTOMERS:
            address = self.outlets.address_of(letter.account)
            if address is None or not is_address(address):
                raise NoReceiver("the account has no email address")
            self._mail((address,), for_customer(letter, self.settings.product), letter)
        elif channel.name == SLACK:
            body = json.dumps(for_slack(letter, self.stack)).encode()
            self.outlets.post(self._secret(SLACK_SECRET), body, {"Content-Type": "application/json"})
        elif channel.name == BUS:
            self.outlets.bus(letter.kind, for_program(letter), self.clock() // 1000)
        else:
            body = for_program(letter).encode()
            signed: dict[str, Any] = headers(letter.id, self.clock() // 1000, body, channel.secrets)
            self.outlets.post(channel.to[0], body, signed)

    def _mail(self, to: Sequence[str], mail: Mail, letter: Letter) -> None:
        settings = self.settings
        if settings.sender is None:
            raise NotDelivered("no sender is set: tollgate notify mail --from")
        if settings.smtp is None:
            self.outlets.ses(settings.sender, to, mail, letter.id)
            return
        password = None if settings.smtp.user is None else self._secret(SMTP_SECRET)
        sender = parseaddr(settings.sender)
        self.outlets.smtp(settings.smtp, password, sender, to, mail, letter.id, self.clock() // 1000)

    def _secret(self, name: str) -> str:
        found = self.outlets.secrets().get(name)
        if found is None:
            raise NotDelivered(f"the secret {name} is not set: tollgate notify secret")
        return found


def sender_of(text: str) -> str | None:
    """A From header: `Name <a@b.c>` or an address; None where it is neither."""
    name, address = parseaddr(text)
    return formataddr((name, address)) if is_address(address) else None
