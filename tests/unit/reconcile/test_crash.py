"""A process that dies at any call of a comparison and its repairs: doing it again ends as if it had not died."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.billing.world import Crash, Cut
from tests.unit.reconcile.stage import HOUR, Stage
from tollgate.reconcile.ports import ReconcileDeps


def damaged(stage: Stage) -> None:
    """One of everything that a repair writes for."""
    stage.usage("3", "4", "5", "6")
    first, second, third, _ = stage.batches()
    stage.delete(first)
    stage.lose(second)
    stage.lose(third)
    stage.send("50", third.timestamp + 120, identifier="one")
    stage.usage("7", mark=False)
    stage.world.rules.change("acme", stripe_customer_id=stage.other)
    stage.usage("8")
    stage.world.rules.change("acme", stripe_customer_id=stage.customer)
    stage.later(2 * HOUR)
    stage.world.force(third, state="unconfirmed", reason="test", state_at=stage.world.now - 2 * HOUR)


def cut_deps(stage: Stage, cut: Cut) -> ReconcileDeps:
    deps = stage.deps()
    return stage.deps(
        batches=cut.around(deps.batches),
        markers=cut.around(deps.markers),
        totals=cut.around(deps.totals),
        pairs=cut.around(deps.pairs),
    )


WRITES = 14
"""Cuts beyond the calls of one comparison change nothing: the test below proves that there are no more."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("back", range(WRITES))
def test_dying_at_any_of_the_last_calls(stage: Stage, back: int, after: bool) -> None:
    damaged(stage)
    counting = Cut()
    stage.reconcile(repair=False, deps=cut_deps(stage, counting))
    reads = counting.calls  # before the first write, all that a comparison does is read
    cut = Cut(reads + back, after=after)
    try:
        stage.reconcile(person=True, deps=cut_deps(stage, cut))
    except Crash:
        pass
    else:
        assert cut.calls <= reads + back
    report = stage.heal(person=True, rounds=12)
    assert not report.findings, report
    assert report.unexplained == 0
    assert report.sink == report.events == Decimal(33) == stage.counted()
    assert stage.counted(stage.other) == 0


def test_the_cuts_reach_every_write(stage: Stage) -> None:
    damaged(stage)
    counting = Cut()
    stage.reconcile(repair=False, deps=cut_deps(stage, counting))
    whole = Cut()
    stage.reconcile(person=True, deps=cut_deps(stage, whole))
    assert 0 < whole.calls - counting.calls <= WRITES
