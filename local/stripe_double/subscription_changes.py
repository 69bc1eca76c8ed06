"""Changes of a subscription's items in mid-period: credits for what was paid and not used, charges for what remains,
and an end to the usage of a metered price that goes.

Flexible billing mode [docs: billing mode, prorations, manage billing setup]: a credit is a share of what was charged; a
metered price that is removed or replaced is billed for its usage so far, unless the proration behavior is `none`, and
the price that follows counts from the change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from local.stripe_double import invoicing
from local.stripe_double.errors import ApiError, invalid
from local.stripe_double.ids import new_id
from local.stripe_double.invoice_objects import Line
from local.stripe_double.metadata import merged
from local.stripe_double.prices import Price
from local.stripe_double.rating import rounded
from local.stripe_double.subscription_life import bill_now, period
from local.stripe_double.subscription_objects import Item, Subscription

if TYPE_CHECKING:
    from local.stripe_double.state import Double


def usable_price(double: Double, given: Mapping[str, Any], path: str) -> Price:
    """The price that an item names. Raises ApiError for one that no subscription can have."""
    at = f"{path}[price]"
    if "price" not in given:
        raise invalid(f"Missing required param: {at}.", at, "parameter_missing")
    price = double.prices.get(given["price"], at, 400)
    if not price.active:
        raise invalid("The price specified is inactive. This field only accepts active prices.", at)
    if price.interval is None:
        raise invalid(
            "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.",
            at,
        )
    return price


def quantity_for(price: Price, given: Mapping[str, Any], path: str, kept: int | None = None) -> int | None:
    """The quantity of an item: 1 unless given, none at all for a metered price."""
    if price.metered:
        if "quantity" in given:
            raise invalid("Quantity should not be specified where usage_type is `metered`.", f"{path}[quantity]")
        return None
    return int(given.get("quantity", 1 if kept is None else kept))


def check_items(items: Sequence[Item], currency: str) -> None:
    """One currency, and no price twice [docs: subscriptions with several products]. Raises ApiError."""
    if not items:
        raise invalid("A subscription must have at least one active item.", "items")
    seen: set[str] = set()
    for item in items:
        if item.price.currency != currency:
            raise invalid(f"The price {item.price.id} is in {item.price.currency}, not in {currency}.", "items")
        if item.price.id in seen:
            raise invalid(f"Cannot add multiple subscription items with the same plan: {item.price.id}", "items")
        seen.add(item.price.id)


@dataclass
class Change:
    """Lines that a change brings about, and whether a new period began, which bills at once. `prorate` False: no
    credits, no charges for the rest, no bill for usage so far.
    """

    lines: list[Line]
    prorate: bool
    restarted: bool = False


def apply(
    double: Double, subscription: Subscription, given: Sequence[Mapping[str, Any]], behavior: str, at: int, path: str
) -> None:
    """Add, change and remove items. Raises ApiError before anything is changed."""
    plan = [_planned(double, subscription, one, f"{path}[{number}]") for number, one in enumerate(given)]
    removed = {id(item) for item, _, _, one in plan if item is not None and one.get("deleted")}
    after = [item for item in subscription.items if id(item) not in removed]
    shown = [(next((p for i, p, _, _ in plan if i is item and p is not None), item.price)) for item in after]
    shown += [price for item, price, _, _ in plan if item is None and price is not None]
    _check_prices(shown, subscription.currency)

    change = Change([], behavior != "none")
    for item, price, quantity, one in plan:
        if item is None:
            assert price is not None
            subscription.items.append(_added(subscription, price, quantity, one, at, change))
        elif one.get("deleted"):
            _leave(double, subscription, item, at, change)
            subscription.items.remove(item)
        else:
            if "metadata" in one:
                item.metadata = merged(item.metadata, one["metadata"])
            if price is not item.price or quantity != item.quantity:
                assert price is not None
                _replace(double, subscription, item, price, quantity, at, change)
    _settle(double, subscription, change, behavior)


Planned = tuple["Item | None", "Price | None", "int | None", Mapping[str, Any]]


def _planned(double: Double, subscription: Subscription, one: Mapping[str, Any], path: str) -> Planned:
    if "id" not in one:
        price = usable_price(double, one, path)
        return None, price, quantity_for(price, one, path), one
    item = subscription.item(one["id"], f"{path}[id]")
    if one.get("deleted"):
        return item, None, None, one
    price = usable_price(double, one, path) if one.get("price", item.price.id) != item.price.id else item.price
    return item, price, quantity_for(price, one, path, item.quantity), one


def _check_prices(prices: Sequence[Price], currency: str) -> None:
    now_items = [Item("", 0, price, None, 0, 0, 0, 0) for price in prices]
    check_items(now_items, currency)


def _added(
    subscription: Subscription, price: Price, quantity: int | None, one: Mapping[str, Any], at: int, change: Change
) -> Item:
    """A new item: in the running period of the subscription, charged for the rest of it."""
    day = (subscription.anchor_config or {}).get("day_of_month")
    metadata = merged({}, one.get("metadata", {}))
    item = Item(new_id("si"), at, price, quantity, subscription.anchor, at, at, at, day, metadata=metadata)
    if subscription.status == "trialing" and subscription.trial_end is not None:
        item.start, item.end = at, subscription.trial_end
        return item
    start, end = period(item, at)
    item.start, item.end = max(start, subscription.start_date), end
    if not price.metered and change.prorate:
        change.lines.append(_rest(subscription, item, at, end - start))
    return item


def _leave(double: Double, subscription: Subscription, item: Item, at: int, change: Change) -> None:
    """What an item still owes or is owed when it goes, or when its price does."""
    if not change.prorate:
        return
    if item.price.metered:
        if subscription.status != "trialing" and item.usage_from < at:
            line = invoicing.usage_line(double, subscription, item, item.usage_from, at)
            # Billed for what has been received by now: an invoice item's amount does not follow later usage [docs].
            line.usage = None
            change.lines.append(line)
    elif item.debit is not None and item.debit.end > at:
        change.lines.append(credit(subscription, item, at))


def credit(subscription: Subscription, item: Item, at: int) -> Line:
    """The unused share of what was last charged; from `at`, or from the start of the charged time if that is later."""
    debit = item.debit
    assert debit is not None
    start = max(at, debit.start)
    share = Decimal(debit.amount) * (debit.end - start) / (debit.end - debit.start)
    return Line(
        id=new_id("il"),
        amount=-rounded(share),
        currency=subscription.currency,
        description=f"Unused time on {invoicing.plain_name(item)}",
        start=start,
        end=debit.end,
        quantity=Decimal(item.quantity or 0),
        price=item.price,
        subscription=subscription.id,
        subscription_item=item.id,
        proration=True,
    )


def _rest(subscription: Subscription, item: Item, at: int, full: int) -> Line:
    line = invoicing.licensed_line(subscription, item, at, item.end, full)
    line.proration, line.description = True, f"Remaining time on {invoicing.plain_name(item)}"
    return line


def _replace(
    double: Double,
    subscription: Subscription,
    item: Item,
    price: Price,
    quantity: int | None,
    at: int,
    change: Change,
) -> None:
    """Another price or quantity for the rest of the period; another interval begins a period of its own, billed at
    once [docs: change price].
    """
    if price is not item.price or not price.metered:
        _leave(double, subscription, item, at, change)
    same = (price.interval, price.interval_count) == (item.price.interval, item.price.interval_count)
    item.price, item.quantity, item.usage_from = price, quantity, at
    if subscription.status == "trialing":
        return
    if not same:
        item.anchor, item.anchor_day = at, None
        item.start, item.end = period(item, at)
        change.restarted = True
        if len(subscription.items) == 1:
            subscription.anchor, subscription.anchor_config = at, None
        if not price.metered:
            change.lines.append(invoicing.licensed_line(subscription, item, at, item.end, item.end - at))
    elif not price.metered and change.prorate:
        start, end = period(item, at)
        change.lines.append(_rest(subscription, item, at, end - start))


def _settle(double: Double, subscription: Subscription, change: Change, behavior: str) -> None:
    if change.restarted:
        bill_now(double, subscription, change.lines, "subscription_update")
        return
    for line in change.lines:
        invoicing.add_pending(double, subscription.customer, line)
    if change.lines and behavior == "always_invoice":
        bill_now(double, subscription, [], "subscription_update")


def refuse_ended(subscription: Subscription) -> None:
    """Raises ApiError where a subscription is over."""
    if subscription.ended_at is not None:
        raise ApiError(400, "A canceled subscription can only update its cancellation_details and metadata.")
