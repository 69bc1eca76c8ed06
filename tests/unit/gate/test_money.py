"""Money caps, credits and waiving on the gate: exact after any sequence of calls."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.gate import NOON, Client, limit, world
from tests.support.memory import World
from tollgate.catalog.model import GrantRule, Limit, Meter, Plan, Price, Tier
from tollgate.errors import AlreadyCommitted, AlreadyReleased, QuantityTooLarge
from tollgate.gate.apply_rules import apply_rules
from tollgate.gate.hold import PAID, unpack
from tollgate.gate.item import GateWrite, Grant
from tollgate.gate.record import Recorded, Reported, record
from tollgate.gate.reserve import Asked, Denied, Granted, reserve
from tollgate.gate.sweep import Swept, sweep_gate
from tollgate.ids import fingerprint, key_hash
from tollgate.quantities import ZERO
from tollgate.rating.bill import Used, bill
from tollgate.usage.grant import FOREVER

CREDITS = Meter("ai_credits", "AI credits", "credit")
TOKENS = Meter("tokens", "Tokens", "token", scale=0)
PER_UNIT = Price("ai_credits", "per_unit", unit_price=Decimal("0.02"))
TIERED = Price(
    "ai_credits",
    "graduated",
    tiers=(
        Tier(Decimal(100), Decimal(0), ZERO),
        Tier(Decimal(500), Decimal("0.01"), ZERO),
        Tier(None, Decimal("0.007"), Decimal("0.50")),
    ),
)
PACKAGES = Price("tokens", "package", package_size=Decimal(1000), package_price=Decimal("0.04"), round="up")
VOLUME = Price(
    "tokens",
    "volume",
    tiers=(Tier(Decimal(1000), Decimal("0.002"), ZERO), Tier(None, Decimal("0.001"), ZERO)),
)


def priced(*prices: Price, cap: str | None = None, version: int = 1, **more: object) -> Plan:
    found = Plan("pro", version, "Pro", prices=prices, spend_cap=None if cap is None else Decimal(cap))
    return replace(found, **more)  # type: ignore[arg-type]


def client_of(plan: Plan) -> Client:
    return Client(world(plan, CREDITS, TOKENS))


def move(client: Client, plan: Plan) -> None:
    """A change of plan as the accounts service makes it: the row, then the gate."""
    client.world.move_to("acme", plan)
    apply_rules(client.deps, client.world.rules("acme"))


def spend(client: Client) -> Decimal:
    money = client.world.gates["acme"].money
    assert money is not None
    return money.spend


def give(of: World, units: int, number: int = 0, meter: int = 0, **more: int) -> None:
    """A grant straight onto the gate."""
    gate = of.gates.get("acme")
    grant = Grant(meter, Decimal(units), more.get("priority", 50), more.get("starts", 0), more.get("ends", FOREVER))
    rev = None if gate is None else gate.rev
    write = GateWrite("acme", rev, of.rules("acme").rev, new_grants=((number, grant),))
    assert of.deps().gates.write(write).applied


def use(client: Client, quantity: int, name: str, meter: str = "ai_credits") -> Recorded:
    """POST /v1/usage with one event."""
    body = f"{name}{quantity}".encode()
    event = Reported(name, key_hash("usage", name), None, fingerprint(body), "acme", None, meter, Decimal(quantity), {})
    return record(client.deps, [event])[0]


# -- caps ----------------------------------------------------------------------------------------------------------


def test_a_cap_is_reached_to_the_cent_and_refuses_the_next_unit() -> None:
    client = client_of(priced(PER_UNIT, cap="20"))
    client.commit(client.granted(400))
    held = client.granted(600)
    assert spend(client) == Decimal(20)
    refused = client.reserve(1)
    assert isinstance(refused, Denied)
    assert refused.code == "spend_cap"
    assert [refused.remaining, refused.requested] == [0, 1]
    assert refused.short is not None
    assert refused.short.source == "plan"
    client.commit(held, 100)
    assert spend(client) == Decimal(10)
    assert isinstance(client.reserve(501), Denied)
    assert isinstance(client.reserve(500), Granted)
    client.check()


def test_the_refusal_says_how_many_units_still_fit() -> None:
    client = client_of(priced(TIERED, cap="3"))
    refused = client.reserve(401)
    assert isinstance(refused, Denied)
    assert refused.remaining == 400  # 100 free, 300 at a cent
    assert isinstance(client.reserve(400), Granted)


def test_a_write_across_a_tier_edge_is_exact() -> None:
    client = client_of(priced(TIERED))
    held = client.granted(550)
    assert spend(client) == Decimal("4.00") + Decimal("0.50") + 50 * Decimal("0.007")
    client.commit(held, 90)
    assert spend(client) == 0
    client.check()


def test_meters_share_one_cap() -> None:
    client = client_of(priced(PER_UNIT, PACKAGES, cap="1"))
    client.commit(client.granted(10_001, meter="tokens"))  # 11 packages at $0.04
    assert spend(client) == Decimal("0.44")
    assert isinstance(client.reserve(29), Denied)
    client.commit(client.granted(28))
    assert spend(client) == Decimal("1.00")
    client.commit(client.granted(999, meter="tokens"))  # the open package costs nothing more
    assert isinstance(client.reserve(1, meter="tokens"), Denied)
    client.check()


def test_a_volume_price_is_capped_by_its_highest_charge() -> None:
    client = client_of(priced(VOLUME, cap="1.50"))
    assert isinstance(client.reserve(751, meter="tokens"), Denied)
    client.commit(client.granted(750, meter="tokens"))
    assert spend(client) == Decimal("1.5")


def test_units_that_cost_nothing_more_are_granted_past_a_lowered_cap() -> None:
    client = client_of(priced(PACKAGES, cap="1"))
    client.commit(client.granted(4_500, meter="tokens"))
    move(client, priced(PACKAGES, cap="0.10", version=2))
    assert isinstance(client.reserve(501, meter="tokens"), Denied)
    assert isinstance(client.reserve(500, meter="tokens"), Granted)
    client.check()


def test_a_plan_change_reprices_and_refills_nothing() -> None:
    client = client_of(priced(PER_UNIT, cap="20"))
    client.commit(client.granted(1000))
    move(client, priced(TIERED, cap="20", version=2))
    assert isinstance(client.reserve(1), Granted)
    assert spend(client) == Decimal("4.50") + 501 * Decimal("0.007")
    move(client, Plan("free", 3, "Free", limits=(limit("daily", 10_000),)))
    client.commit(client.granted(5))
    move(client, priced(PER_UNIT, cap="20", version=4))
    refused = client.reserve(1)
    assert isinstance(refused, Denied)  # 1,000 of the first visit, one held; the free plan's 5 cost nothing
    assert spend(client) == 1001 * Decimal("0.02")
    client.check()


def test_usage_under_a_free_plan_is_not_charged_later() -> None:
    client = client_of(Plan("free", 1, "Free", limits=(limit("daily", 10_000),)))
    held = client.granted(50)
    move(client, priced(PER_UNIT, version=2))
    row = client.commit(held).event
    assert row.items[0].billable == 0
    assert client.commit(client.granted(7)).event.items[0].billable == 7
    assert spend(client) == Decimal("0.14")
    client.check()


def test_a_new_period_starts_at_what_is_held_and_remembers_the_last_ones() -> None:
    client = client_of(priced(PER_UNIT, cap="20"))
    client.commit(client.granted(700))
    held = client.granted(300, ttl=86_400)
    client.world.now_ms = NOON + 10 * 86_400_000  # 1 December
    client.extend(held, ttl=300)
    assert isinstance(client.reserve(701), Denied)
    client.commit(held)
    money = client.world.gates["acme"].money
    assert money is not None
    assert (money.spend, money.past) == (Decimal(6), (Decimal(14),))
    client.world.now_ms += 92 * 86_400_000  # March: two months without a call lie between
    client.commit(client.granted(1))
    money = client.world.gates["acme"].money
    assert money is not None
    assert money.past == (ZERO, ZERO, Decimal(6))
    client.check()


def test_usage_held_under_prices_counts_in_the_period_it_is_recorded_in_after_they_are_gone() -> None:
    client = client_of(priced(PER_UNIT, cap="20"))
    client.commit(client.granted(100))
    held = client.granted(900, ttl=86_400)
    move(client, Plan("free", 2, "Free"))
    client.world.now_ms = NOON + 10 * 86_400_000  # 1 December
    assert client.commit(held).event.items[0].billable == 900
    client.check()
    move(client, priced(PER_UNIT, cap="20", version=3))
    assert isinstance(client.reserve(101), Denied)
    assert isinstance(client.reserve(100), Granted)
    client.check()


def test_usage_of_a_free_meter_begins_no_period() -> None:
    client = client_of(priced(PER_UNIT, cap="20", limits=(limit("tokens", 100, meters=("tokens",)),)))
    client.commit(client.granted(100))
    held = client.granted(9, meter="tokens", ttl=86_400)
    client.world.now_ms = NOON + 10 * 86_400_000
    client.commit(held)
    client.check()


def test_overage_that_is_off_stops_at_the_included_units() -> None:
    client = client_of(priced(TIERED, overage="off"))
    refused = client.reserve(101)
    assert isinstance(refused, Denied)
    assert refused.code == "overage_blocked"
    assert refused.remaining == 100
    client.commit(client.granted(100))
    assert isinstance(client.reserve(1), Denied)
    client.check()


def test_a_charge_of_more_digits_than_the_store_has_is_refused() -> None:
    fine = Price("ai_credits", "per_unit", unit_price=Decimal("123456.123456789012"))
    client = client_of(priced(fine))
    assert isinstance(client.reserve("1.5"), Granted)
    with pytest.raises(QuantityTooLarge):
        client.reserve("999999999999999.999997")


# -- waiving -------------------------------------------------------------------------------------------------------


def test_units_past_the_cap_are_recorded_and_waived() -> None:
    client = client_of(priced(PER_UNIT, cap="2"))
    held = client.granted(90)
    done = client.commit(held, 130)
    assert [done.event.units, done.event.waived, done.event.items[0].billable] == [130, 30, 100]
    assert done.event.over_reserved
    assert spend(client) == 2
    assert use(client, 5, "u1").waived == 5
    assert use(client, 5, "u1").status == "duplicate"
    money = client.world.gates["acme"].money
    assert money is not None
    assert money.paid[0].waived == 35
    client.check()


def test_usage_is_paid_for_as_far_as_the_cap_goes() -> None:
    client = client_of(priced(TIERED, cap="1"))
    found = use(client, 250, "u1")
    assert found.waived == 50  # 100 free, 100 for a dollar
    assert spend(client) == 1
    client.check()


def test_a_late_commit_past_the_cap_is_waived() -> None:
    client = client_of(priced(PER_UNIT, cap="2"))
    late = client.granted(60, ttl=5)
    client.world.now_ms += 10_000
    client.commit(client.granted(80))  # reclaims the dead hold
    done = client.commit(late)
    assert done.event.late
    assert done.event.waived == 40
    assert spend(client) == 2
    client.check()


# -- credits -------------------------------------------------------------------------------------------------------


def test_included_units_then_credits_then_overage() -> None:
    client = client_of(priced(TIERED))
    give(client.world, 50)
    held = client.granted(200)
    parts = [(part.source, part.units) for part in held.holds["account"].parts]
    assert parts == [(PAID, Decimal(100)), (0, Decimal(50)), (PAID, Decimal(50))]
    row = client.commit(held, 120).event.items[0]
    assert row.credits == ((0, Decimal(20)),)
    assert [row.credit_funded, row.billable] == [20, 100]
    assert client.world.gates["acme"].grants[0].left == 30
    assert spend(client) == 0
    client.check()


def test_credits_burn_by_priority_then_expiry_then_age() -> None:
    client = client_of(priced(PER_UNIT))
    now = NOON // 1000
    give(client.world, 5, 0, priority=50)
    give(client.world, 5, 1, priority=50, ends=now + 1000)
    give(client.world, 5, 2, priority=10)
    give(client.world, 5, 3, priority=1, starts=now + 1000)
    give(client.world, 5, 4, priority=1, ends=now)
    held = client.granted(17)
    sources = [(part.source, part.units) for part in held.holds["account"].parts]
    assert sources == [(number, Decimal(units)) for number, units in ((2, 5), (1, 5), (0, 5), (PAID, 2))]
    client.release(held)
    assert [grant.left for grant in client.world.gates["acme"].grants.values()] == [5] * 5
    client.check()


def test_prepaid_only_stops_when_credits_are_spent() -> None:
    plan = priced(overage="off", grants=(GrantRule("ai_credits", Decimal(10), "once"),))
    client = client_of(plan)
    held = client.granted(7)
    refused = client.reserve(4)
    assert isinstance(refused, Denied)
    assert refused.code == "credits_exhausted"
    assert refused.remaining == 3
    assert client.commit(held, 12).event.waived == 2
    client.check()


def test_returned_credits_go_back_to_their_own_grant_also_when_it_expired() -> None:
    client = client_of(priced(PER_UNIT))
    give(client.world, 10, ends=NOON // 1000 + 60)
    held = client.granted(10, ttl=300)
    client.world.now_ms += 120_000
    client.release(held)
    assert client.world.gates["acme"].grants[0].left == 10
    assert [part.source for part in client.granted(1).holds["account"].parts] == [PAID]


# -- members -------------------------------------------------------------------------------------------------------

SEAT = Limit("seat_money", (), "member", None, None, (), None, Decimal("1.00"))


def test_a_members_money_limit_counts_its_own_units() -> None:
    client = client_of(priced(PER_UNIT, limits=(SEAT,)))
    client.commit(client.granted(40, member="ann"))
    refused = client.reserve(11, member="ann")
    assert isinstance(refused, Denied)
    assert (refused.code, refused.per) == ("spend_cap", "member")
    assert refused.remaining == 10
    assert isinstance(client.reserve(50, member="bob"), Granted)
    client.commit(client.granted(10, member="ann"), 30)  # over it: recorded, and the account pays
    assert client.world.gates["acme#ann"].money is not None
    assert isinstance(client.reserve(1, member="ann"), Denied)
    client.check()


def test_a_members_money_limit_that_comes_later_knows_what_was_used() -> None:
    client = client_of(priced(PER_UNIT, limits=(limit("seat", 1000, per="member"),)))
    client.commit(client.granted(40, member="ann"))
    held = client.granted(5, member="ann")
    move(client, priced(PER_UNIT, limits=(SEAT,), version=2))
    assert isinstance(client.reserve(6, member="ann"), Denied)
    assert isinstance(client.reserve(5, member="ann"), Granted)
    client.release(held)
    assert isinstance(client.reserve(5, member="ann"), Granted)
    client.check()


TOKEN_PRICE = Price("tokens", "per_unit", unit_price=Decimal("0.01"))


def test_a_members_money_begins_from_all_its_counters_also_one_that_the_call_does_not_need() -> None:
    client = client_of(priced(PER_UNIT, limits=(SEAT,), unlimited=True))
    client.commit(client.granted(30, meter="tokens", member="ann"))
    move(client, priced(PER_UNIT, TOKEN_PRICE, limits=(SEAT,), unlimited=True, version=2))
    client.commit(client.granted(1, member="ann"))
    client.check()
    refused = client.reserve(35, member="ann")  # 0.30 + 0.02 + 0.70 of 1.00
    assert isinstance(refused, Denied)
    assert refused.remaining == 34


@pytest.mark.parametrize("end", ["release", "sweep"])
def test_a_hold_older_than_a_members_price_ends_without_a_trace(end: str) -> None:
    client = client_of(priced(PER_UNIT, limits=(SEAT,), unlimited=True))
    client.commit(client.granted(20, meter="tokens", member="ann"))
    both = [("ai_credits", 1), ("tokens", 30)]  # of which the member's gate counts one, until tokens have a price
    asked = Asked(
        "acme",
        "ann",
        key_hash("reservation", "both"),
        None,
        fingerprint(b"both"),
        60,
        lambda rules: [rules.item(meter, Decimal(units), {}) for meter, units in both],
    )
    held = reserve(client.deps, asked)
    assert isinstance(held, Granted)
    move(client, priced(TOKEN_PRICE, limits=(SEAT,), unlimited=True, version=2))
    if end == "release":
        client.release(held)
    client.world.now_ms += 400_000
    for gate in list(client.world.gates.values()):
        swept = Swept()
        sweep_gate(client.deps, gate, swept, audit=True)
        assert swept.repaired == []
    assert isinstance(client.reserve(81, meter="tokens", member="ann"), Denied)  # 20 of 100 are used
    assert isinstance(client.reserve(80, meter="tokens", member="ann"), Granted)
    client.check()


def test_a_clock_that_is_behind_begins_no_money_of_a_member_in_the_period_before() -> None:
    client = client_of(priced(PER_UNIT, limits=(limit("seat", 1000, per="member"),)))
    client.world.now_ms = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) * 1000 + 1000
    client.commit(client.granted(10, member="ann"))
    move(client, priced(PER_UNIT, limits=(limit("seat", 1000, per="member"), SEAT), version=2))
    slow = Client(client.world)
    slow.deps = client.world.deps(skew_ms=-2000)
    slow.commit(slow.granted(20, member="ann"))
    client.commit(client.granted(5, member="ann"))
    client.check()
    refused = client.reserve(16, member="ann")
    assert isinstance(refused, Denied)
    assert refused.remaining == 15


# -- any sequence --------------------------------------------------------------------------------------------------

CHEAP = Price("ai_credits", "per_unit", unit_price=Decimal("0.0007"))
MINIMUM = replace(TIERED, minimum=Decimal(1), maximum=Decimal(5))
PLANS = [
    (PER_UNIT, PACKAGES),
    (TIERED, VOLUME),
    (TIERED, PACKAGES),
    (CHEAP, replace(PACKAGES, round="down")),
    (MINIMUM, VOLUME),
    (CHEAP,),
]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_spend_is_the_charge_of_what_is_paid_after_any_sequence(data: st.DataObject) -> None:
    cap = data.draw(st.sampled_from(["0.50", "3", "4.99", "20"]))
    overage = data.draw(st.sampled_from(["on", "on", "off"]))
    seat = data.draw(st.booleans())
    plan = priced(*data.draw(st.sampled_from(PLANS)), cap=cap, overage=overage, limits=(SEAT,) if seat else ())
    client = client_of(plan)
    deps = [client.deps, client.world.deps()]  # two processes, each with what it saw last
    given_units: dict[int, Decimal] = {}
    open_holds: list[Granted] = []
    amounts = st.sampled_from([1, 3, 40, 99, 100, 101, 250, 999, 1000, 1001])
    for index in range(data.draw(st.integers(1, 14))):
        client.deps = data.draw(st.sampled_from(deps))
        meter = data.draw(st.sampled_from(["ai_credits", "ai_credits", "tokens"]))
        if all(price.meter != meter for price in plan.prices):
            meter = "ai_credits"
        member = data.draw(st.sampled_from(["ann", "bob"])) if seat else None
        action = data.draw(
            st.sampled_from(["reserve"] * 4 + ["commit"] * 3 + ["release", "extend", "use", "give", "wait"])
        )
        if action == "reserve":
            found = client.reserve(
                data.draw(amounts), meter=meter, member=member, ttl=data.draw(st.sampled_from([5, 300]))
            )
            if isinstance(found, Granted):
                open_holds.append(found)
            elif found.short is not None and found.per == "account" and found.remaining:
                assert isinstance(client.reserve(str(found.remaining), meter=meter, member=member), Granted)
        elif action in ("commit", "release", "extend") and open_holds:
            held = data.draw(st.sampled_from(open_holds))
            try:
                if action == "commit":
                    client.commit(held, data.draw(st.one_of(st.none(), amounts)))
                elif action == "release":
                    client.release(held)
                else:
                    client.extend(held, data.draw(amounts))
            except (AlreadyCommitted, AlreadyReleased):
                continue
        elif action == "use" and not seat:
            use(client, data.draw(amounts), f"u{index}", meter)
        elif action == "give":
            client.reserve(1)
            number, units = len(given_units), data.draw(amounts)
            given_units[number] = Decimal(units)
            give(client.world, units, number, priority=data.draw(st.integers(1, 3)))
        elif action == "wait":
            client.world.now_ms += data.draw(st.sampled_from([1_000, 20_000, 400_000, 12 * 86_400_000]))
        client.check()
        _holds_all(client, plan, given_units)


def _holds_all(client: Client, plan: Plan, given_units: dict[int, Decimal]) -> None:
    gate = client.world.gates.get("acme")
    if gate is None or gate.money is None:
        return
    rules = client.world.rules("acme")
    assert rules.terms is not None
    assert rules.terms.cap is not None
    start, events = gate.money.period, client.world.events("acme")
    assert gate.money.spend <= max(rules.terms.cap.usable, rules.terms.spend({}))
    paid: dict[str, Decimal] = {}
    burned: dict[int, Decimal] = {}
    for event in events:
        for item in event.items:
            assert item.billable >= 0
            for number, units in item.credits:
                burned[number] = burned.get(number, ZERO) + units
            if event.recorded_s >= start:
                paid[item.meter] = paid.get(item.meter, ZERO) + item.billable
    made = bill(replace(plan, base_fee=ZERO), "usd", {meter: Used(units) for meter, units in paid.items()})
    assert made.usage <= max(Decimal(plan.spend_cap or 0), bill(plan, "usd", {}).usage)
    holds = [unpack(raw) for raw in gate.holds.values()]
    for number, units in given_units.items():
        held = sum((part.units for hold in holds for part in hold.parts if part.source == number), ZERO)
        assert gate.grants[number].left >= 0
        assert units == gate.grants[number].left + held + burned.get(number, ZERO)


def test_of_a_limit_and_money_the_one_that_resets_last_is_named() -> None:
    client = client_of(priced(PER_UNIT, cap="1", limits=(limit("daily", 30),)))
    refused = client.reserve(31)
    assert isinstance(refused, Denied)
    assert refused.code == "limit_reached"
    refused = client.reserve(51)
    assert isinstance(refused, Denied)
    assert refused.code == "spend_cap"
