"""Every pair of calls on one gate, as scenarios: a prepared world, and two actors (with what happens to time)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, product

from tests.interleave.stage import (
    CREDITS_S,
    Caller,
    Key,
    Process,
    Stage,
    bring_to_rest,
    copy_of,
    each_answer_has_its_event,
    state_of,
)
from tests.interleave.worlds import (
    ADDED_HOURLY,
    ADDED_MEMBER,
    LOWERED,
    SHAPES,
    WATCHED,
    WIDE_MEMBER,
    WITH_MEMBER,
    Base,
    Shape,
    prepared,
)
from tests.support.scheduler import Chooser, explore
from tollgate.accounts.rules import BREAKER
from tollgate.gate.grants import SETTLED_S
from tollgate.gate.reserve import Denied, Granted

ENDINGS = ("swept", "committed", "late")
FAST, SLOW = 3_000, -3_000
MINUTES = 301_000
"""Past the expiry of the prepared reservations."""

Op = Callable[[Caller, Base, int], None]
"""A call on prepared reservation 0 or 1, or on their keys."""


def _reserve(caller: Caller, base: Base, at: int) -> None:
    """A retry of the reservation's own request."""
    caller.reserve(base.keys[at], base.units[at], base.shape.member, meter=base.shape.meters[at].id)


def _reserve_new(caller: Caller, base: Base, at: int) -> None:
    """Another request; one of its kind fits beside what is held, two do not."""
    caller.reserve(Key(f"new{at}", base.world.now_ms), 2, base.shape.member, meter=base.shape.meters[at].id)


def _commit(caller: Caller, base: Base, at: int) -> None:
    caller.commit(base.held[at], base.units[at] - 1)


def _commit_over(caller: Caller, base: Base, at: int) -> None:
    caller.commit(base.held[at], base.units[at] + 9)


def _release(caller: Caller, base: Base, at: int) -> None:
    caller.release(base.held[at])


def _extend(caller: Caller, base: Base, at: int) -> None:
    caller.extend(base.held[at], base.units[at] + 2, 900)


def _reclaim(caller: Caller, base: Base, at: int) -> None:
    caller.pass_time(MINUTES)
    caller.sweep()


def _rollover(caller: Caller, base: Base, at: int) -> None:
    caller.pass_time(base.to_midnight_ms + 1_000)
    caller.reserve(Key(f"next{at}", base.world.now_ms), 3, base.shape.member, meter=base.shape.meters[at].id)


def _lower(caller: Caller, base: Base, at: int) -> None:
    caller.change_rules(LOWERED[base.shape.name])


def _add_limit(caller: Caller, base: Base, at: int) -> None:
    caller.change_rules(ADDED_HOURLY[base.shape.name])


def _add_member_limit(caller: Caller, base: Base, at: int) -> None:
    caller.change_rules(ADDED_MEMBER[base.shape.name])


def _freeze(caller: Caller, base: Base, at: int) -> None:
    caller.change_rules(None, frozen=True)


def _trip(caller: Caller, base: Base, at: int) -> None:
    """A request past what the breaker lets through, and what follows its refusal."""
    key = Key(f"trip{at}", base.world.now_ms)
    found = caller.reserve(key, 9, base.shape.member, meter=base.shape.meters[at].id)
    if isinstance(found, Denied) and found.code == BREAKER:
        caller.change_rules(None, frozen=True)


def _record(caller: Caller, base: Base, at: int) -> None:
    caller.record([Key(f"usage{at}", base.world.now_ms)], 2, base.shape.member, base.shape.meters[at].id)


def _burst(caller: Caller, base: Base, at: int) -> None:
    """Another request and its commit."""
    granted = caller.reserve(Key(f"burst{at}", base.world.now_ms), 6, base.shape.member, meter=base.shape.meters[at].id)
    if isinstance(granted, Granted):
        caller.commit(granted)


def _record_many(caller: Caller, base: Base, at: int) -> None:
    key = Key(f"usage{at}", base.world.now_ms)
    caller.record([key], 9, base.shape.member, base.shape.meters[at].id)


def _record_shared(caller: Caller, base: Base, at: int) -> None:
    """Two usage events, one of which the other caller reports, too."""
    keys = [Key(name, base.world.now_ms) for name in ("usage shared", f"usage{at}")]
    caller.record(keys, 2, base.shape.member, base.shape.meters[at].id)


def _give_again(caller: Caller, base: Base, at: int) -> None:
    """A purchase is told of once more."""
    caller.give(base.shape.grant, "bought before", base.bought_until)


def _give(caller: Caller, base: Base, at: int) -> None:
    """The same purchase, twice where both callers report it."""
    caller.give(3, "bought now")


def _claw_back(caller: Caller, base: Base, at: int) -> None:
    """A refund of more than may be left, told once by each caller."""
    caller.claw_back("bought before", 3, f"refund{at}")


def _refund(caller: Caller, base: Base, at: int) -> None:
    """The same refund, twice where both callers report it."""
    caller.claw_back("bought before", 3, "refund")


def _tidy(caller: Caller, base: Base, at: int) -> None:
    caller.tidy()


def _tidy_later(caller: Caller, base: Base, at: int) -> None:
    """Once the credits of before have ended."""
    caller.pass_time((CREDITS_S + SETTLED_S) * 1000)
    caller.tidy()


def _audit(caller: Caller, base: Base, at: int) -> None:
    caller.audit()


OPS: dict[str, Op] = {
    "reserve": _reserve,
    "reserve new": _reserve_new,
    "commit": _commit,
    "commit over": _commit_over,
    "release": _release,
    "extend": _extend,
    "reclaim": _reclaim,
    "rollover": _rollover,
    "lower limit": _lower,
    "add limit": _add_limit,
    "add member limit": _add_member_limit,
    "freeze": _freeze,
    "record": _record,
    "audit": _audit,
    "give": _give,
    "claw back": _claw_back,
    "refund": _refund,
    "tidy": _tidy,
    "tidy later": _tidy_later,
    "give again": _give_again,
    "burst": _burst,
    "record many": _record_many,
    "record shared": _record_shared,
    "trip": _trip,
}
LIMITS_ONLY = tuple(OPS)[: list(OPS).index("give")]
"""Calls that mean something without money."""
MOVES_TIME = {"reclaim", "rollover", "tidy later"}
MAKES_KEYS = {"reserve new", "record", "record many", "rollover", "burst", "trip"}
KEYED = {"reserve", "commit", "commit over", "release", "extend"}


@dataclass(frozen=True, slots=True)
class Scenario:
    """Two or three calls on one prepared world. `same`: the first two on reservation 0, else on 0 and 1."""

    shape: Shape
    first: str
    second: str
    same: bool = True
    third: str = ""
    """A call on reservation 0."""
    skews: tuple[int, int] = (0, 0)
    stale: bool = False
    """The first caller still has the rules from before a change that is in force."""
    gone: str = ""
    """What happened to the prepared reservations before: `voided`, `expired`, `committed`."""
    plain_keys: bool = False
    crashes: int = 0
    faults: int = 0
    late: bool = False
    before_midnight_ms: int = 100_000

    @property
    def name(self) -> str:
        parts = [" / ".join(self._ops), self.shape.name, "same key" if self.same else "different keys"]
        if any(self.skews):
            parts.append(f"clocks {self.skews[0]:+d}/{self.skews[1]:+d} ms, midnight in {self.before_midnight_ms} ms")
        parts += [word for word, on in (("stale rules", self.stale), ("plain keys", self.plain_keys)) if on]
        parts += [word for word, on in (("crash", self.crashes), ("fault", self.faults)) if on]
        if self.gone:
            parts.append(self.gone)
        return ", ".join(parts)

    @property
    def _ops(self) -> tuple[str, ...]:
        return (self.first, self.second, self.third) if self.third else (self.first, self.second)

    def run(self, chooser: Chooser) -> Stage:
        base = prepared(self.shape, self.before_midnight_ms, self.plain_keys, self.gone, self.stale)
        late = self.late or bool(MOVES_TIME & {*self._ops})
        stage = Stage(copy_of(base.world), chooser, self.crashes, self.faults, late)
        stage.watch.rules.setdefault(base.old_rules.rev, base.old_rules)
        for at, op in enumerate(self._ops):
            rules = base.old_rules if self.stale and at == 0 else base.rules
            call, target = OPS[op], 1 if at == 1 and not self.same else 0

            def body(caller: Caller, call: Op = call, target: int = target) -> None:
                call(caller, base, target)

            stage.add("ABC"[at], Process(self.skews[at] if at < 2 else 0, rules), body)
        stage.run()
        return stage


def explored(scenario: Scenario, endings: tuple[str, ...] = ENDINGS) -> int:
    """Run every interleaving; returns how many. Raises Violation."""
    rested = set()

    def once(chooser: Chooser) -> None:
        stage = scenario.run(chooser)
        each_answer_has_its_event(stage)
        state = state_of(stage)
        if state not in rested:
            rested.add(state)
            for ending in endings:
                bring_to_rest(stage, ending)

    return explore(once)


def sensible(first: str, second: str, same: bool) -> bool:
    """Whether the two relations between keys are two scenarios."""
    return same or {first, second} <= KEYED or (first == second and first in MAKES_KEYS)


CALLS = ("reserve", "reserve new", "commit", "commit over", "release", "extend")
"""What clients send."""
WRITES = (*CALLS, "record")


def plain_pairs() -> Iterator[Scenario]:
    """Each pair of calls, same key and different keys, on both shapes of gates."""
    for shape, (first, second) in product(SHAPES, combinations_with_replacement(LIMITS_ONLY, 2)):
        for same in (True, False):
            if sensible(first, second, same):
                yield Scenario(shape, first, second, same)


def tripping_pairs() -> Iterator[Scenario]:
    """The breaker's limit is met, and the account frozen, beside each call; and one of the two dies."""
    for second, crashes in product((*WRITES, "burst", "record many", "reclaim", "trip"), (0, 1)):
        yield from _both_keys(Scenario(WATCHED, "trip", second, crashes=crashes, before_midnight_ms=43_200_000))
        if second != "trip":
            yield Scenario(WATCHED, second, "reserve new", crashes=crashes, before_midnight_ms=43_200_000)


def _both_keys(scenario: Scenario) -> Iterator[Scenario]:
    yield scenario
    if sensible(scenario.first, scenario.second, False):
        yield replace(scenario, same=False)


def skewed_pairs() -> Iterator[Scenario]:
    """One clock 3 s fast and already in the next day, one 3 s slow: just before midnight and just after."""
    for shape, first, second, before in product(SHAPES, WRITES, WRITES, (1_000, -1_000)):
        yield from _both_keys(Scenario(shape, first, second, skews=(FAST, SLOW), before_midnight_ms=before))


def stale_pairs() -> Iterator[Scenario]:
    """The first caller has the rules from before a lowered limit that is in force."""
    for shape, first, second in product(SHAPES, WRITES, WRITES):
        yield from _both_keys(Scenario(shape, first, second, stale=True))


def pairs_afterwards() -> Iterator[Scenario]:
    """The reservations have been committed, released, or have expired."""
    for shape, gone in product(SHAPES, ("committed", "voided", "expired")):
        for first, second in combinations_with_replacement((*CALLS, "reclaim", "lower limit"), 2):
            yield from _both_keys(Scenario(shape, first, second, gone=gone, before_midnight_ms=43_200_000))


def attempts_at_one_reservation() -> Iterator[Scenario]:
    """Two attempts at one reservation, the account full at first: what one drops of the member's, the other may have
    taken over. A third caller makes room."""
    for third in ("release", "commit"):
        yield Scenario(WIDE_MEMBER, "reserve new", "reserve new", third=third)


def plain_key_pairs() -> Iterator[Scenario]:
    """Keys that are no UUIDv7: their origin is remembered in a dedupe row."""
    for shape, gone in product(SHAPES, ("", "expired")):
        for first, second in combinations_with_replacement((*CALLS, "reclaim"), 2):
            yield Scenario(shape, first, second, gone=gone, plain_keys=True, before_midnight_ms=43_200_000)


def crashing_pairs() -> Iterator[Scenario]:
    """One of the two dies before any one of its calls."""
    for shape in SHAPES:
        for first, second in combinations_with_replacement((*WRITES, "reclaim", "lower limit", "add member limit"), 2):
            yield from _both_keys(Scenario(shape, first, second, crashes=1, before_midnight_ms=43_200_000))


def faulty_pairs() -> Iterator[Scenario]:
    """One call is lost, answered to nobody, applied later, or applied twice."""
    for shape in SHAPES:
        for first, second in combinations_with_replacement((*WRITES, "reclaim"), 2):
            if shape is WITH_MEMBER and first == second == "reclaim":
                continue  # two sweeps of two gates: every third interleaving of all; the account's gate alone must do
            yield from _both_keys(Scenario(shape, first, second, faults=1, before_midnight_ms=43_200_000))


FAMILIES: dict[str, Callable[[], Iterator[Scenario]]] = {
    "plain": plain_pairs,
    "skewed clocks": skewed_pairs,
    "stale rules": stale_pairs,
    "afterwards": pairs_afterwards,
    "attempts at one reservation": attempts_at_one_reservation,
    "plain keys": plain_key_pairs,
    "crash": crashing_pairs,
    "faults": faulty_pairs,
    "breaker": tripping_pairs,
}
