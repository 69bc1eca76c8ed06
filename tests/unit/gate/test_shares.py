"""How a shared cap is parted, which counters a request takes from, and what to do with what is known of them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.gate import CREDITS, NOON, plan, world
from tollgate.accounts.rules import Item, Rules
from tollgate.catalog.model import Meter, Plan, SharedLimit, condition
from tollgate.gate.shares import (
    FRESH_MS,
    KNOWN,
    LEAST_PART,
    PLAN_SHARDS,
    VALUE_SHARDS,
    Known,
    Look,
    Refuse,
    Send,
    Share,
    parts,
    wanted,
)
from tollgate.gate.shares import plan as planned
from tollgate.windows import DAY, HOURLY, LIFETIME, MINUTE, WindowKind

D = Decimal
NOON_S = NOON // 1000
MIDNIGHT = NOON_S - 43_200
TOKENS = Meter("tokens", "Tokens", "token")


def shared(
    name: str = "everyone",
    most: int | str = 1000,
    window: WindowKind = DAY,
    dimension: str | None = None,
    meters: tuple[str, ...] = ("ai_credits",),
    where: dict[str, str] | None = None,
) -> SharedLimit:
    return SharedLimit(name, meters, window, condition(where or {}), D(most), dimension)


def with_shared(*limits: SharedLimit, version: int = 1, name: str = "free") -> Plan:
    return replace(plan(version=version, name=name), shared_limits=limits)


def rules(*limits: SharedLimit, name: str = "free") -> Rules:
    return world(with_shared(*limits, name=name), CREDITS, TOKENS).rules("acme")


def item(units: int | str = 1, meter: str = "ai_credits", **dimensions: str) -> Item:
    return Item(meter, D(units), D(units), dimensions)


# --- parts -----------------------------------------------------------------------------------------------------------

caps = st.decimals(min_value=0, max_value=10**15, places=6, allow_nan=False).map(D)


@given(caps, st.sampled_from([PLAN_SHARDS, VALUE_SHARDS]))
@settings(max_examples=400, derandomize=True)
def test_parts_add_up_to_the_cap_exactly(most: Decimal, shards: int) -> None:
    found = parts(most, shards)
    assert sum(found) == most
    assert 1 <= len(found) <= shards
    assert min(found) >= 0
    assert max(found) - min(found) < 2
    assert all(part == int(part) for part in found[:-1])
    assert len(found) == 1 or min(found) >= LEAST_PART


@pytest.mark.parametrize(("most", "many"), [("0", 1), ("0.5", 1), ("127", 1), ("128", 2), ("1000", 15), ("5000", 16)])
def test_small_caps_have_fewer_shards(most: str, many: int) -> None:
    assert len(parts(D(most), PLAN_SHARDS)) == many


# --- what a request takes from ----------------------------------------------------------------------------------------


def test_several_items_count_once_by_units() -> None:
    (share,) = wanted(rules(shared()), [item(2), item("1.5", model="x")], NOON_S)
    assert (share.units, share.window, share.ends, share.value) == (D("3.5"), MIDNIGHT, MIDNIGHT + 86_400, None)


def test_each_value_of_a_dimension_has_a_counter_of_its_own() -> None:
    limit = shared(dimension="ip")
    found = wanted(rules(limit), [item(1, ip="a"), item(2, ip="b"), item(4, ip="a")], NOON_S)
    assert {share.value: share.units for share in found} == {"a": D(5), "b": D(2)}
    assert len({share.base for share in found}) == 2


def test_requests_that_do_not_name_the_dimension_share_one_counter() -> None:
    limit = shared(dimension="ip")
    (none,) = wanted(rules(limit), [item(1)], NOON_S)
    (empty,) = wanted(rules(limit), [item(1, ip="", device="x")], NOON_S)
    assert none.value == ""
    assert none == empty


def test_where_and_meters_apply() -> None:
    limit = shared(where={"model": "big-*"})
    assert wanted(rules(limit), [item(1, model="small"), item(1), item(1, "tokens", model="big-1")], NOON_S) == []
    (share,) = wanted(rules(limit), [item(1, model="big-1"), item(2, model="small")], NOON_S)
    assert share.units == 1


def test_values_come_before_the_plan_and_what_resets_last_comes_first() -> None:
    limits = [
        shared("hour", window=HOURLY),
        shared("ever", window=LIFETIME),
        shared("day"),
        shared("ip_minute", window=MINUTE, dimension="ip"),
        shared("ip_day", dimension="ip"),
    ]
    found = wanted(rules(*limits), [item()], NOON_S)
    assert [share.limit.id for share in found] == ["ip_day", "ip_minute", "ever", "day", "hour"]


def test_two_limits_of_one_counter_take_once_and_the_lower_binds() -> None:
    (share,) = wanted(rules(shared("a", 500), shared("b", 300), shared("c", 400)), [item(2)], NOON_S)
    assert (share.limit.id, share.units) == ("b", D(2))


def test_a_counter_is_named_by_what_it_counts_not_by_limit_id_or_maximum() -> None:
    def base(limit: SharedLimit, name: str = "free") -> str:
        return wanted(rules(limit, name=name), [item(1, ip="a", model="x")], NOON_S)[0].base

    same = base(shared())
    assert base(shared("other", 5)) == same
    assert same.startswith("%free#")
    others = [
        base(shared(), name="pro"),
        base(shared(window=HOURLY)),
        base(shared(dimension="ip")),
        base(shared(dimension="model")),
        base(shared(where={"model": "x"})),
        base(shared(meters=("ai_credits", "tokens"))),
    ]
    assert len({same, *others}) == 7


def test_no_value_stands_in_a_key() -> None:
    (share,) = wanted(rules(shared(dimension="ip")), [item(1, ip="192.0.2.77")], NOON_S)
    assert "192" not in share.base


# --- what to do next --------------------------------------------------------------------------------------------------


def share(most: int = 192, units: int = 1) -> Share:
    """Three shards of 64."""
    return Share(shared(most=most), None, "%free#x", MIDNIGHT, MIDNIGHT + 86_400, D(units))


def test_a_request_goes_to_any_shard_with_room() -> None:
    sends = {planned(share(), D(10), {0: D(60)}, random, looked=False) for random in range(6)}
    assert sends == {Send(1, D(10)), Send(2, D(10))}


def test_where_no_shard_is_known_to_have_room_all_are_read_first() -> None:
    full = {0: D(60), 1: D(60), 2: D(60)}
    assert planned(share(), D(10), full, 0, looked=False) == Look()
    assert planned(share(), D(10), full, 0, looked=True) == Send(0, D(4))
    assert planned(share(), D(13), full, 0, looked=True) == Refuse(D(12))
    assert planned(share(), D(65), {}, 0, looked=False) == Look()


def test_forced_units_take_from_what_other_shards_may_grant() -> None:
    over = {0: D(150), 1: D(0), 2: D(0)}
    assert planned(share(), D(42), over, 0, looked=True) == Send(1, D(42))
    assert planned(share(), D(43), over, 0, looked=True) == Refuse(D(42))
    assert planned(share(), D(1), {0: D(300), 1: D(0), 2: D(0)}, 0, looked=True) == Refuse(D(0))


# --- what a process knows ---------------------------------------------------------------------------------------------


def test_it_refuses_by_what_it_saw_for_a_second() -> None:
    known = Known()
    known.saw(share().counter, 0, D(3))
    assert not known.fresh(share(), NOON)
    known.looked(share(), [D(1), D(2), D(3)], NOON)
    assert known.counts(share()) == {0: D(1), 1: D(2), 2: D(3)}
    assert known.fresh(share(), NOON + FRESH_MS - 1)
    assert not known.fresh(share(), NOON + FRESH_MS)
    assert not known.fresh(share(), NOON - 1), "a clock that was put back proves nothing"


def test_it_remembers_a_bounded_number_of_counters() -> None:
    known = Known()
    for number in range(KNOWN + 1):
        one = share()._replace(base=f"%free#{number}")
        known.looked(one, [D(1)], NOON)
    assert known.counts(share()._replace(base="%free#0")) == {}
    assert not known.fresh(share()._replace(base="%free#0"), NOON)
    assert known.counts(share()._replace(base="%free#1")) == {0: D(1)}


def test_a_part_of_the_shards_stands_for_the_others() -> None:
    known = Known()
    assert known.state(share(), NOON, 6) is None
    known.saw(share().counter, 1, D(10))
    state = known.state(share(), NOON, 6)
    assert state is not None
    assert (state.counted, state.remaining, state.exact) == (D(30), D(162), False)
    known.looked(share(), [D(1), D(2), D(200)], NOON)
    state = known.state(share(), NOON, 6)
    assert state is not None
    assert (state.counted, state.remaining, state.exact) == (D(203), D(0), True)
