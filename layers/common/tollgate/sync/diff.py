"""What is to be done at Stripe so that it holds what is wanted (pure): create, match, update, replace, archive, refuse.

Meters are matched by event name, products by the id that we gave them, prices by lookup key, or by their metadata where
another price took the key. What Stripe makes immutable is never edited: the price is replaced and the old one archived,
which leaves subscriptions on it as they are. Nothing is deleted, and nothing that carries other metadata is touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from tollgate.quantities import plain
from tollgate.sync.desired import Desired
from tollgate.sync.objects import (
    PART,
    PLAN,
    STACK,
    VERSION,
    Found,
    FoundMeter,
    FoundPrice,
    Meter,
    Price,
    Product,
    Terms,
)

Kind = Literal["create", "match", "update", "replace", "archive", "refuse"]
CHANGES: tuple[Kind, ...] = ("create", "update", "replace", "archive")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, or to say. `wanted` None: something is archived or refused; `found`: the id of what is there.

    `detail` is for people: what changes, or why it is refused. `reactivate`: what is there is inactive.
    """

    kind: Kind
    what: Literal["meter", "product", "price", "catalogue", "account"]
    name: str
    detail: str = ""
    wanted: Meter | Product | Price | None = None
    found: str | None = None
    reactivate: bool = False


def diff(wanted: Desired, found: Found, *, live: bool, reactivate: bool = False) -> list[Step]:
    """The steps, in the order in which they can be done: meters, products, prices. `live`: the stack's mode;
    `reactivate`: meters that were deactivated are taken into use again."""
    steps = [Step("refuse", "catalogue", what, reason) for what, reason in wanted.refusals]
    modes = {one.livemode for one in found.meters} | {one.livemode for one in found.products.values()}
    if (modes | {one.livemode for one in found.prices}) - {live}:
        mode, other = ("live", "test") if live else ("test", "live")
        steps.append(Step("refuse", "account", "mode", f"Stripe answers with {other} mode objects in {mode} mode"))
    ids: dict[str, str] = {}
    for meter in wanted.meters:
        step = _meter(meter, [one for one in found.meters if one.meter.event_name == meter.event_name], reactivate)
        steps.append(step)
        if step.found is not None:
            ids[meter.event_name] = step.found
    steps += [_product(product, found) for product in wanted.products]
    for price in wanted.prices:
        steps += _price(price, found.prices, ids, wanted.folded.get(price.lookup_key or "", ()))
    return steps


# --- meters ----------------------------------------------------------------------------------------------------------


def _meter(wanted: Meter, found: Iterable[FoundMeter], reactivate: bool) -> Step:
    newest_first = sorted(found, key=lambda one: (one.active, one.created), reverse=True)
    if not newest_first:
        return Step("create", "meter", wanted.event_name, _formula(wanted), wanted)
    there = newest_first[0]
    trouble = _other_meter(wanted, there.meter)
    if trouble and there.active:
        detail = f"{trouble}; Stripe never changes this: use another stripe_event_name"
        return Step("refuse", "meter", wanted.event_name, detail, found=there.id)
    if not there.active:
        if trouble:  # an event name is free again once its meter is inactive
            return Step("create", "meter", wanted.event_name, f"an inactive one is other: {trouble}", wanted)
        if not reactivate:
            detail = "it was deactivated: --reactivate takes it into use again"
            return Step("refuse", "meter", wanted.event_name, detail, found=there.id)
        return Step("update", "meter", wanted.event_name, "reactivate", wanted, there.id, reactivate=True)
    if there.meter.name != wanted.name:
        detail = f"name: {there.meter.name} → {wanted.name}"
        return Step("update", "meter", wanted.event_name, detail, wanted, there.id)
    return Step("match", "meter", wanted.event_name, "", wanted, there.id)


def _other_meter(wanted: Meter, there: Meter) -> str:
    """What of an existing meter would count something else; empty where nothing."""
    if there.formula != wanted.formula:
        return f"its formula is {there.formula}, not {wanted.formula}"
    if there.window is not None:
        return f"it keeps only the last event of each {there.window}"
    if there.customer_key != wanted.customer_key:
        return f"it reads the customer from {there.customer_key}, not {wanted.customer_key}"
    if there.value_key != wanted.value_key:
        return f"it reads the value from {there.value_key}, not {wanted.value_key}"
    return ""


def _formula(meter: Meter) -> str:
    return f"{meter.name}, {meter.formula}"


# --- products --------------------------------------------------------------------------------------------------------


def _product(wanted: Product, found: Found) -> Step:
    there = found.products.get(wanted.id)
    if there is None:
        return Step("create", "product", wanted.name, wanted.id, wanted)
    changes = [*_changed({"name": there.product.name}, {"name": wanted.name})]
    changes += _changed(there.product.metadata, wanted.metadata)
    if not there.active:
        changes.append("active")
    return Step("update" if changes else "match", "product", wanted.name, ", ".join(changes), wanted, wanted.id)


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name, value in after.items():
        if before.get(name) != value:
            yield f"{name}: {before.get(name) or '-'} → {value}"


# --- prices ----------------------------------------------------------------------------------------------------------


def _price(wanted: Price, found: Iterable[FoundPrice], ids: Mapping[str, str], folded: tuple[str, ...]) -> list[Step]:
    name = wanted.lookup_key or ""
    ours = [one for one in found if one.price.lookup_key == name or _is_left(one, wanted)]
    # The one that has the key; without any, one that says the same: the key was taken off it.
    ours.sort(key=lambda one: (one.price.lookup_key == name, _same(one, wanted, ids), one.created), reverse=True)
    if not ours:
        return [Step("create", "price", name, "; ".join((said(wanted.terms), *folded)), wanted)]
    there, others = ours[0], ours[1:]
    if there.price.terms.currency != wanted.terms.currency:
        detail = f"it is in {there.price.terms.currency}, not {wanted.terms.currency}: archive it in Stripe first, and "
        return [Step("refuse", "price", name, f"{detail}take its lookup key off, or name the stack otherwise")]
    # What a replacement that was cut short has left: it carries our metadata, no key, and is still on sale.
    left = [_archived(one) for one in others if one.active]
    if not _same(there, wanted, ids):
        before, after = said(there.price.terms._replace(event_name=there.meter)), said(wanted.terms)
        detail = f"{before} → {after}" if before != after else f"{after}: on another product or meter, or other tiers"
        return [Step("replace", "price", name, detail, wanted, there.id), *left]
    changes = [*_changed({"nickname": there.price.nickname}, {"nickname": wanted.nickname})]
    changes += _changed(there.price.metadata, wanted.metadata)
    if there.price.lookup_key != name:
        changes.append("lookup key")
    if not there.active:
        changes.append("active")
    return [Step("update" if changes else "match", "price", name, ", ".join(changes), wanted, there.id), *left]


def _archived(price: FoundPrice) -> Step:
    return Step(
        "archive",
        "price",
        price.id,
        f"replaced; {said(price.price.terms._replace(event_name=price.meter))}",
        found=price.id,
    )


def _is_left(found: FoundPrice, wanted: Price) -> bool:
    """Whether a price without a key was made for the same part of the same plan version, and is still on sale."""
    about = {key: found.price.metadata.get(key) for key in (STACK, PLAN, VERSION, PART)}
    return found.active and found.price.lookup_key is None and about == wanted.metadata


def _same(found: FoundPrice, wanted: Price, ids: Mapping[str, str]) -> bool:
    """Whether the immutable terms are the same; a metered price must be on the meter that counts today."""
    event_name = wanted.terms.event_name
    if found.meter != (None if event_name is None else ids.get(event_name)):
        return False
    return found.price.terms._replace(event_name=event_name) == wanted.terms


def said(terms: Terms) -> str:
    """Terms in a few words, for people."""
    each = "once" if terms.interval is None else f"each {terms.interval}"
    if terms.interval is not None and terms.interval_count != 1:
        each = f"each {terms.interval_count} {terms.interval}s"
    if terms.tiers:
        kind = f"{terms.tiers_mode}, {len(terms.tiers)} tiers"
        shown = ", ".join(
            f"{'∞' if tier.up_to is None else plain(tier.up_to)}: {plain(tier.unit_amount)}"
            + (f" + {plain(tier.flat_amount)}" if tier.flat_amount else "")
            for tier in terms.tiers[:4]
        )
        kind = f"{kind} ({shown}{', …' if len(terms.tiers) > 4 else ''})"
    else:
        kind = "no amount" if terms.unit_amount is None else plain(terms.unit_amount)
        if terms.divide_by is not None:
            kind = f"{kind} for each {terms.divide_by}, rounded {terms.round}"
    usage = "metered" if terms.event_name is not None else "licensed"
    return f"{kind} {terms.currency}, {each}" + (f", {usage}" if terms.interval is not None else "")
