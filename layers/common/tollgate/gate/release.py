"""Release: the call did not run. The void first, then the units go back on every gate.

A crash after the void leaves holds whose outcome is known; they expire and are taken out by the next reclaim.
"""

from __future__ import annotations

from tollgate.errors import AlreadyCommitted, AlreadyReleased
from tollgate.gate.ending import end_hold, outcome_at
from tollgate.gate.hold import incarnation_of, unpack
from tollgate.gate.item import Gate
from tollgate.gate.limits import LimitState, states
from tollgate.gate.ports import GateDeps
from tollgate.gate.reservation_id import Reservation
from tollgate.gate.shown import known_to, with_counters
from tollgate.usage.outcome import ACCOUNT, Event, Void, counts_for


def release(deps: GateDeps, reservation: Reservation, release_key: str | None = None) -> list[LimitState]:
    """Give a reservation back; returns its limits as they are afterwards.

    Raises AlreadyCommitted, and AlreadyReleased for a second release (a repeat under the same Idempotency-Key gets
    the first answer again).
    """
    rules = deps.rules.get(reservation.account)
    at = outcome_at(deps, reservation.account, reservation.key, unpack(reservation.holds[ACCOUNT]))
    mine = Void(at, reservation.incarnations, "released", deps.clock(), release_key, deps.nonce())
    there = deps.outcomes.put_void(mine)
    if isinstance(there, Void) and there.call == mine.call:
        there = None  # put by this very call, and its answer lost inside the SDK
    gates: dict[str, Gate | None] = {}
    for per, raw in reservation.holds.items():
        incarnation = incarnation_of(raw)
        counted = isinstance(there, Event) and counts_for(there, per, reservation.key, incarnation)
        events = (there,) if counted and isinstance(there, Event) else ()
        guess = raw if there is None else None
        gates[per] = end_hold(
            deps, rules, reservation.account, per, reservation.member, reservation.key, incarnation, events, guess
        )
    if there is None and reservation.taken:
        from tollgate.gate import shared  # with the first such plan: the gate starts without it

        shared.give_back(deps, reservation.taken)
    if isinstance(there, Event):
        raise AlreadyCommitted
    if there is not None and there.why == "released" and (release_key is None or there.release_key != release_key):
        raise AlreadyReleased
    rules = known_to(deps, rules, reservation.account, gates.values())
    now = deps.clock() // 1000
    found: list[LimitState] = []
    for per in sorted(gates, reverse=True):
        member = None if per == ACCOUNT else reservation.member
        limits = rules.limits_for(reservation.items, per)
        gate = with_counters(deps, rules, gates[per], member, limits)
        found += states(rules, limits, gate, member, now)
    return found
