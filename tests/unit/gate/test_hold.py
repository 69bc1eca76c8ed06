"""The packed hold: nothing is lost in it, and it stays small."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollgate.accounts.rules import ONE_PER_RESERVATION, Group
from tollgate.gate.hold import (
    PAID,
    WAIVED,
    Hold,
    HoldFormatError,
    Part,
    expiry_of,
    incarnation_of,
    paid_whole,
    unpack,
)
from tollgate.ids import uuid7

NOW = 1_795_262_400_000
"""2026-11-21 12:00:00 UTC, in ms."""

amounts = st.builds(
    lambda mantissa, exponent: Decimal(mantissa).scaleb(exponent),
    st.integers(0, 10**18 - 1),
    st.integers(-12, 0),
)
slot_sets = st.sets(st.integers(0, 300), max_size=6).map(lambda slots: tuple(sorted(slots)))
groups = st.builds(Group, st.sampled_from([0, 1, 2, 253, ONE_PER_RESERVATION]), amounts, slot_sets)
"""254 tells that parts follow."""
parts = st.builds(Part, st.integers(0, 253), st.sampled_from([PAID, WAIVED, 0, 1, 900]), amounts)
times = st.integers(0, (1 << 48) - 1)


@st.composite
def holds(draw: st.DrawFn) -> Hold:
    taken = tuple(draw(st.lists(groups, max_size=4)))
    split = st.one_of(st.just(()), st.just(paid_whole(taken)), st.lists(parts, max_size=4).map(tuple))
    return Hold(
        incarnation=uuid7(draw(times), draw(st.binary(min_size=10, max_size=10))),
        expires_at=draw(st.integers(0, (1 << 40) - 1)),
        origin_ms=draw(times),
        fingerprint=draw(st.binary(min_size=4, max_size=4)),
        groups=taken,
        mark=draw(st.one_of(st.just(b""), st.binary(min_size=4, max_size=4))),
        id_range=draw(st.one_of(st.none(), st.tuples(times, times))),
        keyed=draw(st.booleans()),
        parts=draw(split),
    )


@settings(max_examples=500, derandomize=True)
@given(hold=holds())
def test_a_hold_survives_packing(hold: Hold) -> None:
    raw = hold.pack()
    again = unpack(raw)
    assert again == hold
    assert again.units() == hold.units()
    assert again.pack() == raw
    assert incarnation_of(raw) == hold.incarnation
    assert expiry_of(raw) == hold.expires_at


@settings(max_examples=300, derandomize=True)
@given(one=holds(), other=holds())
def test_two_holds_have_the_same_bytes_only_if_they_are_the_same(one: Hold, other: Hold) -> None:
    assert (one.pack() == other.pack()) == (one == other)


def of(*parts: Group, mark: bytes = b"", origin_ms: int = NOW - 40) -> Hold:
    return Hold(uuid7(NOW, b"\xff" * 10), NOW // 1000 + 300, origin_ms, b"\xff" * 4, parts, mark)


def test_a_typical_hold_takes_at_most_40_bytes() -> None:
    """Five counters of one meter. A write costs one unit for each started KB of the gate."""
    five = (0, 1, 2, 3, 4)
    assert len(of(Group(0, Decimal("1250"), five)).pack()) <= 40
    assert len(of(Group(0, Decimal("0.123456"), five)).pack()) <= 40
    assert len(of(Group(0, Decimal("999999.999999"), five)).pack()) <= 40
    assert len(of(Group(0, Decimal(3), five), mark=b"mark").pack()) <= 40
    with_jobs = of(Group(0, Decimal(3), five), Group(ONE_PER_RESERVATION, Decimal(1), (5,)), mark=b"mark")
    assert len(with_jobs.pack()) <= 45


def test_equal_amounts_have_equal_bytes_however_they_are_written() -> None:
    assert of(Group(0, Decimal("4"), (0,))).pack() == of(Group(0, Decimal("4.000000"), (0,))).pack()
    assert of(Group(0, Decimal("400"), (0,))).pack() == of(Group(0, Decimal("4E+2"), (0,))).pack()
    assert of(Group(0, Decimal("0"), (0,))).pack() == of(Group(0, Decimal("0.000"), (0,))).pack()


@pytest.mark.parametrize("units", ["-1", "NaN", "Infinity"])
def test_amounts_that_no_hold_can_have(units: str) -> None:
    with pytest.raises(HoldFormatError):
        of(Group(0, Decimal(units), (0,))).pack()


@pytest.mark.parametrize("raw", [b"", b"\x10" * 26, b"\x20" + b"\x00" * 40])
def test_bytes_that_are_no_hold(raw: bytes) -> None:
    with pytest.raises(HoldFormatError):
        unpack(raw)
