"""Waiting ends when Stripe's summaries stand still, and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from demo.settle import Pair, Watch, settle

ONE, TWO = ("acme", "credits"), ("zeta", "credits")
EXPECTED = {ONE: Decimal(10), TWO: Decimal(5)}


@dataclass
class World:
    """A Stripe that holds what `units` says at a second, and a clock that only waiting moves."""

    units: Callable[[float, Pair], str]
    busy_until: float = 0
    now: float = 0
    agreed: list[int] = field(default_factory=list)

    def watch(self, patience: int = 30, lag: int = 0) -> Watch:
        return Watch(
            self.read,
            lambda: self.now < self.busy_until,
            lambda agreed, _: self.agreed.append(agreed),
            patience,
            lag,
            lambda: self.now,
            self.pause,
        )

    def read(self, pairs: Iterable[Pair]) -> dict[Pair, Decimal]:
        return {pair: Decimal(self.units(self.now, pair)) for pair in pairs}

    def pause(self, seconds: float) -> None:
        self.now += seconds


def test_it_waits_for_the_last_one() -> None:
    world = World(lambda now, pair: "10" if pair == ONE else "5" if now >= 20 else "2")
    assert settle(EXPECTED, world.watch()) == EXPECTED
    assert 20 <= world.now < 32
    assert world.agreed[0] == 1
    assert world.agreed[-1] == 2


def test_an_event_that_comes_a_second_time_is_seen() -> None:
    world = World(lambda now, pair: ("20" if now >= 4 else "10") if pair == ONE else "5")
    assert settle(EXPECTED, world.watch()) == {ONE: Decimal(20), TWO: Decimal(5)}


def test_a_pair_that_agreed_is_read_again_when_the_last_one_comes() -> None:
    world = World(lambda now, pair: ("20" if now >= 10 else "10") if pair == ONE else "5" if now >= 20 else "2")
    assert settle(EXPECTED, world.watch()) == {ONE: Decimal(20), TWO: Decimal(5)}


def test_while_the_stack_is_busy_agreement_is_not_the_end() -> None:
    world = World(lambda now, pair: ("20" if now >= 50 else "10") if pair == ONE else "5", busy_until=55)
    assert settle(EXPECTED, world.watch(patience=200)) == {ONE: Decimal(20), TWO: Decimal(5)}


def test_a_second_event_is_awaited_for_as_long_as_summaries_lag() -> None:
    world = World(lambda now, pair: ("20" if now >= 80 else "10") if pair == ONE else "5")
    assert settle(EXPECTED, world.watch(lag=90)) == {ONE: Decimal(20), TWO: Decimal(5)}


def test_a_lost_event_is_final_when_patience_ends() -> None:
    world = World(lambda now, pair: "10" if pair == ONE else "2")
    assert settle(EXPECTED, world.watch(patience=30)) == {ONE: Decimal(10), TWO: Decimal(2)}
    assert 30 < world.now < 36


def test_patience_begins_anew_with_every_change() -> None:
    world = World(lambda now, pair: str(min(10 if pair == ONE else 5, int(now) // 20)))
    assert settle(EXPECTED, world.watch(patience=25)) == EXPECTED


def test_nothing_expected_is_settled_at_once() -> None:
    world = World(lambda now, pair: "1")
    assert settle({}, world.watch()) == {}
    assert world.now < 10
