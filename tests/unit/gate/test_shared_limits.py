"""Limits that accounts share, through the gate's services: never past the cap, and what goes back when."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tollgate
from tests.interleave.faults import _send as sent
from tests.interleave.faults import faulty
from tests.support.gate import CREDITS, NOON, Client, limit, plan, reservation_of, world
from tests.support.memory import MemoryGates, MemoryShared, World
from tests.support.scheduler import Actor, Chooser, Crashed, Dice, Move, Scheduler, explore
from tests.unit.gate.test_shares import shared, with_shared
from tollgate.accounts.rules import Frozen, Item
from tollgate.catalog.model import Limit, Plan, SharedLimit
from tollgate.errors import AlreadyReleased, Busy, IdempotencyMismatch
from tollgate.gate.apply_rules import apply_rules
from tollgate.gate.commit import Commit, commit
from tollgate.gate.estimate import estimate
from tollgate.gate.hold import meter_units, unpack
from tollgate.gate.item import Gate, GateWrite, Written
from tollgate.gate.ports import AnswerLost, SharedStore
from tollgate.gate.record import Reported, record
from tollgate.gate.reserve import Denied, Granted
from tollgate.gate.shares import FRESH_MS
from tollgate.ids import key_hash
from tollgate.windows import HOURLY

D = Decimal


def free(*limits: SharedLimit, own: tuple[Limit, ...] = (), version: int = 1) -> Plan:
    return replace(plan(*own, version=version, name="free"), shared_limits=limits)


def clients(of: Plan, many: int = 2) -> list[Client]:
    """Accounts on one plan, each called by a process of its own."""
    there = world(of, CREDITS)
    return [Client(there, f"acct{number}") for number in range(many)]


def counted(of: World) -> Decimal:
    return sum(of.shared.values(), D(0))


def refused(found: Granted | Denied) -> Denied:
    assert isinstance(found, Denied), found
    return found


def later(of: World, ms: int = FRESH_MS) -> None:
    of.now_ms += ms


# --- granting and refusing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [5, 100, 300, 2000])
def test_all_accounts_of_a_plan_together_get_the_cap_and_no_more(most: int) -> None:
    some = clients(free(shared(most=most)), 3)
    for number in range(most // 5):
        some[number % 3].granted(5)
    denied = refused(some[0].reserve(1))
    assert (denied.code, denied.requested, denied.remaining) == ("limit_reached", D(1), D(0))
    assert denied.shared_limit is not None
    assert (denied.shared_limit.limit.id, denied.shared_limit.remaining) == ("everyone", D(0))
    assert denied.resets_at == NOON // 1000 + 43_200
    assert counted(some[0].world) == most


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40), st.sampled_from([1, 63, 150, 700, 1100]))
@settings(max_examples=150, derandomize=True, deadline=None)
def test_one_after_another_what_fits_is_granted_to_the_last_unit(asked: list[int], most: int) -> None:
    one, other = clients(free(shared(most=most)))
    total = D(0)
    for number, units in enumerate(asked):
        later(one.world)
        found = (one, other)[number % 2].reserve(units)
        assert isinstance(found, Granted) == (total + units <= most)
        total += units if isinstance(found, Granted) else 0
        assert counted(one.world) == total
        if isinstance(found, Denied):
            assert found.remaining == most - total


def test_each_value_of_a_dimension_has_the_cap_and_none_shares_one() -> None:
    one, other = clients(free(shared("address", 10, dimension="ip")))
    one.granted(10, dimensions={"ip": "a"})
    assert refused(other.reserve(1, dimensions={"ip": "a"})).shared_limit is not None
    other.granted(10, dimensions={"ip": "b"})
    one.granted(7)
    other.granted(3)
    denied = refused(other.reserve(1))
    assert denied.shared_limit is not None
    assert denied.shared_limit.value == ""


def test_the_next_window_is_fresh() -> None:
    one, other = clients(free(shared(most=10, window=HOURLY)))
    one.granted(10)
    assert isinstance(other.reserve(1), Denied)
    one.world.now_ms += 3_600_000
    other.granted(10)
    assert isinstance(one.reserve(1), Denied)


def test_a_refusal_names_the_narrow_limit_first_and_takes_nothing_of_the_other() -> None:
    one, other = clients(free(shared(most=100), shared("address", 10, dimension="ip")))
    one.granted(10, dimensions={"ip": "a"})
    denied = refused(other.reserve(1, dimensions={"ip": "a"}))
    assert denied.shared_limit is not None
    assert denied.shared_limit.limit.id == "address"
    assert counted(one.world) == 20  # ten on each of the two


def test_the_wider_one_refuses_and_the_narrow_one_gets_its_units_back() -> None:
    one, other = clients(free(shared(most=10), shared("address", 8, dimension="ip")))
    one.granted(8, dimensions={"ip": "a"})
    denied = refused(other.reserve(3, dimensions={"ip": "b"}))
    assert denied.shared_limit is not None
    assert (denied.shared_limit.limit.id, denied.remaining) == ("everyone", D(2))
    assert counted(one.world) == 16


def test_a_refusal_by_the_account_s_own_limit_gives_back() -> None:
    one, other = clients(free(shared(most=100), own=(limit("daily", 5),)))
    one.granted(5)
    assert refused(one.reserve(1)).state is not None
    assert counted(one.world) == 5
    other.granted(5)


def test_a_refusal_by_a_member_s_limit_gives_back() -> None:
    one, _ = clients(free(shared(most=100), own=(limit("daily", 5, per="member"),)))
    one.granted(5, member="m")
    assert isinstance(one.reserve(1, member="m"), Denied)
    assert counted(one.world) == 5


def test_a_frozen_account_takes_nothing() -> None:
    one, other = clients(free(shared(most=10)))
    row = one.world.row("acct0")
    one.world.rows["acct0"] = replace(row, frozen=Frozen("abuse", 0), rev=row.rev + 1)
    assert refused(one.reserve(1)).code == "frozen"
    assert counted(one.world) == 0
    other.granted(10)


def test_a_meter_that_only_a_shared_limit_names_is_in_the_plan() -> None:
    (one,) = clients(free(shared(most=10)), 1)
    assert isinstance(one.reserve(1), Granted)


def test_a_plan_without_shared_limits_never_asks_for_the_store() -> None:
    one = Client(world(plan(limit("daily", 5)), CREDITS))
    one.deps = replace(one.deps, shared=_unwanted)
    held = one.granted(3)
    one.extend(held, total=4, ttl=400)
    one.commit(held, 2)
    one.release(one.granted(1))
    assert isinstance(one.reserve(9), Denied)


def _unwanted() -> SharedStore:
    raise AssertionError("asked for")


# --- retries ----------------------------------------------------------------------------------------------------------


def test_a_retry_counts_once_and_is_granted_though_the_cap_is_used_up() -> None:
    one, _ = clients(free(shared(most=10)))
    first = one.granted(6, key="k")
    again = one.granted(6, key="k")
    assert counted(one.world) == 6
    assert again.holds == first.holds
    assert again.taken == ()
    one.granted(4)
    later(one.world)
    third = one.granted(6, key="k")
    assert third.holds == first.holds
    assert counted(one.world) == 10


def test_another_body_under_the_key_takes_nothing() -> None:
    one, _ = clients(free(shared(most=10)))
    one.granted(2, key="k")
    with pytest.raises(IdempotencyMismatch):
        one.reserve(3, key="k")
    assert counted(one.world) == 2


class _LosesAnswers(MemoryGates):
    """Applies the first write of an account's gate and loses its answer."""

    lost = False

    def write(self, write: GateWrite, *, retry: bool = True) -> Written:
        found = super().write(write, retry=retry)
        if not retry and not self.lost:
            self.lost = True
            raise AnswerLost
        return found


def test_after_a_lost_answer_what_was_taken_stays_counted() -> None:
    one, other = clients(free(shared(most=10)))
    one.deps = replace(one.deps, gates=_LosesAnswers(one.world))
    held = one.granted(6)
    assert counted(one.world) == 6
    assert isinstance(other.reserve(5), Denied)
    one.release(held)
    assert counted(one.world) == 6, "the write without an answer may arrive yet"


# --- giving back ------------------------------------------------------------------------------------------------------


def test_a_release_gives_back_to_the_same_shards_once() -> None:
    one, other = clients(free(shared(most=128)))
    small, held = one.granted(10), one.granted(100)  # in pieces: no shard of 64 has room
    before = dict(one.world.shared)
    assert sum(len(taken.pieces) for taken in held.taken) == 2
    one.release(held)
    assert counted(one.world) == 10
    with pytest.raises(AlreadyReleased):
        one.release(held)
    assert counted(one.world) == 10
    assert sum(before.values()) == 110
    later(one.world)
    other.granted(118)
    one.release(small)
    assert counted(one.world) == 118


def test_a_second_release_does_not_take_off_what_others_hold() -> None:
    one, other = clients(free(shared(most=20)))
    other.granted(9)
    held = one.granted(8)
    one.release(held)
    with pytest.raises(AlreadyReleased):
        one.release(held)
    assert counted(one.world) == 9


def test_a_smaller_commit_gives_back_the_rest_once() -> None:
    one, other = clients(free(shared(most=20)))
    other.granted(9)
    held = one.granted(8)
    one.commit(held, 3)
    assert counted(one.world) == 12
    assert one.commit(held, 3).duplicate
    assert counted(one.world) == 12, "a repetition would take off what the other account holds"
    other.granted(8)


def test_what_a_process_gives_back_it_grants_again_at_once() -> None:
    one, _ = clients(free(shared(most=10)))
    held = one.granted(10)
    assert isinstance(one.reserve(1), Denied)
    one.release(held)
    one.granted(10)


def test_others_see_what_was_given_back_a_second_later() -> None:
    one, other = clients(free(shared(most=10)))
    held = one.granted(10)
    assert isinstance(other.reserve(1), Denied)
    one.release(held)
    calls = other.world.calls
    assert isinstance(other.reserve(1), Denied)
    assert other.world.calls == calls + 1, "the account's gate alone is asked: are these the newest rules?"
    later(other.world)
    other.granted(10)


def test_nothing_goes_back_after_the_window() -> None:
    one, other = clients(free(shared(most=10, window=HOURLY)))
    held = one.granted(8)
    one.world.now_ms += 3_600_000
    held_now = other.granted(9)
    one.commit(held, 1)
    assert sorted(one.world.shared.values()) == [8, 9]
    other.release(held_now)
    assert sorted(one.world.shared.values()) == [0, 8]


def test_an_expired_reservation_gives_nothing_back() -> None:
    one, other = clients(free(shared(most=10)))
    one.granted(8, ttl=60)
    one.world.now_ms += 600_000
    one.granted(1)
    assert counted(one.world) == 9
    assert isinstance(other.reserve(2), Denied)


def test_a_late_commit_of_a_released_one_counts_again() -> None:
    one, _ = clients(free(shared(most=10)))
    held = one.granted(6)
    one.release(held)
    assert counted(one.world) == 0
    assert one.commit(held, 5).event.late
    assert counted(one.world) == 5


def test_a_late_commit_of_an_expired_one_is_counted_already() -> None:
    one, _ = clients(free(shared(most=10)))
    held = one.granted(6, ttl=60)
    one.world.now_ms += 600_000
    one.granted(1)  # reclaims it
    assert one.commit(held, 5).event.late
    assert counted(one.world) == 6


def test_a_reservation_id_keeps_what_it_took() -> None:
    one, _ = clients(free(shared(most=1000), shared("address", 100, dimension="ip")))
    held = one.granted("6.25", dimensions={"ip": "a"})
    assert reservation_of(held).taken == tuple(held.taken)
    assert len(held.taken) == 2


# --- more than reserved -----------------------------------------------------------------------------------------------


def test_a_commit_above_its_reservation_counts_what_is_above() -> None:
    one, other = clients(free(shared(most=10)))
    held = one.granted(6)
    assert one.commit(held, 9).event.over_reserved
    assert counted(one.world) == 9
    assert isinstance(other.reserve(2), Denied)
    more = other.granted(1)
    other.commit(more, 5)
    assert counted(one.world) == 14, "what was used counts, past the cap, too"


def test_an_extension_takes_what_it_adds_once() -> None:
    one, other = clients(free(shared(most=100)))
    held = one.granted(10)
    for total in (20, 35, 35, 50):
        assert one.extend(held, total=total).refused is None
    assert counted(one.world) == 50
    assert one.commit(held, 50).event.over_reserved is False
    assert counted(one.world) == 50
    other.granted(50)


def test_an_extension_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    one, other = clients(free(shared(most=100)))
    held = one.granted(10)
    other.granted(80)
    found = one.extend(held, total=30, ttl=900)
    assert found.short is not None
    assert (found.short.requested, found.short.remaining) == (D(20), D(10))
    assert found.expires_at == NOON // 1000 + 300
    assert counted(one.world) == 90
    assert one.extend(held, ttl=900).expires_at == NOON // 1000 + 900
    one.commit(held)


def test_an_extension_that_the_own_limit_refuses_gives_back() -> None:
    one, _ = clients(free(shared(most=100), own=(limit("daily", 20),)))
    held = one.granted(10)
    assert one.extend(held, total=30).refused is not None
    assert counted(one.world) == 10


def test_an_extension_of_an_ended_one_takes_nothing() -> None:
    one, _ = clients(free(shared(most=100)))
    held = one.granted(10)
    one.release(held)
    with pytest.raises(AlreadyReleased):
        one.extend(held, total=30)
    assert counted(one.world) == 0


def test_other_dimensions_at_the_commit_are_counted_there() -> None:
    one, _ = clients(free(shared("address", 10, dimension="ip")))
    held = one.granted(6)
    reservation = reservation_of(held)
    commit(one.deps, Commit(reservation, lambda rules: [rules.item("ai_credits", D(5), {"ip": "a"})]))
    assert sorted(one.world.shared.values()) == [0, 5]


def test_a_commit_after_a_move_to_another_plan_counts_where_it_was_granted() -> None:
    one, _ = clients(free(shared(most=10)))
    held = one.granted(6)
    one.world.move_to("acct0", with_shared(shared(most=10), version=2, name="other"))
    one.deps = one.world.deps()
    one.commit(held, 5)
    assert list(one.world.shared.values()) == [6]
    assert all(name.startswith("%free#") for name in one.world.shared)


# --- plans ------------------------------------------------------------------------------------------------------------


def test_a_new_version_of_the_plan_refills_nothing() -> None:
    one, other = clients(free(shared(most=10)))
    one.granted(8)
    one.world.move_to("acct1", free(shared("renamed", most=12), version=2))
    assert refused(other.reserve(5)).remaining == 4
    other.granted(4)


def test_a_refusal_comes_from_the_newest_rules() -> None:
    one, other = clients(free(shared(most=10)))
    one.granted(10)
    cached = other.deps
    assert isinstance(other.reserve(1), Denied)
    other.world.move_to("acct1", plan(limit("daily", 100), version=2, name="pro"))
    fresh = other.world.deps()
    Client(other.world, "acct1", fresh).granted(1, key="first")
    apply_rules(fresh, other.world.rules("acct1"))
    assert isinstance(Client(other.world, "acct1", cached).reserve(1), Granted)


# --- usage and estimates ----------------------------------------------------------------------------------------------


def reported(account: str, name: str, quantity: int, **dimensions: str) -> Reported:
    return Reported(name, key_hash("usage", name), None, b"body", account, None, "ai_credits", D(quantity), dimensions)


def test_usage_counts_past_the_cap_and_says_so() -> None:
    one, other = clients(free(shared(most=200)))
    one.granted(150)
    (found,) = record(other.deps, [reported("acct1", "a", 30)])
    assert (found.status, found.over_limits) == ("recorded", ())
    (found,) = record(other.deps, [reported("acct1", "b", 45)])
    assert (found.status, found.over_limits) == ("recorded", ("everyone",))
    assert counted(one.world) == 225
    later(one.world)
    assert refused(one.reserve(1)).remaining == 0


def test_usage_that_fits_nowhere_leaves_no_room_elsewhere() -> None:
    one, other = clients(free(shared(most=1024)))
    record(other.deps, [reported("acct1", "a", 5000)])
    assert isinstance(one.reserve(1), Denied)


def test_a_batch_counts_each_value_once_and_duplicates_not_again() -> None:
    one, _ = clients(free(shared("address", 100, dimension="ip")))
    batch = [reported("acct0", "a", 3, ip="x"), reported("acct0", "b", 4, ip="x"), reported("acct0", "c", 5, ip="y")]
    record(one.deps, batch)
    assert sorted(one.world.shared.values()) == [5, 7]
    assert [found.status for found in record(one.deps, batch)] == ["duplicate"] * 3
    assert sorted(one.world.shared.values()) == [5, 7]


def test_an_estimate_asks_and_takes_nothing() -> None:
    one, other = clients(free(shared(most=10)))
    one.granted(8)

    def weigh(units: int) -> Callable[..., list[Item]]:
        return lambda rules: [rules.item("ai_credits", D(units), {})]

    assert estimate(other.deps, "acct1", None, weigh(2)).denied is None
    denied = estimate(other.deps, "acct1", None, weigh(3)).denied
    assert denied is not None
    assert (denied.code, denied.remaining) == ("limit_reached", D(2))
    assert counted(one.world) == 8


# --- races, faults and crashes ----------------------------------------------------------------------------------------


class FaultyShared(MemoryShared):
    """Shards under a scheduler: the SDK sends an addition again, and what is given back once."""

    def __init__(self, there: World, scheduler: Scheduler) -> None:
        super().__init__(there)
        self._scheduler = scheduler

    def add(self, name: str, units: Decimal, most: Decimal | None, ends: int | None) -> tuple[bool, Decimal]:
        def apply() -> tuple[bool, Decimal]:
            return super(FaultyShared, self).add(name, units, most, ends)

        return sent(self._scheduler, f"adds {units} to {name}", ((name, True),), False, apply)

    def take_off(self, name: str, units: Decimal) -> Decimal | None:
        def apply() -> Decimal | None:
            return super(FaultyShared, self).take_off(name, units)

        try:
            return sent(self._scheduler, f"takes {units} off {name}", ((name, True),), True, apply)
        except AnswerLost:
            return None

    def counts(self, names: list[str]) -> list[Decimal]:
        self._scheduler.pause("reads shards", tuple((name, False) for name in names))
        return super().counts(names)


class Race:
    """Callers of several accounts on one cap. After each move, all that the gates hold and have used is counted, and
    what is counted is within the cap. `calls`: units, and then `-` nothing, `r` release, `c` commit of one unit,
    `k` a retry under the same key."""

    def __init__(self, most: int, calls: Sequence[tuple[int, str]]) -> None:
        self.most, self.calls = most, calls
        self.there = world(free(shared(most=most)), CREDITS)
        for number in range(len(calls)):
            self.there.rules(f"acct{number}")
        self.actors = [Actor(f"caller {number}", self.body(number)) for number in range(len(calls))]
        self.granted = 0
        self.used = D(0)
        """Units that stay with a caller that was granted them."""
        self.failed = False

    def body(self, number: int) -> Callable[[Actor], None]:
        units, then = self.calls[number]

        def run(actor: Actor) -> None:
            deps = faulty(self.there, self.scheduler, number, 0, {})
            own = FaultyShared(self.there, self.scheduler)
            client = Client(self.there, f"acct{number}", replace(deps, shared=lambda: own))
            try:
                found = client.reserve(units, key="k")
                if isinstance(found, Denied):
                    return
                self.granted += 1
                if then == "r":
                    client.release(found)
                elif then == "c":
                    client.commit(found, 1)
                    self.used += 1
                else:
                    self.used += units
                    if then == "k":
                        client.granted(units, key="k")
            except Busy:
                self.failed = True

        return run

    def check(self) -> None:
        taken = sum((gate.counts[0].taken - self.dead(gate) for gate in self.there.gates.values()), D(0))
        assert taken <= counted(self.there) <= self.most

    def dead(self, gate: Gate) -> Decimal:
        """Units of a hold that nobody was granted: its write arrived after the reservation had ended."""
        ended = {
            key: row.incarnations for (account, _, key), row in self.there.outcomes.items() if account == gate.subject
        }
        holds = {key: unpack(raw) for key, raw in gate.holds.items()}
        return sum(
            (
                sum(meter_units(hold.groups).values(), D(0))
                for key, hold in holds.items()
                if key in ended and ended[key]["account"] != hold.incarnation
            ),
            D(0),
        )

    def run(self, chooser: Chooser, *, crashes: int = 0, faults: int = 0) -> None:
        watched = Watched(chooser, self.check)
        self.scheduler = Scheduler(self.actors, watched, self.there.clock, crashes=crashes, faults=faults)
        self.scheduler.run()
        self.check()
        for actor in self.actors:
            assert actor.error is None or isinstance(actor.error, Crashed)

    def left(self) -> Decimal:
        """What others get once all is quiet."""
        later(self.there)
        client, got = Client(self.there, "last"), D(0)
        while isinstance(client.reserve(1, key=f"last {got}"), Granted):
            got += 1
        return got


@dataclass
class Watched:
    chooser: Chooser
    check: Callable[[], None]

    def next(self, scheduler: Scheduler) -> Move:
        self.check()
        return self.chooser.next(scheduler)


PAIRS = [
    (10, ((6, "-"), (6, "-"))),
    (10, ((6, "r"), (6, "r"))),
    (10, ((5, "k"), (5, "k"))),
    (10, ((6, "c"), (4, "k"))),
    (128, ((100, "-"), (100, "-"))),
    (128, ((70, "r"), (64, "-"))),
]


@pytest.mark.parametrize(("most", "calls"), PAIRS)
def test_no_interleaving_of_two_callers_passes_the_cap(most: int, calls: tuple[tuple[int, str], ...]) -> None:
    granted = set()

    def once(chooser: Chooser) -> None:
        race = Race(most, calls)
        race.run(chooser)
        assert race.used + race.left() == most, "without faults nothing is lost: what fits is granted"
        granted.add(race.granted)

    assert explore(once) > 1
    assert granted - {0}


@pytest.mark.parametrize(("most", "calls"), PAIRS)
def test_nor_with_a_crash_or_a_lost_delayed_or_doubled_write(most: int, calls: tuple[tuple[int, str], ...]) -> None:
    left = set()

    def once(chooser: Chooser, crashes: int, faults: int) -> None:
        race = Race(most, calls)
        race.run(chooser, crashes=crashes, faults=faults)
        left.add(race.used + race.left() - most)

    assert explore(lambda chooser: once(chooser, 1, 0)) > 10
    assert explore(lambda chooser: once(chooser, 0, 1)) > 10
    assert max(left) <= 0
    assert min(left) < 0, "a fault costs others units: it counts too much"


@given(
    st.integers(0, 2**32),
    st.sampled_from([7, 100, 130, 200, 300]),
    st.lists(st.tuples(st.integers(1, 120), st.sampled_from("-rck")), min_size=3, max_size=3),
    st.integers(0, 1),
    st.integers(0, 3),
)
@settings(max_examples=400, derandomize=True, deadline=None)
def test_three_callers_with_crashes_and_faults_never_pass_the_cap(
    seed: int, most: int, calls: list[tuple[int, str]], crashes: int, faults: int
) -> None:
    race = Race(most, calls)
    race.run(Dice(Random(seed), chance=0.3), crashes=crashes, faults=faults)
    left = race.left()
    assert race.used + left <= most
    if not crashes and not faults and not race.failed:
        assert race.used + left == most


def test_the_gate_starts_without_their_modules() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(tollgate.__file__).parents[1])}
    code = "import sys, tollgate.wiring, tollgate.http.gate_routes; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "tollgate.gate.reserve" in ran.stdout.split()
    assert not {f"tollgate.gate.{name}" for name in ("shares", "shared", "shared_store")} & set(ran.stdout.split())
