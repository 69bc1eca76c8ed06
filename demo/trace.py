"""What a trace is: the calls of an AI app, in the order of their times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal, get_args

Call = Literal["reserve", "once", "usage"]
"""`reserve`: reserve, run, then end it; `once`: reserve and commit in one call; `usage`: recorded, nothing reserved."""
Outcome = Literal["ok", "failed", "cached", "no_commit", "late"]
"""`ok`: committed; `failed`: released; `cached`: committed as answered by the app's own cache; `no_commit`: the client
crashed, the hold expires; `late`: committed after the hold has expired.
"""

CALLS: Final[tuple[Call, ...]] = get_args(Call)
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)
OUTCOMES_OF: Final[Mapping[Call, tuple[Outcome, ...]]] = {
    "reserve": OUTCOMES,
    "once": ("ok",),
    "usage": ("ok", "cached"),
}
MAX_ITEMS: Final[Mapping[Call, int]] = {"reserve": 8, "once": 8, "usage": 100}


@dataclass(frozen=True, slots=True)
class Item:
    """One measured thing. Quantities are what the caller counts (tokens, images), not units."""

    meter: str
    reserved: Decimal
    used: Decimal
    dimensions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the app and how it ended. Times are seconds of the trace; `sends` is how often its last write is sent
    (the second time as a client that saw no answer).
    """

    id: str
    at: Decimal
    seconds: Decimal
    account: str
    plan: str | None
    member: str | None
    call: Call
    outcome: Outcome
    sends: int
    items: tuple[Item, ...]


def plans_of(trace: Iterable[Request]) -> dict[str, str | None]:
    """Each account's plan, in the order of first appearance; None: the catalogue's default plan."""
    plans: dict[str, str | None] = {}
    for request in trace:
        if request.account not in plans or plans[request.account] is None:
            plans[request.account] = request.plan
    return plans
