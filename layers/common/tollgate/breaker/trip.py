"""What follows when an account crosses its hour: it is told, and frozen. Rare, so the gate loads this with the first.

The refusal is first: the conditional write that reserves does not pass the hour's allowance, so not one unit more is
granted whatever happens here. Of all that are refused at once one writes the trip down and does the rest: the alert,
then the freeze. A crash in between leaves the cap: it goes on refusing, and the first call that is refused `CLAIMED_S`
later tells (the alert's id is the trip's, so once) and freezes; where a store failed, the first call after that does.
A freeze that the gate does not know of yet is brought there by the next refusal, too. The other way round an account
could be frozen and nobody told. Usage that was not reserved is recorded as it came and trips, too; more of it trips
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import chain, islice
from typing import Final, NamedTuple, Protocol

from tollgate.accounts.rules import BREAKER, AccountRow, Frozen, Rules
from tollgate.accounts.service import AccountDeps, change
from tollgate.alerts.outbox import Alert, Outbox, Words
from tollgate.breaker.drivers import drivers
from tollgate.breaker.link import LASTS_S, Link, encode
from tollgate.clock import rfc3339
from tollgate.gate.apply_rules import apply_rules
from tollgate.quantities import plain
from tollgate.usage.outcome import Event
from tollgate.windows import HOUR

CLAIMED_S: Final = 15
"""Longer than the gate function lives: whoever claimed a trip so long ago is dead, or through."""
MOST_ROWS: Final = 1000
"""Of the hour's newest events, to find the drivers in, while a request waits for its refusal."""
MOST_PAGES: Final = 5
"""Of the rows of each of the account's ids: a loop that releases all that it reserves leaves voids without end."""


class NewestEvents(Protocol):
    def newest(self, account: str, first_ms: int, last: str, pages: int | None = None) -> Iterator[Event]: ...


class Trip(NamedTuple):
    """`hour`: epoch seconds of its start; `number`: how often the account had been resumed in it."""

    account: str
    meter: str
    hour: int
    number: int

    @property
    def name(self) -> str:
        """What the freeze and the link are tied to."""
        return f"{self.meter}/{self.hour}/{self.number}"


class Trips(Protocol):
    def claim(self, trip: Trip, allowed: Decimal, now: int) -> bool:
        """Write the trip down; False where it was less than `CLAIMED_S` ago: whoever did is at it."""

    def give_back(self, trip: Trip, now: int) -> None:
        """What was claimed at `now` came to nothing: the next one may claim it at once."""


@dataclass(frozen=True, slots=True)
class TripDeps:
    accounts: AccountDeps
    outbox: Outbox
    trips: Trips
    events: NewestEvents
    secret: Callable[[], bytes]
    """Signs resume links."""


def number_of(row: AccountRow, hour: int) -> int:
    """How often the account was resumed in the hour that starts at epoch second `hour`."""
    return row.grace.number if row.grace is not None and row.grace.until > hour else 0


def trip(deps: TripDeps, ruled_by: Rules, meter: str, hour: int) -> None:
    """Tell, and freeze. `ruled_by`: the rules that were crossed; not where more is let through by now, as the plan, the
    catalogue or a resume came between. Raises UnknownAccount, Busy."""
    number = number_of(ruled_by.row, hour)
    rules = deps.accounts.rules.fresh(ruled_by.account)
    found, now = Trip(rules.account, meter, hour, number), deps.accounts.gate.clock() // 1000
    if rules.row.frozen is not None and rules.row.frozen.trip == found.name:
        apply_rules(deps.accounts.gate, rules)  # whoever froze it may have died before the gate knew
        return
    most, now_most = _most(ruled_by, meter), _most(rules, meter)
    if not _stands(rules.row, hour, number) or most is None or now_most is None or now_most > most:
        return
    if not deps.trips.claim(found, most, now):
        return

    def frozen(row: AccountRow) -> AccountRow:
        if _stands(row, hour, number):
            return replace(row, frozen=Frozen(BREAKER, now, found.name))
        if row.frozen is not None and row.frozen.trip is None and number_of(row, hour) == number:
            # The operator was first. That freeze stays; who lifts it resumes what was told here, with the grace.
            return replace(row, frozen=row.frozen._replace(trip=found.name))
        return row

    try:
        _tell(deps, rules, found, most)
        change(deps.accounts, rules.account, frozen, BREAKER)
    except Exception:
        deps.trips.give_back(found, now)  # the caller is told to try again, and that call, or any, does it
        raise
    deps.accounts.gate.count("BreakerTrips", "", 1)  # at last: what is begun again is no other trip


def _stands(row: AccountRow, hour: int, number: int) -> bool:
    """Not where it is frozen already, nor where it was resumed since: what was crossed then is let through by now."""
    return row.frozen is None and number_of(row, hour) == number


def _most(rules: Rules, meter: str) -> Decimal | None:
    """What the hour may come to under these rules. None: no breaker (any more)."""
    return next((one.maximum for one in rules.breakers if one.limit.meters == (meter,)), None)


def _tell(deps: TripDeps, rules: Rules, trip: Trip, most: Decimal) -> None:
    account, meter, hour, _ = trip
    found = drivers(_rows(deps, rules, hour), meter)
    units = rules.meters[meter].name if meter in rules.meters else meter
    token = encode(Link(account, trip.name, hour + HOUR + LASTS_S), deps.secret())
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
        f"Usage in the hour from {rfc3339(hour)} reached {plain(most)} {units}, far above what is usual, so nothing "
        "new is started; what was running still counts. Contact us to go on.",
    )
    deps.outbox.put(
        Alert(
            id=f"breaker:{account}:{trip.name}",
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
    found = (deps.events.newest(home, hour * 1000, last, MOST_PAGES) for home in rules.homes)
    return islice(chain.from_iterable(found), MOST_ROWS)
