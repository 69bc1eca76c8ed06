"""Time passes: what has fallen due happens, in the order in which it fell due, each at its own moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.stripe_double import invoicing, subscription_life

if TYPE_CHECKING:
    from local.stripe_double.state import Double


def settle(double: Double) -> int:
    """Catch up with the clock; how many things happened. Run before every request, so that a request meets the state of
    its moment: usage that arrives after an invoice was due to be finalized finds it finalized. While nobody asks for
    anything the courier runs it.
    """
    now, happened = double.clock.now(), 0
    while (due := double.schedule.take(now)) is not None:
        at, thing_id = due
        with double.clock.held(at):
            happened += _step(double, thing_id, at)
    return happened


def _step(double: Double, thing_id: str, at: int) -> bool:
    """Carry out what is due for one object, if anything still is, and note when it is due next."""
    subscription, invoice = double.subscriptions.find(thing_id), double.invoices.find(thing_id)
    thing = subscription or invoice
    if thing is None:
        return False
    due = thing.next_due()
    if due is None or due > at:
        return False
    if subscription is not None:
        subscription_life.step(double, subscription)
    elif invoice is not None:
        invoicing.step(double, invoice)
    double.schedule.put(thing.next_due(), thing_id)
    return True
