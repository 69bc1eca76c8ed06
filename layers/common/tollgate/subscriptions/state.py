"""What the subscriptions of a Stripe customer, as fetched, mean for the account (pure).

The same objects always mean the same, whatever event made us look and in whatever order events came. The plan of an
account is decided by the metadata of the prices on its subscription, so a switch made in Stripe is followed.

| status in Stripe | means |
| --- | --- |
| `active`, `trialing` | the plan of its prices |
| `past_due` | that plan until the grace ends, then the fallback plan |
| `unpaid`, `paused`, `canceled`, `incomplete_expired` | the fallback plan, at once |
| `incomplete` | nothing yet: its first payment is under way |

A subscription whose `pause_collection` is set stays `active`: only its invoices rest, and so does nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tollgate.sync.objects import PART, PLAN, STACK, VERSION

ACCOUNT: Final = "tollgate_account"
BASE: Final = "base"

ACTIVE: Final = "active"
"""The account has its subscription's plan."""
PAST_DUE: Final = "past_due"
"""A payment failed: it has the plan until the grace ends."""
ENDED: Final = "ended"
"""It had a subscription, and has none that gives a plan."""

_RANKS: Final = {
    "active": 3,
    "trialing": 3,
    "past_due": 2,
    "unpaid": 1,
    "paused": 1,
    "canceled": 0,
    "incomplete_expired": 0,
}
"""Which of several subscriptions counts. One that is `incomplete`, or in a status that this release does not know, says
nothing."""


@dataclass(frozen=True, slots=True)
class Item:
    """A line of a subscription. Times are epoch seconds; `metadata` is its price's."""

    price: str
    period_start: int
    period_end: int
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as Stripe has it now. Times are epoch seconds."""

    id: str
    status: str
    created: int
    started: int
    """Its `start_date`."""
    anchor: int
    """Where its periods are counted from (`anchor.py:counted_from`)."""
    items: tuple[Item, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    cancel_at: int | None = None
    """When it will end by itself, `cancel_at_period_end` included."""
    trial_end: int | None = None
    unpaid_since: int | None = None
    """When its oldest invoice that is still open was finalized. Only asked for where the status is `past_due`."""


class Problem(NamedTuple):
    """What an operator must look at. `code` is stable, `thing` the id of the object in Stripe."""

    code: str
    thing: str
    text: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What an account's subscriptions mean. `plan` and `version` None: no price says which plan it is."""

    access: str
    subscription: str
    status: str
    plan: str | None = None
    version: int | None = None
    anchor: int | None = None
    period_start: int | None = None
    period_end: int | None = None
    past_due_since: int | None = None
    cancel_at: int | None = None
    trial_end: int | None = None
    started: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """The plan version that a subscription means for its account; from epoch second `falls_at` on it is
    (`falls_to`, `falls_version`)."""

    subscription: str
    plan: str
    plan_version: int
    falls_at: int | None = None
    falls_to: str | None = None
    falls_version: int | None = None


@dataclass(frozen=True, slots=True)
class BillingState:
    """What Stripe last said about an account's subscription.

    `target`: what `standing` makes of the account's plan, decided when it was written; `applied`: the target that the
    rules row was last brought to. They differ while that is still to be done. `falls`: ends of a grace that may
    stand in the rules row as the second of a move to come, until a target without one was applied.
    """

    account: str
    customer: str | None = None
    standing: Standing | None = None
    target: Target | None = None
    applied: Target | None = None
    falls: tuple[int, ...] = ()
    version: int = 0
    """Counts the writes of the row; 0: there is none yet."""


def standing_of(
    subscriptions: Iterable[Subscription], stack: str, account: str, now: int
) -> tuple[Standing | None, list[Problem]]:
    """What they mean for an account of the stack, and what is wrong with them. None: no subscription of ours that says
    anything. `now` (epoch seconds) only stands in for the time of an invoice that Stripe does not tell."""
    problems: list[Problem] = []
    ours = []
    for one in sorted(subscriptions, key=lambda one: (one.created, one.id)):
        if not of_stack(one, stack):
            continue
        named = one.metadata.get(ACCOUNT)
        if named is not None and one.metadata.get(STACK) == stack and named != account:
            text = f"its metadata names account {named}, its customer belongs to account {account}; it is left alone"
            problems.append(Problem("wrong_account", one.id, text))
            continue
        if one.status in _RANKS:
            ours.append(one)
    if not ours:
        return None, problems
    chosen = max(ours, key=lambda one: (_RANKS[one.status], one.created, one.id))
    giving = [one.id for one in ours if _RANKS[one.status] >= 2]
    if len(giving) > 1:
        problems.append(
            Problem("several_subscriptions", chosen.id, f"the customer pays for {', '.join(giving)}; the newest counts")
        )
    if _RANKS[chosen.status] < 2:
        # With its anchor, too, so that the account is told the same whether or not it was seen before it ended.
        return Standing(ENDED, chosen.id, chosen.status, anchor=chosen.anchor), problems
    plan, version = _plan_of(chosen, stack, problems)
    start, end = _period_of(chosen)
    late = chosen.status == "past_due"
    return (
        Standing(
            access=PAST_DUE if late else ACTIVE,
            subscription=chosen.id,
            status=chosen.status,
            plan=plan,
            version=version,
            anchor=chosen.anchor,
            period_start=start,
            period_end=end,
            past_due_since=(chosen.unpaid_since if chosen.unpaid_since is not None else now) if late else None,
            cancel_at=chosen.cancel_at,
            trial_end=chosen.trial_end if chosen.status == "trialing" else None,
            started=chosen.started,
        ),
        problems,
    )


def of_stack(one: Subscription, stack: str) -> bool:
    """Whether a subscription is this stack's: by its own metadata, else by its prices' (it was made by hand)."""
    named = one.metadata.get(STACK)
    if named is not None:
        return named == stack
    return any(item.metadata.get(STACK) == stack for item in one.items)


def _plan_of(one: Subscription, stack: str, problems: list[Problem]) -> tuple[str | None, int | None]:
    """The plan version that the prices name. Where they name several, the base fee's, else the first by name: the same
    whatever order Stripe lists them in."""
    found: dict[tuple[str, int], bool] = {}
    for item in one.items:
        plan, version = item.metadata.get(PLAN, ""), item.metadata.get(VERSION, "")
        if item.metadata.get(STACK) != stack or not plan or not (version.isascii() and version.isdecimal()):
            text = f"price {item.price} on {one.id} is none of this stack's plans: `tollgate stripe sync` makes those"
            problems.append(Problem("unknown_price", item.price, text))
            continue
        at = (plan, int(version))
        found[at] = found.get(at, False) or item.metadata.get(PART) == BASE
    if not found:
        problems.append(Problem("no_plan", one.id, "no price on it names a plan, so the account's plan is left alone"))
        return None, None
    if len(found) > 1:
        names = ", ".join(f"{plan} version {version}" for plan, version in sorted(found))
        problems.append(Problem("mixed_plans", one.id, f"its prices are of several plans: {names}"))
    return min(found, key=lambda at: (not found[at], at))


def _period_of(one: Subscription) -> tuple[int | None, int | None]:
    """The items' current period; the base fee's where items differ, else the one that ends first."""
    if not one.items:
        return None, None
    chosen = min(one.items, key=lambda item: (item.metadata.get(PART) != BASE, item.period_end, item.period_start))
    return chosen.period_start, chosen.period_end
