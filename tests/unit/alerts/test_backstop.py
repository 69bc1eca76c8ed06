"""The scheduled look: accounts that were just active, their members, and nobody twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from tests.support.gate import Client, limit, plan, world
from tests.support.memory import World
from tests.support.telling import Told
from tollgate.accounts.rules import Rules
from tollgate.alerts.backstop import BackstopDeps, look
from tollgate.errors import Busy
from tollgate.gate.sweep import Swept, sweep_gate
from tollgate.usage.markers import SHARDS, Marker, shard_of

SEAL_S = 300


@dataclass
class Marks:
    """Markers of accounts that were active in the current window."""

    world: World
    active: list[str] = field(default_factory=list)

    def of_shard(self, shard: int) -> Iterator[Marker]:
        window = self.world.now_ms // 1000 // SEAL_S * SEAL_S
        yield from (Marker(account, window, window, SEAL_S) for account in self.active if shard_of(account) == shard)


class Stage:
    def __init__(self) -> None:
        self.world = world(plan(limit("daily", 10), limit("each", 5, per="member")))
        self.told, self.marks, self.calls = Told(), Marks(self.world), 0
        memory = self.world.deps()
        self.deps = BackstopDeps(
            memory.gates, memory.rules, self.marks, memory.outcomes, self.told, lambda: self.world.now_ms
        )

    def used(self, account: str, units: int, member: str = "ann") -> None:
        client = Client(self.world, account)  # its gates tell nobody: as if each of its calls had died
        self.calls += 1
        client.commit(client.granted(units, key=f"call {self.calls}", member=member))


def test_what_active_accounts_and_their_members_passed_is_told_once() -> None:
    stage = Stage()
    stage.used("acme", 4)
    stage.used("acme", 3, "bob")
    stage.used("other", 5)
    stage.marks.active = ["acme"]
    looked = look(stage.deps)
    assert (looked.accounts, looked.told, looked.failures) == (1, 4, [])
    assert stage.told.marks() == [50]
    assert (stage.told.marks(member="ann"), stage.told.marks(member="bob")) == ([80], [50])
    puts = stage.told.puts
    assert look(stage.deps).told == 0
    assert stage.told.puts == puts, "what is known is not even put"


def test_members_of_a_plan_without_member_limits_are_not_looked_for() -> None:
    stage = Stage()
    stage.world.plan = stage.world.plans[1] = plan(limit("daily", 10))
    stage.used("acme", 5)
    stage.marks.active = ["acme"]

    class NoRows:
        def events_between(self, account: str, first_ms: int, last_ms: int) -> Iterator[object]:
            raise AssertionError("rows are read for members alone")

    assert look(replace(stage.deps, rows=NoRows())).told == 1  # type: ignore[arg-type]


def test_an_account_that_fails_keeps_no_other_from_its_look(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    for account in ("acme", "beta", "gamma"):
        stage.used(account, 5)
    stage.marks.active = ["acme", "beta", "gamma"]
    get = stage.deps.rules.get

    def broken(account: str, accept: object = None) -> Rules:
        if account == "beta":
            raise Busy
        return get(account)

    monkeypatch.setattr(stage.deps.rules, "get", broken)
    looked = look(stage.deps)
    assert looked.accounts == 2
    assert {alert.account for alert in stage.told.alerts} == {"acme", "gamma"}
    (failure,) = looked.failures
    assert isinstance(failure, Busy)
    assert failure.__notes__ == ["beta"]


def test_a_run_without_time_says_so_and_the_next_begins_elsewhere() -> None:
    stage = Stage()
    accounts = [f"a{number}" for number in range(64)]
    for account in accounts:
        stage.used(account, 5)
    stage.marks.active = accounts
    seen: set[str] = set()
    for _ in range(SHARDS):
        times = iter([True] * 4)
        looked = look(stage.deps, lambda times=times: next(times, False))  # type: ignore[misc]
        assert looked.left
        assert looked.accounts == 4
        seen |= {alert.account for alert in stage.told.alerts}
        stage.world.now_ms += 60_000
    assert len({shard_of(account) for account in seen}) == len({shard_of(account) for account in accounts})


def test_a_gate_that_is_frozen_or_ahead_waits_for_the_next_run() -> None:
    stage = Stage()
    stage.used("acme", 5)
    stage.marks.active = ["acme"]
    gate = stage.world.gates["acme"]
    for rev in (-1, 99):
        stage.world.gates["acme"] = replace(gate, rev=rev)
        assert stage.told.marks() == []
        look(stage.deps)
    assert stage.told.marks() == []


def test_the_sweep_lets_a_gate_be_looked_at_once_it_is_done_with_it() -> None:
    stage = Stage()
    client = Client(stage.world)
    client.granted(5, member="ann", ttl=300)
    stage.world.now_ms += 400_000
    seen: list[tuple[str, str | None, int]] = []

    def glance(rules: Rules, gate: object, member: str | None) -> None:
        seen.append((rules.account, member, len(gate.holds)))  # type: ignore[attr-defined]

    for subject in ("acme", "acme#ann"):
        sweep_gate(client.deps, stage.world.gates[subject], Swept(), audit=True, look=glance)
    assert seen == [("acme", None, 0), ("acme", "ann", 0)]
