"""`catalog.yaml` as pydantic models: its shape, field by field. What fields mean together is in `checks`.

Unknown fields are refused, and nothing is converted silently (strict mode).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from tollgate.catalog.fields import (
    MAX_DIMENSIONS,
    Amount,
    Day,
    DimensionName,
    Exact,
    FeatureValue,
    FileName,
    Id,
    LimitPer,
    Multiple,
    OffSwitch,
    OverageSwitch,
    PositiveAmount,
    PositiveExact,
    Text,
    TierEnd,
    When,
    Window,
)
from tollgate.catalog.model import DEFAULT_SCALE, MAX_MULTIPLIERS, Anchor, Every, Interval, MeterKind, StripeCustomers

WEIGHT_COLUMN = "weight"
"""The column of a rates file that holds the rates, unless `columns` names others."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class WeightEntry(_Entry):
    """Units for each quantity where `when` matches; the first match wins."""

    when: When = Field(default_factory=dict)
    weight: Exact


class MultiplierEntry(_Entry):
    """A factor on top of the weight; every matching one applies."""

    when: When = Field(default_factory=dict)
    factor: Exact


def _one_column() -> dict[str, dict[str, tuple[str, ...]]]:
    return {WEIGHT_COLUMN: {}}


class RatesEntry(_Entry):
    """A CSV file of weights beside the catalogue, each with the day from which it holds (`effective_from`)."""

    file: FileName
    dimensions: list[DimensionName] = Field(
        min_length=1,
        max_length=MAX_DIMENSIONS,
        description="Columns that say what a dimension must be; `*` stands for any characters, an empty cell for all.",
    )
    columns: dict[DimensionName, When] = Field(
        default_factory=_one_column,
        min_length=1,
        max_length=50,
        description="Columns that hold weights, and for what besides the row's dimensions.",
    )


class CostEntry(_Entry):
    """What quantities are to the provider where `when` matches; the first match wins."""

    when: When = Field(default_factory=dict)
    kind: Id = Field(description="A kind of the provider's prices, such as input, cached_input or output.")


class ProviderPriceEntry(_Entry):
    """What a model's provider asks for, from the beginning of a day (UTC) on."""

    effective_from: Day
    source: Text = Field(description="Where the prices stand, for people.")
    per_million: dict[Id, Exact] = Field(
        min_length=1,
        max_length=20,
        description="US dollars for a million, by kind; an absent kind has no price.",
    )


ProviderPrices = dict[Text, Annotated[list[ProviderPriceEntry], Field(min_length=1, max_length=20)]]


class MarginsEntry(_Entry):
    """How provider cost is held against revenue."""

    told_from: Exact = Field(
        Decimal(1), description="US dollars of provider cost in a month, below which no account's margin is told of."
    )
    spend_above: Exact | None = Field(
        None, description="Revenue of a month, in the catalogue's currency, from which sales people may want to know."
    )
    usd_per: dict[Annotated[str, StringConstraints(pattern=r"^[a-z]{3}$")], PositiveExact] = Field(
        default_factory=dict, description="US dollars for one unit of another currency; without it there is no margin."
    )


class MeterEntry(_Entry):
    """What is counted."""

    kind: MeterKind = Field("sum", description="Usage is added up; a level is set, such as gigabytes stored.")
    name: Text | None = Field(None, description="For people; the id if absent.")
    unit: Text = Field("unit", description="One of what is counted, in the singular.")
    scale: int = Field(DEFAULT_SCALE, ge=0, le=12, description="Decimal places of this meter's units.")
    stripe_event_name: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = Field(
        None, description="Stripe's name for the meter's events; absent: never sent to Stripe, and not to be priced."
    )
    weights: list[WeightEntry] = Field(default_factory=list, max_length=500)
    rates: RatesEntry | None = Field(None, description="More weights, in a file; asked before `weights`.")
    multipliers: list[MultiplierEntry] = Field(default_factory=list, max_length=MAX_MULTIPLIERS)
    costs: list[CostEntry] = Field(
        default_factory=list,
        max_length=50,
        description="Which of the provider's prices quantities have; none if absent.",
    )


class TierEntry(_Entry):
    """Units up to and including `up_to`; `flat` falls due once, when the tier is entered."""

    up_to: TierEnd
    unit_price: Exact
    flat: Exact | None = Field(None, description='"0" if absent.')


class _Priced(_Entry):
    """What every price may have."""

    meter: Id
    minimum: Exact | None = Field(None, description="Least that the meter comes to in a period, used or not.")
    maximum: Exact | None = Field(None, description="Most that the meter comes to in a period.")
    markup: Exact | None = Field(None, description='Per cent on top of the prices: "10" makes 1.00 into 1.10.')
    included_per_seat: PositiveAmount | None = Field(
        None, description="Units that each seat brings in a period; taken off before the tiers."
    )


class PerUnitEntry(_Priced):
    """Every unit at one price."""

    scheme: Literal["per_unit"]
    unit_price: Exact


class GraduatedEntry(_Priced):
    """Each unit at the price of the tier that it falls in."""

    scheme: Literal["graduated"]
    tiers: list[TierEntry] = Field(min_length=1, max_length=100)


class VolumeEntry(_Priced):
    """All units at the price of the tier that the period's total falls in."""

    scheme: Literal["volume"]
    tiers: list[TierEntry] = Field(min_length=1, max_length=100)


class PackageEntry(_Priced):
    """Units in packages of a size."""

    scheme: Literal["package"]
    package_size: PositiveAmount
    package_price: Exact
    round: Literal["up", "down"] = Field("up", description="Whether an incomplete package counts.")


PriceEntry = Annotated[
    PerUnitEntry | GraduatedEntry | VolumeEntry | PackageEntry,
    Field(discriminator="scheme"),
]


class SeatsEntry(_Entry):
    """A price for each seat."""

    unit_price: Exact = Field(description="Of one seat in one period.")
    minimum: int = Field(0, ge=0, le=1_000_000, description="Fewest seats that are billed.")
    pooled: bool = Field(True, description="Whether the units that seats bring are one pool for all of them.")
    meter: str | None = Field(None, description="The level meter that says how many seats there are.")


class PeriodEntry(_Entry):
    """The billing period and where it starts."""

    interval: Interval = "month"
    anchor: Anchor = "calendar"


class GrantEntry(_Entry):
    """Prepaid units that the plan gives by itself."""

    meter: Id
    units: PositiveAmount
    every: Every = "period"
    rollover_max: Amount | None = Field(None, description="Most that is carried over; nothing if absent.")
    priority: int = Field(50, ge=0, le=100, description="Lower burns first.")


class PackEntry(_Entry):
    """Prepaid units that customers buy once."""

    id: Id
    name: Text | None = Field(None, description="For people; the id if absent.")
    meter: Id
    units: PositiveAmount
    price: Exact
    priority: int = Field(50, ge=0, le=100, description="Lower burns first.")
    expires_days: int | None = Field(None, ge=1, le=3650, description="Days from the purchase; for good if absent.")


class LimitEntry(_Entry):
    """A cap of units (`meter` or `meters`, `window`, `max`; on a level meter no `window`), of open reservations
    (`concurrent`), or of a member's money (`amount`)."""

    id: Id
    meter: Id | None = None
    meters: list[Id] | None = Field(None, min_length=1, max_length=20)
    per: LimitPer = "account"
    window: Window | None = None
    max: Amount | None = None
    concurrent: int | None = Field(None, ge=1, le=500)
    amount: Exact | None = Field(None, description="What a member's own usage of a period may come to, in money.")
    where: When = Field(default_factory=dict)

    @property
    def named(self) -> list[str]:
        """The meters, however they are written."""
        return [self.meter] if self.meter is not None else self.meters or []


class AlertsEntry(_Entry):
    """When operator and customer are told."""

    thresholds: list[Annotated[int, Field(ge=1, le=1000)]] | None = Field(
        None,
        max_length=10,
        description="Per cent of every limit, included quota, cap and credit balance; [50, 80, 90, 100] if absent.",
    )


class BreakerEntry(_Entry):
    """What stops a runaway: an hour in which an account uses many of its typical days."""

    multiple: Multiple = Field(Decimal(10), description='Typical days that an hour may come to; "10" if absent.')
    floor: dict[Id, PositiveAmount] = Field(
        default_factory=dict,
        max_length=200,
        description="By meter: units an hour that stop nobody; where absent, what the plan gives or allows in one go.",
    )


class CatalogBreakerEntry(BreakerEntry):
    """The breaker of all plans, and of all accounts together."""

    platform_cost_per_hour: Multiple | None = Field(
        None, description="Provider cost of all accounts in an hour, in US dollars, that stops everything new."
    )


def _kind_of_breaker(value: Any) -> str:
    return "settings" if isinstance(value, BreakerEntry | dict) else "off"


BREAKER_KINDS = ("settings", "off")
_Off = Annotated[OffSwitch, Tag("off")]
_Kind = Discriminator(_kind_of_breaker)
BreakerSwitch = Annotated[Annotated[BreakerEntry, Tag("settings")] | _Off, _Kind]
CatalogBreakerSwitch = Annotated[Annotated[CatalogBreakerEntry, Tag("settings")] | _Off, _Kind]


class PlanEntry(_Entry):
    """What an account on this plan pays and may use."""

    name: Text | None = Field(None, description="For people; the id if absent.")
    description: str = Field("", max_length=1000)
    order: int = Field(0, description="Place on the pricing page, lowest first.")
    public: bool = Field(True, description="Whether the pricing page shows it.")
    base_fee: Exact | None = Field(None, description='"0" if absent.')
    seats: SeatsEntry | None = None
    period: PeriodEntry = PeriodEntry()
    prices: list[PriceEntry] = Field(default_factory=list, max_length=20)
    overage: OverageSwitch = "on"
    spend_cap: Exact | None = Field(None, description="Most usage charges in a period, without base fee and tax.")
    grants: list[GrantEntry] = Field(default_factory=list, max_length=20)
    packs: list[PackEntry] = Field(default_factory=list, max_length=20)
    limits: list[LimitEntry] = Field(default_factory=list, max_length=50)
    weights: dict[Id, list[WeightEntry]] = Field(
        default_factory=dict, description="By meter: rules asked before the meter's own."
    )
    features: dict[Text, FeatureValue] = Field(default_factory=dict)
    breaker: BreakerSwitch | None = Field(None, description="Instead of the catalogue's own; off: none.")
    unlimited: bool = Field(False, description="Meters that the plan neither prices nor limits are free to use.")
    alerts: AlertsEntry | None = Field(None, description="What the plan says itself, instead of the catalogue.")


class Document(_Entry):
    """Tollgate's catalogue: meters, plans, prices and limits. Top-level keys that begin with `x-` are ignored."""

    currency: Annotated[str, StringConstraints(pattern=r"^[a-z]{3}$")]
    default_plan: Id
    auto_create_accounts: bool = Field(True, description="Whether an unknown account starts on the default plan.")
    fallback_plan: Id | None = Field(
        None, description="The plan of accounts whose subscription ended or stayed unpaid; the default plan if absent."
    )
    grace_days: int = Field(7, ge=0, le=90, description="Days that an account stays on its plan once a payment failed.")
    stripe_customers: StripeCustomers = Field(
        "first_need", description="When an account gets a Stripe customer: when it buys something, or when it is made."
    )
    alerts: AlertsEntry | None = Field(None, description="For all plans that say nothing themselves.")
    expected_volume: dict[Id, PositiveAmount] = Field(
        default_factory=dict, description="By meter: units that all accounts together use in a calendar month (UTC)."
    )
    breaker: CatalogBreakerSwitch = CatalogBreakerEntry()
    provider_prices: ProviderPrices = Field(
        default_factory=dict, max_length=500, description="By model: instead of the list that comes with Tollgate."
    )
    margins: MarginsEntry = MarginsEntry()
    meters: dict[Id, MeterEntry] = Field(min_length=1, max_length=200)
    plans: dict[Id, PlanEntry] = Field(min_length=1, max_length=200)
