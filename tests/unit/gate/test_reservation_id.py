"""The reservation id: what it carries comes back, and nothing but an id of this stack is one."""

from __future__ import annotations

import base64
import zlib
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollgate.accounts.rules import Group, Item
from tollgate.errors import ReservationTooLarge, UnknownReservation
from tollgate.gate import reservation_id
from tollgate.gate.hold import Hold
from tollgate.gate.reservation_id import MAX_LENGTH, PREFIX, Reservation, decode, encode
from tollgate.ids import key_hash, uuid7

SECRET = b"a secret of this stack"
NOW = 1_795_262_400_000
"""2026-11-21 12:00:00 UTC, in ms."""


def hold(mark: bytes = b"") -> bytes:
    return Hold(uuid7(NOW, bytes(10)), NOW // 1000 + 300, NOW, b"body", (Group(0, Decimal(4), (0, 1)),), mark).pack()


def reservation(dimensions: dict[str, str] | None = None, items: int = 1) -> Reservation:
    made = tuple(Item("ai_credits", Decimal("4.5"), Decimal(9), dimensions or {}) for _ in range(items))
    return Reservation(
        "acme", "alice", key_hash("reservation", "k"), {"account": hold(), "member": hold(b"mark")}, NOW, made
    )


texts = st.text(max_size=64)


@settings(max_examples=300, derandomize=True)
@given(
    dimensions=st.dictionaries(st.text(min_size=1, max_size=40), texts, max_size=10),
    items=st.integers(1, 2),
    secret=st.binary(min_size=1, max_size=64),
)
def test_what_it_carries_comes_back(dimensions: dict[str, str], items: int, secret: bytes) -> None:
    made = reservation(dimensions, items)
    text = encode(made, secret)
    assert text.startswith(PREFIX)
    assert len(text) <= MAX_LENGTH
    assert set(text[len(PREFIX) :]) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert decode(text, secret) == made


def test_an_id_of_another_secret_is_unknown() -> None:
    with pytest.raises(UnknownReservation):
        decode(encode(reservation(), b"another secret"), SECRET)


@pytest.mark.parametrize("dimensions", [{}, {f"dimension {n}": "value " * 10 for n in range(10)}])
def test_every_character_counts(dimensions: dict[str, str]) -> None:
    """Any other character anywhere, any cut, anything added: no reservation."""
    text = encode(reservation(dimensions), SECRET)
    for at in range(len(text)):
        other = "A" if text[at] != "A" else "B"
        for forged in (text[:at], text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :]):
            with pytest.raises(UnknownReservation):
                decode(forged, SECRET)
    for added in ("A", "=", "==", "\n", " ", ".", "%3D", "é"):
        with pytest.raises(UnknownReservation):
            decode(text + added, SECRET)


@settings(max_examples=300, derandomize=True)
@given(text=st.one_of(st.text(max_size=80), st.text(max_size=80).map(lambda tail: PREFIX + tail)))
def test_whatever_else_is_sent_is_unknown(text: str) -> None:
    with pytest.raises(UnknownReservation):
        decode(text, SECRET)


@pytest.mark.parametrize("body", [b"[]", b"{}", b"[1,2]", b"not json", zlib.compress(b'["acme"]'), b""])
def test_a_body_of_an_older_format_is_unknown_though_it_was_signed_here(body: bytes) -> None:
    signed = reservation_id._mac(body, SECRET) + body
    with pytest.raises(UnknownReservation):
        decode(PREFIX + base64.urlsafe_b64encode(signed).decode().rstrip("="), SECRET)


def test_an_id_too_long_for_a_url_is_refused_when_it_is_made() -> None:
    noise = "".join(chr(0x4E00 + n * 7 % 20_000) for n in range(6_000))
    with pytest.raises(ReservationTooLarge):
        encode(reservation({"model": noise}), SECRET)


def test_a_text_too_long_is_unknown_before_anything_is_computed() -> None:
    with pytest.raises(UnknownReservation):
        decode(PREFIX + "A" * MAX_LENGTH, SECRET)


def test_a_usual_id_is_short() -> None:
    assert len(encode(reservation({"model": "small-1", "operation": "chat"}), SECRET)) <= 400
