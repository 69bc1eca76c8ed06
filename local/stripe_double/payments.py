"""Whether a customer's payments succeed. There are no cards here: every customer can pay until a control says
otherwise.
"""

from __future__ import annotations

OUTCOMES = ("succeed", "fail", "require_action")
GIVE_UP = ("canceled", "unpaid", "past_due")
RETRY_DAYS = (3, 5, 7)
"""Days from one failed attempt to the next; after the last one collection is given up [docs: revenue recovery, a custom
schedule; Smart Retries choose their own times]."""


class Payments:
    """Outcomes by customer, and what becomes of a subscription whose invoice is given up.

    `give_up` is `canceled` unless set otherwise [assumed to be an account's default].
    """

    def __init__(self) -> None:
        self._outcomes: dict[str, str] = {}
        self.give_up = "canceled"

    def outcome(self, customer: str) -> str:
        return self._outcomes.get(customer, "succeed")

    def set(self, customer: str, outcome: str) -> None:
        """From the next attempt on. Raises ValueError for an unknown outcome."""
        if outcome not in OUTCOMES:
            raise ValueError(f"outcome must be one of {', '.join(OUTCOMES)}")
        self._outcomes[customer] = outcome
