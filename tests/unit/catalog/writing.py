"""A small catalogue around the lines that a test is about."""

from __future__ import annotations

import textwrap

import pytest

from tollgate.catalog.schema import Beside, CatalogError, parse_catalog

METERS = """
m: {stripe_event_name: m, unit: message}
whole: {stripe_event_name: whole, scale: 0}
disk: {kind: level, unit: GB, stripe_event_name: disk}
tape: {kind: level}
"""
PRICED = 'prices: [{meter: m, scheme: per_unit, unit_price: "1"}]\n'


def catalogue(plan: str = "", meters: str = METERS, currency: str = "usd") -> str:
    """A catalogue with one plan `p` of these lines."""

    def at(text: str, indent: int) -> str:
        return textwrap.indent(textwrap.dedent(text).strip("\n"), " " * indent)

    return (
        f"currency: {currency}\ndefault_plan: p\nmeters:\n{at(meters, 2)}\nplans:\n  p:\n    name: P\n{at(plan, 4)}\n"
    )


def refusals(text: str, beside: Beside | None = None) -> dict[str, str]:
    """Path -> reason of everything wrong with a catalogue."""
    with pytest.raises(CatalogError) as refused:
        parse_catalog(text, "catalog.yaml", beside)
    return {problem.path: problem.reason for problem in refused.value.problems}
