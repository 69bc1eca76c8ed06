"""The events of an account, newest first: its own, and those of the accounts that became it, where they stand."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge

from tollgate.accounts.rules import Rules
from tollgate.usage.outcome import Event
from tollgate.usage.store import EventTable, sort_key


def newest(events: EventTable, rules: Rules, first_ms: int, last: str) -> Iterator[Event]:
    """Events from sort key `last` (included) down to origin time `first_ms`; where two ids have one at the same key, in
    the order of `rules.homes`."""
    if not rules.row.merged:
        return events.newest(rules.account, first_ms, last)
    lists = [events.newest(home, first_ms, last) for home in rules.homes]
    return merge(*lists, key=lambda event: sort_key(event.at), reverse=True)  # stable: of equal ones the first list's
