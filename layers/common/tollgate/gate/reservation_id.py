"""The reservation id: opaque and signed. It carries all that a late commit needs, so nothing is stored for it.

`rsv_` + base64url(first 16 bytes of HMAC-SHA256 + JSON, deflated where it is long). A forged, cut or foreign id is no
reservation (404).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import zlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from tollgate.accounts.rules import Item
from tollgate.errors import ReservationTooLarge, UnknownReservation
from tollgate.gate.hold import HoldFormatError, unpack
from tollgate.gate.limits import Taken
from tollgate.quantities import plain

PREFIX = "rsv_"
MAX_LENGTH = 7000
"""API Gateway takes 10,240 bytes of request line and headers together; the id travels in the path."""
_MAC = 16
_SHORT = 512
"""Up to so many bytes of JSON deflating saves less than it costs."""
_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class Reservation(NamedTuple):
    """What a reservation id says. `holds`: packed, by subject kind, as they stood when the id was given out."""

    account: str
    member: str | None
    key: str
    holds: Mapping[str, bytes]
    floor_ms: int
    items: Sequence[Item]
    taken: Sequence[Taken] = ()
    """Of limits that accounts share, so that it can be given back."""

    @property
    def incarnations(self) -> dict[str, bytes]:
        return {per: unpack(raw).incarnation for per, raw in self.holds.items()}


def encode(reservation: Reservation, secret: bytes) -> str:
    """Raises ReservationTooLarge where the dimensions do not fit a URL. What was taken of shared limits is left out
    where only that does not fit: then it is not given back."""
    text = _encoded(reservation, secret)
    if len(text) > MAX_LENGTH and reservation.taken:
        text = _encoded(reservation._replace(taken=()), secret)
    if len(text) > MAX_LENGTH:
        raise ReservationTooLarge
    return text


def _encoded(reservation: Reservation, secret: bytes) -> str:
    body: list[Any] = [
        reservation.account,
        reservation.member,
        reservation.key,
        {per: base64.b64encode(raw).decode() for per, raw in reservation.holds.items()},
        reservation.floor_ms,
        [[item.meter, plain(item.quantity), plain(item.units), dict(item.dimensions)] for item in reservation.items],
    ]
    if reservation.taken:
        body.append(
            [
                [one.base, one.window, one.ends, [[shard, plain(units)] for shard, units in one.pieces]]
                for one in reservation.taken
            ]
        )
    packed = _JSON.encode(body).encode()
    if len(packed) > _SHORT:
        packed = zlib.compress(packed, 6)
    return PREFIX + base64.urlsafe_b64encode(_mac(packed, secret) + packed).decode().rstrip("=")


def decode(text: str, secret: bytes) -> Reservation:
    """Raises UnknownReservation for anything that this stack did not sign."""
    if not text.startswith(PREFIX) or len(text) > MAX_LENGTH:
        raise UnknownReservation
    coded = text[len(PREFIX) :]
    try:
        raw = base64.b64decode(coded + "=" * (-len(coded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise UnknownReservation from None
    if base64.urlsafe_b64encode(raw).decode().rstrip("=") != coded:
        raise UnknownReservation
    mac, packed = raw[:_MAC], raw[_MAC:]
    if not hmac.compare_digest(mac, _mac(packed, secret)):
        raise UnknownReservation
    try:
        body = packed if packed.startswith(b"[") else zlib.decompress(packed)
        account, member, key, holds, floor_ms, items, *more = json.loads(body)
        return Reservation(
            account,
            member,
            key,
            {per: base64.b64decode(packed_hold) for per, packed_hold in holds.items()},
            floor_ms,
            tuple(Item(meter, Decimal(quantity), Decimal(units), dims) for meter, quantity, units, dims in items),
            tuple(
                Taken(base, window, ends, tuple((shard, Decimal(units)) for shard, units in pieces))
                for base, window, ends, pieces in (more[0] if more else ())
            ),
        )
    except (ValueError, zlib.error, HoldFormatError):
        raise UnknownReservation from None  # signed by an older format


def _mac(packed: bytes, secret: bytes) -> bytes:
    keyed = _keyed(secret).copy()
    keyed.update(packed)
    return keyed.digest()[:_MAC]


@lru_cache(maxsize=4)
def _keyed(secret: bytes) -> hmac.HMAC:
    return hmac.new(secret, digestmod="sha256")
