"""A small client of the gate's services over the in-memory world, and the check every suite ends with."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from tests.support.memory import World
from tollgate.accounts.rules import Item, Rules
from tollgate.catalog.model import Limit, Meter, Plan, condition
from tollgate.gate.commit import Commit, Committed, commit
from tollgate.gate.extend import Extended, extend
from tollgate.gate.hold import incarnation_of
from tollgate.gate.ports import GateDeps
from tollgate.gate.recount import recount, true_counts
from tollgate.gate.release import release
from tollgate.gate.reservation_id import Reservation, decode, encode
from tollgate.gate.reserve import Asked, Denied, Granted, reserve
from tollgate.gate.steps import behind
from tollgate.ids import fingerprint, key_hash
from tollgate.windows import DAY, WindowKind

NOON = 1_795_262_400_000
"""2026-11-21 12:00:00 UTC, in ms."""
SECRET = b"test secret"
CREDITS = Meter("ai_credits", "AI credits", "credit")


def limit(
    name: str,
    most: int | str,
    window: WindowKind = DAY,
    per: str = "account",
    meters: Sequence[str] = ("ai_credits",),
    where: dict[str, str] | None = None,
) -> Limit:
    assert per in ("account", "member")
    return Limit(name, tuple(meters), per, window, None, condition(where or {}), Decimal(most))  # type: ignore[arg-type]


def concurrent(name: str, most: int, per: str = "account") -> Limit:
    assert per in ("account", "member")
    return Limit(name, (), per, None, most, (), None)  # type: ignore[arg-type]


def plan(*limits: Limit, version: int = 1, name: str = "test") -> Plan:
    return Plan(name, version, name, limits=limits)


def daily_plan(most: int, version: int = 1) -> Plan:
    return plan(limit("daily", most), version=version)


def world(of: Plan, *meters: Meter) -> World:
    found = meters or (CREDITS,)
    return World(NOON, {meter.id: meter for meter in found}, of)


class Client:
    """Calls the services as one process would, for one account."""

    def __init__(self, of: World, account: str = "acme", deps: GateDeps | None = None) -> None:
        self.world, self.account = of, account
        self.deps = deps or of.deps()
        self._keys = 0

    def reserve(
        self,
        quantity: int | str,
        key: str | None = None,
        member: str | None = None,
        ttl: int = 300,
        meter: str = "ai_credits",
        dimensions: dict[str, str] | None = None,
        origin_ms: int | None = None,
    ) -> Granted | Denied:
        if key is None:
            self._keys += 1
            key = f"auto-{id(self)}-{self._keys}"
        return reserve(
            self.deps,
            Asked(
                self.account,
                member,
                key_hash("reservation", key),
                origin_ms,
                fingerprint(f"{quantity}{member}{meter}{dimensions}".encode()),
                ttl,
                lambda rules: [rules.item(meter, Decimal(quantity), dimensions or {})],
            ),
        )

    def granted(self, quantity: int | str, **more: object) -> Granted:
        found = self.reserve(quantity, **more)  # type: ignore[arg-type]
        assert isinstance(found, Granted), found
        return found

    def commit(self, held: Granted | Reservation, quantity: int | str | None = None) -> Committed:
        reservation = reservation_of(held)

        def weigh(rules: Rules) -> list[Item]:
            if quantity is None:
                return list(reservation.items)
            first = reservation.items[0]
            return [rules.item(first.meter, Decimal(quantity), first.dimensions)]

        return commit(self.deps, Commit(reservation, weigh))

    def release(self, held: Granted | Reservation) -> None:
        release(self.deps, reservation_of(held))

    def extend(self, held: Granted | Reservation, total: int | None = None, ttl: int | None = None) -> Extended:
        reservation = reservation_of(held)
        first = reservation.items[0]
        expires_at = None if ttl is None else self.deps.clock() // 1000 + ttl
        weigh = None
        if total is not None:
            most = Decimal(total)
            weigh = lambda rules: [rules.item(first.meter, most, first.dimensions)]  # noqa: E731
        return extend(self.deps, reservation, expires_at, weigh)

    def counts(self, limit_id: str, member: str | None = None) -> tuple[Decimal, Decimal]:
        """(taken, held) of a limit's counter."""
        rules = self.world.rules(self.account)
        ruled = next(ruled for ruled in rules.limits if ruled.limit.id == limit_id)
        subject = self.account if member is None else f"{self.account}#{member}"
        count = self.world.gates[subject].counts[ruled.counter.slot]
        return count.taken, count.held

    def taken(self, limit_id: str, member: str | None = None) -> Decimal:
        return self.counts(limit_id, member)[0]

    def check(self) -> None:
        assert_consistent(self.world, self.account)


def reservation_of(held: Granted | Reservation) -> Reservation:
    """Through the signed id, as a client would send it back."""
    if isinstance(held, Granted):
        holds = {per: hold.pack() for per, hold in held.holds.items()}
        made = Reservation(
            held.asked.account, held.asked.member, held.asked.key, holds, held.floor_ms, tuple(held.items), held.taken
        )
        return decode(encode(made, SECRET), SECRET)
    return held


def assert_consistent(of: World, account: str) -> None:
    """Invariant 8: each gate's counters equal its events and open holds."""
    rules = of.rules(account)
    step, of.step = of.step, lambda name: None
    try:
        for subject, gate in list(of.gates.items()):
            owner, _, member = subject.partition("#")
            if owner != account:
                continue
            assert gate.rev > 0, "a gate was left frozen"
            if gate.closed:
                continue
            if behind(rules, gate):
                assert gate.rev < rules.rev, "a gate that is behind was brought to rules that know what it lacks"
                recount(of.deps(), rules, subject, member or None, {})
                gate = of.gates[subject]
            per = "member" if member else "account"
            truth = true_counts(of.deps(), rules, gate, per, member or None, of.now_ms // 1000)
            for slot, count in gate.counts.items():
                true = truth.counts[slot]
                assert true == count, f"{subject} slot {slot}: gate {count}, events and holds {true}"
            if gate.rev == rules.rev:
                assert truth.money == gate.money, f"{subject}: gate {gate.money}, events and holds {truth.money}"
    finally:
        of.step = step


__all__ = ["Client", "assert_consistent", "incarnation_of"]
