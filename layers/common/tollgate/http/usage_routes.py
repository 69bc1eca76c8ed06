"""Where an account stands: `GET /v1/accounts/{id}/usage`, what the next reservation will see."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any, Protocol

from tollgate.accounts.rules import Rules
from tollgate.accounts.service import AccountDeps
from tollgate.catalog.model import Price, level_meters
from tollgate.clock import rfc3339, rfc3339_ms
from tollgate.gate import seats
from tollgate.gate.funding import burn_order
from tollgate.gate.item import Gate, Money, Paid
from tollgate.gate.levels import Standing, standing
from tollgate.gate.limits import states
from tollgate.gate.money import state_of
from tollgate.gate.recurring import foreseen, give_due
from tollgate.gate.shown import member_states, with_counters
from tollgate.http import answers
from tollgate.http.requests import account_id
from tollgate.http.routing import Request, Response, Route
from tollgate.projection import MeterState, project
from tollgate.projection import Money as Rated
from tollgate.quantities import ZERO, plain
from tollgate.rating.bill import Used, bill
from tollgate.rating.charge import included
from tollgate.usage.grant import FOREVER, grant_id, whose
from tollgate.usage.outcome import ACCOUNT
from tollgate.windows import PERIOD, Window, window_at

_UNPAID = Paid(ZERO, ZERO)


class UsageDeps(Protocol):
    @property
    def accounts(self) -> AccountDeps: ...


def get_usage(deps: UsageDeps, request: Request) -> Response:
    """Read from the gates; a member's limits and its seat's units where `member` is given."""
    gate_deps = deps.accounts.gate
    rules = deps.accounts.rules.fresh(account_id(request.params["id"], "id"))
    member = request.query.get("member")
    if member is not None:
        account_id(member, "member")
    now_ms = gate_deps.clock()
    now = now_ms // 1000
    gate = with_counters(gate_deps, rules, gate_deps.gates.read(rules.account), None, ())
    gate = give_due(gate_deps, rules, gate)
    period = window_at(PERIOD, rules.row.calendar, now)
    money = None if rules.terms is None else state_of(rules, rules.terms, ACCOUNT, gate, now).money
    levels = [standing(rules, gate, meter) for meter in sorted(level_meters(rules.meters)) if rules.covers(meter)]
    used = {meter: _used(rules, meter, gate, period) for meter in rules.meters if rules.period_counter(meter)}
    account_limits = [ruled for ruled in rules.limits if ruled.limit.per == "account"]
    limits = states(rules, account_limits, gate, None, now) + [state for one in levels for state in one.limits]
    if member is not None:
        limits += member_states(gate_deps, rules, member)
    frozen = rules.row.frozen
    return Response(
        200,
        {
            "as_of": rfc3339_ms(now_ms),
            "plan": {"id": rules.plan.id, "version": rules.plan.version, "name": rules.plan.name},
            "period": {"start": rfc3339(period.start), "end": answers.time_or_null(period.end)},
            "meters": [_meter(rules, meter, units, money) for meter, units in used.items()]
            + [_level_meter(rules, one) for one in levels],
            "limits": answers.limit_states(limits),
            "spend": _spend(rules, money, used, levels, gate, period, now),
            "credits": _credits(rules, gate, now, member),
            "frozen": None if frozen is None else {"reason": frozen.reason, "since": rfc3339(frozen.since)},
        },
    )


def _used(rules: Rules, meter: str, gate: Gate | None, period: Window) -> Decimal:
    """Units of the meter in this billing period, open reservations aside."""
    counter = rules.period_counter(meter)
    assert counter is not None
    count = None if gate is None else gate.counts.get(counter.slot)
    return ZERO if count is None or count.window < period.start else count.taken - count.held


def _paid(rules: Rules, meter: str, money: Money | None) -> Paid:
    return _UNPAID if money is None else money.paid.get(rules.row.meters.index(meter), _UNPAID)


def _meter(rules: Rules, meter: str, used: Decimal, money: Money | None) -> dict[str, Any]:
    """`included` null: all units are; `overage` null: the plan has no price for the meter."""
    terms = rules.terms
    funding = None if terms is None else terms.fundings.get(rules.row.meters.index(meter))
    paid = _paid(rules, meter, money)
    overage = None
    if funding is not None:
        settled = paid.taken - paid.held
        overage = ZERO if funding.included is None else max(settled - funding.included, ZERO)
    return {
        "id": meter,
        "used": plain(used),
        "included": None if funding is None or funding.included is None else plain(funding.included),
        "overage": None if overage is None else plain(overage),
        "credit_funded": plain(paid.credited),
        "waived": plain(paid.waived),
    }


def _level_meter(rules: Rules, level: Standing) -> dict[str, Any]:
    """A level among the meters: `used` is what it stands at."""
    price = next((price for price in rules.plan.prices if price.meter == level.meter), None)
    free = ZERO if price is None else included(price)
    return {
        "id": level.meter,
        "used": plain(level.units),
        "included": None if price is None or free is None else plain(free),
        "overage": None if price is None else plain(ZERO if free is None else max(level.units - free, ZERO)),
        "credit_funded": plain(ZERO),
        "waived": plain(ZERO),
    }


def _spend(
    rules: Rules,
    money: Money | None,
    used: dict[str, Decimal],
    levels: list[Standing],
    gate: Gate | None,
    period: Window,
    now: int,
) -> dict[str, Any] | None:
    """Charges so far, as the invoice would round them; `held` is what open reservations may add. `levels` is what the
    levels come to as they stand: no part of `usage`, which the promises are about."""
    priced = {level.meter: Used(level.units) for level in levels}
    # What seats bring comes as credits, so that positions are without it already.
    summed = tuple(_without_seats(price) for price in rules.plan.prices if price.meter not in priced)
    sums, many = replace(rules.plan, prices=summed), int(seats.counted(rules, gate))
    of_levels = tuple(price for price in rules.plan.prices if price.meter in priced)
    if money is None and not of_levels:
        return None
    plan, terms = rules.plan, rules.terms
    standing_charge = bill(replace(plan, prices=of_levels), plan.currency, priced).usage
    states = {}
    for price in sums.prices:
        paid = _paid(rules, price.meter, money)
        settled = paid.taken - paid.held
        # What was used while the plan had no price for it is not paid for either: only what is may be rated.
        unpaid = max(used.get(price.meter, ZERO) - settled, ZERO)
        slot = rules.row.meters.index(price.meter)
        credits, own = _available(gate, slot, now, b""), _own(gate, slot, now)
        states[price.meter] = MeterState(Used(settled + unpaid, unpaid), credits=credits, own=own)
    rated = bill(sums, plan.currency, {meter: state.used for meter, state in states.items()}, many)
    held, cap, overage = ZERO, None, True
    if money is not None and terms is not None:
        held = money.spend - terms.spend({slot: paid.taken - paid.held for slot, paid in money.paid.items()})
        cap = terms.cap
        overage = not any(funding.stopped_by for funding in terms.fundings.values())
    most = None if cap is None else cap.amount
    promised = Rated(sums, plan.currency, rated.usage, seats=many, cap=most, overage=overage)
    projected = None
    if period.end is not None:
        projected = project((period.start, period.end), now, states, rules.meters, promised, rules.row.created_at)
    return {
        "usage": plain(rated.usage),
        "levels": plain(standing_charge),
        "held": plain(held),
        "base_fee": plain(plan.base_fee),
        "total": plain(rated.total + standing_charge),
        "cap": None if cap is None else plain(cap.amount),
        "projected_total": None if projected is None else plain(projected.total + standing_charge),
        "currency": plan.currency,
    }


def _without_seats(price: Price) -> Price:
    return replace(price, included_per_seat=ZERO)


def _available(gate: Gate | None, slot: int, now: int, mine: bytes) -> Decimal:
    """Credits of a meter that could be burned now."""
    if gate is None:
        return ZERO
    return sum((gate.grants[number].left for number in burn_order(gate.grants, slot, now, mine)), ZERO)


def _own(gate: Gate | None, slot: int, now: int) -> tuple[tuple[Decimal, Decimal], ...]:
    """(used, left) of each seat's own units of a meter."""
    grants = () if gate is None else gate.grants.values()
    own = (grant for grant in grants if grant.whose and grant.meter == slot and grant.starts <= now < grant.ends)
    return tuple((grant.units - grant.left, grant.left) for grant in own)


def _credits(rules: Rules, gate: Gate | None, now: int, member: str | None) -> list[dict[str, Any]]:
    """By meter; grants in the order in which they burn, those to come last. A seat's own are shown to its member."""
    seen = foreseen(rules, gate, now, member)
    if seen is None:
        return []
    mine, found = whose(member), []
    for slot in sorted({grant.meter for grant in seen.grants.values()}):
        usable = burn_order(seen.grants, slot, now, mine)
        later = [n for n, grant in sorted(seen.grants.items()) if grant.meter == slot and grant.starts > now]
        grants = [
            {
                "id": None if gate is None or number not in gate.grants else grant_id(number),
                "available": plain(grant.left),
                "priority": grant.priority,
                "effective_at": answers.time_or_null(grant.starts or None),
                "expires_at": None if grant.ends == FOREVER else rfc3339(grant.ends),
                "member": member if grant.whose else None,
            }
            for number in (*usable, *later)
            if (grant := seen.grants[number]).burned_by(mine)
        ]
        if grants:
            available = plain(_available(seen, slot, now, mine))
            found.append({"meter": rules.row.meters[slot], "available": available, "grants": grants})
    return found


ROUTES = (Route("GET", "/v1/accounts/{id}/usage", ("read",), get_usage, "getUsage"),)
