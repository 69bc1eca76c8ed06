"""The suite can fail: each defect put into the gate on purpose is found, by a small part of the pairs and triples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice, zip_longest

import pytest

from tests.interleave import triples
from tests.interleave.money_mutants import MONEY_MUTANTS
from tests.interleave.money_pairs import MONEY_FAMILIES
from tests.interleave.mutants import MUTANTS
from tests.interleave.pairs import (
    Scenario,
    attempts_at_one_reservation,
    explored,
    pairs_afterwards,
    plain_pairs,
    skewed_pairs,
)
from tests.interleave.violation import Violation

FIRST, ALL = 1_500, 6_000
"""Seeds of triples before and after the pairs."""
THINNED = {name: {"money": 5, "money, used credits": 1}.get(name, 4) for name in MONEY_FAMILIES}
"""Of each family every so manieth pair of calls on money is tried."""


def part_of_the_pairs() -> Iterator[Scenario]:
    """Pairs of client calls, reclaim and rollover; a few with clocks that disagree and with reservations that ended."""
    small = {"reserve", "reserve new", "commit", "release", "extend", "reclaim", "rollover"}
    plain = (pair for pair in plain_pairs() if {pair.first, pair.second} <= small)
    return chain(
        attempts_at_one_reservation(), plain, islice(skewed_pairs(), 40), islice(pairs_afterwards(), 0, None, 8)
    )


def hunt() -> str | None:
    """The first violation, or None."""
    return hunt_triples(range(FIRST)) or hunt_pairs(part_of_the_pairs()) or hunt_triples(range(FIRST, ALL))


def part_of_the_money() -> Iterator[Scenario]:
    """Each family, thinned out: the next member of each in turn, so that no mutant waits long for its own."""
    families = [islice(family(), 0, None, THINNED[name]) for name, family in MONEY_FAMILIES.items()]
    return (scenario for turn in zip_longest(*families) for scenario in turn if scenario is not None)


def hunt_pairs(scenarios: Iterable[Scenario]) -> str | None:
    for scenario in scenarios:
        try:
            explored(scenario)
        except Violation as violation:
            return f"{scenario.name}: {violation}"
    return None


def hunt_triples(seeds: range) -> str | None:
    for seed in seeds:
        try:
            triples.run(seed)
        except Violation as violation:
            return f"seed {seed}: {violation}"
    return None


@pytest.fixture(scope="module")
def _sound() -> None:
    """The product itself passes the part that mutants are hunted with (and its worlds are prepared by it)."""
    assert hunt() is None


@pytest.mark.usefixtures("_sound")
@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_killed(name: str, monkeypatch: pytest.MonkeyPatch, totals: Counter[str]) -> None:
    MUTANTS[name](monkeypatch)
    found = hunt()
    assert found is not None, f"{name} survived: {MUTANTS[name].__doc__}"
    totals["mutants killed"] += 1


@pytest.fixture(scope="module")
def _sound_money() -> None:
    assert hunt_pairs(part_of_the_money()) is None


@pytest.mark.usefixtures("_sound_money")
@pytest.mark.parametrize("name", MONEY_MUTANTS)
def test_mutant_of_money_is_killed(name: str, monkeypatch: pytest.MonkeyPatch, totals: Counter[str]) -> None:
    MONEY_MUTANTS[name](monkeypatch)
    found = hunt_pairs(part_of_the_money())
    assert found is not None, f"{name} survived: {MONEY_MUTANTS[name].__doc__}"
    totals["mutants killed"] += 1
