"""Prepared worlds: plans with few units, so that calls meet at the caps, and reservations already made on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from tests.interleave.stage import ACCOUNT, CREDITS_S, Caller, Key, Process, Stage, copy_of
from tests.support.gate import CREDITS, limit, plan
from tests.support.memory import World
from tests.support.scheduler import Straight
from tollgate.accounts.rules import Rules
from tollgate.catalog.model import BreakerRule, Meter, Plan
from tollgate.gate.reserve import Granted
from tollgate.windows import HOURLY

MIDNIGHT = 1_796_083_200_000
"""2026-12-01 00:00:00 UTC in ms: a day, a month and a billing period begin."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Which gates take part. `member` set: the member gate and the account gate."""

    name: str
    member: str | None
    meters: tuple[Meter, Meter] = (CREDITS, CREDITS)
    """Of the prepared reservations, and of what is asked for beside them."""
    grant: int = 0
    """Credits that were given before."""


ACCOUNT_ONLY = Shape("account", None)
WITH_MEMBER = Shape("member", "alice")
WIDE_MEMBER = Shape("wide member", "alice")
"""The account's gate is the one that refuses."""
WATCHED = Shape("breaker", None)
"""No limit of the plan is near: the breaker's is."""
SHAPES = (ACCOUNT_ONLY, WITH_MEMBER)

PLANS: dict[str, Plan] = {
    "account": plan(limit("daily", 10)),
    "member": plan(limit("daily", 12), limit("own", 10, per="member")),
    "wide member": plan(limit("daily", 8), limit("own", 12, per="member")),
    "breaker": plan(limit("daily", 1000)),
}
BREAKERS: dict[str, BreakerRule] = {"breaker": BreakerRule(Decimal(10), {CREDITS.id: Decimal(10)})}
LOWERED: dict[str, Plan] = {
    "account": plan(limit("daily", 7), version=2),
    "member": plan(limit("daily", 12), limit("own", 7, per="member"), version=2),
}
ADDED_HOURLY: dict[str, Plan] = {
    "account": plan(limit("daily", 10), limit("hourly", 8, HOURLY), version=3),
    "member": plan(limit("daily", 12), limit("own", 10, per="member"), limit("hourly", 8, HOURLY), version=3),
}
ADDED_MEMBER: dict[str, Plan] = {
    "account": plan(limit("daily", 10), limit("own", 8, per="member"), version=4),
    "member": plan(
        limit("daily", 12), limit("own", 10, per="member"), limit("hourly", 8, HOURLY, per="member"), version=4
    ),
}
"""Plans by version 1 to 4."""


@dataclass(frozen=True, slots=True)
class Base:
    """A world to copy from, and two reservations (of 4 and 3 units) made in it."""

    shape: Shape
    world: World
    rules: Rules
    old_rules: Rules
    """Before the last change, where there was one."""
    keys: tuple[Key, ...]
    units: tuple[int, ...]
    held: tuple[Granted, ...]
    to_midnight_ms: int
    bought_until: int
    """End of the credits that were given before, in epoch seconds."""


def on_stage(world: World, act: Callable[[Caller], None]) -> Stage:
    """Calls that run straight through, under the same checks."""
    stage = Stage(world, Straight(), number=0)

    def body(caller: Caller) -> None:
        act(caller)

    stage.add("setup", Process(), body)
    stage.run()
    return stage


@cache
def prepared(shape: Shape, before_midnight_ms: int, plain_keys: bool, gone: str, stale: bool) -> Base:
    """A base world. `gone`: the reservations were `committed`, `voided` (released) or `expired` (not yet swept)."""
    now = MIDNIGHT - before_midnight_ms
    world = World(now, {meter.id: meter for meter in shape.meters}, PLANS[shape.name], breaker=BREAKERS.get(shape.name))
    keys = tuple(Key(f"k{at}", None if plain_keys else now + at) for at in range(2))
    units = (4, 3)
    member = shape.member
    rules = world.rules(ACCOUNT)

    def prepare(caller: Caller) -> None:
        if shape.grant:
            caller.give(shape.grant, "bought before", now // 1000 + CREDITS_S)
        for key, quantity, meter in zip(keys, units, shape.meters, strict=True):
            caller.reserve(key, quantity, member, meter=meter.id)
        for granted in list(caller.stage.open):
            if gone == "committed":
                caller.commit(granted)
            elif gone == "voided":
                caller.release(granted)
        if gone == "expired":
            caller.pass_time(300_000)
        if stale:
            caller.change_rules(LOWERED[shape.name])

    stage = on_stage(world, prepare)
    settled = copy_of(world)
    return Base(
        shape,
        settled,
        settled.rules(ACCOUNT),
        rules,
        keys,
        units,
        tuple(stage.open),
        MIDNIGHT - settled.now_ms,
        now // 1000 + CREDITS_S,
    )
