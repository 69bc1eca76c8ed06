"""Random triples of actors keep the invariants. `TOLLGATE_TRIPLES` says how many; a failure names its seed."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.interleave import triples
from tests.interleave.violation import Violation

COUNT = int(os.environ.get("TOLLGATE_TRIPLES", "100000"))
SLICES = 10


@pytest.mark.parametrize("part", range(SLICES))
def test_random_triples(part: int, totals: Counter[str]) -> None:
    seeds = range(part, COUNT, SLICES)
    for seed in seeds:
        try:
            triples.run(seed)
        except Violation as violation:
            raise Violation(f"seed {seed}: {violation}") from violation
    totals["random triples"] += len(seeds)
