"""Prices for the tests: short constructors, and strategies that reach every scheme and every field."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from tollgate.catalog.model import Price, Tier

D = Decimal


def per_unit(unit_price: str, **more: Any) -> Price:
    return Price("m", "per_unit", unit_price=D(unit_price), **more)


def tiers(*rows: tuple[int | str | None, str] | tuple[int | str | None, str, str]) -> tuple[Tier, ...]:
    """Rows of (up_to, unit price) or (up_to, unit price, flat)."""
    return tuple(
        Tier(None if row[0] is None else D(row[0]), D(row[1]), D(row[2]) if len(row) == 3 else D(0)) for row in rows
    )


def graduated(*rows: Any, **more: Any) -> Price:
    return Price("m", "graduated", tiers=tiers(*rows), **more)


def volume(*rows: Any, **more: Any) -> Price:
    return Price("m", "volume", tiers=tiers(*rows), **more)


def package(size: int | str, price: str, round: str = "up", **more: Any) -> Price:
    return Price("m", "package", package_size=D(size), package_price=D(price), round=round, **more)  # type: ignore[arg-type]


SCALE = 1
"""Of the positions that the strategies make: coarse, so that edges are met often."""
STEP = D("0.1")

amounts = st.integers(0, 400).map(lambda n: D(n).scaleb(-1))
"""Positions and units at SCALE."""
money = st.integers(0, 60).map(lambda n: D(n).scaleb(-1))
unit_prices = st.sampled_from([D(0), D("0.05"), D("0.3"), D(1), D("1.7"), D(3)])
flats = st.sampled_from([D(0), D(0), D(1), D("2.5")])
edges = st.lists(st.integers(1, 320), min_size=0, max_size=3, unique=True).map(
    lambda found: [D(edge).scaleb(-SCALE) for edge in sorted(found)]
)
"""Of tiers: never finer than the meter's scale, as the catalogue has it."""


@st.composite
def tier_tables(draw: st.DrawFn) -> tuple[Tier, ...]:
    return tuple(Tier(end, draw(unit_prices), draw(flats)) for end in [*draw(edges), None])


@st.composite
def prices(draw: st.DrawFn, schemes: tuple[str, ...] = ("per_unit", "graduated", "volume", "package")) -> Price:
    minimum, maximum = draw(st.none() | money), draw(st.none() | money)
    if minimum is not None and maximum is not None:
        minimum, maximum = sorted((minimum, maximum))
    more: dict[str, Any] = {
        "minimum": minimum,
        "maximum": maximum,
        "markup": draw(st.sampled_from([D(0), D(0), D(10), D("12.5")])),
    }
    scheme = draw(st.sampled_from(schemes))
    if scheme == "per_unit":
        return Price("m", "per_unit", unit_price=draw(unit_prices), **more)
    if scheme == "package":
        size = draw(
            st.integers(1, 40).map(lambda n: D(n).scaleb(-SCALE)) | st.integers(1, 900).map(lambda n: D(n) / 100)
        )
        return Price(
            "m",
            "package",
            package_size=size,
            package_price=draw(unit_prices),
            round=draw(st.sampled_from(["up", "down"])),
            **more,
        )
    return Price("m", scheme, tiers=draw(tier_tables()), **more)  # type: ignore[arg-type]
