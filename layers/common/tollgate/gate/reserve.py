"""Reserve: may this call run? One conditional write for each gate decides, from the narrow gate to the wide one.

What a crash leaves: after the member gate's write, a hold that no reservation id names; it expires, and whoever meets
it puts the void and gives its units back (`reclaim.py`). After the account gate's write, a granted hold whose answer
was lost; the retry finds it by its key and gets the same answer, or it expires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from tollgate.accounts.rules import BREAKER, Item, RuledLimit, Rules, by_slot
from tollgate.errors import Busy, IdempotencyMismatch, LevelMeter, MemberRequired, TooManyCounters, UnknownMeter
from tollgate.gate import funding, steps, taking
from tollgate.gate.ending import outcome_at, plan_back
from tollgate.gate.hold import Hold, expiry_of, meter_units, unpack
from tollgate.gate.item import Gate, GateWrite, HoldWrite
from tollgate.gate.limits import LimitState, SharedRefusal, SharedState, Taken, resets_at, states
from tollgate.gate.money import begun_from
from tollgate.gate.ports import AnswerLost, GateDeps, subject_of
from tollgate.gate.reclaim import reclaim, reclaim_if_worthwhile
from tollgate.gate.recount import recount
from tollgate.gate.recurring import give_due
from tollgate.gate.shown import with_counters
from tollgate.gate.steps import UNSEEN, Seen, taken_now
from tollgate.quantities import ZERO
from tollgate.usage.outcome import ACCOUNT, MEMBER, Event, Void

if TYPE_CHECKING:
    from tollgate.gate.shared import Counting

TRIES = 40
"""Each try follows an item that changed under it; past this many the caller gets 503 `busy`."""


class Asked(NamedTuple):
    """A reservation request. `origin_ms` is the time inside a UUIDv7 key, else None. `weigh` makes the items under
    given rules (they depend on the plan version); it raises UnknownMeter and the like."""

    account: str
    member: str | None
    key: str
    origin_ms: int | None
    fingerprint: bytes
    ttl_seconds: int
    weigh: Callable[[Rules], Sequence[Item]]


class Granted(NamedTuple):
    """`holds` by subject kind as they stand in the gates; `floor_ms` is the earliest time its usage may be recorded
    at: the start of the latest window that it was counted in."""

    rules: Rules
    asked: Asked
    items: Sequence[Item]
    holds: Mapping[str, Hold]
    floor_ms: int
    limits: Sequence[LimitState]
    shared: Sequence[SharedState] = ()
    taken: Sequence[Taken] = ()
    """Of shared limits, by this call."""


class Denied(NamedTuple):
    """One refusal, one reason. `state` None: it is no limit of the account's (`frozen`, `not_in_plan`, `too_many_open`,
    or money or credits: then `short` says whose promise it was, and `per` whose gate refused; or one that accounts
    share: then it is `shared_limit`)."""

    code: str
    rules: Rules
    requested: Decimal
    remaining: Decimal
    state: LimitState | None
    resets_at: int | None
    limits: Sequence[LimitState]
    reason: str | None = None
    short: funding.Short | None = None
    per: str = ACCOUNT
    shared_limit: SharedState | None = None
    shared: Sequence[SharedState] = ()


class _RulesChanged(Exception):
    """The gate has seen newer rules: start again from the narrowest gate."""


class _Taken(NamedTuple):
    gate: Gate
    hold: Hold
    created: bool
    """Made by this call: nobody else can have been given a reservation id for it."""
    capped_by: int | None
    """The revision whose caps were asserted by the write; None: found there, caps unchecked."""


class _Refused(NamedTuple):
    refusal: taking.Refuse
    gate: Gate | None


def reserve(deps: GateDeps, asked: Asked) -> Granted | Denied:
    """Decide a request over all its items and limits together.

    Raises IdempotencyMismatch (this key holds for another body), UnknownAccount, UnknownMeter, MemberRequired,
    QuantityTooLarge, TooManyCounters, Busy.
    """
    rules = deps.rules.get(asked.account, lambda rules: _Attempt(deps, rules, asked))
    counting: Counting | None = None
    for _ in range(TRIES):
        try:
            attempt = _Attempt(deps, rules, asked, counting)
        except (LevelMeter, MemberRequired, TooManyCounters, UnknownMeter):
            # Under cached rules that may be wrong by now; only a request that fails anyway pays for the look.
            known, rules = rules.rev, deps.rules.fresh(asked.account)
            if rules.rev == known:
                if counting is not None:
                    counting.give_back()
                raise
            continue
        try:
            found = attempt.decide()
            if isinstance(found, Denied) and found.code == BREAKER and found.state is not None:
                tripped(deps, found.rules, found.state)
            return found
        except _RulesChanged:
            attempt.drop_own()
            counting = attempt.counting  # taken over by the next attempt, which may need the same
            rules = deps.rules.fresh(asked.account)
        except IdempotencyMismatch:
            attempt.drop_narrow()
            attempt.uncount()
            raise
    raise Busy


def subjects_of(rules: Rules, items: Sequence[Item], member: str | None) -> list[str]:
    """The gates that a request goes through, from narrow to wide. Raises MemberRequired."""
    if rules.member_needed(items, member) and any(group.slots for group in rules.groups(items, MEMBER)):
        return [MEMBER, ACCOUNT]
    return [ACCOUNT]


def tripped(deps: GateDeps, rules: Rules, state: LimitState) -> None:
    """What follows a refusal by the breaker. A crash before it leaves the cap: it refuses the next call, too, and that
    one gets here. Raises Busy."""
    assert state.window_start is not None
    deps.breaker().trip(rules, state.ruled.limit.meters[0], state.window_start)


def trip_if_over(deps: GateDeps, rules: Rules, gate: Gate | None, items: Iterable[Item]) -> None:
    """Usage that had happened may have gone past what the breaker lets through: it is recorded all the same. Raises
    Busy."""
    if not rules.breakers or gate is None or rules.row.frozen is not None:
        return
    meters = {item.meter for item in items}
    ruled = [one for one in rules.breakers if one.limit.meters[0] in meters]
    for state in states(rules, ruled, gate, None, deps.clock() // 1000):
        if state.over:
            tripped(deps, rules, state)


def outside_rules(rules: Rules, items: Sequence[Item]) -> Denied | None:
    """The refusal of what no gate needs to be asked for: a frozen account, a meter that is not in the plan."""
    frozen = rules.row.frozen
    requested = sum((item.units for item in items), ZERO)
    if frozen is not None:
        return Denied("frozen", rules, requested, ZERO, None, None, (), frozen.reason)
    if rules.stopped:
        return Denied(BREAKER, rules, requested, ZERO, None, None, ())
    if all(rules.covers(item.meter) for item in items):
        return None
    return Denied("not_in_plan", rules, requested, ZERO, None, None, ())


def denied_by(
    rules: Rules,
    refusal: taking.Refuse,
    gate: Gate | None,
    per: str,
    ruled: Sequence[RuledLimit],
    member: str | None,
    now: int,
) -> Denied:
    """The refusal by one gate, with the limits (`ruled`) as they stand."""
    limits, short = states(rules, ruled, gate, member, now), refusal.short
    if short is not None:
        return Denied(
            short.code, rules, short.requested, short.remaining, None, short.resets_at, limits, short=short, per=per
        )
    if refusal.limit is None:
        return Denied("too_many_open", rules, refusal.requested, ZERO, None, None, limits)
    if refusal.limit.source == BREAKER:
        return denied_by_breaker(rules, refusal, gate, limits, now)
    state = next(state for state in limits if state.ruled is refusal.limit)
    resets = state.resets_at
    if refusal.limit.limit.concurrent is not None and gate is not None:
        resets = min((expiry_of(raw) for raw in gate.holds.values()), default=None)
    return Denied("limit_reached", rules, refusal.requested, refusal.remaining, state, resets, limits)


def denied_by_breaker(
    rules: Rules, refusal: taking.Refuse, gate: Gate | None, limits: Sequence[LimitState], now: int
) -> Denied:
    """The refusal that stops a runaway account. The hour's end resets nothing: the account is frozen."""
    assert refusal.limit is not None
    (state,) = states(rules, [refusal.limit], gate, None, now)
    return Denied(BREAKER, rules, refusal.requested, refusal.remaining, state, None, limits)


def denied_by_share(rules: Rules, refusal: SharedRefusal, shared: Sequence[SharedState] = ()) -> Denied:
    """The refusal by a limit that accounts share."""
    state = refusal.state
    return Denied(
        "limit_reached",
        rules,
        refusal.requested,
        refusal.remaining,
        None,
        state.resets_at,
        (),
        shared_limit=state,
        shared=shared or (state,),
    )


class _Attempt:
    """One pass over the gates under one revision of the rules. `mine`: what it took; `counting`: what the call took of
    limits that accounts share."""

    def __init__(self, deps: GateDeps, rules: Rules, asked: Asked, counting: Counting | None = None) -> None:
        self.deps, self.rules, self.asked, self.counting = deps, rules, asked, counting
        self.mine: dict[str, _Taken] = {}
        self.items = asked.weigh(rules)
        self.subjects = subjects_of(rules, self.items, asked.member)

    def decide(self) -> Granted | Denied:
        outside = outside_rules(self.rules, self.items)
        if outside is not None:
            self.uncount()
            return self._granted_before() or self._refuse(outside)
        if self.rules.plan.shared_limits or self.counting is not None:
            refused = self._count()
            if refused is not None:
                # The read of the account's gate that this begins with also tells whether these rules are the newest.
                return self._granted_before() or self._refuse(self._denied_by_share(refused))
        found = self._through_gates()
        if self.counting is None:
            return found
        if isinstance(found, Denied) or ACCOUNT not in self.mine or self.mine[ACCOUNT].capped_by is None:
            self.uncount()  # refused, or the hold was there: whoever made it counted it
        if isinstance(found, Granted):
            # A write without an answer may still arrive, after this reservation has ended: what it counts on stays.
            taken = () if self.counting.unsure else self.counting.taken
            return found._replace(shared=self.counting.states(), taken=taken)
        return found

    def _count(self) -> SharedRefusal | None:
        """Before the gates: a crash in between counts too much, the other way round it would grant too much."""
        if self.counting is None:
            from tollgate.gate.shared import Counting  # with the first such plan: the gate starts without it

            self.counting = Counting(self.deps)
        return self.counting.take(self.rules, self.items)

    def uncount(self) -> None:
        if self.counting is not None:
            self.counting.give_back()

    def _denied_by_share(self, refused: SharedRefusal) -> Denied:
        assert self.counting is not None
        return denied_by_share(self.rules, refused, self.counting.states())

    def _through_gates(self) -> Granted | Denied:
        for per in self.subjects:
            taken = self._take(per)
            if isinstance(taken, Granted):
                return taken
            if isinstance(taken, _Refused):
                if per == MEMBER:
                    self._check_rules()
                return self._deny(taken, per)
            self.mine[per] = taken
            if per == MEMBER and taken.capped_by is None:
                over = self._over(taken)
                if over is not None:
                    # Taken under looser rules: it stands only if the account gate had granted it, too.
                    return self._granted_before() or self._deny(_Refused(over, taken.gate), per)
        if MEMBER not in self.subjects:
            self.drop_narrow()  # taken in an earlier pass, under rules that still asked for it
        granted = self._granted({per: self.mine[per] for per in self.subjects})
        for per in self.subjects:
            reclaim_if_worthwhile(self.deps, self.rules, self.mine[per].gate, self._member(per), self._now())
        return granted

    def _now(self) -> int:
        return self.deps.clock() // 1000

    def _member(self, per: str) -> str | None:
        return self.asked.member if per == MEMBER else None

    def _subject(self, per: str) -> str:
        return subject_of(self.rules.account, per, self.asked.member)

    @property
    def _name(self) -> str:
        return self.rules.hold_name(self.asked.account, self.asked.key)

    # -- taking from one gate ------------------------------------------------------------------------------------

    def _take(self, per: str) -> _Taken | _Refused | Granted:
        deps, rules, key = self.deps, self.rules, self._name
        subject, limits = self._subject(per), rules.caps_for(self.items, per)
        seen: Seen = UNSEEN
        for tried in range(TRIES):
            if tried > 2:
                deps.pause(tried - 2)
            now_ms = deps.clock()
            wanted = taking.Wanted(subject, per, key, self._new_hold(per, now_ms), limits, member=self.asked.member)
            plan = taking.plan_take(rules, wanted, seen, now_ms // 1000, deps.gates.recall(subject))
            if isinstance(plan, taking.Send):
                try:
                    written = deps.gates.write(plan.write, retry=False)
                except AnswerLost:
                    # It may have been applied: the next try (a new incarnation) then finds this key in the gate.
                    if per == ACCOUNT and self.counting is not None:
                        self.counting.unsure = True
                    continue
                if written.applied and written.gate is not None:
                    return _Taken(written.gate, plan.hold, plan.write.holds[0].expect is None, rules.rev)
                seen = written.gate
                continue
            if isinstance(plan, taking.Stale):
                raise _RulesChanged
            if isinstance(plan, taking.Mismatch):
                raise IdempotencyMismatch
            if isinstance(plan, funding.Look):
                seen = deps.gates.read(subject)
                continue
            if isinstance(plan, taking.CreditsDue):
                seen = give_due(deps, rules, seen if isinstance(seen, Gate) else None, self.asked.member)
                continue
            if isinstance(plan, taking.NeedsRecount):
                recount(deps, rules, subject, self._member(per), plan.needed)
                seen = deps.gates.read(subject)
                continue
            gate = seen if isinstance(seen, Gate) else None
            if isinstance(plan, taking.Refuse):
                return _Refused(plan, gate)
            assert gate is not None
            if isinstance(plan, taking.Reclaim):
                seen = reclaim(deps, rules, gate, plan.keys, self._member(per))
                continue
            if per == ACCOUNT:
                return _Taken(gate, unpack(plan.raw), created=False, capped_by=None)
            granted = self._granted_before()
            if granted is not None:
                return granted
            # The attempt that made this hold is not through: from now on only this one may drop it.
            marked = unpack(plan.raw)._replace(mark=deps.nonce())
            write = GateWrite(subject, gate.rev, gate.rev, holds=(HoldWrite(key, plan.raw, marked.pack()),))
            written = deps.gates.write(write)
            if written.applied and written.gate is not None:
                return _Taken(written.gate, marked, created=False, capped_by=None)
            seen = written.gate
        raise Busy

    def _new_hold(self, per: str, now_ms: int) -> Hold:
        asked = self.asked
        return Hold(
            incarnation=self.deps.incarnate(now_ms),
            expires_at=now_ms // 1000 + asked.ttl_seconds,
            origin_ms=now_ms if asked.origin_ms is None else asked.origin_ms,
            fingerprint=asked.fingerprint,
            groups=self.rules.groups(self.items, per),
            mark=self.deps.nonce() if per == MEMBER else b"",
            keyed=asked.origin_ms is not None,
        )

    def _over(self, taken: _Taken) -> taking.Refuse | None:
        """Of the member limits that the gate is past with this hold, the one that resets last."""
        now, own = self._now(), taken.hold.units()
        worst: tuple[int, taking.Refuse] | None = None
        for ruled in self.rules.limits_for(self.items, MEMBER):
            count = taken.gate.counts.get(ruled.counter.slot)
            total = taken_now(self.rules, ruled.counter, count, now)
            if ruled.maximum is None or total <= ruled.maximum:
                continue
            left = max(ruled.maximum - (total - own.get(ruled.counter.slot, ZERO)), ZERO)
            when = resets_at(self.rules, ruled.counter, count, now)
            if worst is None or when > worst[0]:
                worst = (when, taking.Refuse(ruled, self._units(ruled), left))
        if worst is not None:
            return worst[1]
        short = funding.past_promise(self.rules, MEMBER, taken.gate, meter_units(taken.hold.groups), now)
        return None if short is None else taking.Refuse(None, short.requested, short.remaining, short)

    def _units(self, ruled: RuledLimit) -> Decimal:
        groups = self.rules.groups(self.items, ruled.limit.per)
        return by_slot(groups).get(ruled.counter.slot, ZERO)

    # -- refusing ------------------------------------------------------------------------------------------------

    def _check_rules(self) -> None:
        """A refusal must come from the newest rules, and only the account gate knows their revision."""
        gate = self.deps.gates.read(self.rules.account)
        if gate is not None and abs(gate.rev) > self.rules.rev:
            raise _RulesChanged

    def _granted_before(self) -> Granted | None:
        """The same answer again where every gate holds this key already (a retry), whatever the rules say now."""
        found: dict[str, _Taken] = {}
        for per in reversed(self.subjects):
            gate = self.deps.gates.read(self._subject(per))
            if gate is not None and per == ACCOUNT and abs(gate.rev) > self.rules.rev:
                raise _RulesChanged
            limits = self.rules.limits_for(self.items, per)
            gate = with_counters(self.deps, self.rules, gate, self._member(per), limits)
            raw = None if gate is None else gate.holds.get(self._name)
            if gate is None or raw is None or expiry_of(raw) <= self._now():
                return None
            hold = unpack(raw)
            if hold.fingerprint != self.asked.fingerprint:
                raise IdempotencyMismatch
            found[per] = _Taken(gate, hold, created=False, capped_by=None)
        return self._granted(found)

    def _refuse(self, outside: Denied) -> Denied:
        self.drop_narrow()
        return outside

    def _deny(self, refused: _Refused, per: str) -> Denied:
        dropped = self.drop_narrow()
        gate = dropped if per == MEMBER and dropped is not None else refused.gate
        limits = self.rules.limits_for(self.items, per)
        return denied_by(self.rules, refused.refusal, gate, per, limits, self.asked.member, self._now())

    def drop_own(self) -> None:
        """Before starting again under newer rules: a hold made or renewed under old ones is not what those ask for."""
        if MEMBER in self.mine and self.mine[MEMBER].capped_by is not None:
            self.drop_narrow()

    def drop_narrow(self) -> Gate | None:
        """Give the own member hold back after a refusal; returns the gate without it, where that is known.

        Asserts the packed hold with the own mark, so a retry that took the mark over keeps its hold. A hold that
        another call made may have been given out in a reservation id: it gets its void first. A crash before the
        write leaves a hold that expires.
        """
        taken = self.mine.pop(MEMBER, None)
        if taken is None:
            return None
        deps, key, raw = self.deps, self._name, taken.hold.pack()
        if not taken.created:
            at = outcome_at(deps, self.asked.account, self.asked.key, taken.hold)
            there = deps.outcomes.put_void(Void(at, {MEMBER: taken.hold.incarnation}, "refused", deps.clock()))
            if isinstance(there, Event):
                return None  # committed meanwhile: its settle, or the hold's expiry, ends it
        rules, seen = self.rules, taken.gate
        for _ in range(4):
            if seen.rev > rules.rev:
                rules = deps.rules.fresh(rules.account)
            if seen.closed or steps.unseeded(rules, seen, begun_from(rules, MEMBER, seen), self._now()):
                return seen  # the account became another one, or a recount must come first: the hold expires by itself
            written = deps.gates.write(plan_back(rules, MEMBER, seen, [(key, raw)], self._now()))
            if written.applied or written.gate is None or written.gate.holds.get(key) != raw or written.gate.rev < 0:
                return written.gate  # frozen (rev < 0): the hold expires by itself
            seen = written.gate
        return None

    # -- granting ------------------------------------------------------------------------------------------------

    def _granted(self, taken: Mapping[str, _Taken]) -> Granted:
        now = self._now()
        limits: list[LimitState] = []
        floor = 0
        for per in (MEMBER, ACCOUNT):
            if per not in taken:
                continue
            gate = taken[per].gate
            limits += states(self.rules, self.rules.limits_for(self.items, per), gate, self.asked.member, now)
            for slot in taken[per].hold.units():
                count = gate.counts.get(slot)
                floor = max(floor, 0 if count is None else count.window)
        holds = {per: found.hold for per, found in taken.items()}
        return Granted(self.rules, self.asked, self.items, holds, floor * 1000, limits)
