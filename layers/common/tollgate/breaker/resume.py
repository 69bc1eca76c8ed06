"""Resume: an account goes on after a freeze, with a grace, so that the hour it was stopped in does not stop it again.

The grace is kept in the rules row until the hour ends: by meter what is used by now, or the allowance where that is
more, and on top `multiple` allowances. Another trip in the same hour is another one, told again.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Final

from tollgate.accounts.rules import BREAKER, AccountRow, Frozen, Grace, Rules
from tollgate.accounts.service import AccountDeps, change
from tollgate.breaker.link import Link
from tollgate.breaker.trip import number_of
from tollgate.errors import AlreadyResumed
from tollgate.gate.steps import taken_now
from tollgate.quantities import EXACT, ONE
from tollgate.windows import HOURLY, window_at

MOST: Final = 10
"""Allowances that one resume may add."""


def resume(
    deps: AccountDeps, account: str, grace: Decimal | None = None, by: str | None = None, link: Link | None = None
) -> Rules:
    """Unfreeze, whoever froze it. `grace`: how many more hourly allowances it gets in this hour; None: one where the
    breaker froze it, else none. Not frozen: nothing changes, so that a repeated call adds nothing.

    `link`: by its trip alone. Raises AlreadyResumed where that is not what the account is frozen by; UnknownAccount,
    Busy.
    """

    def resumed(row: AccountRow) -> AccountRow:
        if link is not None and not lifts(link, row.frozen):
            raise AlreadyResumed(account)
        if row.frozen is None:
            return row
        if grace is None and row.frozen.trip is None:
            return replace(row, frozen=None)
        return replace(row, frozen=None, grace=_grace(deps, row, ONE if grace is None else grace))

    return change(deps, account, resumed, by)


def lifts(link: Link, frozen: Frozen | None) -> bool:
    """Whether a link lifts this freeze: that of its own trip, unless the operator froze, too."""
    return frozen is not None and (frozen.reason, frozen.trip) == (BREAKER, link.trip)


def _grace(deps: AccountDeps, row: AccountRow, multiple: Decimal) -> Grace:
    now = deps.gate.clock() // 1000
    rules, gate = deps.rules.compiled(row), deps.gate.gates.read(row.account)
    hour = window_at(HOURLY, row.calendar, now)
    assert hour.end is not None
    maxima = {}
    for ruled in rules.breakers:
        count = None if gate is None else gate.counts.get(ruled.counter.slot)
        allowance, let_through = ruled.limit.max, ruled.maximum
        assert allowance is not None
        assert let_through is not None
        begun = max(taken_now(rules, ruled.counter, count, now), let_through)
        maxima[ruled.limit.meters[0]] = begun + EXACT.multiply(allowance, multiple)
    return Grace(hour.end, maxima, number_of(row, hour.start) + 1)
