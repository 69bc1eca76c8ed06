"""Random damage: every difference is explained, what can be repaired is, and a further comparison finds nothing."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.billing.world import fresh_world
from tests.unit.reconcile.stage import HOUR, Stage, staged

AMOUNTS = st.integers(1, 9).map(str)
DAMAGE = st.sampled_from(("none", "delete", "lose", "unconfirmed", "unconfirmed_lost", "unmarked"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(AMOUNTS, DAMAGE), min_size=1, max_size=4), st.none() | st.integers(20, 30))
def test_random_damage(made: None, windows: list[tuple[str, str]], stray: int | None) -> None:
    with staged(fresh_world()) as stage:
        for amount, damage in windows:
            stage.usage(amount, mark=damage != "unmarked")
        hurt(stage, [damage for _, damage in windows if damage != "unmarked"])
        if stray is not None:
            stage.send(f"{stray}.5", stage.world.now - 30)
        stage.later(2 * HOUR)
        report = stage.reconcile(repair=False)
        assert report.unexplained == 0, report
        assert report.sink is not None
        assert sum((one.units for one in report.findings), Decimal(0)) == report.sink - report.events
        report = stage.heal(person=True, rounds=12)
        assert not report.findings, report
        assert report.unexplained == 0
        used = sum(Decimal(amount) for amount, _ in windows)
        assert report.events == report.sink == used == stage.counted()


def hurt(stage: Stage, damages: list[str]) -> None:
    for batch, damage in zip(stage.batches(), damages, strict=True):
        if damage in ("lose", "unconfirmed_lost"):
            stage.lose(batch)
        if damage == "delete":
            stage.delete(batch)
        if damage.startswith("unconfirmed"):
            stage.world.force(batch, state="unconfirmed", reason="test")
