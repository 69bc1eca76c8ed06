"""Meters and plans as values, and how a quantity becomes units (pure: no YAML, no pydantic, as the gate imports this).

Quantities, units and money are Decimals; money is in major units of the catalogue's currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Context, Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from tollgate.errors import QuantityTooLarge
from tollgate.quantities import MAX_UNITS, ONE, quantize
from tollgate.windows import WindowKind

if TYPE_CHECKING:
    from tollgate.margins.book import PriceBook

Per = Literal["account", "member"]
MeterKind = Literal["sum", "level"]
Scheme = Literal["per_unit", "graduated", "volume", "package"]
Overage = Literal["on", "off", "opt_in"]
Interval = Literal["month", "year"]
Anchor = Literal["calendar", "signup", "subscription"]
Every = Literal["once", "day", "week", "month", "period", "year"]
Feature = str | int | bool
StripeCustomers = Literal["first_need", "at_signup"]
"""When an account gets its Stripe customer: as it buys something, or as it is made."""

Condition = tuple[tuple[str, tuple[str, ...]], ...]
"""(dimension, patterns) pairs by dimension, patterns sorted and unique: equal conditions are equal values."""

DEFAULT_SCALE: Final = 6
THRESHOLDS: Final = (50, 80, 90, 100)
"""Per cent of a limit at which a plan tells, where the catalogue says nothing."""
MAX_MULTIPLIERS: Final = 16
"""Per meter: keeps a product of weight and factors inside `_EXACT`."""

_MAX_KNOWN: Final = 4096
_EXACT: Final = Context(prec=700)
"""Holds quantity x weight x 16 factors without rounding (each factor has at most 30 digits, a quantity at most 60)."""


def condition(when: Mapping[str, str | tuple[str, ...] | list[str]]) -> Condition:
    """The canonical form of a condition: `{"model": "a-*", "op": ["x", "y"]}`."""
    return tuple(
        (dimension, (values,) if isinstance(values, str) else tuple(sorted(set(values))))
        for dimension, values in sorted(when.items())
    )


class WeightRule(NamedTuple):
    """Units for each quantity where `when` matches."""

    when: Condition
    weight: Decimal


class Multiplier(NamedTuple):
    """A factor on top of the weight where `when` matches; every matching one applies."""

    when: Condition
    factor: Decimal


@dataclass(frozen=True, slots=True)
class Meter:
    """What is counted. `scale` is the number of decimal places of its units.

    `stripe_event_name` is None for a meter whose usage is never sent to Stripe. `kind`: usage is added up (`sum`), or
    the meter has a level that is set (`level`: gigabytes stored), which neither weights nor multipliers change.
    """

    id: str
    name: str
    unit: str
    scale: int = DEFAULT_SCALE
    stripe_event_name: str | None = None
    weights: tuple[WeightRule, ...] = ()
    multipliers: tuple[Multiplier, ...] = ()
    kind: MeterKind = "sum"
    _asked: tuple[str, ...] = field(default=(), init=False, repr=False, compare=False)
    """The dimensions that its rules ask for."""
    _known: dict[tuple[str | None, ...], Decimal] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Weights found before, by the values of these dimensions: a price list of hundreds of rules is slow to try."""

    def __post_init__(self) -> None:
        conditions = [rule.when for rule in self.weights] + [rule.when for rule in self.multipliers]
        asked = {dimension for when in conditions for dimension, _ in when}
        object.__setattr__(self, "_asked", tuple(sorted(asked)))


@dataclass(frozen=True, slots=True)
class Limit:
    """A cap: of units of `meters` in a window (`window` and `max` set), or of open reservations (`concurrent` set).

    `meters` is sorted, and empty for `concurrent`; `where` restricts the limit to matching usage, empty means all.
    The limit of a level meter has the window `lifetime`: a level never begins anew.
    """

    id: str
    meters: tuple[str, ...]
    per: Per
    window: WindowKind | None
    concurrent: int | None
    where: Condition
    max: Decimal | None
    amount: Decimal | None = None
    """A member's money limit: what the member's own units of the billing period may come to. No meters, no window."""


class SharedLimit(NamedTuple):
    """A cap that accounts share, in windows of UTC: all accounts of the plan together (`dimension` None), or all usage
    on the plan that has the same value of a dimension, such as `ip`. All usage without it shares one cap, too.
    """

    id: str
    meters: tuple[str, ...]
    window: WindowKind
    where: Condition
    max: Decimal
    dimension: str | None = None

    @property
    def per(self) -> str:
        """As the catalogue writes it: `plan` or `dimension:<name>`."""
        return "plan" if self.dimension is None else f"dimension:{self.dimension}"


class Tier(NamedTuple):
    """A stretch of a tiered price up to and including `up_to` units (None: without end)."""

    up_to: Decimal | None
    unit_price: Decimal
    flat: Decimal


@dataclass(frozen=True, slots=True)
class Price:
    """What a meter's units cost in one billing period.

    `per_unit` has `unit_price`; `graduated` and `volume` have `tiers`, ascending, the last without end; `package` has
    `package_size`, `package_price` and `round` (whether an incomplete package counts: `up`, or not: `down`).
    With every scheme: `markup` in per cent on top of the prices; `minimum` and `maximum`, in money, of what the meter
    comes to in a period, markup included; `included_per_seat`, units that each seat brings and that are taken off
    before the tiers.
    """

    meter: str
    scheme: Scheme
    unit_price: Decimal | None = None
    tiers: tuple[Tier, ...] = ()
    package_size: Decimal | None = None
    package_price: Decimal | None = None
    round: Literal["up", "down"] = "up"
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    markup: Decimal = Decimal(0)
    included_per_seat: Decimal = Decimal(0)


class Seats(NamedTuple):
    """The price of a seat in each period, and the fewest seats that are billed.

    `pooled`: the units that seats bring are one pool for all; otherwise each seat has its own. `meter`: the level that
    says how many seats there are; without one there are `minimum`.
    """

    unit_price: Decimal
    minimum: int = 0
    pooled: bool = True
    meter: str | None = None


class BillingPeriod(NamedTuple):
    interval: Interval = "month"
    anchor: Anchor = "calendar"


class GrantRule(NamedTuple):
    """Credits that a plan gives by itself; `rollover_max` None: what is left at the next grant expires."""

    meter: str
    units: Decimal
    every: Every
    rollover_max: Decimal | None = None
    priority: int = 50


class Pack(NamedTuple):
    """Credits that customers buy once for `price`. `expires_days` counts from the purchase; None: they stay."""

    id: str
    name: str
    meter: str
    units: Decimal
    price: Decimal
    priority: int = 50
    expires_days: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One version of a plan. `version` counts from 1; 0 is a plan that was never published.

    `weights` are the plan's own rules by meter: asked before the meter's (a rule with an empty `when` replaces them
    all). In a plan version read back by `plan_from_json` they already stand in its meters, and `weights` is empty.
    """

    id: str
    version: int
    name: str
    base_fee: Decimal = Decimal(0)
    period: BillingPeriod = BillingPeriod()
    prices: tuple[Price, ...] = ()
    overage: Overage = "on"
    spend_cap: Decimal | None = None
    grants: tuple[GrantRule, ...] = ()
    limits: tuple[Limit, ...] = ()
    weights: tuple[tuple[str, tuple[WeightRule, ...]], ...] = ()
    features: Mapping[str, Feature] = field(default_factory=dict)
    unlimited: bool = False
    public: bool = True
    description: str = ""
    order: int = 0
    seats: Seats | None = None
    currency: str = "usd"
    """Of all its money: lower-case ISO 4217."""
    packs: tuple[Pack, ...] = ()
    shared_limits: tuple[SharedLimit, ...] = ()
    thresholds: tuple[int, ...] = THRESHOLDS
    """Per cent of whatever fills up at which operator and customer are told, ascending; empty: they are not."""


class BreakerRule(NamedTuple):
    """What stops a runaway on one plan: an hour may come to `multiple` typical days of the account."""

    multiple: Decimal
    floors: Mapping[str, Decimal]
    """By meter: units an hour that stop nobody, as the catalogue says; what stops an account of which nothing else is
    known."""
    had: Mapping[str, Decimal] = MappingProxyType({})
    """By meter without such a floor: what customers on the plan have in any case. It stops nobody by itself."""
    typical: Mapping[str, Decimal] = MappingProxyType({})
    """By meter: units of a typical day of the plan's accounts, once there are enough of them."""


class Breakers(NamedTuple):
    """By plan, absent where it is off. `cost_cap`: what all accounts together may cost the operator in an hour (US
    dollars, as the app tells it); None: anything. `stopped`: they did, and nobody resumed."""

    rules: Mapping[str, BreakerRule] = MappingProxyType({})
    cost_cap: Decimal | None = None
    stopped: bool = False


class RateChange(NamedTuple):
    """A weight that a rates file changes at the beginning of `on` (UTC). None: no rate of its own before or after."""

    meter: str
    on: date
    when: Condition
    before: Decimal | None
    after: Decimal | None


def credited(plan: Plan) -> frozenset[str]:
    """The meters that a plan gives or sells credits of."""
    return frozenset([rule.meter for rule in plan.grants] + [pack.meter for pack in plan.packs])


def level_meters(meters: Mapping[str, Meter]) -> frozenset[str]:
    """The ids of those that have a level."""
    return frozenset(meter_id for meter_id, meter in meters.items() if meter.kind == "level")


@dataclass(frozen=True, slots=True)
class Catalog:
    """A whole catalogue; `meters` and `plans` by id, in the file's order. `currency` is lower-case ISO 4217.

    `rate_changes` come later than the day that the catalogue was read for, by day; its meters do not know them.
    """

    currency: str
    default_plan: str
    auto_create_accounts: bool
    meters: Mapping[str, Meter]
    plans: Mapping[str, Plan]
    rate_changes: tuple[RateChange, ...] = ()
    fallback_plan: str | None = None
    """Where an account goes whose subscription ended or stayed unpaid; None: to the default plan."""
    grace_days: int = 7
    """How long an account stays on its plan once a payment failed."""
    stripe_customers: StripeCustomers = "first_need"
    thresholds: tuple[int, ...] = THRESHOLDS
    """Of plans that say nothing themselves, and of what belongs to no account."""
    expected_volume: Mapping[str, Decimal] = field(default_factory=dict)
    """Units that the operator expects all accounts together to use in a calendar month (UTC), by meter."""
    breakers: Breakers = Breakers()
    book: PriceBook | None = None
    """What providers ask for. None: whatever was published before stays."""


def matches(when: Condition, dimensions: Mapping[str, str]) -> bool:
    """Whether every dimension of a condition is there and fits one of its patterns. An empty condition always matches.

    In a pattern `*` stands for any run of characters; everything else stands for itself, case included.
    """
    for dimension, patterns in when:
        value = dimensions.get(dimension)
        if value is None or not any(_fits(pattern, value) for pattern in patterns):
            return False
    return True


@lru_cache(maxsize=4096)
def _fits(pattern: str, value: str) -> bool:
    head, *rest = pattern.split("*")
    if not rest:
        return pattern == value
    *middle, tail = rest
    if not value.startswith(head) or not value.endswith(tail) or len(value) < len(head) + len(tail):
        return False
    # Each part is taken at its first place: that leaves the most for the rest, and needs no backtracking.
    position, end = len(head), len(value) - len(tail)
    for part in middle:
        found = value.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


def weight_of(meter: Meter, dimensions: Mapping[str, str]) -> Decimal:
    """Units for each quantity: the first weight that matches (else 1) times every factor that matches, exact."""
    values = tuple(map(dimensions.get, meter._asked))
    known = meter._known.get(values)
    if known is not None:
        return known
    weight = next((rule.weight for rule in meter.weights if matches(rule.when, dimensions)), ONE)
    for multiplier in meter.multipliers:
        if matches(multiplier.when, dimensions):
            weight = _EXACT.multiply(weight, multiplier.factor)
    if len(meter._known) >= _MAX_KNOWN:  # callers choose the values, so they must not choose how many are kept
        meter._known.clear()
    meter._known[values] = weight
    return weight


def units(meter: Meter, quantity: Decimal, dimensions: Mapping[str, str]) -> Decimal:
    """What the meter counts for a quantity: rounded once, to the meter's scale, halves away from zero.

    Raises QuantityTooLarge from 10**18 units on, where sums would no longer fit the store's 38 digits.
    """
    return weighed(meter, quantity, weight_of(meter, dimensions))


def weighed(meter: Meter, quantity: Decimal, weight: Decimal) -> Decimal:
    """`units`, for a weight that is known."""
    exact = _EXACT.multiply(quantity, weight)
    if abs(exact) >= MAX_UNITS:
        raise QuantityTooLarge()
    counted = quantize(exact, meter.scale)
    if abs(counted) >= MAX_UNITS:
        raise QuantityTooLarge()
    return counted


def weighed_by(plan: Plan, meter: Meter) -> Meter:
    """The meter as the plan counts it: the plan's own weights asked first."""
    own = dict(plan.weights).get(meter.id, ())
    return replace(meter, weights=own + meter.weights) if own else meter
