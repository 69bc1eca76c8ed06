"""Seats that are not pooled: each member burns the units of its own seat, whoever else is at work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.sizing import value_size
from tests.support.gate import Client, limit, world
from tests.support.memory import World
from tests.support.scheduler import EVERYTHING, Actor, Chooser, Scheduler, explore
from tests.unit.gate.test_grants import DAY_MS, _conserved, monthly, row
from tests.unit.gate.test_identify import GUEST, KNOWN, identify
from tests.unit.gate.test_money import CREDITS, PER_UNIT, TIERED, TOKENS, move, priced, spend
from tollgate.catalog.model import Meter, Plan, Price, Seats
from tollgate.errors import AlreadyCommitted, AlreadyReleased
from tollgate.gate import seats
from tollgate.gate.estimate import Estimate, estimate
from tollgate.gate.grants import MAX_GRANTS, OUTLIVED_S, SETTLED_S, give
from tollgate.gate.hold import PAID
from tollgate.gate.item import Level
from tollgate.gate.record import Recorded, Reported, record
from tollgate.gate.reserve import Denied, Granted
from tollgate.gate.store import _grant
from tollgate.gate.sweep import Swept, sweep_gate
from tollgate.ids import fingerprint, key_hash
from tollgate.quantities import ZERO
from tollgate.rating.bill import Used, bill, paid_units
from tollgate.usage.grant import whose
from tollgate.usage.ledger import Standing, fixed_entries

EACH = Decimal(10)
SEATS = Meter("seats", "Seats", "seat", kind="level")


def team(price: Price = PER_UNIT, many: int = 2, each: Decimal = EACH, **more: object) -> Plan:
    """`many` seats, each with units of its own; `more`: other fields of the plan."""
    plan = priced(replace(price, included_per_seat=each))
    return replace(plan, seats=Seats(Decimal(40), many, False, "seats"), **more)  # type: ignore[arg-type]  # as named


def client_of(plan: Plan) -> Client:
    return Client(world(plan, CREDITS, TOKENS, SEATS))


def other(client: Client) -> Client:
    """Another process."""
    return Client(client.world, client.account, client.world.deps())


def used(client: Client, quantity: int, member: str | None = None) -> Decimal:
    """Reserve and commit; returns what is billed of it."""
    return client.commit(client.granted(quantity, member=member)).event.items[0].billable


def own(client: Client, member: str, account: str = "acme") -> list[Decimal]:
    """What is left of a member's own."""
    grants = client.world.gates[account].grants.values()
    return [grant.left for grant in grants if grant.whose == whose(member)]


def set_seats(client: Client, many: int) -> None:
    """The level of seats, by another process."""
    gate = client.world.gates["acme"]
    slot = client.world.rules("acme").row.meters.index("seats")
    client.world.gates["acme"] = replace(gate, levels={slot: Level(1, Decimal(many), client.world.now_ms)})


def asked_price(client: Client, quantity: int, member: str | None) -> Estimate:
    return estimate(client.deps, "acme", member, lambda rules: [rules.item("ai_credits", Decimal(quantity), {})])


# -- whose units are burned ----------------------------------------------------------------------------------------


def test_who_has_used_its_own_pays_while_another_still_has_units() -> None:
    client = client_of(team())
    assert used(client, 10, "ann") == 0
    assert used(client, 4, "bob") == 0
    assert used(client, 7, "ann") == 7
    assert used(client, 8, "bob") == 2
    assert spend(client) == 9 * Decimal("0.02")
    assert [own(client, "ann"), own(client, "bob")] == [[0], [0]]
    client.check()
    _conserved(client)


def test_one_request_is_paid_by_the_seat_as_far_as_that_goes() -> None:
    client = client_of(team(TIERED))
    first = client.granted(15, member="ann").holds["account"].parts
    assert [tuple(part) for part in first] == [(0, 0, Decimal(10)), (0, PAID, Decimal(5))]
    client.check()


def test_a_seat_pays_before_the_units_that_are_included_for_all() -> None:
    """Units of seats are taken off before the tiers: what is included for all is there for whoever has no seat left."""
    client = client_of(team(TIERED, many=1))
    assert used(client, 60, "ann") == 50
    assert used(client, 50) == 50
    assert spend(client) == 0  # 100 are included
    assert used(client, 1) == 1
    assert spend(client) == Decimal("0.01")
    client.check()


def test_credits_that_were_bought_are_for_all_and_come_after_the_seats_own() -> None:
    client = client_of(team())
    give(client.deps, client.world.rules("acme"), row(5, "pi_1"))
    assert used(client, 12, "ann") == 0
    assert used(client, 4) == 1
    assert used(client, 10, "bob") == 0
    client.check()


def test_a_request_that_names_no_member_burns_nobodys_own() -> None:
    client = client_of(team(overage="off"))
    assert used(client, 3, "ann") == 0
    refused = client.reserve(1)
    assert isinstance(refused, Denied)
    assert refused.code == "overage_blocked"
    exhausted = client.reserve(8, member="ann")
    assert isinstance(exhausted, Denied)
    assert (exhausted.code, exhausted.remaining) == ("credits_exhausted", Decimal(7))


def test_a_refused_request_burns_nothing() -> None:
    client = client_of(team(limits=(limit("daily", 5),)))
    assert isinstance(client.reserve(6, member="ann"), Denied)
    assert own(client, "ann") == [10]


# -- how many seats there are --------------------------------------------------------------------------------------


def test_whoever_comes_after_the_last_seat_pays() -> None:
    client = client_of(team())
    assert [used(client, 1, member) for member in ("ann", "bob", "cyd")] == [0, 0, 1]
    assert own(client, "cyd") == []


def test_a_seat_that_comes_during_a_period_brings_its_units_at_once() -> None:
    client = client_of(team())
    for member in ("ann", "bob", "cyd"):
        used(client, 1, member)
    set_seats(client, 3)  # this process does not know of it
    assert used(client, 4, "cyd") == 0
    set_seats(client, 1)
    assert used(client, 9, "ann") == 0  # what was given stays until the period ends
    client.world.now_ms += 10 * DAY_MS
    assert [used(client, 1, member) for member in ("cyd", "bob", "ann")] == [0, 0, 1]  # two at least
    client.check()


def test_a_commit_above_its_reservation_finds_the_seat_that_came_meanwhile() -> None:
    client = client_of(team(many=1))
    used(client, 1, "ann")
    held = client.granted(1, member="bob")
    set_seats(client, 2)
    assert client.commit(held, 8).event.items[0].billable == 1  # who paid for a unit that is held stays


def test_a_new_period_brings_new_units_and_the_old_ones_leave_the_gate() -> None:
    client = client_of(team())
    assert used(client, 6, "ann") == 0
    assert used(client, 1, "bob") == 0
    client.world.now_ms += 10 * DAY_MS
    assert used(client, 10, "ann") == 0  # and no more: what was left is over
    assert used(client, 1, "ann") == 1
    _swept(client)
    assert [own(client, "ann"), own(client, "bob")] == [[0], []]
    client.world.now_ms += 40 * DAY_MS  # and nobody asks any more
    _swept(client)
    assert own(client, "ann") == []
    _conserved(client)
    client.check()


def _swept(client: Client) -> None:
    for _ in range(2):
        client.world.now_ms += (SETTLED_S + OUTLIVED_S) * 1000
        sweep_gate(client.deps, client.world.gates["acme"], Swept(), audit=True)


@pytest.mark.parametrize("price", [PER_UNIT, TIERED])
def test_a_seat_that_comes_between_look_and_write_is_not_overlooked(price: Price) -> None:
    client = client_of(team(price, many=1))
    used(client, 1, "ann")
    billed: list[Decimal] = []

    def step(name: str) -> None:
        if name == "gate.write":
            client.world.step = lambda name: None
            set_seats(client, 2)
            billed.append(used(other(client), 3, "bob"))

    client.world.step = step
    billed.append(used(client, 2, "bob"))
    assert billed == [0, 0]
    assert own(client, "bob") == [5]


def test_the_number_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats, "MAX_OWN", 3)
    client = client_of(team(many=50))
    assert [used(client, 1, f"m{number}") for number in range(5)] == [0, 0, 0, 1, 1]
    assert used(client, 9, "m0") == 0


def test_seats_take_no_room_from_credits_that_are_bought() -> None:
    client = client_of(team(many=10))
    for number in range(10):
        used(client, 1, f"m{number}")
    for number in range(MAX_GRANTS):
        give(client.deps, client.world.rules("acme"), row(1, f"pi_{number}"))
    assert used(client, MAX_GRANTS) == 0


@pytest.mark.parametrize("crashes", [0, 1])
def test_the_last_seat_goes_to_one(crashes: int) -> None:
    """Two members in two processes after one seat, in every order of their store calls, also where one dies."""
    members = ("ann", "bob")

    def once(chooser: Chooser) -> None:
        client = client_of(team(many=1))
        client.release(client.granted(1))
        of, done = client.world, dict[str, Granted]()

        def work(member: str) -> None:
            done[member] = Client(of, deps=of.deps()).granted(3, member=member)

        actors = [Actor(member, lambda me: work(me.name)) for member in members]
        scheduler = Scheduler(actors, chooser, of.clock, crashes=crashes)
        of.step = lambda name: scheduler.pause(name, EVERYTHING) and None
        scheduler.run()
        of.step = lambda name: None
        for held in done.values():
            client.commit(held)
        billed = sorted(event.items[0].billable for event in of.events("acme"))
        assert billed in ([0, 3], *([[0], [3], []] if crashes else []))
        grants = of.gates["acme"].grants
        assert len(seats.holders(grants.values(), of.now_ms // 1000)) <= 1
        standing = {number: Standing(grant.left, ZERO, ZERO) for number, grant in grants.items()}
        shown = fixed_entries(of.grants.get("acme", []), standing, of.now_ms // 1000)
        assert [entry.grant.number for entry in shown] == [*grants], "what nobody got is not shown"
        client.check()
        _conserved(client)

    assert explore(once) > 100


# -- other plans ---------------------------------------------------------------------------------------------------


def test_another_plan_and_back_gives_nothing_twice() -> None:
    client = client_of(team())
    assert used(client, 10, "ann") == 0
    assert used(client, 2, "bob") == 0
    move(client, priced(PER_UNIT, version=2))
    assert used(client, 3, "bob") == 0  # what was given stays
    assert used(client, 1, "ann") == 1
    move(client, replace(team(), version=3))
    assert used(client, 1, "ann") == 1
    assert used(client, 6, "bob") == 1
    move(client, replace(team(each=Decimal(25)), version=4))
    assert used(client, 15, "ann") == 0  # the difference
    assert used(client, 1, "ann") == 1
    client.check()
    _conserved(client)


def test_a_pool_and_single_seats_of_one_period_give_what_the_larger_would() -> None:
    pooled = replace(team(), seats=Seats(Decimal(40), 2, True, "seats"))
    client = client_of(team())
    assert used(client, 10, "ann") == 0
    move(client, replace(pooled, version=2))
    assert used(client, 10) == 0  # the pool is 20
    assert used(client, 1, "ann") == 1
    move(client, replace(team(), version=3))
    assert used(client, 1, "bob") == 1
    client.world.now_ms += 10 * DAY_MS
    move(client, replace(pooled, version=4))
    assert used(client, 20, "ann") == 0
    move(client, replace(team(), version=5))
    assert used(client, 1, "ann") == 1
    client.check()


def test_single_seats_beside_a_grant_for_all() -> None:
    client = client_of(team(grants=(monthly(5),)))
    assert used(client, 12, "ann") == 0  # its own 10, and 2 of all
    assert used(client, 4) == 1
    client.check()


def test_what_seats_were_given_is_no_part_of_a_grant_for_all() -> None:
    client = client_of(team())
    assert used(client, 1, "ann") == 0
    move(client, replace(team(grants=(monthly(5),)), version=2))
    assert used(client, 6) == 1
    client.check()


# -- where units go back to ----------------------------------------------------------------------------------------


def test_what_is_not_used_returns_to_its_member() -> None:
    client = client_of(team())
    used(client, 1, "bob")
    held, later = client.granted(8, member="ann"), client.granted(5, member="ann")
    assert own(client, "ann") == [0]
    client.release(held)
    assert own(client, "ann") == [8]
    client.commit(later, 1)
    assert own(client, "ann") == [9]
    assert own(client, "bob") == [9]
    assert client.commit(client.granted(2, member="ann"), 11).event.items[0].billable == 2
    client.check()
    _conserved(client)


def test_a_late_commit_burns_its_members_own() -> None:
    client = client_of(team())
    used(client, 9, "bob")
    held = client.granted(6, member="ann", ttl=5)
    client.world.now_ms += 4 * 3600_000
    sweep_gate(client.deps, client.world.gates["acme"], Swept(), audit=True)
    assert own(client, "ann") == [10]
    done = client.commit(held)
    assert done.event.late
    assert done.event.items[0].billable == 0
    assert [own(client, "ann"), own(client, "bob")] == [[4], [1]]
    client.check()
    _conserved(client)


def test_a_late_commit_may_be_its_members_first_request_of_a_period() -> None:
    client = client_of(team())
    held = client.granted(6, member="ann", ttl=5)
    client.world.now_ms += 10 * DAY_MS
    sweep_gate(client.deps, client.world.gates["acme"], Swept(), audit=True)
    assert client.commit(held).event.items[0].billable == 0
    assert own(client, "ann")[-1] == 4
    client.check()


def test_an_extension_burns_its_members_own() -> None:
    client = client_of(team())
    used(client, 1, "bob")
    held = client.granted(6, member="ann")
    assert client.extend(held, 12).refused is None
    assert client.commit(held, 12).event.items[0].billable == 2
    assert own(client, "bob") == [9]
    client.check()


# -- usage without reservation -------------------------------------------------------------------------------------


def reported(client: Client, *sent: tuple[str | None, int], name: str = "u") -> list[Recorded]:
    """POST /v1/usage with one event for each (member, quantity)."""
    events = []
    for index, (member, quantity) in enumerate(sent):
        id_, body = f"{name}{index}", f"{name}{index}{member}{quantity}".encode()
        events.append(
            Reported(
                id_,
                key_hash("usage", id_),
                None,
                fingerprint(body),
                client.account,
                member,
                "ai_credits",
                Decimal(quantity),
                {},
            )
        )
    return record(client.deps, events)


def billed_of(client: Client) -> dict[str | None, Decimal]:
    """Billable units by member."""
    found: dict[str | None, Decimal] = {}
    for event in client.world.events("acme"):
        found[event.member] = found.get(event.member, ZERO) + event.items[0].billable
    return found


def test_one_batch_of_several_members_is_paid_by_the_seat_of_each() -> None:
    client = client_of(team())
    sent = (("ann", 8), ("bob", 3), (None, 2), ("ann", 5), ("cyd", 1))
    assert [one.status for one in reported(client, *sent)] == ["recorded"] * 5
    assert billed_of(client) == {"ann": 3, "bob": 0, None: 2, "cyd": 1}
    assert [one.status for one in reported(client, *sent)] == ["duplicate"] * 5
    assert [own(client, "ann"), own(client, "bob")] == [[0], [7]]
    client.check()
    _conserved(client)


# -- looking -------------------------------------------------------------------------------------------------------


def test_a_price_asked_for_knows_the_own_units_and_takes_no_seat() -> None:
    client = client_of(team(many=1))
    before = asked_price(client, 12, "ann")
    assert [before.quote.credits, before.quote.overage] == [10, 2]
    assert before.denied is None
    assert "acme" not in client.world.gates
    assert used(client, 4, "bob") == 0  # the seat was still there
    assert asked_price(client, 12, "ann").quote.credits == 0
    assert asked_price(client, 7, "bob").quote.credits == 6
    assert asked_price(client, 7, None).quote.credits == 0


def test_a_price_asked_for_where_overage_is_off() -> None:
    client = client_of(team(overage="off", many=1))
    assert asked_price(client, 10, "ann").denied is None
    denied = asked_price(client, 11, "ann").denied
    assert denied is not None
    assert denied.code == "credits_exhausted"
    used(client, 1, "bob")
    late = asked_price(client, 1, "ann").denied
    assert late is not None
    assert late.code == "overage_blocked"


# -- one account becomes another -----------------------------------------------------------------------------------


def guest_and_known(plan: Plan) -> tuple[World, Client, Client]:
    of = world(plan, CREDITS, TOKENS, SEATS)
    return of, Client(of, GUEST), Client(of, KNOWN)


def test_what_members_have_left_comes_along_as_far_as_there_are_seats() -> None:
    of, guest, known = guest_and_known(team())
    assert used(guest, 4, "ann") == 0
    assert used(guest, 1, "bob") == 0
    assert used(known, 3, "cyd") == 0
    held = guest.granted(2, member="ann")
    identify(of)
    assert own(known, "ann", KNOWN) == [4]
    assert own(known, "bob", KNOWN) == []  # two seats: cyd's, and that of who came first
    guest.release(held)
    assert used(known, 6, "ann") == 0
    assert used(known, 1, "ann") == 1
    assert used(known, 1, "bob") == 1
    assert used(known, 7, "cyd") == 0
    known.check()


def test_a_member_that_had_its_units_here_gets_none_from_there() -> None:
    of, guest, known = guest_and_known(team())
    assert used(guest, 4, "ann") == 0
    assert used(known, 9, "ann") == 0
    identify(of)
    assert used(known, 1, "ann") == 0
    assert used(known, 1, "ann") == 1
    known.check()


# -- as the bill says ----------------------------------------------------------------------------------------------

PRICES = (
    PER_UNIT,
    TIERED,
    Price("ai_credits", "package", package_size=Decimal(7), package_price=Decimal("0.50"), round="up"),
    replace(TIERED, scheme="volume", tiers=TIERED.tiers[1:]),
)
steps = st.tuples(
    st.sampled_from(["ann", "bob", "cyd", "dan", None]),
    st.sampled_from([1, 3, 9, 10, 11, 40, 90]),
    st.sampled_from(["exactly", "less", "more", "released", "usage"]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(price=st.sampled_from(PRICES), many=st.integers(0, 3), done=st.lists(steps, min_size=1, max_size=14))
def test_what_rows_say_is_billable_is_what_the_bill_says(
    price: Price, many: int, done: list[tuple[str | None, int, str]]
) -> None:
    plan = team(price, many=many)
    client = client_of(plan)
    for number, (member, quantity, how) in enumerate(done):
        if how == "usage":
            reported(client, (member, quantity), name=f"u{number}-")
            continue
        held = client.granted(quantity, member=member)
        if how == "released":
            client.release(held)
        else:
            client.commit(held, {"exactly": None, "less": (quantity + 1) // 2, "more": quantity + 5}[how])
    client.check()
    _conserved(client)
    by_member: dict[str | None, Decimal] = {}
    for event in client.world.events("acme"):
        by_member[event.member] = by_member.get(event.member, ZERO) + event.units
    seated = list(_seated(done))[:many]
    total = sum(by_member.values(), ZERO)
    of_seats = Used(total, by_seat=tuple(by_member.get(member, ZERO) for member in seated))
    billable = sum(billed_of(client).values(), ZERO)
    assert billable == paid_units(plan, plan.prices[0], of_seats, many)
    flat = replace(plan, seats=None, prices=(price,))
    assert (
        bill(flat, "usd", {"ai_credits": Used(billable)}).usage
        == bill(plan, "usd", {"ai_credits": of_seats}, many).usage
    )
    terms = client.world.rules("acme").terms
    assert terms is not None
    assert spend(client) == terms.spend({0: billable})


def _seated(done: list[tuple[str | None, int, str]]) -> Iterator[str]:
    """Who has a seat: members in the order in which they came."""
    seen: set[str] = set()
    for member, _, _ in done:
        if member is not None and member not in seen:
            seen.add(member)
            yield member


def test_the_entry_of_a_seat_is_small() -> None:
    """What docs/money.md says a seat costs: 18 of them to the KB."""
    client = client_of(team(many=100, each=Decimal(2500)))
    for number in range(100):
        used(client, 7, f"member-{number}")
    entries = client.world.gates["acme"].grants
    size = sum(len(str(number)) + 1 + value_size(_grant(entry)) for number, entry in entries.items())
    assert 50 <= size / len(entries) <= 56


# -- any sequence --------------------------------------------------------------------------------------------------

PLANS = (
    team(),
    team(TIERED, each=Decimal(25), grants=(monthly(30),)),
    replace(team(many=3), seats=Seats(Decimal(40), 3, True, "seats")),
    priced(TIERED, grants=(monthly(15, 20),), overage="off"),
)
ACTIONS = ["reserve"] * 5 + ["commit"] * 3 + ["release", "extend", "usage", "wait", "plan", "seats", "sweep"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_unit_is_accounted_for_and_no_seat_has_more_than_it_brings(data: st.DataObject) -> None:
    client = client_of(PLANS[0])
    second = other(client)
    held: list[Granted] = []
    of, amounts = client.world, st.sampled_from([1, 3, 10, 24, 40])
    for number in range(data.draw(st.integers(1, 18))):
        action, by = data.draw(st.sampled_from(ACTIONS)), data.draw(st.sampled_from([client, second]))
        member = data.draw(st.sampled_from(["ann", "bob", "cyd", None]))
        if action == "reserve":
            found = by.reserve(data.draw(amounts), member=member, ttl=data.draw(st.sampled_from([5, 300, 86_400])))
            held += [found] if isinstance(found, Granted) else []
        elif action == "usage":
            reported(by, (member, data.draw(amounts)), ("ann", 2), name=f"u{number}-")
        elif action in ("commit", "release", "extend") and held:
            one = held[data.draw(st.integers(0, len(held) - 1))]
            if action == "extend":
                with suppress(AlreadyCommitted, AlreadyReleased):
                    by.extend(one, data.draw(amounts))
                continue
            held.remove(one)
            if action == "commit":
                by.commit(one, data.draw(st.one_of(st.none(), amounts)))
            else:
                with suppress(AlreadyReleased):
                    by.release(one)
        elif action == "wait":
            of.now_ms += data.draw(st.sampled_from([1_000, 10_000, 4 * 3600_000, 11 * DAY_MS]))
        elif action == "plan":
            move(client, replace(data.draw(st.sampled_from(PLANS)), version=10 + number))
        elif action == "seats" and "acme" in of.gates:
            set_seats(client, data.draw(st.integers(0, 4)))
        elif action == "sweep" and "acme" in of.gates:
            _swept(client)
        client.check()
        _conserved(client)
        _as_brought(client)


def _as_brought(client: Client) -> None:
    """No member was given more of one period than the largest seat brings, and nobody has more than it was given."""
    given: dict[tuple[bytes, int], Decimal] = {}
    gate = client.world.gates.get("acme")
    for grant in () if gate is None else gate.grants.values():
        assert 0 <= grant.left <= grant.units + grant.carried
        if grant.whose:
            given[grant.whose, grant.starts] = given.get((grant.whose, grant.starts), ZERO) + grant.units
    assert all(units <= 25 for units in given.values())
