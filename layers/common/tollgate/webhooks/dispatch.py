"""What each event of Stripe asks for. An event only says where to look; what is done is decided by what is fetched.

From an event itself come only facts that never change: its id, its type, whether it is live, and the ids of its object
and of that object's customer and payment.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from tollgate.alerts.outbox import Alert
from tollgate.clock import rfc3339
from tollgate.subscriptions.follow import FollowDeps, account_of, customer_deleted, follow_customer
from tollgate.webhooks.inbox import InboxDeps, Processed, process
from tollgate.webhooks.meter_errors import MeterErrorDeps, recheck
from tollgate.webhooks.packs import PackDeps, settle

Json = Mapping[str, Any]

FOREIGN: Final = "foreign"
"""Nothing of this stack: another stack's, another product's, or made by hand without our metadata."""
UNKNOWN: Final = "unknown_type"
OTHER_MODE: Final = "other_mode"
SETTLED: Final = "settled"
FOLLOWED: Final = "followed"


class NotAnEvent(Exception):
    """A message that is neither an event of Stripe nor a task: nothing can be done with it, ever."""


class PeriodClose(Protocol):
    """What closes billing periods: asked once for each invoice event. Each may be repeated, in any order."""

    def begin(self, invoice: str) -> str:
        """A draft was made: hold it until its usage is at Stripe."""

    def finalized(self, invoice: str, customer: str) -> str:
        """It is final: nothing more can come onto it."""


class NoClose:
    """The default until something holds invoices: they finalize by themselves, after the grace that Stripe is set to
    (an hour, unless its Dashboard says otherwise), with the usage that is there by then."""

    def begin(self, invoice: str) -> str:
        return "not_held"

    def finalized(self, invoice: str, customer: str) -> str:
        return "not_held"


Task = Callable[[Json], str]


@dataclass(frozen=True, slots=True)
class EventDeps:
    """Everything that the worker uses, made once per process."""

    inbox: InboxDeps
    follow: FollowDeps
    packs: PackDeps
    meters: MeterErrorDeps
    live: bool
    """Whether this stack is of Stripe's live mode."""
    close: PeriodClose = NoClose()
    tasks: Mapping[str, Task] = field(default_factory=dict)
    """By name: what the stack's own messages on the queue ask for. Each may be repeated."""


def receive(deps: EventDeps, body: str) -> Processed:
    """Process one message. Raises NotAnEvent, InHand, and what can pass by itself (`inbox.process`)."""
    try:
        message = json.loads(body)
    except ValueError as error:
        raise NotAnEvent("the message is no JSON") from error
    if not isinstance(message, dict):
        raise NotAnEvent("the message is no object")
    if "task" in message:
        task = deps.tasks.get(message["task"])
        if task is None:
            raise NotAnEvent(f"no task is called {message['task']!r}")
        return Processed(task(message))
    return handle(deps, message)


def handle(deps: EventDeps, event: Json) -> Processed:
    """Process an event of Stripe, as delivered or as listed, unless that is done."""
    event_id, kind = event.get("id"), event.get("type")
    if not (isinstance(event_id, str) and isinstance(kind, str) and event_id.startswith("evt_")):
        raise NotAnEvent("the message is no event of Stripe")
    return process(deps.inbox, event_id, kind, lambda: _work(deps, event, event_id, kind))


def known(kind: str) -> bool:
    """Whether events of a type do something here."""
    return kind in _HANDLERS or kind in _THIN


def _work(deps: EventDeps, event: Json, event_id: str, kind: str) -> str:
    if bool(event.get("livemode")) != deps.live:
        return OTHER_MODE
    if kind in _THIN:
        done = recheck(deps.meters, event_id)
        return f"looked_at={done.looked_at} rejected={done.rejected} unconfirmed={done.unconfirmed}"
    handler = _HANDLERS.get(kind)
    if handler is None:
        return UNKNOWN
    if event.get("account"):
        return FOREIGN  # of a connected account
    return handler(deps, event["data"]["object"], kind)


def _subscription(deps: EventDeps, obj: Json, kind: str) -> str:
    followed = follow_customer(deps.follow, _id(obj["customer"]))
    if followed is None:
        return FOREIGN
    standing = followed.standing
    if kind == "customer.subscription.trial_will_end" and standing is not None and standing.trial_end is not None:
        ends = rfc3339(standing.trial_end)
        _tell(
            deps,
            followed.account,
            "trial_will_end",
            f"{standing.subscription}#{standing.trial_end}",
            f"the trial of {standing.subscription} ends at {ends}",
        )
    return FOLLOWED


def _invoice(deps: EventDeps, obj: Json, kind: str) -> str:
    """Invoices of ours: what they mean for the account is in the subscription's status; the close hears of all."""
    customer = obj.get("customer")
    if customer is None:
        return FOREIGN
    account = account_of(deps.follow, _id(customer))
    if account is None:
        return FOREIGN
    if kind == "invoice.created":
        return f"close: {deps.close.begin(obj['id'])}"
    if kind == "invoice.finalized":
        return f"close: {deps.close.finalized(obj['id'], _id(customer))}"
    text = _INVOICE_TEXTS.get(kind)
    if text is not None:
        # Each is a fact that stays true of this invoice, so nothing needs to be fetched to tell it.
        _tell(deps, account, kind.replace(".", "_"), obj["id"], text.format(obj["id"]))
    if kind in ("invoice.voided", "invoice.marked_uncollectible"):
        deps.close.finalized(obj["id"], _id(customer))
    return FOLLOWED if follow_customer(deps.follow, _id(customer)) else FOREIGN


_INVOICE_TEXTS: Final = {
    "invoice.finalization_failed": "Stripe could not finalize invoice {0}; it is not sent until that is mended",
    "invoice.payment_action_required": "invoice {0} waits for the customer to confirm the payment",
    "invoice.marked_uncollectible": "invoice {0} was written off in Stripe",
}


def _session(deps: EventDeps, obj: Json, kind: str) -> str:
    """A finished checkout: of a pack, its payment; of a subscription, that."""
    session = deps.packs.stripe.session(obj["id"])
    if session.payment is not None:
        return SETTLED if settle(deps.packs, session.payment, session.metadata) else FOREIGN
    if session.customer is None:
        return FOREIGN
    return FOLLOWED if follow_customer(deps.follow, session.customer) else FOREIGN


def _money(deps: EventDeps, obj: Json, kind: str) -> str:
    """Of a charge, refund or dispute: the payment that it belongs to."""
    payment = obj.get("payment_intent")
    if payment is None:
        return FOREIGN
    return SETTLED if settle(deps.packs, _id(payment)) else FOREIGN


def _customer_deleted(deps: EventDeps, obj: Json, kind: str) -> str:
    # Told twice by Stripe's own API: the event is only ever made for a deletion, which nothing undoes.
    return FOLLOWED if customer_deleted(deps.follow, obj["id"]) else FOREIGN


def _tell(deps: EventDeps, account: str, kind: str, thing: str, text: str) -> None:
    deps.follow.outbox.put(
        Alert(
            id=f"{kind}#{account}#{thing}",
            kind=kind,
            account=account,
            subject=f"{kind.replace('_', ' ').capitalize()}: {account}",
            text=f"Account {account}: {text}.",
            at_ms=deps.inbox.clock(),
            facts={"object": thing.partition("#")[0]},
        )
    )


def _id(value: Any) -> str:
    """The id of an object that may be expanded."""
    return str(value["id"] if isinstance(value, dict) else value)


_THIN: Final = frozenset({"v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"})
_HANDLERS: Final[Mapping[str, Callable[[EventDeps, Json, str], str]]] = {
    **dict.fromkeys(
        (
            "customer.subscription.created",
            "customer.subscription.updated",
            "customer.subscription.deleted",
            "customer.subscription.paused",
            "customer.subscription.resumed",
            "customer.subscription.trial_will_end",
        ),
        _subscription,
    ),
    **dict.fromkeys(
        (
            "invoice.created",
            "invoice.finalized",
            "invoice.finalization_failed",
            "invoice.paid",
            "invoice.payment_failed",
            "invoice.payment_action_required",
            "invoice.voided",
            "invoice.marked_uncollectible",
        ),
        _invoice,
    ),
    **dict.fromkeys(
        ("checkout.session.completed", "checkout.session.async_payment_succeeded"),
        _session,
    ),
    **dict.fromkeys(
        (
            "charge.refunded",
            "refund.created",
            "refund.updated",
            "refund.failed",
            "charge.dispute.created",
            "charge.dispute.updated",
            "charge.dispute.closed",
        ),
        _money,
    ),
    "customer.deleted": _customer_deleted,
}
TYPES: Final = tuple(sorted({*_HANDLERS, *_THIN}))
"""What a webhook destination is to be subscribed to; the two of `v1.billing.meter` on a thin one."""
