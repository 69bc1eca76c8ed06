"""Answers as pydantic models: the OpenAPI document's side of `answers.py`. No function imports them at run time.

Strict: an answer with a field that is not here fails the contract tests.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

_PLAIN = r"^-?[0-9]+(\.[0-9]*[1-9])?$"
_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$"

Decimal = TypeAliasType(
    "Decimal", Annotated[str, Field(pattern=_PLAIN, description="A plain decimal string.", examples=["12.5"])]
)
Time = TypeAliasType(
    "Time",
    Annotated[
        str,
        Field(
            pattern=_TIME,
            json_schema_extra={"format": "date-time"},
            description="RFC 3339 in UTC.",
            examples=["2026-11-20T10:00:00Z"],
        ),
    ],
)
Cursor = Annotated[str | None, Field(description="Send it as `cursor` for the next page; null at the end.")]


class Answer(BaseModel):
    """Base of all answers. A field whose default is None is left out where it does not apply, and never null."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ProblemField(Answer):
    """One wrong field: `path` in dotted form, `code` stable."""

    path: Annotated[str, Field(examples=["items.0.quantity"])]
    code: Annotated[str, Field(examples=["not_positive"])]


class Problem(Answer):
    """RFC 9457 problem details. `code` is stable; `retryable`: whether the same request can succeed later."""

    type: Annotated[str, Field(pattern=r"^urn:tollgate:problem:[a-z_]+$")]
    title: str
    status: int
    code: Annotated[str, Field(pattern=r"^[a-z_]+$")]
    detail: str
    errors: list[ProblemField]
    retryable: bool
    request_id: str


class LimitState(Answer):
    """A limit as the next reservation will see it; `max` and `remaining` are null where it is unlimited."""

    id: str
    source: Literal["plan", "customer", "operator", "credits", "breaker"]
    per: Annotated[str, Field(pattern=r"^(account|member|plan|dimension:.+)$", examples=["account"])]
    member: str | None = None
    value: Annotated[
        str | None, Field(description="Of the dimension, with `dimension:<name>`; empty: the request does not name it.")
    ] = None
    meters: list[str]
    where: Annotated[
        dict[str, str | list[str]] | None,
        Field(description="Only usage with these dimensions counts; `*` stands for any characters."),
    ] = None
    window: Annotated[str, Field(examples=["day"])]
    window_start: Time | None
    resets_at: Time | None
    max: Decimal | None
    used: Decimal
    held: Decimal
    remaining: Decimal | None
    over: bool
    approximate: Annotated[
        Literal[True] | None,
        Field(description="Of a limit that accounts share: made from a part of its counters. `used` has what is held."),
    ] = None


class Denial(Answer):
    """The one reason of a refusal, and what resolves it."""

    code: Literal[
        "limit_reached",
        "spend_cap",
        "hard_limit",
        "overage_blocked",
        "credits_exhausted",
        "frozen",
        "breaker",
        "not_in_plan",
        "too_many_open",
    ]
    limit: str | None
    source: Literal["plan", "customer", "operator", "credits", "breaker"]
    requested: Decimal
    remaining: Decimal
    resets_at: Time | None
    retry_after_seconds: Annotated[int | None, Field(ge=0)]
    resolve: Literal["wait", "upgrade", "raise_limit", "buy_credits", "contact"]
    message: str


class Item(Answer):
    meter: str
    quantity: Decimal
    units: Decimal


class Reservation(Answer):
    """Units set aside until `expires_at`."""

    id: str
    allowed: Literal[True]
    units: Decimal
    items: list[Item]
    expires_at: Time
    limits: list[LimitState]


class ReservationDenied(Answer):
    """Refused: an answer, not an error. Nothing is held, and there is no `id`."""

    allowed: Literal[False]
    denial: Denial
    limits: list[LimitState]


class Commit(Answer):
    """`duplicate`: recorded before; `late`: the hold had ended; `waived`: counted, but never charged."""

    event_ids: list[str]
    units: Decimal
    waived: Decimal
    duplicate: bool
    late: bool
    over_reserved: bool
    limits: list[LimitState]


class ReservationCommitted(Answer):
    """Reserved and committed in one call."""

    id: str
    allowed: Literal[True]
    units: Decimal
    items: list[Item]
    expires_at: Time
    event_ids: list[str]
    waived: Decimal
    duplicate: bool
    late: bool
    over_reserved: bool
    limits: list[LimitState]


class Release(Answer):
    id: str
    status: Literal["released"]
    limits: list[LimitState]


class Extension(Answer):
    """`allowed` false: the reservation stands as it was, and `denial` says why."""

    id: str
    allowed: bool
    units: Decimal
    items: list[Item]
    expires_at: Time
    limits: list[LimitState]
    denial: Denial | None = None


class ReservationState(Answer):
    """`event_ids` and `used_units` where it is committed."""

    id: str
    status: Literal["open", "committed", "released", "expired"]
    account: str
    member: str | None
    units: Decimal
    items: list[Item]
    expires_at: Time
    event_ids: list[str] | None = None
    used_units: Decimal | None = None


class UsageError(Answer):
    """Why one event was rejected."""

    code: str
    detail: str
    errors: list[ProblemField]
    retryable: bool


class UsageResult(Answer):
    """`id` is null where the event had none that can be repeated. `over_limits`: limits that are now exceeded."""

    id: str | None
    status: Literal["recorded", "duplicate", "rejected"]
    units: Decimal
    waived: Decimal
    over_limits: list[str]
    error: UsageError | None = None


class UsageRecorded(Answer):
    """One result for each event, in the order sent."""

    results: list[UsageResult]


class PlanName(Answer):
    id: str
    version: Annotated[int, Field(ge=1)]
    name: str


class Frozen(Answer):
    reason: str
    since: Time


class NextPlan(Answer):
    """The plan that begins with the next billing period."""

    id: str
    version: int
    at: Time


class Controls(Answer):
    """What the customer set, in the plan's currency. `soft_limit` of source `default`: 80 % of the median of the last
    three closed periods' spend."""

    soft_limit: Decimal | None
    soft_limit_source: Literal["customer", "default"] | None
    hard_limit: Decimal | None
    block_overage: bool | None
    thresholds: Annotated[list[int], Field(description="Per cent at which the customer is told; the plan's, else.")]
    currency: Annotated[str, Field(pattern="^[a-z]{3}$", examples=["usd"])]


class Account(Answer):
    """`rev` grows with every change of what binds the account."""

    id: str
    plan: PlanName
    next_plan: NextPlan | None
    timezone: str
    stripe_customer_id: str | None
    email: str | None
    name: str | None
    overrides: Annotated[dict[str, Any] | None, Field(description="As they were sent, without what has ended.")]
    controls: Controls
    frozen: Frozen | None
    aliases: Annotated[list[str], Field(description="Ids of accounts that became this one: other names of it.")]
    created_at: Time
    rev: Annotated[int, Field(ge=1)]


class AuditChange(Answer):
    """One field before and after; null: there was, or is, none."""

    field: Literal["plan", "next_plan", "overrides", "controls", "frozen", "aliases"]
    before: Any
    after: Any


class AuditEntry(Answer):
    """What one revision of an account's rules changed."""

    rev: Annotated[int, Field(ge=1)]
    at: Time
    by: Annotated[
        str | None,
        Field(description="The API key's id; `schedule`: what was due; null: nobody said.", examples=["key_0123"]),
    ]
    changes: list[AuditChange]


class AuditList(Answer):
    data: list[AuditEntry]
    next_cursor: Cursor


class AccountList(Answer):
    data: list[Account]
    next_cursor: Cursor


class Funding(Answer):
    """Who would pay for the units, in units."""

    included: Decimal
    credits: Decimal
    overage: Decimal


class Estimate(Answer):
    """`cost` is the price to the customer; `denial` says why a reservation would be refused now."""

    units: Decimal
    cost: Decimal
    currency: str
    funding: Funding
    allowed: bool
    denial: Denial | None = None


class Period(Answer):
    start: Time
    end: Time | None


class MeterUsage(Answer):
    """`used` in the billing period; of a level meter what it stands at."""

    id: str
    used: Decimal
    included: Decimal | None
    overage: Decimal | None
    credit_funded: Decimal
    waived: Decimal


class Spend(Answer):
    """Money of the billing period, in the plan's currency. `held` is what open reservations may add to `usage`."""

    usage: Decimal
    levels: Annotated[Decimal, Field(description="What levels come to as they stand; no promise is about them.")]
    held: Decimal
    base_fee: Decimal
    total: Decimal
    cap: Annotated[Decimal | None, Field(description="The lowest promise on `usage`; null: none.")]
    projected_total: Annotated[Decimal | None, Field(description="null in a period's first six hours.")]
    currency: str


class GrantState(Answer):
    """Prepaid credits that are left, open reservations aside. `expires_at` null: never."""

    id: Annotated[str | None, Field(description="null: the member's next request brings them.")]
    available: Decimal
    priority: int
    effective_at: Annotated[Time | None, Field(description="null: from the beginning.")]
    expires_at: Time | None
    member: Annotated[str | None, Field(description="Who alone may burn them, by its seat; null: everyone.")]


class Credits(Answer):
    """The grants of one meter, in the order in which they burn; `available` is what could be burned now. A seat's own
    units are among them where its member is asked for."""

    meter: str
    available: Decimal
    grants: list[GrantState]


class Grant(Answer):
    """Prepaid credits as they were given. `expires_at` null: never."""

    id: str
    meter: str
    units: Decimal
    source: str
    source_id: str
    reason: str | None
    priority: int
    effective_at: Time
    expires_at: Time | None
    created_at: Time


class CheckoutPage(Answer):
    """Where the customer pays, until `expires_at`."""

    url: str
    session_id: str
    expires_at: Time


class PeriodOrNone(Answer):
    start: Time | None
    end: Time | None


class Proration(Answer):
    """`means`: the behavior in a sentence."""

    behavior: Literal["create_prorations", "none"]
    means: str


class SubscriptionState(Answer):
    """A subscription at Stripe. `added`: the parts of the plan that this request brought: `base`, `seats`,
    `meter:<id>`."""

    subscription_id: str
    status: str
    plan: PlanName
    period: PeriodOrNone
    added: list[str]
    proration: Proration


class Clawback(Answer):
    """Credits taken back. `short`: what had been used already."""

    source: str
    source_id: str
    units: Decimal
    taken: Decimal
    short: Decimal
    reason: str | None


class CreditsChanged(Answer):
    grant: Grant
    clawback: Clawback | None


class LedgerEntry(Answer):
    """`units` are signed; `balance` is the meter's after this entry, open reservations included. `member`: who used it,
    or whose seat brought it."""

    at: Time
    type: Literal["grant", "rollover", "burn", "clawback", "expiry"]
    meter: str
    units: Decimal
    balance: Decimal
    grant: str
    event_id: str | None
    member: str | None
    source: str | None
    source_id: str | None
    reason: str | None


class Ledger(Answer):
    data: list[LedgerEntry]
    next_cursor: Cursor


class Usage(Answer):
    """What the next reservation will see. `spend` is null where the plan has neither prices nor credits."""

    as_of: Time
    plan: PlanName
    period: Period
    meters: list[MeterUsage]
    limits: list[LimitState]
    spend: Spend | None
    credits: list[Credits]
    frozen: Frozen | None


class Level(Answer):
    """What a level meter stands at. `change` numbers its changes from 1; 0: it was never set, and is 0."""

    account: str
    meter: str
    level: Decimal
    max: Annotated[Decimal | None, Field(description="The lowest of its limits; null: unlimited.")]
    updated_at: Time | None
    change: Annotated[int, Field(ge=0)]
    limits: list[LimitState]


class LevelChanged(Level):
    """The level as this call left it; called again, the same answer."""

    allowed: Literal[True]
    current_level: Annotated[Decimal, Field(description="What stands now: another one where a change came later.")]
    event_id: str


class LevelDenied(Level):
    """Not raised: what stood before stands."""

    allowed: Literal[False]
    denial: Denial


class MemberUnits(Answer):
    """Units of one meter in this billing period. null: the plan began to count them in it, and the member has not
    called since."""

    id: str
    used: Decimal | None
    held: Decimal | None


class Member(Answer):
    """`removed_at` is null again once a removed member has used something."""

    id: str
    since: Time
    removed_at: Time | None
    meters: list[MemberUnits]


class MemberList(Answer):
    data: list[Member]
    next_cursor: Cursor


class MemberRemoved(Answer):
    id: str
    removed_at: Time


class PlanReference(Answer):
    id: str
    version: Annotated[int, Field(ge=0)]


class Event(Answer):
    """One usage event, immutable."""

    id: Annotated[str, Field(pattern=r"^evt_[0-9a-f]{12}\.[A-Za-z0-9_-]{16}\.[0-9]$")]
    usage_id: Annotated[str | None, Field(description="The caller's id (`POST /v1/usage`); null for a reservation.")]
    account: str
    member: str | None
    meter: str
    quantity: Decimal
    weight: Annotated[Decimal, Field(description="Units for each quantity, by the plan version.")]
    units: Decimal
    level_change: Annotated[
        int | None,
        Field(ge=1, description="Of a level meter: the number of this change; `units` are then what it stands at."),
    ]
    credit_funded: Decimal
    waived: Decimal
    dimensions: dict[str, str]
    plan: PlanReference
    recorded_at: Time
    occurred_at: Time | None
    cached: bool
    late: bool
    over_reserved: bool
    provider_cost: Decimal | None
    metadata: dict[str, Any] | None


class EventList(Answer):
    data: list[Event]
    next_cursor: Cursor


class Key(Answer):
    """An API key without its secret."""

    id: Annotated[str, Field(pattern=r"^key_[0-9a-f]{16}$")]
    name: str
    mode: Literal["test", "live"]
    scopes: list[Literal["usage", "read", "admin"]]
    prefix: Annotated[str, Field(description="The first characters of the secret, to recognize it by.")]
    created_at: Time
    revoked_at: Time | None


class NewKey(Key):
    secret: Annotated[str, Field(description="Shown this once, and stored nowhere.")]


class KeyList(Answer):
    data: list[Key]
    next_cursor: Cursor


class KeyRevoked(Answer):
    """Binds everywhere within 60 seconds."""

    id: str
    revoked: Literal[True]


class PlanPeriod(Answer):
    interval: Literal["month", "year"]
    anchor: Literal["calendar", "signup", "subscription"]


class PlanSeats(Answer):
    """`pooled`: the units that seats bring are one pool; otherwise each seat has its own."""

    unit_price: Decimal
    minimum: Annotated[int, Field(ge=0, description="Fewest seats that are billed.")]
    pooled: bool


class PlanMeter(Answer):
    """A meter that the plan's prices, credits or limits name."""

    id: str
    name: str
    unit: Annotated[str, Field(description="One of what is counted.")]
    kind: Annotated[Literal["sum", "level"], Field(description="Usage is added up, or a level is set.")]


class PlanTier(Answer):
    up_to: Annotated[Decimal | None, Field(description="Inclusive; null: without end.")]
    unit_price: Decimal
    flat: Decimal


class PlanPrice(Answer):
    """`unit_price` with scheme `per_unit`, `tiers` with `graduated` and `volume`, the rest with `package`."""

    meter: str
    scheme: Literal["per_unit", "graduated", "volume", "package"]
    unit_price: Decimal | None = None
    tiers: list[PlanTier] | None = None
    package_size: Decimal | None = None
    package_price: Decimal | None = None
    round: Literal["up", "down"] | None = None
    markup: Annotated[Decimal, Field(description="Per cent on top of these prices.")]
    minimum: Annotated[Decimal | None, Field(description="Least that the meter comes to in a period.")]
    maximum: Annotated[Decimal | None, Field(description="Most that the meter comes to in a period.")]
    included: Annotated[Decimal | None, Field(description="Units that the tiers give for nothing; null: all.")]
    included_per_seat: Decimal


class PlanGrant(Answer):
    """Prepaid units that the plan gives by itself."""

    meter: str
    units: Decimal
    every: Literal["once", "day", "week", "month", "period", "year"]
    rollover_max: Decimal | None


class PlanPack(Answer):
    """Prepaid units that customers buy once."""

    id: str
    name: str
    meter: str
    units: Decimal
    price: Decimal
    expires_days: Annotated[int | None, Field(ge=1, description="From the purchase; null: they do not expire.")]


class PlanExampleUsage(Answer):
    meter: str
    units: Decimal
    credit_funded: Decimal


class PlanExampleLine(Answer):
    """`amount` = ((`packages` or `quantity`) × `unit_price` + `flat`) × (1 + `markup` %), rounded."""

    kind: Literal["base_fee", "seats", "usage", "minimum", "maximum"]
    meter: str | None
    quantity: Decimal
    tier: Annotated[int | None, Field(ge=1)]
    packages: Decimal | None
    unit_price: Decimal
    flat: Decimal
    markup: Decimal
    amount: Decimal


class PlanExample(Answer):
    """One period's bill for this usage, as the customer would get it. `capped`: the spend cap stopped usage there."""

    name: Literal["light", "medium", "heavy"]
    text: Annotated[str, Field(examples=["200 messages: $5/month"])]
    seats: int | None
    usage: list[PlanExampleUsage]
    lines: list[PlanExampleLine]
    total: Decimal
    capped: bool


class PlanLimit(Answer):
    """`plan`: all accounts of the plan share it; `dimension:ip`: all usage with the same value of `ip` does."""

    id: str
    per: Annotated[str, Field(pattern="^(account|member|plan|dimension:.+)$", examples=["account"])]
    meters: list[str]
    where: dict[str, str | list[str]] | None = None
    window: str
    max: Annotated[Decimal | None, Field(description="Units, or open reservations; null: a limit in money.")]
    amount: Annotated[
        Decimal | None, Field(description="What a member's own usage may come to in a billing period.")
    ] = None


class Plan(Answer):
    id: str
    version: Annotated[int, Field(ge=1)]
    name: str
    description: str
    sentence: Annotated[
        str,
        Field(
            description="The price in one sentence.",
            examples=["First 100 messages free, then $0.02 each, capped at $20/month"],
        ),
    ]
    period: PlanPeriod
    base_fee: Decimal
    seats: PlanSeats | None
    meters: list[PlanMeter]
    prices: list[PlanPrice]
    overage: Literal["on", "off", "opt_in"]
    spend_cap: Annotated[Decimal | None, Field(description="Most usage charges in a period, base fee and seats apart.")]
    grants: list[PlanGrant]
    packs: list[PlanPack]
    limits: list[PlanLimit]
    features: dict[str, str | int | bool]
    examples: Annotated[list[PlanExample], Field(description="Empty where the plan sells neither usage nor seats.")]


class PlanList(Answer):
    """`currency` is null until a catalogue is loaded."""

    currency: str | None
    data: list[Plan]
    next_cursor: Cursor


class ResumeLink(Answer):
    account: str
    resumed: bool
    expires_at: Annotated[Time, Field(description="Of the link.")]


class PlatformStop(Answer):
    """Provider cost in US dollars."""

    since: Time
    hour: Annotated[Time, Field(description="The start of the hour that cost too much.")]
    provider_cost: Decimal
    cap: Decimal


class Platform(Answer):
    stopped: PlatformStop | None


class PlatformResumed(Answer):
    resumed: Annotated[bool, Field(description="false: nothing was stopped, and nothing changed.")]
    was: PlatformStop | None
    stopped: PlatformStop | None


class Health(Answer):
    status: Literal["ok"]


class AuditedInvoice(Answer):
    """The invoice as Stripe has it now; money in major units."""

    id: str
    status: Literal["draft", "open", "paid", "uncollectible", "void"]
    currency: str
    subtotal: Decimal
    total: Decimal
    created_at: Time


class InvoicePeriod(Answer):
    start: Time
    end: Time


class InvoicePlan(Answer):
    id: str
    version: int | None


class AuditedLine(Answer):
    """A metered price on the invoice. `quantity` and `amount` are Stripe's, `units` what the batches sent, `rated` what
    Tollgate's rating makes of them; null and never in agreement where the price is not Tollgate's."""

    ids: list[str]
    price: str
    meter: str | None
    plan: InvoicePlan | None
    period: InvoicePeriod
    quantity: Decimal | None
    units: Decimal
    amount: Decimal
    rated: Decimal | None
    difference: Decimal | None
    windows: int
    events: int
    agrees: bool
    hash: str


class AuditedBatches(Answer):
    """The batches of one seal window, and the events that they sum up."""

    line: str
    meter: str
    account: str
    start: Time
    end: Time
    batches: list[str]
    booked_at: list[Time]
    units: Decimal
    events: int
    events_units: Decimal
    agrees: bool
    hash: str


class AuditedEvent(Answer):
    """An event and the batches of its seal window. `billable`: the units of it that are paid by use."""

    line: str
    meter: str
    batches: list[str]
    id: str
    usage_id: str | None
    account: str
    member: str | None
    recorded_at: Time
    quantity: Decimal
    weight: Decimal
    units: Decimal
    credit_funded: Decimal
    waived: Decimal
    billable: Decimal


class InvoiceAudit(Answer):
    """`agrees`: every line comes to what Tollgate rates, and every batch to its events."""

    account: str
    invoice: AuditedInvoice
    agrees: bool
    hash: str
    lines: list[AuditedLine]
    rows: Literal["events", "batches"]
    data: list[AuditedEvent] | list[AuditedBatches]
    next_cursor: Cursor


class ReconciledDifference(Answer):
    """One difference. `units`: what it adds to Stripe's total less the events', of an invoice to what it bills less the
    events'; `repair`: what was or can be done."""

    class_: Annotated[str, Field(alias="class", examples=["unsent"])]
    units: Decimal
    repair: Annotated[str, Field(examples=["resend"])]
    applied: bool
    evidence: str
    batch: str | None


class CreditedLine(Answer):
    id: str
    amount: Decimal


class InvoiceProposal(Answer):
    """What makes up for an invoice that is final and does not bill what was used; done by hand, at Stripe. `lines`: of
    a credit note, what is given back of each."""

    repair: Literal["credit_note", "invoice_item"]
    amount: Decimal
    currency: str
    memo: str
    lines: list[CreditedLine]


class ReconciledPair(Answer):
    """A meter of an account over some days, or over the service period of an `invoice`: four totals side by side.
    `stripe` null: not read; `invoices` (what the invoice bills) null: it is about days."""

    account: str
    meter: str
    from_: Annotated[Time, Field(alias="from")]
    to: Time
    events: Decimal
    batches: Decimal
    stripe: Decimal | None
    invoices: Decimal | None
    invoice: str | None
    proposal: InvoiceProposal | None
    unexplained: Decimal
    put_off: bool
    differences: list[ReconciledDifference]


class ReconciledClass(Answer):
    class_: Annotated[str, Field(alias="class", examples=["unsent"])]
    count: Annotated[int, Field(ge=0)]


class ReconciledMeter(Answer):
    """All pairs of a run whose total was read at Stripe. `apart`: what is neither repaired nor passes by itself."""

    id: str
    events: Decimal
    batches: Decimal
    stripe: Decimal
    apart: Decimal


class GateAudits(Answer):
    """Gates whose counters were compared with their events and open holds in the day before the run."""

    audited: Annotated[int, Field(ge=0)]
    repaired: Annotated[int, Field(ge=0)]


class Reconciliation(Answer):
    """One run over everything that changed. `divergent`: meters that are apart by more than 0.1 %. `reports`: up to 25
    pairs that differ."""

    id: str
    kind: Annotated[str, Field(examples=["nightly"])]
    started_at: Time
    finished_at: Time | None
    pairs: Annotated[int, Field(ge=0)]
    invoices: Annotated[int, Field(ge=0)]
    settled: Annotated[int, Field(ge=0)]
    differing: Annotated[int, Field(ge=0)]
    put_off: Annotated[int, Field(ge=0, description="Not compared: Stripe's total could not be read.")]
    failed: Annotated[int, Field(ge=0, description="Accounts whose comparison failed; they have their turn again.")]
    stripe_reads: Annotated[int, Field(ge=0)]
    differences: list[ReconciledClass]
    meters: list[ReconciledMeter]
    divergent: list[str]
    gates: GateAudits
    reports: list[ReconciledPair]


class ReconciliationList(Answer):
    data: list[Reconciliation]
    next_cursor: Cursor


class MarginModel(Answer):
    """`model` null: what no model is known for, and those of least cost. `ratio`: cost for each dollar of revenue."""

    model: str | None
    revenue_usd: Decimal
    provider_cost: Decimal
    ratio: Decimal | None


class RankedMargin(Answer):
    account: str
    plan: str
    currency: str
    revenue: Decimal
    revenue_usd: Decimal | None
    provider_cost: Decimal
    ratio: Decimal | None


class PlanMargin(Answer):
    """All accounts on a plan. `revenue_usd` null: its currency has no rate in the catalogue."""

    plan: str
    accounts: Annotated[int, Field(ge=0)]
    currency: str
    revenue: Decimal
    revenue_usd: Decimal | None
    provider_cost: Decimal
    ratio: Decimal | None


class MarginLevels(Answer):
    """How many accounts are of each."""

    healthy: Annotated[int, Field(ge=0)]
    warning: Annotated[int, Field(ge=0)]
    critical: Annotated[int, Field(ge=0)]
    free: Annotated[int, Field(ge=0, description="On plans that charge nothing.")]
    unknown: Annotated[int, Field(ge=0, description="Their revenue is in a currency without a rate.")]


class Margins(Answer):
    """A calendar month (UTC), usage until `as_of`. Provider cost is in US dollars."""

    period: Annotated[str, Field(examples=["2026-11"])]
    as_of: Time
    accounts: Annotated[int, Field(ge=0)]
    accounts_with_unpriced_usage: Annotated[int, Field(ge=0)]
    accounts_without_rate: Annotated[int, Field(ge=0)]
    levels: MarginLevels
    plans: list[PlanMargin]
    models: list[MarginModel]
    losing: list[RankedMargin]
    spend_above: Decimal | None
    sales_assist: list[RankedMargin]


class MarginPlan(Answer):
    id: str
    version: Annotated[int, Field(ge=0)]


class AccountMargin(Answer):
    """`base_fee`: with seats and levels. `unpriced`: units whose cost is unknown, by meter: the cost is higher then.
    `paid_with_credits`: some units were, and what the credits were sold for is not in the revenue."""

    account: str
    period: Annotated[str, Field(examples=["2026-11"])]
    as_of: Time
    plan: MarginPlan
    currency: str
    revenue: Decimal
    base_fee: Decimal
    usage: Decimal
    revenue_usd: Decimal | None
    provider_cost: Decimal
    ratio: Decimal | None
    level: Literal["healthy", "warning", "critical", "free", "unknown"]
    loses_money: bool
    paid_with_credits: bool
    unpriced: dict[str, Decimal]
    models: list[MarginModel]


class AccountMarginList(Answer):
    data: list[AccountMargin]
    next_cursor: Cursor


class Notification(Answer):
    """What an account was told. `facts`: for an app that has its own words (meter, limit, threshold, ...)."""

    id: Annotated[str, Field(examples=["msg_17952624000004c1f2a9be07d35a6b1c8"])]
    kind: str
    subject: str
    text: str
    facts: dict[str, str]
    at: Time
    read: bool


class NotificationList(Answer):
    data: list[Notification]
    next_cursor: Cursor


class NotificationsRead(Answer):
    """Everything up to this id is read."""

    read_up_to: str


class WebhookEndpoint(Answer):
    """`disabled_reason`: why nothing is sent there; `old_secret_until`: how long two secrets sign."""

    id: Annotated[str, Field(examples=["whe_0123456789abcdef"])]
    url: str
    events: list[str]
    description: str
    enabled: bool
    disabled_reason: str | None
    old_secret_until: Time | None
    created_at: Time


class NewWebhookEndpoint(WebhookEndpoint):
    secret: Annotated[str, Field(description="Shown this once.", examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])]


class WebhookEndpointList(Answer):
    data: list[WebhookEndpoint]
    next_cursor: Cursor


class WebhookEndpointDeleted(Answer):
    id: str
    deleted: Literal[True]
