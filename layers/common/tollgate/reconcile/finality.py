"""Whether usage can still come onto an invoice: the account's own closes tell, where there are any."""

from __future__ import annotations

from functools import cached_property

from tollgate.accounts.rules import Rules
from tollgate.billing.close_row import GONE, Close
from tollgate.reconcile.ports import ReconcileDeps
from tollgate.windows import PERIOD, window_at


class Finality:
    """For one account. Its closes are read when they are first asked for: books that agree never ask."""

    def __init__(self, deps: ReconcileDeps, rules: Rules) -> None:
        self._deps, self._row, self._now = deps, rules.row, deps.clock() // 1000

    @cached_property
    def closes(self) -> list[Close]:
        """Of the invoices that bill usage of the account's customer; a deleted draft bills none."""
        customer = self._row.stripe_customer_id
        return [one for one in self._deps.closes.of_customer(customer) if one.outcome != GONE] if customer else []

    def __call__(self, timestamp: int) -> bool:
        """Whether no invoice takes usage any more that is booked at `timestamp`. As flush sees it, where an invoice has
        been drafted; else so long after the billing period as Stripe waits by itself."""
        covering = [one for one in self.closes if one.start <= timestamp < one.end]
        if covering:
            return any(one.shuts_out(timestamp, self._now) for one in covering)
        end = window_at(PERIOD, self._row.calendar, timestamp).end
        return end is not None and self._now >= end + self._deps.final_after_s
