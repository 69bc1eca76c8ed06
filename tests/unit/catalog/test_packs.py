"""Packs: credits to buy once."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.catalog.writing import catalogue, refusals
from tollgate.catalog.model import Pack
from tollgate.catalog.schema import parse_catalog

PACK = "packs: [{id: small, meter: m, units: 500, price: %s}]"


def test_packs() -> None:
    text = """
    packs:
      - {id: pack_500, meter: m, units: 500, price: "9.00"}
      - {id: pack_5000, name: Big pack, meter: m, units: "5000.5", price: "80", priority: 0, expires_days: 365}
    """
    assert parse_catalog(catalogue(text)).plans["p"].packs == (
        Pack("pack_500", "pack_500", "m", Decimal(500), Decimal(9)),
        Pack("pack_5000", "Big pack", "m", Decimal("5000.5"), Decimal(80), 0, 365),
    )


def test_a_price_follows_the_currency() -> None:
    assert parse_catalog(catalogue(PACK % '"9.125"', currency="kwd")).plans["p"].packs[0].price == Decimal("9.125")


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        (PACK % "9", "packs[0].price", 'write it as a string, in quotes: "9"'),
        (PACK % '"0"', "packs[0].price", "what costs nothing is a grant"),
        (PACK % '"9.005"', "packs[0].price", "cannot be charged in usd"),
        (PACK % '"9", priority: 101', "packs[0].priority", "100"),
        (PACK % '"9", expires_days: 0', "packs[0].expires_days", "greater than or equal to 1"),
        (PACK % '"9", expires_days: "9"', "packs[0].expires_days", "whole number"),
        (PACK % '"9", every: month', "packs[0].every", "unknown field"),
        ('packs: [{id: a, meter: n, units: 5, price: "1"}]', "packs[0].meter", "no meter `n`"),
        ('packs: [{id: a, meter: m, units: 0, price: "1"}]', "packs[0].units", "above 0"),
        ('packs: [{id: a, meter: whole, units: "0.5", price: "1"}]', "packs[0].units", "counts 0 decimal places"),
        ('grants: [{meter: whole, units: "0.5"}]', "grants[0].units", "counts 0 decimal places"),
        ('packs: [{meter: m, units: 5, price: "1"}]', "packs[0].id", "is required"),
        (
            'packs: [{id: a, meter: m, units: 5, price: "1"}, {id: a, meter: m, units: 6, price: "1"}]',
            "packs[1].id",
            "given twice, first at [0]",
        ),
    ],
)
def test_a_mistake_in_a_pack(text: str, path: str, reason: str) -> None:
    found = refusals(catalogue(text))
    assert list(found) == [f"plans.p.{path}"]
    assert reason in found[f"plans.p.{path}"]
