"""Every interleaving, between store calls, of every pair of calls on one gate keeps the invariants."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.interleave.pairs import FAMILIES, explored


@pytest.mark.parametrize("family", FAMILIES)
def test_every_interleaving_of_every_pair(family: str, totals: Counter[str]) -> None:
    scenarios = list(FAMILIES[family]())
    assert len(scenarios) == len({scenario.name for scenario in scenarios})
    for scenario in scenarios:
        count = explored(scenario)
        assert count > 0
        totals["interleavings of pairs, up to moves that commute"] += count
    totals["pairs"] += len(scenarios)
