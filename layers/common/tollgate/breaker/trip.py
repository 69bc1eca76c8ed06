"""What follows when an account crosses its hour: it is told, and frozen. Rare, so the gate loads this with the first.

The refusal is first: the conditional write that reserves does not pass the hour's allowance, so not one unit more is
granted whatever happens here. Then the alert, then the freeze. A crash before the alert, or between the two, leaves the
cap: it refuses the next call, and that one tells (the alert's id is the trip's, so once) and freezes. The other way
round an account could be frozen and nobody told. Usage that was not reserved is recorded as it came and trips, too;
whoever repeats it after a crash trips again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice
from typing import Final, Protocol

from tollgate.accounts.rules import BREAKER, AccountRow, Frozen, Rules
from tollgate.accounts.service import AccountDeps, change
from tollgate.alerts.outbox import Alert, Outbox, Words
from tollgate.breaker.drivers import drivers
from tollgate.breaker.link import LASTS_S, Link, encode
from tollgate.clock import rfc3339
from tollgate.quantities import plain
from tollgate.usage.outcome import Event
from tollgate.windows import HOUR

MOST_ROWS: Final = 1000
"""Of the hour's newest rows, to find the drivers in: a handful of pages, while a request waits for its refusal."""


class NewestEvents(Protocol):
    def newest(self, account: str, first_ms: int, last: str) -> Iterator[Event]: ...


@dataclass(frozen=True, slots=True)
class TripDeps:
    accounts: AccountDeps
    outbox: Outbox
    events: NewestEvents
    secret: Callable[[], bytes]
    """Signs resume links."""


def number_of(row: AccountRow, hour: int) -> int:
    """How often the account was resumed in the hour that starts at epoch second `hour`."""
    return row.grace.number if row.grace is not None and row.grace.until > hour else 0


def trip(deps: TripDeps, ruled_by: Rules, meter: str, hour: int) -> None:
    """Tell, and freeze. `ruled_by`: the rules that were crossed. Raises UnknownAccount, Busy."""
    number = number_of(ruled_by.row, hour)
    rules = deps.accounts.rules.fresh(ruled_by.account)
    if not _stands(rules.row, hour, number):
        return
    name = f"{meter}/{hour}/{number}"
    _tell(deps, ruled_by, rules, meter, hour, name)
    now = deps.accounts.gate.clock() // 1000

    def frozen(row: AccountRow) -> AccountRow:
        return replace(row, frozen=Frozen(BREAKER, now, name)) if _stands(row, hour, number) else row

    change(deps.accounts, rules.account, frozen, BREAKER)


def _stands(row: AccountRow, hour: int, number: int) -> bool:
    """Not where it is frozen already, nor where it was resumed since: what was crossed then is let through by now."""
    return row.frozen is None and number_of(row, hour) == number


def _tell(deps: TripDeps, ruled_by: Rules, rules: Rules, meter: str, hour: int, name: str) -> None:
    ruled = next(one for one in ruled_by.breakers if one.limit.meters == (meter,))
    most, account = ruled.maximum or Decimal(0), rules.account
    found = drivers(_rows(deps, rules, hour), meter)
    units = rules.meters[meter].name if meter in rules.meters else meter
    token = encode(Link(account, name, hour + HOUR + LASTS_S), deps.secret())
    facts = {
        "meter": meter,
        "window": rfc3339(hour),
        "allowed": plain(most),
        **found.facts(),
        "resume_path": f"/v1/resume?token={token}",
    }
    shown = "".join(f" {what}: {facts[what]}." for what in ("member", "model", "action", "pattern") if what in facts)
    customer = Words(
        f"{account} is paused",
        f"Usage in the hour from {rfc3339(hour)} reached {plain(most)} {units}, far above what is usual, so it was "
        "stopped and nothing more is charged. Contact us to go on.",
    )
    deps.outbox.put(
        Alert(
            id=f"breaker:{account}:{name}",
            kind=BREAKER,
            account=account,
            subject=f"{account} was stopped: {plain(most)} {units} within an hour",
            text=f"{account} reached the {plain(most)} {units} that it may use in an hour, in the one from "
            f"{rfc3339(hour)}, and is frozen.{shown} Resume it with POST /v1/accounts/{account}/unfreeze, or within a "
            "day by the link of this message.",
            at_ms=hour * 1000,
            facts=facts,
            audience="both",
            customer=customer,
        )
    )


def _rows(deps: TripDeps, rules: Rules, hour: int) -> Iterator[Event]:
    last = f"{deps.accounts.gate.clock():012x}/"
    for home in rules.homes:
        yield from islice(deps.events.newest(home, hour * 1000, last), MOST_ROWS)
