"""The alert of a parked batch: one for each account, meter, state, reason and UTC day, however many batches it is."""

from __future__ import annotations

from dataclasses import replace

from tollgate.alerts.outbox import Alert, Outbox
from tollgate.billing.batch import EXPIRED, NO_CUSTOMER, REJECTED, UNCONFIRMED, Batch
from tollgate.billing.ports import BatchStore
from tollgate.clock import rfc3339
from tollgate.quantities import plain

_SUBJECTS = {
    NO_CUSTOMER: "Usage without a Stripe customer",
    REJECTED: "Stripe refused usage",
    EXPIRED: "Usage that Stripe cannot bill any more",
    UNCONFIRMED: "Unknown whether Stripe has this usage",
}
_TEXTS = {
    NO_CUSTOMER: "Set `stripe_customer_id` on the account and they are sent.",
    REJECTED: "Remove the cause, then repair the batches (tollgate batches).",
    EXPIRED: "It cannot be sent any more: invoice it by hand, or let it be.",
    UNCONFIRMED: "Compare with Stripe's totals, then repair the batches that did not arrive.",
}


def alert_of(batch: Batch) -> Alert:
    """The alert of a parked batch. Equal trouble has one id on one UTC day, so that it is told once a day."""
    reason = batch.reason or batch.state
    day = rfc3339(batch.state_at)[:10]
    state = batch.state if reason == batch.state else f"{batch.state}, {reason}"
    units = f"{plain(batch.units)} units of {batch.meter}"
    text = (
        f"Account {batch.account}: batches of {batch.meter} are parked ({state}), the first with "
        f"{units} from {rfc3339(batch.window_start)}. {_TEXTS[batch.state]}"
    )
    if batch.detail:
        text += f" Last answer: {batch.detail}"
    return Alert(
        id=f"{batch.state}#{batch.account}#{batch.meter}#{reason}#{day}",
        kind=batch.state,
        account=batch.account,
        subject=f"{_SUBJECTS[batch.state]}: {batch.account}",
        text=text,
        at_ms=batch.state_at * 1000,
        facts={"meter": batch.meter, "reason": reason, "batch": batch.key.sk},
    )


def tell(outbox: Outbox, batches: BatchStore, batch: Batch) -> Batch | None:
    """Put the alert of an untold batch, then note on its row that it is told.

    A crash between the two leaves the row untold and due: seal puts the alert again, which changes nothing, and notes
    it. Returns the row as it stands, None where another one changed it meanwhile.
    """
    outbox.put(alert_of(batch))
    due_at = batch.due_at if batch.state == NO_CUSTOMER else None
    return batches.replace(batch, replace(batch, untold=False, due_at=due_at))
