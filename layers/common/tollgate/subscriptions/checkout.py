"""Selling at Stripe: a page for a plan or a pack, a subscription without a page, metered prices for an existing one.

Nothing here moves an account to another plan: the events that follow at Stripe do, once it was paid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, TypeVar

from tollgate.accounts.currency import check_same
from tollgate.accounts.rules import AccountRow
from tollgate.accounts.store import RulesTable
from tollgate.catalog.frozen import PlanVersion
from tollgate.catalog.store import CatalogTable
from tollgate.clock import Clock
from tollgate.errors import (
    AlreadySubscribed,
    Busy,
    CurrencyMismatch,
    CustomerDeleted,
    PlanNotForSale,
    PriceNotSynced,
    SubscriptionNotFlat,
    TollgateError,
    UnknownAccount,
    UnknownSubscription,
)
from tollgate.ids import key_hash
from tollgate.subscriptions.anchor import Anchor, anchor_of
from tollgate.subscriptions.offer import Part, metered, pack_of, pack_price, parts_of
from tollgate.sync.objects import PART, PLAN, STACK, VERSION

T = TypeVar("T")

ACCOUNT: Final = "tollgate_account"
PACK: Final = "tollgate_pack"
REQUEST: Final = "tollgate_request"
Proration = Literal["create_prorations", "none"]


class SoldPrice(NamedTuple):
    """An active price at Stripe."""

    id: str
    currency: str


class Line(NamedTuple):
    """A price and how often; `quantity` None: metered."""

    price: str
    quantity: int | None


class PageAsked(NamedTuple):
    """A page of Stripe's. `anchor` None: paid once. `metadata` goes onto the session and onto what it makes."""

    customer: str
    lines: tuple[Line, ...]
    metadata: Mapping[str, str]
    success_url: str
    cancel_url: str
    account: str
    anchor: Anchor | None
    proration: Proration = "create_prorations"


class Page(NamedTuple):
    """Where the customer pays, until epoch second `expires_at`."""

    session: str
    url: str
    expires_at: int


class Item(NamedTuple):
    """An item of a subscription. `part` None: its price is none of this stack's. `metered`: billed by usage."""

    price: str
    part: str | None
    metered: bool
    interval: str


class Subscription(NamedTuple):
    """A subscription at Stripe. `period`: epoch seconds, None where no item tells. `request`: what made it, None for
    one that was not made here."""

    id: str
    status: str
    customer: str
    currency: str
    items: tuple[Item, ...]
    period: tuple[int, int] | None
    ended: bool = False
    request: str | None = None


class Shop(Protocol):
    """Stripe, as far as selling needs it. Each method raises StripeRefused, StripeUnavailable. `key` makes a creation
    one, however often it is asked for within a day."""

    def prices(self, lookup_keys: Sequence[str]) -> Mapping[str, SoldPrice]:
        """The active ones among them."""

    def customer_exists(self, customer: str) -> bool: ...

    def subscriptions(self, customer: str) -> list[Subscription]:
        """Those that have not ended."""

    def subscription(self, subscription: str) -> Subscription | None:
        """None: there is none."""

    def expire_pages(self, customer: str) -> None:
        """End the open pages on which this customer could still subscribe."""

    def page(self, asked: PageAsked, key: str) -> Page: ...

    def subscribe(
        self, customer: str, lines: tuple[Line, ...], metadata: Mapping[str, str], anchor: Anchor, key: str
    ) -> Subscription: ...

    def add(
        self, subscription: str, lines: tuple[Line, ...], metadata: Mapping[str, str], proration: Proration, key: str
    ) -> Subscription: ...


class Asked(NamedTuple):
    """A request under an Idempotency-Key: when it first came (epoch seconds), for which plan version, and its answer
    once there was one."""

    at: int
    plan: str
    version: int
    answer: Mapping[str, str | int] | None


class AskedStore(Protocol):
    def begin(self, account: str, route: str, key: str, digest: bytes, wanted: Asked) -> Asked:
        """`wanted`, or what was begun before under this key. Raises IdempotencyMismatch for another body."""

    def answered(self, account: str, route: str, key: str, answer: Mapping[str, str | int]) -> None: ...
    def forget(self, account: str, route: str, key: str) -> None: ...

    def lock(self, account: str, now: int) -> bool:
        """One sale to an account at a time; a lock that nobody gave back is free again after a minute."""

    def unlock(self, account: str) -> None: ...


@dataclass(frozen=True, slots=True)
class SaleDeps:
    """`customer`: the account's Stripe customer, made and mapped at first need."""

    stack: str
    rules: RulesTable
    catalog: CatalogTable
    shop: Shop
    customer: Callable[[AccountRow], str]
    asked: AskedStore
    clock: Clock


class Once(NamedTuple):
    """What makes a request the same one: its key, and the digest of its body."""

    key: str
    digest: bytes


class Subscribed(NamedTuple):
    """`added`: the parts that this request brought. `proration`: how Stripe charged for the rest of the period."""

    subscription: Subscription
    plan: PlanVersion
    added: tuple[str, ...]
    proration: Proration
    created: bool


def sell_plan(deps: SaleDeps, account: str, plan: str, seats: int | None, urls: tuple[str, str], once: Once) -> Page:
    """A page on which the account subscribes to the plan's current version. `urls`: success, cancel.

    Raises UnknownAccount, UnknownPlan, PlanNotForSale, Invalid, PriceNotSynced, CustomerDeleted, AlreadySubscribed,
    CurrencyMismatch, IdempotencyMismatch, Busy, StripeRefused, StripeUnavailable.
    """
    row = _row(deps, account)

    def sold(asked: Asked) -> Page:
        version = deps.catalog.version(asked.plan, asked.version)
        if not version.plan.public:
            raise PlanNotForSale(
                plan, "it is not public; subscribe the account with POST /v1/accounts/{id}/subscription"
            )
        parts = parts_of(version.plan, deps.stack, seats)
        _check_currency(deps, row, version)
        lines = _lines(deps, version, parts)
        customer = _customer(deps, row)
        _check_unsubscribed(deps, row, customer)
        # Two pages that are both paid would be two subscriptions. A crash after this leaves no page: ask again.
        deps.shop.expire_pages(customer)
        anchor = anchor_of(version.plan.period, asked.at)
        wanted = PageAsked(customer, lines, _metadata(deps, row, version), *urls, row.account, anchor)
        return deps.shop.page(wanted, _stripe_key(deps, row, "checkout", once.key))

    return _page_once(deps, row, deps.catalog.current_version(plan), once, sold)


def sell_pack(deps: SaleDeps, account: str, pack: str, plan: str | None, urls: tuple[str, str], once: Once) -> Page:
    """A page on which the account buys a pack of credits once: of `plan`'s current version, or (None) of the version
    that the account is on. Raises as `sell_plan`, and UnknownPack; a subscription is no hindrance."""
    row = _row(deps, account)
    if plan is None:
        bought = deps.catalog.version(row.plan, row.plan_version)
    else:
        bought = deps.catalog.current_version(plan)

    def sold(asked: Asked) -> Page:
        version = deps.catalog.version(asked.plan, asked.version)
        price = pack_price(version.plan, deps.stack, pack_of(version.plan, pack))
        _check_currency(deps, row, version)
        lines = _lines(deps, version, (price,))
        customer = _customer(deps, row)
        metadata = {**_metadata(deps, row, version), PACK: pack}
        wanted = PageAsked(customer, lines, metadata, *urls, row.account, None)
        return deps.shop.page(wanted, _stripe_key(deps, row, "checkout", once.key))

    return _page_once(deps, row, bought, once, sold)


def subscribe(deps: SaleDeps, account: str, plan: str, seats: int | None, once: Once) -> Subscribed:
    """Subscribe the account to the plan's current version without a page; private plans too. Stripe charges the
    customer's own payment method at once. Raises as `sell_plan`."""
    row = _row(deps, account)

    def made(asked: Asked) -> Subscribed:
        version = deps.catalog.version(asked.plan, asked.version)
        parts = parts_of(version.plan, deps.stack, seats)
        _check_currency(deps, row, version)
        lines = _lines(deps, version, parts)
        customer = _customer(deps, row)
        key = _stripe_key(deps, row, "subscription", once.key)
        names = tuple(part.part for part in parts)
        there = _made_before(deps, customer, asked, key)
        if there is not None:
            return Subscribed(there, version, names, "create_prorations", False)
        _check_unsubscribed(deps, row, customer)
        anchor = anchor_of(version.plan.period, asked.at)
        metadata = {**_metadata(deps, row, version), REQUEST: key}
        there = deps.shop.subscribe(customer, lines, metadata, anchor, key)
        return Subscribed(there, version, names, "create_prorations", True)

    return _subscribed_once(deps, row, deps.catalog.current_version(plan), once, made)


def add_metered(deps: SaleDeps, account: str, plan: str, subscription: str, once: Once) -> Subscribed:
    """Put the plan's metered prices onto a flat subscription that the account's customer has already. Its own items,
    its fee and its billing period stay as they are; nothing is prorated, as usage is billed when it is over.

    Raises as `sell_plan` (not AlreadySubscribed), UnknownSubscription, and SubscriptionNotFlat where it has metered
    prices of another kind, another interval, or a price of this stack's other plans.
    """
    row = _row(deps, account)

    def made(asked: Asked) -> Subscribed:
        version = deps.catalog.version(asked.plan, asked.version)
        parts = metered(parts_of(version.plan, deps.stack, None))
        if not parts:
            raise PlanNotForSale(plan, "none of its prices is for usage")
        _check_currency(deps, row, version)
        lines = _lines(deps, version, parts)
        customer = _customer(deps, row)
        there = deps.shop.subscription(subscription)
        if there is None or there.ended or there.customer != customer:
            raise UnknownSubscription(subscription)
        new = tuple(line for line in lines if line.price not in {item.price for item in there.items})
        if not new:
            return Subscribed(there, version, (), "none", False)
        _check_flat(there, version, {line.price for line in lines})
        key = _stripe_key(deps, row, "subscription", once.key)
        after = deps.shop.add(there.id, new, _metadata(deps, row, version), "none", key)
        names = {line.price: part.part for line, part in zip(lines, parts, strict=True)}
        return Subscribed(after, version, tuple(names[line.price] for line in new), "none", False)

    return _subscribed_once(deps, row, deps.catalog.current_version(plan), once, made)


def _page_once(
    deps: SaleDeps, row: AccountRow, version: PlanVersion, once: Once, sold: Callable[[Asked], Page]
) -> Page:
    """The page of the first request under this key, or the one that `sold` makes."""
    with_answer = _begun(deps, row, "checkout", version, once)
    if with_answer.answer is not None:
        known = with_answer.answer
        return Page(str(known["session"]), str(known["url"]), int(known["expires_at"]))
    page = _locked(deps, row, "checkout", once, lambda: sold(with_answer))
    # A crash here leaves a page that nobody was told of: Stripe answers the same one to the same key for a day, which
    # is as long as it lives.
    deps.asked.answered(row.account, "checkout", once.key, page._asdict())
    return page


def _subscribed_once(
    deps: SaleDeps, row: AccountRow, version: PlanVersion, once: Once, made: Callable[[Asked], Subscribed]
) -> Subscribed:
    asked = _begun(deps, row, "subscription", version, once)
    done = _locked(deps, row, "subscription", once, lambda: made(asked))
    # A crash here leaves a subscription that carries this request's name: a repetition finds it by that.
    deps.asked.answered(row.account, "subscription", once.key, {"subscription": done.subscription.id})
    return done


def _begun(deps: SaleDeps, row: AccountRow, route: str, version: PlanVersion, once: Once) -> Asked:
    """Time and plan version are those of the first try: a repetition must say to Stripe exactly what that one said."""
    wanted = Asked(deps.clock() // 1000, version.plan.id, version.plan.version, None)
    return deps.asked.begin(row.account, route, once.key, once.digest, wanted)


def _locked(deps: SaleDeps, row: AccountRow, route: str, once: Once, work: Callable[[], T]) -> T:
    """One sale to an account at a time: two requests that both saw no subscription would make two. What was refused
    for good is forgotten; what was not answered is not, as it may have happened."""
    if not deps.asked.lock(row.account, deps.clock() // 1000):
        raise Busy(retry_after_seconds=2)
    try:
        return work()
    except Busy:
        raise
    except TollgateError:
        deps.asked.forget(row.account, route, once.key)
        raise
    finally:
        # A crash before this leaves the lock: it ends by itself after a minute.
        deps.asked.unlock(row.account)


def _row(deps: SaleDeps, account: str) -> AccountRow:
    row = deps.rules.row(account)
    if row is None:
        raise UnknownAccount(account)
    return row


def _made_before(deps: SaleDeps, customer: str, asked: Asked, key: str) -> Subscription | None:
    """The subscription of an earlier try of this request, also one that has ended since."""
    if asked.answer is not None:
        return deps.shop.subscription(str(asked.answer["subscription"]))
    return next((one for one in deps.shop.subscriptions(customer) if one.request == key), None)


def _lines(deps: SaleDeps, version: PlanVersion, parts: Sequence[Part]) -> tuple[Line, ...]:
    found = deps.shop.prices([part.key for part in parts])
    lines = []
    for part in parts:
        price = found.get(part.key)
        if price is None or price.currency != version.plan.currency:
            raise PriceNotSynced(version.plan.id, part.part)
        lines.append(Line(price.id, part.quantity))
    return tuple(lines)


def _customer(deps: SaleDeps, row: AccountRow) -> str:
    customer = row.stripe_customer_id
    if customer is None:
        return deps.customer(row)
    if not deps.shop.customer_exists(customer):
        raise CustomerDeleted(row.account, customer)
    return customer


def _check_currency(deps: SaleDeps, row: AccountRow, version: PlanVersion) -> None:
    """Raises CurrencyMismatch."""
    check_same(deps.catalog.version(row.plan, row.plan_version).plan, version.plan)


def _check_unsubscribed(deps: SaleDeps, row: AccountRow, customer: str) -> None:
    for there in deps.shop.subscriptions(customer):
        raise AlreadySubscribed(row.account, there.id)


def _check_flat(there: Subscription, version: PlanVersion, own: set[str]) -> None:
    if there.currency != version.plan.currency:
        raise CurrencyMismatch(version.plan.id, version.plan.currency, there.currency)
    for item in there.items:
        if item.price not in own and (item.metered or item.part is not None):
            raise SubscriptionNotFlat(there.id, "it has prices for usage, or of another plan, already")
        if item.interval != version.plan.period.interval:
            raise SubscriptionNotFlat(there.id, f"it is billed by the {item.interval}, the plan by another interval")


def _metadata(deps: SaleDeps, row: AccountRow, version: PlanVersion) -> dict[str, str]:
    return {
        STACK: deps.stack,
        ACCOUNT: row.account,
        PLAN: version.plan.id,
        VERSION: str(version.plan.version),
    }


def _stripe_key(deps: SaleDeps, row: AccountRow, route: str, key: str) -> str:
    """The Idempotency-Key at Stripe, which is shared by everyone who uses the Stripe account."""
    return f"tollgate-{route}-{key_hash('/'.join((deps.stack, row.account, route)), key)}"


__all__ = [
    "ACCOUNT",
    "PACK",
    "PART",
    "REQUEST",
    "Asked",
    "AskedStore",
    "Item",
    "Line",
    "Once",
    "Page",
    "PageAsked",
    "SaleDeps",
    "Shop",
    "SoldPrice",
    "Subscribed",
    "Subscription",
    "add_metered",
    "sell_pack",
    "sell_plan",
    "subscribe",
]
