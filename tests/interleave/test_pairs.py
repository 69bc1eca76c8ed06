"""Every interleaving, between store calls, of every pair of calls on one gate keeps the invariants."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.interleave.money_pairs import MONEY_FAMILIES
from tests.interleave.pairs import FAMILIES, Scenario, explored


@pytest.mark.parametrize("family", FAMILIES)
def test_every_interleaving_of_every_pair(family: str, totals: Counter[str]) -> None:
    explore_all(list(FAMILIES[family]()), "pairs", totals)


@pytest.mark.parametrize("family", MONEY_FAMILIES)
def test_every_interleaving_of_every_pair_on_money_and_credits(family: str, totals: Counter[str]) -> None:
    explore_all(list(MONEY_FAMILIES[family]()), "pairs with money or credits", totals)


def explore_all(scenarios: list[Scenario], what: str, totals: Counter[str]) -> None:
    assert len(scenarios) == len({scenario.name for scenario in scenarios})
    for scenario in scenarios:
        count = explored(scenario)
        assert count > 0
        totals[f"interleavings of {what}, up to moves that commute"] += count
    totals[what] += len(scenarios)
