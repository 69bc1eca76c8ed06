"""Commit: the call ran, this was used. The row first, then the gates.

The row is one conditional put at the outcome key; it decides between this commit, other commits, releases and reclaims
of the same key. What a crash leaves: before the row, a hold (perhaps grown) that expires and is voided; after it, a
hold whose outcome is an event: its expiry, or the retried commit, settles it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

from tollgate.accounts.rules import ONE_PER_RESERVATION, Group, Item, Rules
from tollgate.errors import Busy, IdempotencyMismatch
from tollgate.gate import funding, steps
from tollgate.gate.ending import end_hold, outcome_at, plan_end, plan_late
from tollgate.gate.force import floor_ms, grow, shortfall, take_forced
from tollgate.gate.hold import Part, incarnation_of, meter_units, unpack
from tollgate.gate.item import Gate, GateWrite
from tollgate.gate.limits import LimitState, Taken, states
from tollgate.gate.money import begun_from
from tollgate.gate.parts import Splitter
from tollgate.gate.ports import GateDeps, subject_of
from tollgate.gate.reclaim import reclaim_if_worthwhile
from tollgate.gate.recount import event_units, recount
from tollgate.gate.recurring import due, give_due
from tollgate.gate.reservation_id import Reservation
from tollgate.gate.shown import known_to, with_counters
from tollgate.gate.used import used_item
from tollgate.quantities import ZERO
from tollgate.usage.outcome import ACCOUNT, MEMBER, Event, OutcomeKey, UsedItem, Void

TRIES = 12
FORCED_TTL_S = 300


class Commit(NamedTuple):
    """A commit request. `weigh` makes the used items under given rules; it raises UnknownMeter and the like."""

    reservation: Reservation
    weigh: Callable[[Rules], Sequence[Item]]
    cached: bool = False
    provider_cost: Decimal | None = None
    metadata: Mapping[str, Any] | None = None
    commit_key: str | None = None
    fingerprint: bytes = b""


class Committed(NamedTuple):
    event: Event
    duplicate: bool
    limits: Sequence[LimitState]


def commit(deps: GateDeps, request: Commit) -> Committed:
    """Record what a reservation used. Safe to repeat: a key counts once.

    Raises IdempotencyMismatch (the same commit key came with another body), UnknownMeter, QuantityTooLarge, Busy.
    """
    return _Commit(deps, request).run()


class _Commit:
    def __init__(self, deps: GateDeps, request: Commit) -> None:
        self.deps, self.request, self.reservation = deps, request, request.reservation
        self.rules = deps.rules.get(self.reservation.account)
        self.weighed_by = self.rules
        """The rules that weighed the items; `rules` may become newer on the way."""
        self.items = request.weigh(self.rules)
        self.holds: dict[str, bytes] = dict(self.reservation.holds)
        """By the slots and grants of `counted_as`."""
        self.counted_as = self.reservation.account
        self.floor_ms = self.reservation.floor_ms
        self.call = deps.nonce()
        self.extra: list[Taken] = []
        """Counted on shared limits beyond the reservation."""

    def run(self) -> Committed:
        over_reserved = self._cover()
        if self.weighed_by.plan.shared_limits:
            from tollgate.gate import shared  # with the first such plan: the gate starts without it

            self.extra = shared.count_more(
                self.deps, self.weighed_by, self.reservation, self.items, above=over_reserved
            )
        first = unpack(self.holds[ACCOUNT])
        at = outcome_at(self.deps, self.reservation.account, self.reservation.key, first)
        for tried in range(TRIES):
            if tried:
                self.deps.pause(tried)
            event = self._event(at, over_reserved)
            self.deps.markers.ensure(at.account, event.recorded_ms, (at.origin_ms,))
            there = self.deps.outcomes.put_event(event)
            self._mark_again_if_slow(event)
            if there is None or (isinstance(there, Event) and there.call == self.call):
                done = self._settled(event if there is None else there, duplicate=False)
                self._give_unused_back()
                return done
            if isinstance(there, Event):
                return self._already(there)
            committed = self._late(replace(event, late=True), there)
            if committed is not None:
                if there.why != "released":  # a release has given it back
                    self._give_unused_back()
                elif self.weighed_by.plan.shared_limits:
                    self._count_again()
                return committed
        raise Busy

    # -- before the row --------------------------------------------------------------------------------------------

    def _cover(self) -> bool:
        """Every counter that the usage counts on is held for it before the row is put. Returns whether it is more
        than was reserved."""
        over = False
        while True:
            self._follow()
            over = self._cover_once() or over
            if self.rules.account == self.counted_as:
                return over

    def _follow(self) -> None:
        """Where the account became another one: the holds as they stand there. A hold that is not there has been ended,
        and its outcome says by whom: nothing is known of its units."""
        reservation = self.reservation
        while self.rules.account != self.counted_as:
            rules = self.rules
            name = rules.hold_name(reservation.account, reservation.key)
            for per, raw in reservation.holds.items():
                member = reservation.member if per == MEMBER else None
                gate = self._counted(rules, per, member)
                found = None if gate is None else gate.holds.get(name)
                if gate is None or found is None or incarnation_of(found) != incarnation_of(raw):
                    self.holds[per] = unpack(raw)._replace(groups=(), parts=()).pack()
                    continue
                self.holds[per] = found
                self.floor_ms = max(self.floor_ms, floor_ms(gate, found))
            self.counted_as = rules.account

    def _counted(self, rules: Rules, per: str, member: str | None) -> Gate | None:
        """A gate of the account that this one became, with what came from here on it."""
        subject = subject_of(rules.account, per, member)
        gate = self.deps.gates.read(subject)
        for tried in range(TRIES):
            if tried:
                self.deps.pause(tried)
            if not steps.behind(rules, gate) and (gate is None or gate.rev >= 0):
                return gate
            recount(self.deps, rules, subject, member, {})
            gate = self.deps.gates.read(subject)
        raise Busy

    def _cover_once(self) -> bool:
        reservation, over = self.reservation, False
        for per in (ACCOUNT, MEMBER):
            if per == MEMBER and reservation.member is None:
                continue
            groups = self._used_groups(self.rules, per)
            raw = self.holds.get(per)
            if raw is None:
                if any(group.slots for group in groups):
                    self._hold_unreserved(per)
            elif shortfall(unpack(raw), groups):
                over = self._grow(per) or over
            elif per == ACCOUNT:
                over = self._above_uncounted(raw, groups)
            if self.rules.account != self.counted_as:
                break  # it became another account: all holds are by that one's slots from now on
        return over

    def _used_groups(self, rules: Rules, per: str) -> tuple[Group, ...]:
        """What the usage counts on; `concurrent` counters know open reservations only."""
        return tuple(g for g in rules.groups(self.items, per) if g.meter_slot != ONE_PER_RESERVATION)

    def _grow(self, per: str) -> bool:
        reservation = self.reservation
        grown = grow(
            self.deps,
            self.rules,
            reservation.account,
            per,
            reservation.member,
            reservation.key,
            self.holds[per],
            lambda rules: self._used_groups(rules, per),
        )
        self.rules, self.holds[per] = grown.rules, grown.hold
        self.floor_ms = max(self.floor_ms, grown.floor_ms)
        return grown.grew

    @staticmethod
    def _above_uncounted(raw: bytes, groups: Sequence[Group]) -> bool:
        """Whether a meter that no counter takes was used above its reservation."""
        reserved: dict[int, Decimal] = {}
        for group in unpack(raw).groups:
            reserved[group.meter_slot] = reserved.get(group.meter_slot, ZERO) + group.units
        return any(g.units > reserved.get(g.meter_slot, ZERO) for g in groups if not g.slots)

    def _hold_unreserved(self, per: str) -> None:
        """The rules now count this usage on a gate that took no part in the reservation."""
        account, reservation = unpack(self.holds[ACCOUNT]), self.reservation
        hold = account._replace(expires_at=self.deps.clock() // 1000 + FORCED_TTL_S, mark=b"")
        taken, gate, self.rules = take_forced(
            self.deps,
            self.rules,
            reservation.account,
            per,
            reservation.member,
            reservation.key,
            hold,
            lambda rules: self._used_groups(rules, per),
        )
        self.holds[per] = taken.pack()
        windows = [gate.counts[slot].window for slot in taken.units() if slot in gate.counts]
        self.floor_ms = max([self.floor_ms, *(window * 1000 for window in windows)])
        if shortfall(taken, self._used_groups(self.rules, per)):
            self._grow(per)  # a reserve of this key, sent again under rules that count here, was first

    def _event(self, at: OutcomeKey, over_reserved: bool) -> Event:
        request, plan = self.request, self.weighed_by.plan
        return Event(
            at=at,
            incarnations={per: incarnation_of(raw) for per, raw in self.holds.items()},
            recorded_ms=max(self.deps.clock(), self.floor_ms),
            items=self._split(unpack(self.holds[ACCOUNT]).parts),
            member=self.reservation.member,
            plan=plan.id,
            plan_version=plan.version,
            cached=request.cached,
            provider_cost=request.provider_cost,
            metadata=request.metadata,
            fingerprint=request.fingerprint,
            commit_key=request.commit_key,
            call=self.call,
            over_reserved=over_reserved,
            joined=self.counted_as != at.account,
        )

    def _split(self, held: Iterable[Part]) -> tuple[UsedItem, ...]:
        """The items with who pays for them, as the parts of a hold say."""
        share, meters = Splitter(held), self.rules.row.meters
        return tuple(used_item(item, share.take(meters.index(item.meter), item.units)) for item in self.items)

    def _mark_again_if_slow(self, event: Event) -> None:
        """A row that took longer than the seal's grace may be too late for its window: look at that window again."""
        if self.deps.clock() - event.recorded_ms >= self.deps.seal_grace_ms // 2:
            self.deps.markers.ensure(event.at.account, event.recorded_ms, (event.at.origin_ms,), again=True)

    # -- after the row ---------------------------------------------------------------------------------------------

    def _give_unused_back(self) -> None:
        """What of the shared limits was taken for this reservation and not used. By the call that put the row alone: a
        repetition must not do it again."""
        if self.reservation.taken:
            from tollgate.gate import shared

            shared.give_unused_back(
                self.deps, self.weighed_by, self.reservation.taken, self.reservation.items, self.items
            )

    def _count_again(self) -> None:
        from tollgate.gate import shared

        shared.recount(self.deps, self.weighed_by, self.items, self.extra)

    def _settled(self, event: Event, *, duplicate: bool) -> Committed:
        """Settle every own hold. Where the row is of another incarnation, the own hold just goes back."""
        gates: dict[str, Gate | None] = {}
        for per in sorted(self.holds):
            raw = self.holds[per]
            counted = event.incarnations.get(per) == incarnation_of(raw)
            gates[per] = end_hold(
                self.deps,
                self.rules,
                event.at.account,
                per,
                self.reservation.member,
                self.reservation.key,
                incarnation_of(raw),
                (event,) if counted else (),
                guess=raw,
            )
        self.rules = known_to(self.deps, self.rules, event.at.account, gates.values())
        return Committed(event, duplicate, self._limits(gates))

    def _already(self, event: Event) -> Committed:
        """The key is committed. Whatever this call holds ends first, also where it is answered with a mismatch."""
        request = self.request
        if self.extra:
            from tollgate.gate import shared

            shared.give_back(self.deps, self.extra)
        found = self._settled(event, duplicate=True)
        if (
            request.commit_key is not None
            and event.commit_key == request.commit_key
            and event.fingerprint != request.fingerprint
        ):
            raise IdempotencyMismatch
        return found

    def _late(self, event: Event, void: Void) -> Committed | None:
        """The hold was voided, but the call did succeed: one transaction turns exactly this void into the event and
        counts it: on the own hold where that is still there, else onto the gate. None: something moved, look again."""
        writes: list[GateWrite] = []
        alive = 0
        for per in sorted(self.holds):
            subject = subject_of(self.rules.account, per, self.reservation.member)
            name = self.rules.hold_name(event.at.account, event.at.key)
            gate = self.deps.gates.read(subject)
            if gate is None and not steps.behind(self.rules, gate):
                continue
            if gate is not None and gate.rev > self.rules.rev:
                self.rules = self.deps.rules.fresh(event.at.account)
                self._cover()  # they may count on a gate that took no part so far
                return None
            needed = begun_from(self.rules, per, gate) | event_units(self.rules, event, per)
            if gate is None or gate.rev < 0 or steps.unseeded(self.rules, gate, needed, self.deps.clock() // 1000):
                recount(self.deps, self.rules, subject, self.reservation.member if per == MEMBER else None, needed)
                return None
            raw = gate.holds.get(name)
            if raw is not None and incarnation_of(raw) == event.incarnations[per]:
                alive += 1
                if per == ACCOUNT:
                    event = replace(event, items=self._split(unpack(raw).parts))
                now = self.deps.clock() // 1000
                write = plan_end(self.rules, subject, per, name, raw, (event,), gate, now)
                assert isinstance(write, GateWrite), "nothing is guessed of a gate that was read"
            else:
                member = self.reservation.member
                if per == ACCOUNT and due(self.rules, gate, self.deps.clock() // 1000, member):
                    give_due(self.deps, self.rules, gate, member)
                    return None
                used = meter_units(self.rules.groups(self.items, per))
                funded = funding.take_late(self.rules, per, gate, used, event.recorded_s, member)
                if per == ACCOUNT:
                    event = replace(event, items=self._split(funded.parts))
                write = plan_late(self.rules, subject, per, name, event, gate, funded)
            writes.append(write)
        event = replace(event, late=alive < len(self.holds))
        if not self.deps.outcomes.commit_late(event, void, writes):
            return None
        gates = {
            per: self.deps.gates.read(subject_of(self.rules.account, per, self.reservation.member))
            for per in self.holds
        }
        return Committed(event, False, self._limits(gates))

    def _limits(self, gates: Mapping[str, Gate | None]) -> list[LimitState]:
        now = self.deps.clock() // 1000
        found: list[LimitState] = []
        for per in (MEMBER, ACCOUNT):
            if per not in gates:
                continue
            gate, member = gates[per], self.reservation.member if per == MEMBER else None
            limits = self.rules.limits_for(self.items, per)
            gate = with_counters(self.deps, self.rules, gate, member, limits)
            found += states(self.rules, limits, gate, member, now)
            if gate is not None and gate.rev == self.rules.rev:
                reclaim_if_worthwhile(self.deps, self.rules, gate, member, now)
        return found
