"""What arrives from Stripe: verified over the bytes as sent, and put on the queue as they are."""

from __future__ import annotations

import re
from typing import Final, Protocol

from tollgate.errors import BodyTooLarge, MalformedBody
from tollgate.webhooks.keyring import Keyring

MAX_BYTES: Final = 200_000
"""Largest delivery taken. Stripe's events are a few KB, those of long invoices tens of KB; SQS takes 256 KB."""
_NOT_FOR_SQS = re.compile("[\ufffe\uffff]")
"""Valid in UTF-8 and in JSON, but SQS takes the characters of XML only. In JSON they can stand in a string alone."""


class RawQueue(Protocol):
    def send(self, body: str) -> None: ...


def accept(keyring: Keyring, queue: RawQueue, raw: bytes, signature: str) -> None:
    """Queue a delivery. Once this returns it is ours: only then Stripe is told so.

    Nothing is kept of one that is refused. A delivery that is queued and whose 2xx is lost comes again: the inbox knows
    its id. Raises BodyTooLarge, BadSignature, MalformedBody, and what the queue and the secrets' source raise.
    """
    if len(raw) > MAX_BYTES:
        raise BodyTooLarge(MAX_BYTES)
    keyring.check(raw, signature)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedBody("The body is not UTF-8.") from error
    queue.send(_NOT_FOR_SQS.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
