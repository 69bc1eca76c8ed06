"""Waits until Stripe's summaries stand still: equal to what is expected, or different for good."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

Pair = tuple[str, str]
"""(account, Stripe event name)."""

_POLL_SECONDS = 2.0
_QUIET_POLLS = 3


@dataclass(frozen=True, slots=True)
class Watch:
    """What is looked at while waiting."""

    read: Callable[[Iterable[Pair]], Mapping[Pair, Decimal]]
    """Units in Stripe's summaries now."""
    busy: Callable[[], bool]
    """Nudges the stack; whether it still has something on its way to Stripe."""
    agreed: Callable[[int, int], None]
    """Told after each look: how many pairs agree, of how many."""
    patience_seconds: int
    """How long nothing may change before a difference is taken as final."""
    lag_seconds: int = 0
    """How long Stripe keeps an accepted event out of its summaries."""
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


def settle(expected: Mapping[Pair, Decimal], watch: Watch) -> dict[Pair, Decimal]:
    """The units that Stripe's summaries hold at the end.

    Agreement counts once nothing has been on its way for a few looks and the summaries' lag, and all are read again: an
    event that comes twice shows up after the first one. A difference is final where nothing has changed for
    `patience_seconds` and the lag.
    """
    found: dict[Pair, Decimal] = {}
    changed, quiet, quiet_since = watch.clock(), 0, watch.clock()
    while True:
        busy = watch.busy()
        open_pairs = [pair for pair, units in expected.items() if found.get(pair) != units]
        now = dict(watch.read(open_pairs or expected))
        if any(found.get(pair) != units for pair, units in now.items()):
            changed = watch.clock()
        found |= now
        agreed = sum(1 for pair, units in expected.items() if found.get(pair) == units)
        watch.agreed(agreed, len(expected))
        quiet = 0 if busy else quiet + 1
        if quiet <= 1:
            quiet_since = watch.clock()
        still = watch.clock() - quiet_since >= watch.lag_seconds and quiet >= _QUIET_POLLS
        # Only a look at all of them sees that one which agreed before has grown.
        if not open_pairs and agreed == len(expected) and still:
            return found
        if watch.clock() - changed > watch.patience_seconds + watch.lag_seconds:
            return dict(watch.read(expected))
        watch.pause(_POLL_SECONDS)
