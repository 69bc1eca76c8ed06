"""Pieces of a schedule agree with the marginal cost everywhere, and an amount buys exactly what fits."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.unit.rating.making import SCALE, STEP, D, amounts, graduated, money, package, per_unit, prices, volume
from tollgate.catalog.model import Price
from tollgate.rating.charge import highest
from tollgate.rating.marginal import buys, marginal_highest
from tollgate.rating.piece import Piece
from tollgate.rating.schedule import piece, schedule

units_taken = st.integers(1, 150).map(lambda n: D(n).scaleb(-SCALE))
places = st.integers(0, 30)


def around(found: Piece, units: Decimal, probes: list[int]) -> set[Decimal]:
    """Positions inside of a piece: both ends of it, and some steps from either."""
    first = found.low + STEP if found.low_open else found.low
    first = first.quantize(STEP, "ROUND_CEILING") if first % STEP else first
    if found.low_open and found.low % STEP:
        first = found.low.quantize(STEP, "ROUND_CEILING")
    last = first + 100 if found.high is None else (found.high - units).quantize(STEP, "ROUND_FLOOR")
    inside = {first, last, *(first + STEP * n for n in probes), *(last - STEP * n for n in probes)}
    return {position for position in inside if found.holds(position, units)}


@given(prices(), amounts)
def test_a_schedule_is_the_highest_charge(price: Price, position: Decimal) -> None:
    assert schedule(price, SCALE).at(position) == highest(price, position)


@given(prices(), amounts, units_taken, st.lists(places, max_size=6))
@example(volume((10, "7"), (None, "6")), D(5), D(1), [])
@example(package("0.55", "1", "down"), D("3.3"), D("0.2"), [1, 2])
@example(package("0.55", "1"), D("3.3"), D("0.2"), [1, 2])
def test_a_piece_costs_the_same_everywhere_in_it(
    price: Price, position: Decimal, units: Decimal, probes: list[int]
) -> None:
    found = piece(price, position, units, SCALE)
    assume(found is not None)
    assert found is not None
    assert found.holds(position, units)
    assert found.low >= 0
    inside = around(found, units, probes)
    assert position in inside or len(inside) > 0
    for p in (position, *inside):
        assert marginal_highest(price, p, units) == found.cost


@given(prices(), amounts, units_taken, st.integers(0, 400))
def test_who_stands_in_the_same_piece_is_given_it(price: Price, position: Decimal, units: Decimal, other: int) -> None:
    """A write that meets another position in its piece would plan the same: the piece depends on where, not on who."""
    found, elsewhere = piece(price, position, units, SCALE), D(other).scaleb(-SCALE)
    if found is not None and found.holds(elsewhere, units):
        again = piece(price, elsewhere, units, SCALE)
        assert again is not None
        assert again.cost == found.cost


@pytest.mark.parametrize(
    ("price", "position", "units", "expected"),
    [
        (per_unit("2"), 0, 3, Piece(D(0), False, None, D(6))),
        (per_unit("2"), 700, 3, Piece(D(0), False, None, D(6))),
        # within a tier; at an edge without a flat amount; across it
        (graduated((10, "0"), (None, "2")), 4, 6, Piece(D(0), False, D(10), D(0))),
        (graduated((10, "0"), (None, "2")), 10, 3, Piece(D(10), False, None, D(6))),
        (graduated((10, "0"), (None, "2")), 9, 2, None),
        # a flat amount falls due above the edge: the piece is open there
        (graduated((10, "0"), (None, "2", "5")), 10, 3, None),
        (graduated((10, "0"), (None, "2", "5")), "10.1", 3, Piece(D(10), True, None, D(6))),
        # the first tier's is due at 0 already
        (graduated((10, "1", "5"), (None, "2")), 0, 3, Piece(D(0), False, D(10), D(3))),
        # packages
        (package(10, "3"), 0, 4, Piece(D(0), False, D(4), D(3))),
        (package(10, "3"), 2, 4, Piece(D(0), True, D(10), D(0))),
        (package(10, "3"), 6, 4, Piece(D(0), True, D(10), D(0))),
        (package(10, "3"), 7, 4, Piece(D(6), True, D(14), D(3))),
        (package(10, "3"), 10, 4, Piece(D(6), True, D(14), D(3))),
        (package(10, "3"), 10, 24, Piece(D(6), True, D(34), D(9))),
        (package(10, "3"), 7, 20, Piece(D(0), False, None, D(6))),
        (package(10, "3", "down"), 0, 4, Piece(D(0), False, D("9.9"), D(0))),
        (package(10, "3", "down"), 6, 4, Piece(D(6), False, D("13.9"), D(3))),
        (package(10, "3", "down"), 10, 4, Piece(D(10), False, D("19.9"), D(0))),
        (package(10, "3", minimum=D(7), maximum=D(20)), 3, 10, Piece(D(0), False, D(20), D(0))),
        (package(10, "3", minimum=D(7), maximum=D(20)), 13, 10, None),
        (package(10, "3", minimum=D(7), maximum=D(20)), 23, 20, Piece(D(20), True, D(60), D(6))),
        (package(10, "3", minimum=D(7), maximum=D(20)), 43, 20, None),
        (package(10, "3", minimum=D(7), maximum=D(20)), 63, 20, Piece(D(60), True, None, D(0))),
        # minimum and maximum stand still
        (per_unit("3", minimum=D(10)), 0, 3, Piece(D(0), False, D("3.3"), D(0))),
        (per_unit("3", minimum=D(10)), 3, 1, None),
        (per_unit("3", minimum=D(10)), 4, 1, Piece(D("3.3"), True, None, D(3))),
        (per_unit("3", minimum=D(9)), 3, 1, Piece(D(3), False, None, D(3))),
        (per_unit("3", maximum=D(10)), 3, 1, None),
        (per_unit("3", maximum=D(10)), 4, 1, Piece(D("3.3"), True, None, D(0))),
        (per_unit("3", maximum=D(9)), 3, 1, Piece(D(3), False, None, D(0))),
        # all units at 7, then at 6: what 10 came to is reached again at 70 / 6
        (volume((10, "7"), (None, "6")), 10, 1, Piece(D(10), False, D("11.6"), D(0))),
        (volume((10, "7"), (None, "6")), 11, 1, None),
        (volume((10, "7"), (None, "6")), 12, 1, Piece(D("11.6"), True, None, D(6))),
    ],
)
def test_named_pieces(price: Price, position: int | str, units: int, expected: Piece | None) -> None:
    assert piece(price, D(position), D(units), SCALE) == expected


@given(prices(), amounts)
def test_nothing_costs_nothing_anywhere(price: Price, position: Decimal) -> None:
    assert piece(price, position, D(0), SCALE) == Piece(D(0), False, None, D(0))


@given(prices(("per_unit", "graduated", "volume")), amounts, units_taken)
def test_only_edges_have_no_piece(price: Price, position: Decimal, units: Decimal) -> None:
    """Where there is none, the cost of these units changes within one step to either side."""
    if piece(price, position, units, SCALE) is None:
        cost = {marginal_highest(price, position + STEP * n, units) for n in (-1, 0, 1) if position + STEP * n >= 0}
        one = {marginal_highest(price, position + STEP * n, STEP) for n in range(int(units / STEP))}
        assert len(cost) > 1 or len(one) > 1


@given(prices(), amounts, money)
@example(per_unit("0.3"), D(0), D("0.1"))
def test_an_amount_buys_what_fits_and_not_a_step_more(price: Price, position: Decimal, amount: Decimal) -> None:
    units = buys(price, position, amount, SCALE)
    if units is None:
        assert marginal_highest(price, position, D(10**9)) <= amount
        return
    assert units >= 0
    assert units % STEP == 0
    assert marginal_highest(price, position, units) <= amount
    assert marginal_highest(price, position, units + STEP) > amount


@pytest.mark.parametrize(
    ("price", "position", "amount", "scale", "units"),
    [
        (graduated((100, "0"), (None, "0.02")), 0, "20", 6, "1100"),
        (graduated((100, "0"), (None, "0.02")), 40, "0", 6, "60"),
        (graduated((100, "0"), (None, "0.03")), 100, "0.10", 2, "3.33"),
        (graduated((100, "0"), (None, "0.03")), 100, "0.10", 0, "3"),
        (graduated((100, "0"), (None, "0.02", "5")), 0, "5", 6, "100"),
        (graduated((100, "0"), (None, "0.02", "5")), 0, "5.02", 6, "101"),
        (package(1000, "0.04"), 0, "0.10", 0, "2000"),
        (package(1000, "0.04", "down"), 0, "0.10", 0, "2999"),
        (package(1000, "0.04"), 500, "0.03", 0, "500"),
        (per_unit("0.5", minimum=D(10)), 0, "0", 0, "20"),
        (per_unit("0.5"), 0, "-0.01", 0, "0"),
        (package(7, "0.5"), 0, "-0.01", 0, "0"),
        (per_unit("0.000000000001"), 0, "999999999999", 12, "999999999999000000000000"),
    ],
)
def test_what_an_amount_buys(price: Price, position: int, amount: str, scale: int, units: str) -> None:
    assert buys(price, D(position), D(amount), scale) == D(units)


@pytest.mark.parametrize(
    "price",
    [
        per_unit("0"),
        graduated((5, "1"), (None, "0")),
        per_unit("1", maximum=D(5)),
        package(5, "1", maximum=D(5)),
        package(5, "0", minimum=D(5)),
    ],
)
def test_an_amount_that_buys_any_number(price: Price) -> None:
    assert buys(price, D(0), D(5), 0) is None


def test_a_schedule_is_made_once() -> None:
    assert schedule(per_unit("0.25"), 3) is schedule(per_unit("0.25"), 3)
