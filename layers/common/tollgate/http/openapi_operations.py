"""What the OpenAPI document says of each operation beyond its route: bodies, answers, problems, examples, links."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from tollgate.accounts.rules import MOST_COUNTERS
from tollgate.errors import (
    AccountBilled,
    AccountFrozen,
    AlreadyCommitted,
    AlreadyIdentified,
    AlreadyReleased,
    AlreadyResumed,
    AlreadySubscribed,
    CurrencyMismatch,
    CustomerDeleted,
    CustomerInUse,
    FieldError,
    IdempotencyKeyRequired,
    IdempotencyMismatch,
    Invalid,
    InvoiceTooLarge,
    LevelMeter,
    MemberRequired,
    NoLevelMeter,
    NotFound,
    PlanNotForSale,
    PriceNotSynced,
    QuantityTooLarge,
    ReservationTooLarge,
    ResumeLinkExpired,
    ResumeLinkInvalid,
    StripeRefused,
    StripeUnavailable,
    SubscriptionNotFlat,
    TollgateError,
    TooManyCounters,
    TooManyGrants,
    TooManyIdentified,
    UnknownAccount,
    UnknownGrant,
    UnknownInvoice,
    UnknownLimit,
    UnknownMeter,
    UnknownPack,
    UnknownPlan,
    UnknownReservation,
    UnknownSubscription,
)
from tollgate.http import schemas
from tollgate.http.account_requests import AccountIn, ControlsIn, FreezeIn, IdentifyIn, KeyIn, PlanIn, UnfreezeIn
from tollgate.http.billing_requests import CheckoutIn, SubscriptionIn
from tollgate.http.credit_requests import CreditsIn
from tollgate.http.endpoint_routes import EndpointIn, EndpointPatch, RotateIn, SecretShown, TooManyEndpoints
from tollgate.http.level_routes import LevelIn
from tollgate.http.manage_routes import KeyAlreadyMade
from tollgate.http.notification_routes import ReadIn
from tollgate.http.requests import CommitIn, ExtendIn, ReleaseIn, ReservationIn, UsageIn
from tollgate.windows import UnknownTimezone

Answers = tuple[type[BaseModel], ...]


@dataclass(frozen=True, slots=True)
class Link:
    """Where to go from an answer: `parameters` and `body` are runtime expressions of OpenAPI."""

    operation: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Operation:
    """`answers`: status -> (models, description). `problems`: an example of each problem beyond the common ones."""

    tag: str
    summary: str
    answers: Mapping[int, tuple[Answers, str]]
    description: str = ""
    body: type[BaseModel] | None = None
    body_required: bool = True
    examples: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[TollgateError, ...] = ()
    query: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    """Content types beside JSON that the answers come in."""
    links: tuple[Link, ...] = ()
    """From the first of the answers."""
    headers: tuple[str, ...] = ()
    """Of every answer; their names below `components.headers`."""


_ID = {"id": "$response.body#/id"}
_SAME_ID = {"id": "$request.path.id"}
_BAD_FIELD = Invalid("`id`: an id is 1 to 64 characters.", (FieldError("id", "id"),))
_SALE_PROBLEMS = (
    UnknownAccount("alice"),
    IdempotencyMismatch(),
    _BAD_FIELD,
    UnknownPlan("gold"),
    PlanNotForSale("free", "it costs nothing; move the account with POST /v1/accounts/{id}/plan"),
    CurrencyMismatch("pro", "eur", "usd"),
    PriceNotSynced("pro", "base"),
    CustomerDeleted("alice", "cus_123"),
    AlreadySubscribed("alice", "sub_1QwErTy"),
    StripeRefused(402, "card_declined", "Your card was declined."),
    StripeUnavailable(None, "no answer"),
)
_BAD_URL = Invalid("`url`: 10.0.0.7 leads to a private address.", (FieldError("url", "private_address"),))
_NO_ENDPOINT = NotFound("No such webhook endpoint; GET /v1/webhook_endpoints lists them.")
_OTHER_CURRENCY = CurrencyMismatch("pro", "eur", "usd")
_BAD_QUERY = Invalid("`limit` is 1 to 100.", (FieldError("limit", "range"),))
_RESERVING = (
    UnknownMeter("ai_credit"),
    LevelMeter("storage"),
    MemberRequired("jobs"),
    QuantityTooLarge(),
    TooManyCounters(MOST_COUNTERS),
)

_RESUMING = (ResumeLinkInvalid(), ResumeLinkExpired(), AlreadyResumed("alice"), UnknownAccount("alice"))

OPERATIONS: Mapping[str, Operation] = {
    "createReservation": Operation(
        tag="Reservations",
        summary="May this call run? Reserve units before it does",
        description=(
            "Decides all items against all limits at once. A refusal is an answer (200, `allowed: false`), not an "
            "error. The same Idempotency-Key gets the same reservation; clients send a UUIDv7."
        ),
        body=ReservationIn,
        examples={
            "one": {"account": "alice", "meter": "ai_credits", "quantity": "1"},
            "several": {
                "account": "alice",
                "member": "u-1",
                "items": [
                    {"meter": "ai_credits", "quantity": "1", "dimensions": {"operation": "image"}},
                    {"meter": "ai_credits", "quantity": 1500, "dimensions": {"operation": "chat", "model": "small-1"}},
                ],
                "ttl_seconds": 60,
            },
            "reserve and commit": {"account": "alice", "meter": "ai_credits", "quantity": "0.5", "commit": True},
        },
        answers={
            201: ((schemas.Reservation, schemas.ReservationCommitted), "Held until it is committed or released."),
            200: ((schemas.ReservationDenied,), "Refused, with the one reason."),
        },
        problems=(UnknownAccount("alice"), IdempotencyMismatch(), *_RESERVING, ReservationTooLarge()),
        links=tuple(
            Link(name, _ID)
            for name in ("commitReservation", "releaseReservation", "extendReservation", "getReservation")
        )
        + (
            Link("getUsage", {"id": "$request.body#/account"}),
            Link("listEvents", {"id": "$request.body#/account"}),
        ),
    ),
    "getReservation": Operation(
        tag="Reservations",
        summary="What became of a reservation",
        answers={200: ((schemas.ReservationState,), "Its state now.")},
        problems=(UnknownReservation(),),
    ),
    "commitReservation": Operation(
        tag="Reservations",
        summary="The call ran: record what it used",
        description="Safe to repeat; a late commit counts, too. More than was reserved is recorded in full.",
        body=CommitIn,
        body_required=False,
        examples={
            "as reserved": {},
            "less": {"quantity": "0.4", "provider_cost": "0.0021", "metadata": {"request": "r-1"}},
            "served from the app's own cache": {"cached": True},
        },
        answers={200: ((schemas.Commit,), "Recorded, now or before.")},
        problems=(
            UnknownReservation(),
            IdempotencyMismatch(),
            UnknownMeter("ai_credit"),
            LevelMeter("storage"),
            QuantityTooLarge(),
            TooManyCounters(MOST_COUNTERS),
        ),
        links=(Link("getReservation", _SAME_ID),),
    ),
    "releaseReservation": Operation(
        tag="Reservations",
        summary="The call did not run: give the units back",
        body=ReleaseIn,
        body_required=False,
        examples={"nothing to say": {}},
        answers={200: ((schemas.Release,), "Nothing of it is held any more.")},
        problems=(UnknownReservation(), AlreadyCommitted(), AlreadyReleased()),
        links=(Link("getReservation", _SAME_ID), Link("commitReservation", _SAME_ID)),
    ),
    "extendReservation": Operation(
        tag="Reservations",
        summary="Keep a reservation alive, or raise its total",
        description="Streams and agents call it as a heartbeat. Never shortens, never lowers.",
        body=ExtendIn,
        examples={"heartbeat": {"ttl_seconds": 120}, "more": {"ttl_seconds": 120, "quantity": "2"}},
        answers={200: ((schemas.Extension,), "Extended, or (`allowed: false`) as it was.")},
        problems=(
            UnknownReservation(),
            IdempotencyMismatch(),
            AlreadyCommitted(),
            AlreadyReleased(),
            UnknownMeter("ai_credit"),
            LevelMeter("storage"),
            QuantityTooLarge(),
            TooManyCounters(MOST_COUNTERS),
        ),
        links=(Link("getReservation", _SAME_ID), Link("commitReservation", _SAME_ID)),
    ),
    "recordUsage": Operation(
        tag="Usage",
        summary="Report usage that has happened",
        description="Up to 100 events; no cap refuses them. A wrong event is answered as rejected and spoils no other.",
        body=UsageIn,
        examples={
            "two events": {
                "events": [
                    {"id": "call-1", "account": "alice", "member": "u-1", "meter": "ai_credits", "quantity": "2"},
                    {"id": "call-2", "account": "alice", "meter": "ai_credits", "quantity": 1, "cached": True},
                ]
            }
        },
        answers={200: ((schemas.UsageRecorded,), "What became of each event.")},
        problems=(IdempotencyMismatch(),),
    ),
    "createEstimate": Operation(
        tag="Reservations",
        summary="What would this call cost, and may it run?",
        description="Takes the body of a reservation and answers before anything is spent; nothing is reserved.",
        body=ReservationIn,
        examples={"one meter": {"account": "alice", "meter": "ai_credits", "quantity": "20"}},
        answers={200: ((schemas.Estimate,), "The cost, who would pay for it, and whether it would be granted.")},
        problems=(UnknownAccount("alice"), *_RESERVING),
    ),
    "putAccount": Operation(
        tag="Accounts",
        summary="Create or change an account",
        description="Absent fields stay as they are; null clears. Binds the very next reservation.",
        body=AccountIn,
        examples={
            "on a plan": {"plan": "pro", "timezone": "Europe/Berlin"},
            "with a Stripe customer": {"stripe_customer_id": "cus_Alice1", "email": "alice@example.com"},
            "with its own terms": {
                "overrides": {
                    "limits": {"daily": {"max": "500"}},
                    "prices": [
                        {
                            "meter": "ai_credits",
                            "scheme": "per_unit",
                            "unit_price": "0.000003",
                            "until": "2099-01-01T00:00:00Z",
                            "reason": "Negotiated for three years",
                        }
                    ],
                    "spend_cap": "1000.00",
                }
            },
        },
        answers={200: ((schemas.Account,), "The account now.")},
        problems=(
            IdempotencyMismatch(),
            CustomerInUse("cus_Alice1"),
            _OTHER_CURRENCY,
            _BAD_FIELD,
            UnknownPlan("gold"),
            UnknownLimit("dayly", "free"),
            UnknownMeter("ai_credit", "overrides.prices.0.meter"),
            UnknownTimezone("Mars/Olympus"),
        ),
        links=tuple(
            Link(name, _ID)
            for name in (
                "getAccount",
                "getUsage",
                "listEvents",
                "freezeAccount",
                "unfreezeAccount",
                "changePlan",
                "putControls",
                "getControls",
                "listAudit",
            )
        ),
    ),
    "getAccount": Operation(
        tag="Accounts",
        summary="One account",
        answers={200: ((schemas.Account,), "The account now.")},
        problems=(UnknownAccount("alice"), _BAD_FIELD),
    ),
    "listAccounts": Operation(
        tag="Accounts",
        summary="All accounts, newest first",
        answers={200: ((schemas.AccountList,), "A page.")},
        query=("limit", "cursor"),
        problems=(_BAD_QUERY,),
        links=(Link("getAccount", {"id": "$response.body#/data/0/id"}),),
    ),
    "freezeAccount": Operation(
        tag="Accounts",
        summary="Refuse every new reservation from now on",
        description="Commits and usage are still recorded. Freezing again keeps the first reason.",
        body=FreezeIn,
        examples={"with a reason": {"reason": "Payment failed"}},
        answers={200: ((schemas.Account,), "The account now.")},
        problems=(UnknownAccount("alice"), IdempotencyMismatch(), _BAD_FIELD),
        links=(Link("unfreezeAccount", _ID), Link("getUsage", _ID)),
    ),
    "identifyAccount": Operation(
        tag="Accounts",
        summary="An anonymous account becomes a known one",
        description="Counters, open reservations, credits and members come onto the known account; its limits count "
        "what both used, so no cap is raised. The anonymous id is another name of the known account from then on: "
        "reservations made under it go on, events stay where they were recorded and are listed with the others. Safe "
        "to repeat. An account that has a Stripe customer, or usage with a price, cannot become another one.",
        body=IdentifyIn,
        examples={"sign-in": {"into": "alice"}},
        answers={200: ((schemas.Account,), "The known account.")},
        problems=(
            UnknownAccount("alice"),
            IdempotencyMismatch(),
            AlreadyIdentified("anon_1"),
            AccountBilled("anon_1"),
            AccountFrozen("anon_1"),
            TooManyIdentified("alice", 100),
            _BAD_FIELD,
        ),
    ),
    "unfreezeAccount": Operation(
        tag="Accounts",
        summary="Let reservations through again",
        description="After the circuit breaker the hour goes on with what it has used by now, and `grace` allowances "
        "more. A repeated call finds nothing frozen and adds nothing.",
        body=UnfreezeIn,
        body_required=False,
        examples={"nothing to say": {}, "a launch is on": {"grace": "3"}},
        answers={200: ((schemas.Account,), "The account now.")},
        problems=(UnknownAccount("alice"), _BAD_FIELD),
    ),
    "changePlan": Operation(
        tag="Accounts",
        summary="Move an account to the current version of a plan",
        description="Now, or with the next billing period; a later call takes the place of one that was to come. Never "
        "refills a cap: counters stay. `plan: null` cancels: back to the catalogue's default plan. A plan in another "
        "currency begins with a period.",
        body=PlanIn,
        examples={"now": {"plan": "pro", "when": "now"}, "cancel": {"plan": None, "when": "period_end"}},
        answers={200: ((schemas.Account,), "The account now.")},
        problems=(UnknownAccount("alice"), IdempotencyMismatch(), _OTHER_CURRENCY, _BAD_FIELD, UnknownPlan("gold")),
    ),
    "putControls": Operation(
        tag="Accounts",
        summary="What the customer controls: where to be told, and where to be stopped",
        description="Absent fields stay as they are; null clears. Binds the very next reservation, and never loosens "
        "the plan.",
        body=ControlsIn,
        examples={
            "at most $20 a month": {"hard_limit": "20.00"},
            "nothing past what is included": {"block_overage": True},
        },
        answers={200: ((schemas.Controls,), "The controls now.")},
        problems=(UnknownAccount("alice"), IdempotencyMismatch(), _BAD_FIELD),
    ),
    "getControls": Operation(
        tag="Accounts",
        summary="What the customer controls",
        answers={200: ((schemas.Controls,), "The controls now.")},
        problems=(UnknownAccount("alice"), _BAD_FIELD),
    ),
    "listAudit": Operation(
        tag="Accounts",
        summary="What was changed of an account's terms, newest first",
        description="Plan, overrides, controls and freeze: who changed what, and when. Entries are never changed.",
        answers={200: ((schemas.AuditList,), "A page.")},
        query=("limit", "cursor"),
        problems=(UnknownAccount("alice"), _BAD_QUERY),
    ),
    "getUsage": Operation(
        tag="Usage",
        summary="Where an account stands: what the next reservation will see",
        answers={200: ((schemas.Usage,), "Counters and limits now; `member` adds that member's limits.")},
        query=("member",),
        problems=(UnknownAccount("alice"), _BAD_FIELD),
    ),
    "postCredits": Operation(
        tag="Credits",
        summary="Give prepaid credits, or take them back",
        description="Needs an `Idempotency-Key`. A source's id gives once. Negative units take back what `refund_of` "
        "gave: never more than is left, and `short` says how much had been used.",
        body=CreditsIn,
        examples={
            "a pack": {
                "meter": "ai_credits",
                "units": "500",
                "source": "stripe",
                "source_id": "pi_123",
                "expires_at": "2027-11-20T00:00:00Z",
                "idempotency_key": "pack-1",
            },
            "its refund": {
                "meter": "ai_credits",
                "units": "-500",
                "source": "stripe",
                "source_id": "re_9",
                "refund_of": "pi_123",
                "idempotency_key": "refund-1",
            },
        },
        answers={
            200: ((schemas.CreditsChanged,), "Taken back; or given before."),
            201: ((schemas.CreditsChanged,), "Given."),
        },
        problems=(
            UnknownAccount("alice"),
            IdempotencyMismatch(),
            IdempotencyKeyRequired(),
            UnknownMeter("ai_credit"),
            UnknownGrant("pi_123"),
            TooManyGrants(50),
        ),
    ),
    "getLedger": Operation(
        tag="Credits",
        summary="Where every credit went, newest first",
        answers={200: ((schemas.Ledger,), "A page, with the balance after each entry.")},
        query=("meter", "limit", "cursor"),
        problems=(UnknownAccount("alice"), _BAD_QUERY),
    ),
    "createCheckout": Operation(
        tag="Billing",
        summary="A page of Stripe's on which the customer pays for a plan or a pack",
        description="Lives for a day. A plan's page replaces an open one of the same account. The account moves to the "
        "plan, or gets the credits, once Stripe tells that it was paid.",
        body=CheckoutIn,
        examples={
            "a plan": {
                "plan": "pro",
                "success_url": "https://app.example.com/welcome",
                "cancel_url": "https://app.example.com/pricing",
            },
            "a pack of the account's plan": {
                "pack": "small",
                "success_url": "https://app.example.com/credits",
                "cancel_url": "https://app.example.com/credits",
            },
        },
        answers={201: ((schemas.CheckoutPage,), "The page.")},
        problems=(*_SALE_PROBLEMS, UnknownPack("small", "pro")),
    ),
    "auditInvoice": Operation(
        tag="Billing",
        summary="What an invoice is made of: its metered lines, their batches, and the events behind them",
        description="Totals and hashes are those of the whole invoice, on every page; rows come page by page, by line, "
        "time and id. Each line is rated again by Tollgate. Same content, same `hash`. At most 50,000 events. As CSV "
        "(`format=csv`, or `Accept: text/csv`) the rows alone, with the hash and the next cursor in headers.",
        answers={200: ((schemas.InvoiceAudit,), "The invoice, and a page of rows.")},
        query=("rows", "format", "audit_limit", "cursor"),
        also=("text/csv; charset=utf-8",),
        problems=(
            UnknownAccount("alice"),
            UnknownInvoice("in_1QwErTy"),
            InvoiceTooLarge(50_000),
            _BAD_QUERY,
            StripeRefused(400, "", "Invalid request."),
            StripeUnavailable(None, "no answer"),
        ),
    ),
    "createSubscription": Operation(
        tag="Billing",
        summary="Subscribe an account without a page, or add prices for usage to its flat subscription",
        description="Stripe charges the customer's own payment method. Periods begin at whole minutes. Needs an "
        "`Idempotency-Key`. The account moves to the plan once Stripe tells of the subscription.",
        body=SubscriptionIn,
        examples={
            "subscribe": {"plan": "team", "seats": 5, "idempotency_key": "subscribe-acme-1"},
            "usage on top of a flat fee": {
                "plan": "pro",
                "subscription": "sub_1QwErTy",
                "idempotency_key": "usage-acme-1",
            },
        },
        answers={
            200: ((schemas.SubscriptionState,), "Changed; or subscribed before under this key."),
            201: ((schemas.SubscriptionState,), "Subscribed."),
        },
        problems=(
            *_SALE_PROBLEMS,
            IdempotencyKeyRequired("nobody must be subscribed twice"),
            SubscriptionNotFlat("sub_1QwErTy", "it has prices for usage, or of another plan, already"),
            UnknownSubscription("sub_1QwErTy"),
        ),
    ),
    "putLevel": Operation(
        tag="Usage",
        summary="Set what a level meter stands at: gigabytes stored, seats",
        description=(
            "Absolute, never an increment. Raising it past a limit is refused (200, `allowed: false`), lowering it "
            "never is. Of two calls at once the later stands. The same Idempotency-Key sets it once."
        ),
        body=LevelIn,
        examples={"gigabytes": {"level": "12.5"}, "seats": {"level": 7, "idempotency_key": "seats-2026-11-21"}},
        answers={200: ((schemas.LevelChanged, schemas.LevelDenied), "Set, or refused with the one reason.")},
        problems=(
            UnknownAccount("alice"),
            IdempotencyMismatch(),
            _BAD_FIELD,
            UnknownMeter("storag"),
            NoLevelMeter("ai_credits"),
            QuantityTooLarge("level"),
        ),
    ),
    "getLevel": Operation(
        tag="Usage",
        summary="What a level meter stands at",
        answers={200: ((schemas.Level,), "The level now.")},
        problems=(UnknownAccount("alice"), _BAD_FIELD, UnknownMeter("storag"), NoLevelMeter("ai_credits")),
    ),
    "listMembers": Operation(
        tag="Accounts",
        summary="The members of an account, newest first, with what each has used in this billing period",
        description="Everyone who has used something while the plan had limits for members.",
        answers={200: ((schemas.MemberList,), "A page; removed members are included.")},
        query=("limit", "cursor"),
        problems=(UnknownAccount("alice"), _BAD_QUERY),
    ),
    "removeMember": Operation(
        tag="Accounts",
        summary="Mark a member as removed",
        description=(
            "Changes no counter: the account's totals stay, and a member that comes back finds its own as it left them."
        ),
        answers={200: ((schemas.MemberRemoved,), "Removed, now or before.")},
        problems=(UnknownAccount("alice"), _BAD_FIELD, NotFound("No such member; GET …/members lists them.")),
    ),
    "listNotifications": Operation(
        tag="Notifications",
        summary="What the account was told, newest first",
        description="For the app to show and mark as read. Kept for 180 days. `unread=true` may answer a short page.",
        answers={200: ((schemas.NotificationList,), "A page.")},
        query=("unread", "limit", "cursor"),
        problems=(UnknownAccount("alice"), _BAD_QUERY),
    ),
    "readNotification": Operation(
        tag="Notifications",
        summary="Mark a notification as read",
        answers={200: ((schemas.Notification,), "Read, now or before.")},
        problems=(
            UnknownAccount("alice"),
            _BAD_FIELD,
            NotFound("No such notification; GET …/notifications lists them."),
        ),
    ),
    "readNotifications": Operation(
        tag="Notifications",
        summary="Mark all notifications as read",
        body=ReadIn,
        body_required=False,
        examples={"all that was seen": {"up_to": "msg_17952624000004c1f2a9be07d35a6b1c8"}},
        answers={200: ((schemas.NotificationsRead,), "Read, now or before.")},
        problems=(UnknownAccount("alice"), _BAD_FIELD),
    ),
    "createWebhookEndpoint": Operation(
        tag="Notifications",
        summary="Have messages sent to a URL as signed webhooks",
        description=(
            "Signed as Standard Webhooks says; the secret is shown once. A repeat under the same Idempotency-Key is "
            "refused, as the secret cannot be shown again. docs/notifications.md has a receiver."
        ),
        body=EndpointIn,
        examples={"what stops customers": {"url": "https://example.com/hooks", "events": ["breaker*"]}},
        answers={201: ((schemas.NewWebhookEndpoint,), "The endpoint and its secret.")},
        problems=(_BAD_URL, IdempotencyMismatch(), TooManyEndpoints(), SecretShown()),
        links=(Link("getWebhookEndpoint", _ID), Link("rotateWebhookEndpoint", _ID)),
    ),
    "listWebhookEndpoints": Operation(
        tag="Notifications",
        summary="All webhook endpoints, newest first",
        answers={200: ((schemas.WebhookEndpointList,), "A page.")},
        query=("limit", "cursor"),
        problems=(_BAD_QUERY,),
    ),
    "getWebhookEndpoint": Operation(
        tag="Notifications",
        summary="A webhook endpoint",
        answers={200: ((schemas.WebhookEndpoint,), "The endpoint, without its secret.")},
        problems=(_NO_ENDPOINT,),
    ),
    "putWebhookEndpoint": Operation(
        tag="Notifications",
        summary="Change a webhook endpoint",
        description="`enabled: true` also brings back one that was disabled because it answered 410.",
        body=EndpointPatch,
        examples={"pause": {"enabled": False}},
        answers={200: ((schemas.WebhookEndpoint,), "As it is now.")},
        problems=(_BAD_URL, _NO_ENDPOINT),
    ),
    "rotateWebhookEndpoint": Operation(
        tag="Notifications",
        summary="Give a webhook endpoint a new secret",
        description="Deliveries are signed with both secrets until the overlap ends.",
        body=RotateIn,
        body_required=False,
        answers={200: ((schemas.NewWebhookEndpoint,), "The endpoint and its new secret.")},
        problems=(_NO_ENDPOINT, IdempotencyMismatch(), SecretShown()),
    ),
    "deleteWebhookEndpoint": Operation(
        tag="Notifications",
        summary="Delete a webhook endpoint",
        description="What waits for it is not sent any more.",
        answers={200: ((schemas.WebhookEndpointDeleted,), "Deleted, now or before.")},
        problems=(_NO_ENDPOINT,),
    ),
    "listEvents": Operation(
        tag="Usage",
        summary="Usage events, newest first",
        description=(
            "By the time of their ids. `dimension.<name>=<value>` (repeatable for several names) filters by a "
            "dimension. A filter that matches little may answer a short page with a cursor."
        ),
        answers={200: ((schemas.EventList,), "A page.")},
        query=("from", "to", "meter", "member_filter", "limit", "cursor"),
        problems=(UnknownAccount("alice"), _BAD_QUERY),
    ),
    "createKey": Operation(
        tag="Keys",
        summary="Create an API key",
        description=(
            "The secret is shown once. A repeat under the same Idempotency-Key is refused (`key_already_made`), as the "
            "secret cannot be shown again. `admin` includes the other scopes."
        ),
        body=KeyIn,
        examples={"for the app's backend": {"name": "backend", "scopes": ["usage", "read"]}},
        answers={201: ((schemas.NewKey,), "The key and its secret.")},
        problems=(IdempotencyMismatch(), KeyAlreadyMade()),
        links=(Link("revokeKey", _ID),),
    ),
    "listKeys": Operation(
        tag="Keys",
        summary="All keys, newest first",
        answers={200: ((schemas.KeyList,), "A page; revoked keys are included.")},
        query=("limit", "cursor"),
        problems=(_BAD_QUERY,),
    ),
    "listReconciliations": Operation(
        tag="Reconciliation",
        summary="What reconciliation found, newest run first",
        description=(
            "Each night, and whenever an operator asks, events, batches and Stripe's totals of everything that changed "
            "are compared. Every difference has a class and a repair (docs/reconcile.md)."
        ),
        answers={200: ((schemas.ReconciliationList,), "A page.")},
        query=("limit", "cursor"),
        problems=(_BAD_QUERY,),
    ),
    "getMargins": Operation(
        tag="Margins",
        summary="What a month's accounts cost at their providers against what they brought",
        description=(
            "As the last daily look found it: by plan and by model, the customers whose plan loses money, and those "
            "who spend more than `spend_above` (without it: the catalogue's `margins.spend_above`). How a month is "
            "rated stands in docs/margins.md."
        ),
        answers={200: ((schemas.Margins,), "The month's sums and lists; each list has up to 100 accounts.")},
        query=("period", "spend_above"),
        problems=(
            NotFound("No margins of 2026-11 are known: they are found once a day, for the month of the day before."),
            Invalid("`period` is a month such as 2026-11.", (FieldError("period", "month"),)),
        ),
    ),
    "listAccountMargins": Operation(
        tag="Margins",
        summary="The margin of each account in a month, by account id",
        answers={200: ((schemas.AccountMarginList,), "A page.")},
        query=("period", "limit", "cursor"),
        problems=(_BAD_QUERY,),
    ),
    "revokeKey": Operation(
        tag="Keys",
        summary="Revoke a key",
        description="Binds within 60 seconds; revoking again is harmless.",
        answers={200: ((schemas.KeyRevoked,), "Revoked, now or before.")},
        problems=(NotFound("No such key; GET /v1/keys lists them."),),
    ),
    "listPlans": Operation(
        tag="Catalogue",
        summary="The public plans, in the catalogue's order",
        description=(
            "All that a pricing page needs, worked examples included. Send the ETag back as If-None-Match to learn "
            "whether anything changed."
        ),
        answers={
            200: ((schemas.PlanList,), "The plans that accounts can join now."),
            304: ((), "As the copy that If-None-Match names; no body."),
        },
        headers=("ETag", "CacheControl"),
    ),
    "getResume": Operation(
        tag="Breaker",
        summary="What a resume link would do; changes nothing",
        answers={200: ((schemas.ResumeLink,), "The account is stopped still.")},
        query=("token",),
        also=("text/html",),
        problems=_RESUMING,
    ),
    "resumeByLink": Operation(
        tag="Breaker",
        summary="Resume an account by the signed link of the breaker's message",
        description="Once, within a day of the trip. The token is the only key it takes.",
        answers={200: ((schemas.ResumeLink,), "The account goes on.")},
        query=("token",),
        also=("text/html",),
        problems=_RESUMING,
    ),
    "getPlatform": Operation(
        tag="Breaker",
        summary="Whether the provider cost of an hour stopped everything",
        answers={200: ((schemas.Platform,), "How it stands.")},
    ),
    "resumePlatform": Operation(
        tag="Breaker",
        summary="Go on after the provider cost of an hour stopped everything",
        description="This hour may cost the cap once more. Binds everywhere within a minute.",
        answers={200: ((schemas.PlatformResumed,), "What was stopped, and how it stands.")},
    ),
    "getHealth": Operation(
        tag="Service",
        summary="Whether the API answers",
        answers={200: ((schemas.Health,), "It does.")},
    ),
    "getOpenapi": Operation(
        tag="Service",
        summary="This document",
        answers={200: ((), "OpenAPI 3.1.")},
    ),
}
"""By the route's name."""
