"""The price of a plan in one sentence, for the pricing page.

    First 100 messages free, then $0.02 each, capped at $20/month

Everything that decides what is paid is in it: base fee, seats, tiers, credits, packs, minimum, maximum and caps; limits
only where nothing is charged by usage. Prices are what the customer pays: a markup is in them. Limits that accounts
share guard against abuse and are no part of what one of them buys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from tollgate.catalog.model import GrantRule, Limit, Meter, Plan, Price, Tier
from tollgate.catalog.wording import Noun, money, noun, number, rate
from tollgate.quantities import ZERO
from tollgate.rating.charge import with_markup

_EVERY = {"once": "once", "day": "each day", "week": "each week", "month": "each month", "year": "each year"}


def sentence(plan: Plan, meters: Mapping[str, Meter], currency: str) -> str:
    """The sentence, without a full stop. `meters` are the plan version's, by id."""
    text = _head(plan, currency)
    free = "included" if text else "free"
    shown = [meters[price.meter] for price in plan.prices]
    found = [_clause(plan, price, noun(meters[price.meter], shown), free, currency) for price in plan.prices]
    clauses = [clause for clause in found if clause]
    mark = ";" if len(clauses) > 1 else ","
    if clauses and text:
        text += " with " if clauses[0].split(", ")[0].endswith(" included") else " plus "
    text += "; ".join(clauses)
    packs = _packs(plan, meters, currency)
    if not text and packs and plan.overage == "off" and plan.prices and not plan.grants:
        text, packs = packs, ""  # nothing else can be used
    text = text or "Free"
    if not clauses:
        text += _limits(plan, meters)
    for grant in plan.grants:
        text += f"{mark} plus {_grant(plan, grant, meters)}"
    caps = _caps(plan, currency)
    if caps and clauses:
        text += f"{mark} {'capped' if free == 'free' else 'usage capped'} at {caps}"
    if packs:
        text += f"{mark} extra {packs}"
    return text[:1].upper() + text[1:]


def _caps(plan: Plan, currency: str) -> str:
    caps = [money(plan.spend_cap, currency) + f"/{plan.period.interval}"] if plan.spend_cap is not None else []
    for limit in plan.limits:
        if limit.amount is not None:
            caps.append(f"{money(limit.amount, currency)}/{plan.period.interval} per member")
    return " and ".join(caps)


def _packs(plan: Plan, meters: Mapping[str, Meter], currency: str) -> str:
    shown = [meters[pack.meter] for pack in plan.packs]
    each = [
        f"of {noun(meters[pack.meter], shown).counted(pack.units)} for {money(pack.price, currency)}"
        for pack in plan.packs
    ]
    return "packs " + " and ".join([", ".join(each[:-1]), each[-1]] if each[1:] else each) if each else ""


def _head(plan: Plan, currency: str) -> str:
    """What is due whether or not anything is used."""
    parts = []
    if plan.base_fee:
        parts.append(f"{money(plan.base_fee, currency)}/{plan.period.interval}")
    if plan.seats is not None and plan.seats.unit_price:
        least = f" ({plan.seats.minimum} at least)" if plan.seats.minimum > 1 else ""
        parts.append(f"{money(plan.seats.unit_price, currency)}/{plan.period.interval} per seat{least}")
    return " plus ".join(parts)


def _clause(plan: Plan, price: Price, counted: Noun, free: str, currency: str) -> str:
    """What is said about one price; empty where the plan sells nothing of this meter."""
    steps = []
    if price.included_per_seat and plan.seats is not None:
        steps.append(f"{counted.counted(price.included_per_seat)} per seat {free}")
    if price.scheme == "package":
        if plan.overage != "off":
            steps.append(_then(plan, bool(steps)) + _package(price, counted, currency))
    elif price.scheme == "volume" and len(price.tiers) > 1:
        if plan.overage != "off":
            steps.append(_then(plan, bool(steps)) + _volume(price, counted, currency))
    else:
        steps += _graduated(plan, price, counted, free, currency, bool(steps))
    if steps and price.minimum:
        steps.append(f"at least {money(price.minimum, currency)}/{plan.period.interval}")
    if steps and price.maximum is not None:
        steps.append(f"at most {money(price.maximum, currency)}/{plan.period.interval}")
    return ", ".join(steps)


def _then(plan: Plan, later: bool) -> str:
    """What stands before a price: that it comes after something, and that it must be switched on."""
    words = [*(["then"] if later else []), *(["if switched on"] if plan.overage == "opt_in" else [])]
    return ", ".join(words) + (", " if plan.overage == "opt_in" else " ") if words else ""


def _graduated(plan: Plan, price: Price, counted: Noun, free: str, currency: str, later: bool) -> Iterator[str]:
    """One step for each tier. Usage that the plan does not sell (`overage: off`) ends the sentence."""
    asked = False
    for tier in _tiers(price):
        end = "" if tier.up_to is None else f" up to {number(tier.up_to)}"
        if not tier.unit_price and not tier.flat:
            if later:
                yield f"then {free}{end}"
            elif tier.up_to is None:
                yield f"unlimited {counted.many} {free}"
            else:
                yield (
                    f"{counted.counted(tier.up_to)} included"
                    if free == "included"
                    else (f"first {counted.counted(tier.up_to)} free")
                )
        elif plan.overage == "off":
            return
        else:
            before = ("then " if later else "") if asked else _then(plan, later)
            asked = True
            if later:
                yield f"{before}{_each(tier, currency)}{end}"
            elif tier.up_to is None:
                yield f"{before}{_each(tier, currency, counted)}"
            else:
                yield f"{before}first {counted.counted(tier.up_to)} {_each(tier, currency)}"
        later = True


def _tiers(price: Price) -> Iterator[Tier]:
    """The tiers with the markup in their prices; neighbours at one price as one."""
    if price.unit_price is not None:
        yield Tier(None, with_markup(price.unit_price, price.markup), ZERO)
        return
    before: Tier | None = None
    for tier in price.tiers:
        marked = Tier(tier.up_to, with_markup(tier.unit_price, price.markup), with_markup(tier.flat, price.markup))
        if before is not None and (marked.flat or marked.unit_price != before.unit_price):
            yield before
            before = None
        before = marked if before is None else before._replace(up_to=marked.up_to)
    if before is not None:
        yield before


def _each(tier: Tier, currency: str, counted: Noun | None = None) -> str:
    """`$0.02 each`, `$5 per 1,000,000`, `$10 flat and $0.02 each`; with the noun: `$0.02 per message`."""
    words = [f"{money(tier.flat, currency)} flat"] if tier.flat else []
    if tier.unit_price:
        shown, many = rate(tier.unit_price, currency)
        said = money(shown, currency)
        if many > 1:
            words.append(f"{said} per {number(many)}{f' {counted.many}' if counted else ''}")
        elif counted and counted.one:
            words.append(f"{said} per {counted.one}")
        else:
            words.append(f"{said} each{f' for {counted.many}' if counted else ''}")
    elif counted:
        words.append(f"for any number of {counted.many}")
    return " and ".join(words) if tier.unit_price else " ".join(words)


def _volume(price: Price, counted: Noun, currency: str) -> str:
    words = []
    for tier in _tiers(price):
        said = _each(tier, currency) or "free"
        words.append(f"{said} above" if tier.up_to is None else f"{said} up to {number(tier.up_to)}")
    return f"one price for all {counted.many}: {', '.join(words)}"


def _package(price: Price, counted: Noun, currency: str) -> str:
    assert price.package_price is not None
    assert price.package_size is not None
    kind = "started" if price.round == "up" else "full"
    return f"{money(with_markup(price.package_price, price.markup), currency)} per {kind} {_many(price, counted)}"


def _many(price: Price, counted: Noun) -> str:
    assert price.package_size is not None
    if price.package_size == 1:
        return counted.one or counted.many
    return f"{number(price.package_size)} {counted.many}"


def _grant(plan: Plan, grant: GrantRule, meters: Mapping[str, Meter]) -> str:
    counted = noun(meters[grant.meter], [meters[price.meter] for price in plan.prices])
    every = f"each {plan.period.interval}" if grant.every == "period" else _EVERY[grant.every]
    return f"{counted.counted(grant.units)} {every}"


def _limits(plan: Plan, meters: Mapping[str, Meter]) -> str:
    """The limits on all usage of a meter, of a plan that charges none of it: `, up to 10 credits a day`."""
    found = []
    for limit in plan.limits:
        if limit.max is None or limit.where:
            continue
        what = " and ".join(
            noun(meters[meter], [meters[other] for other in limit.meters]).many for meter in limit.meters
        )
        if len(limit.meters) == 1:
            what = noun(meters[limit.meters[0]], ()).counted(limit.max)
        else:
            what = f"{number(limit.max)} {what}"
        level = any(meters[meter].kind == "level" for meter in limit.meters)
        when = "at any time" if level else _window(limit, plan)
        found.append(f"{what}{' per member' if limit.per == 'member' else ''} {when}")
    if found:
        return f", up to {' and '.join(found)}"
    return ", unlimited" if plan.unlimited else ""


def _window(limit: Limit, plan: Plan) -> str:
    assert limit.window is not None
    if limit.window.hours is not None:
        return f"in {limit.window.hours} hours"
    names = {"hour": "an hour", "period": f"a {plan.period.interval}", "lifetime": "in all"}
    return names.get(limit.window.name, f"a {limit.window.name}")


def summary(used: Mapping[str, Decimal], meters: Mapping[str, Meter]) -> str:
    """Usage in words: `200 messages and 1,000 tokens`."""
    shown = [meters[meter] for meter in used]
    return " and ".join(noun(meters[meter], shown).counted(units) for meter, units in used.items())
