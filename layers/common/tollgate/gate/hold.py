"""The packed hold: what a gate keeps for one open reservation, in about 50 bytes (`make bench` prints them).

A write costs one unit per started KB of the gate, so a hold is packed: a head (format, incarnation, expiry, body
fingerprint, origin of the key), an optional mark (member gates), an optional range of ids (holds of `POST /v1/usage`),
then one entry for each group of units: meter, amount, and its counters as the bits of one number. How its units are
paid for follows: nothing where no meter of it is, one bit where all of them are paid whole, else part by part.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from tollgate.accounts.rules import ONE_PER_RESERVATION, Group, by_slot
from tollgate.ids import uuid7_ms
from tollgate.quantities import EXACT, plain

_MARKED = 0x01
_TOKEN = 0x02
_KEYED = 0x04
_PAID_WHOLE = 0x08
_FORMAT = 0x10
_PARTS = 254
"""In the place of a meter slot: parts follow, not groups."""
PAID, WAIVED = -1, -2
"""Sources of a part beside the grants, which are named by their numbers."""
_EXPONENT_BIAS = 64


class HoldFormatError(ValueError):
    """The bytes are no hold of a known format."""


class Part(NamedTuple):
    """Units of a meter and who pays for them: PAID (on the meter's paid position), WAIVED, or a grant's number."""

    meter_slot: int
    source: int
    units: Decimal


class Hold(NamedTuple):
    """One open hold. Two holds are the same only if all their bytes are: writes that end a hold assert them."""

    incarnation: bytes
    """UUIDv7 of the reserve write that made it; renewals and extensions keep it."""
    expires_at: int
    """Epoch seconds."""
    origin_ms: int
    """Origin time of the outcome key: the time inside a UUIDv7 key, else of the first incarnation."""
    fingerprint: bytes
    """4 bytes of the request's digest: a retry has the same, another body does not."""
    groups: tuple[Group, ...]
    mark: bytes = b""
    """Nonce of the latest attempt (member gates only): only its holder may drop the hold after a wider refusal."""
    id_range: tuple[int, int] | None = None
    """Holds of usage batches: first and last origin (ms) of the rows that may carry this hold's key as their token."""
    keyed: bool = True
    """Whether the origin comes from the key itself (UUIDv7); otherwise the dedupe row has the last word."""
    parts: tuple[Part, ...] = ()
    """By meter, in the order in which its units are used up; only ever appended to while the incarnation lasts, so
    that a reservation id with an older hold says the same of the units that it knows. Empty for unfunded meters."""

    def units(self) -> dict[int, Decimal]:
        """Reserved units by counter slot."""
        return by_slot(self.groups)

    def pack(self) -> bytes:
        whole = bool(self.parts) and self.parts == paid_whole(self.groups)
        flags = (_MARKED if self.mark else 0) | (_TOKEN if self.id_range else 0) | (_KEYED if self.keyed else 0)
        flags |= _PAID_WHOLE if whole else 0
        out = bytearray([_FORMAT | flags])
        out += self.incarnation
        out += self.expires_at.to_bytes(5, "big")
        out += self.fingerprint
        _put_varint(out, _zigzag(uuid7_ms(self.incarnation) - self.origin_ms))
        out += self.mark
        if self.id_range:
            out += self.id_range[0].to_bytes(6, "big") + self.id_range[1].to_bytes(6, "big")
        for group in self.groups:
            mantissa, exponent = _scaled(group.units)
            out.append(group.meter_slot)
            out.append(exponent + _EXPONENT_BIAS)
            _put_varint(out, mantissa)
            mask = 0
            for slot in group.slots:
                mask |= 1 << slot
            _put_varint(out, mask)
        if self.parts and not whole:
            out.append(_PARTS)
            for part in self.parts:
                mantissa, exponent = _scaled(part.units)
                out.append(part.meter_slot)
                _put_varint(out, _zigzag(part.source))
                out.append(exponent + _EXPONENT_BIAS)
                _put_varint(out, mantissa)
        return bytes(out)


def unpack(raw: bytes) -> Hold:
    """The hold in `raw`. Raises HoldFormatError."""
    if len(raw) < 27 or raw[0] & 0xF0 != _FORMAT:
        raise HoldFormatError("unknown hold format")
    flags = raw[0]
    incarnation, expires_at, fingerprint = raw[1:17], int.from_bytes(raw[17:22], "big"), raw[22:26]
    delta, at = _take_varint(raw, 26)
    mark = b""
    if flags & _MARKED:
        mark, at = raw[at : at + 4], at + 4
    id_range = None
    if flags & _TOKEN:
        id_range = (int.from_bytes(raw[at : at + 6], "big"), int.from_bytes(raw[at + 6 : at + 12], "big"))
        at += 12
    groups = []
    while at < len(raw) and raw[at] != _PARTS:
        meter_slot, exponent = raw[at], raw[at + 1] - _EXPONENT_BIAS
        mantissa, at = _take_varint(raw, at + 2)
        mask, at = _take_varint(raw, at)
        slots = tuple(slot for slot in range(mask.bit_length()) if mask >> slot & 1)
        groups.append(Group(meter_slot, Decimal(mantissa).scaleb(exponent, EXACT), slots))
    parts = []
    at += 1
    while at < len(raw):
        meter_slot = raw[at]
        source, at = _take_varint(raw, at + 1)
        exponent = raw[at] - _EXPONENT_BIAS
        mantissa, at = _take_varint(raw, at + 1)
        parts.append(Part(meter_slot, _unzigzag(source), Decimal(mantissa).scaleb(exponent, EXACT)))
    return Hold(
        incarnation=incarnation,
        expires_at=expires_at,
        origin_ms=uuid7_ms(incarnation) - _unzigzag(delta),
        fingerprint=fingerprint,
        groups=tuple(groups),
        mark=mark,
        id_range=id_range,
        keyed=bool(flags & _KEYED),
        parts=paid_whole(groups) if flags & _PAID_WHOLE else tuple(parts),
    )


def meter_units(groups: Iterable[Group]) -> dict[int, Decimal]:
    """Units by meter slot, open reservations aside."""
    totals: dict[int, Decimal] = {}
    for group in groups:
        if group.meter_slot != ONE_PER_RESERVATION:
            known = totals.get(group.meter_slot)
            totals[group.meter_slot] = group.units if known is None else known + group.units
    return totals


def paid_whole(groups: Iterable[Group]) -> tuple[Part, ...]:
    """The parts of a hold that is paid for, meter by meter, without credits."""
    return tuple(Part(meter, PAID, units) for meter, units in sorted(meter_units(groups).items()) if units)


def incarnation_of(raw: bytes) -> bytes:
    """The incarnation alone, without unpacking the rest."""
    return raw[1:17]


def expiry_of(raw: bytes) -> int:
    """The expiry alone, in epoch seconds."""
    return int.from_bytes(raw[17:22], "big")


def _scaled(units: Decimal) -> tuple[int, int]:
    """`units` as mantissa times a power of ten, the mantissa as short as can be. Exact, whatever the digits."""
    whole, _, fraction = plain(units).partition(".")
    if not (whole + fraction).isdecimal():
        raise HoldFormatError("units of a hold are finite and not negative")
    if fraction:
        return int(whole + fraction), -len(fraction)
    digits = whole.rstrip("0")
    return (int(digits), len(whole) - len(digits)) if digits else (0, 0)


def _zigzag(value: int) -> int:
    return value * 2 if value >= 0 else -value * 2 - 1


def _unzigzag(value: int) -> int:
    return value // 2 if value % 2 == 0 else -(value + 1) // 2


def _put_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _take_varint(raw: bytes, at: int) -> tuple[int, int]:
    shift = value = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
