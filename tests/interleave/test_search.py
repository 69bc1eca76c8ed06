"""The search for all interleavings leaves out only such as end like one that it tries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from tests.interleave.money_worlds import SPLIT
from tests.interleave.pairs import Scenario
from tests.interleave.stage import state_of
from tests.interleave.worlds import ACCOUNT_ONLY
from tests.support import scheduler
from tests.support.scheduler import Actor, Chooser, Scheduler, explore

SEEDS = 90


def _everything(once: Callable[[Chooser], None]) -> int:
    """All interleavings, none taken for another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "independent", lambda some, others: False)
        return explore(once)


def _program(seed: int, crashes: int = 0) -> Callable[[set[object], Chooser], None]:
    """Two or three actors that read and write three things; what they write is made of what they read before."""
    random = Random(seed)
    calls = [
        [(random.choice("xyz"), random.random() < 0.5) for _ in range(random.randrange(1, 4))]
        for _ in range(random.choice((2, 2, 3)))
    ]

    def run(ends: set[object], chooser: Chooser) -> None:
        things = dict.fromkeys("xyz", "")
        known = [""] * len(calls)
        actors: list[Actor] = []
        made = Scheduler(actors, chooser, lambda: 0, crashes=crashes, late=bool(seed % 2))

        def act(number: int) -> None:
            for name, writes in calls[number]:
                made.pause(name, ((name, writes),))
                if writes:
                    things[name] = f"{number}({things[name]}{known[number]})"
                else:
                    known[number] += things[name] or "-"

        for number in range(len(calls)):
            actors.append(Actor("ABC"[number], lambda actor, number=number: act(number)))  # type: ignore[misc]
        made.run()
        ends.add((tuple(things.values()), tuple(known)))

    return run


@pytest.mark.parametrize("part", range(3))
def test_the_search_ends_wherever_all_interleavings_end(part: int, totals: Counter[str]) -> None:
    tried = full = 0
    for seed in range(part, SEEDS, 3):
        run = _program(seed)
        found: set[object] = set()
        wanted: set[object] = set()
        tried += explore(partial(run, found))
        full += _everything(partial(run, wanted))
        assert found == wanted, f"seed {seed}"
    assert tried < full / 2, "much is left out"


@pytest.mark.parametrize("part", range(3))
def test_nor_does_it_leave_out_a_crash(part: int) -> None:
    """A crash before a call and one before the actor's next call are two, though neither touches anything."""
    for seed in range(part, SEEDS // 2, 3):
        run = _program(seed, crashes=1)
        found: set[object] = set()
        wanted: set[object] = set()
        explore(partial(run, found))
        _everything(partial(run, wanted))
        assert found == wanted, f"seed {seed}"


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(SPLIT, "tidy", "give again", gone="committed"),
        Scenario(SPLIT, "claw back", "commit"),
        Scenario(SPLIT, "commit over", "reserve new"),
        Scenario(SPLIT, "release", "extend", faults=1),
        Scenario(ACCOUNT_ONLY, "commit", "release"),
        Scenario(ACCOUNT_ONLY, "commit", "reclaim"),
        Scenario(ACCOUNT_ONLY, "record", "audit"),
    ],
    ids=lambda scenario: scenario.name,
)
def test_the_search_ends_like_all_interleavings_of_calls(scenario: Scenario) -> None:
    found: set[object] = set()
    wanted: set[object] = set()
    explore(lambda chooser: found.add(state_of(scenario.run(chooser))))
    _everything(lambda chooser: wanted.add(state_of(scenario.run(chooser))))
    assert found == wanted
