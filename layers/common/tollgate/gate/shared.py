"""Limits that accounts share, enforced: units are counted before the account's own gates are asked.

What a crash leaves: units counted for a reservation that was never granted. So a cap is never passed, and what a crash
took is lost to the others until the window ends. For the same reason units go back only where it is certain that no
hold counts on them, once at most, and only inside their window; a reservation that just expires gives nothing back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from tollgate.accounts.rules import Item, Rules
from tollgate.gate.hold import incarnation_of, meter_units, unpack
from tollgate.gate.limits import SharedRefusal, SharedState, Taken
from tollgate.gate.ports import GateDeps, SharedStore
from tollgate.gate.reservation_id import Reservation
from tollgate.gate.shares import Look, Refuse, Send, Share, plan, wanted
from tollgate.quantities import EXACT, ZERO
from tollgate.usage.outcome import ACCOUNT

BLIND = 3
"""Shards tried in vain before all are read."""


class Counting:
    """What one call has taken of shared limits, over all its attempts."""

    def __init__(self, deps: GateDeps) -> None:
        self._deps = deps
        self._shares: list[Share] = []
        self._scale = 0
        self.taken: list[Taken] = []
        self.unsure = False
        """A write of the account's gate got no answer: a hold may stand that counts on what was taken."""

    def take(self, rules: Rules, items: Iterable[Item]) -> SharedRefusal | None:
        """Count `items`, unless they are. A refusal takes nothing."""
        shares = wanted(rules, items, self._deps.clock() // 1000)
        if self.taken and shares == self._shares:
            return None
        self.give_back()
        self._shares, self._scale = shares, _scale(rules)
        self.taken, refused = take(self._deps, rules, shares)
        return refused

    def give_back(self) -> None:
        """Nothing was granted, or a hold of another call was found, which that call counted."""
        if not self.unsure:
            give_back(self._deps, self.taken)
            self.taken = []

    def states(self) -> list[SharedState]:
        """The limits asked, as far as they were seen."""
        return states(self._deps, self._shares, self._scale)


def take(deps: GateDeps, rules: Rules, shares: Sequence[Share]) -> tuple[list[Taken], SharedRefusal | None]:
    """Take all shares, or none: then the refusal says which limit has no room. Raises Busy; then some may be taken."""
    taken: list[Taken] = []
    for share in shares:
        if share.units:
            pieces, missing = _place(deps, share, forced=False)
            taken.append(_taken(share, pieces))
            if missing is not None:
                give_back(deps, taken)
                return [], _refusal(deps, rules, share, missing)
    return taken, None


def force(deps: GateDeps, shares: Sequence[Share]) -> tuple[list[Taken], frozenset[str]]:
    """Count what was used, also past a cap. Returns it, and the names of the counters that it did not fit."""
    taken: list[Taken] = []
    over: set[str] = set()
    for share in shares:
        if share.units:
            pieces, missing = _place(deps, share, forced=True)
            taken.append(_taken(share, pieces))
            if missing is not None:
                over.add(share.base)
    return taken, frozenset(over)


def peek(deps: GateDeps, rules: Rules, items: Iterable[Item]) -> SharedRefusal | None:
    """The refusal that a reservation would get now. Takes nothing."""
    store = deps.shared()
    for share in wanted(rules, items, deps.clock() // 1000):
        _look(deps, store, share)
        step = plan(share, share.units, store.known.counts(share), 0, looked=True)
        if isinstance(step, Refuse):
            return _refusal(deps, rules, share, step.remaining)
    return None


def give_back(deps: GateDeps, taken: Iterable[Taken], surplus: dict[str, Decimal] | None = None) -> None:
    """Give units back to the shards that they were taken from. `surplus`: how many, by counter (None: all)."""
    store, now = deps.shared(), deps.clock() // 1000
    for one in taken:
        left = one.units if surplus is None else surplus.get(one.base, ZERO)
        if one.ends is not None and one.ends <= now:
            continue  # nobody asks that window any more
        for shard, units in one.pieces:
            back = min(units, left)
            if back <= 0:
                break
            left = EXACT.subtract(left, back)
            counter = f"{one.base}#{one.window}"
            count = store.take_off(f"{counter}#{shard}", back)
            if count is not None:
                store.known.saw(counter, shard, count)


def give_unused_back(
    deps: GateDeps, rules: Rules, taken: Sequence[Taken], asked: Iterable[Item], used: Iterable[Item]
) -> None:
    """Of what was taken for `asked`, give back what was not `used`. Counters that these rules do not know (the account
    has moved to another plan) keep theirs."""
    now = deps.clock() // 1000
    known = {share.base for share in wanted(rules, asked, now)}
    counted = {share.base: share.units for share in wanted(rules, used, now)}
    surplus = {one.base: one.units - counted.get(one.base, ZERO) for one in taken if one.base in {*known, *counted}}
    if any(units > 0 for units in surplus.values()):
        give_back(deps, taken, surplus)


def count_more(
    deps: GateDeps, rules: Rules, reservation: Reservation, used: Sequence[Item], *, above: bool
) -> list[Taken]:
    """Count what a commit used beyond its reservation: on counters that it did not ask (other dimensions), and where
    it is `above` what was held."""
    now = deps.clock() // 1000
    asked = {share.base: share.units for share in wanted(rules, reservation.items, now)}
    shares = []
    for share in wanted(rules, used, now):
        if share.base not in asked:
            shares.append(share)
        elif above and share.units > asked[share.base]:
            shares.append(share._replace(units=EXACT.subtract(share.units, asked[share.base])))
    return force(deps, shares)[0]


def recount(deps: GateDeps, rules: Rules, used: Iterable[Item], extra: Iterable[Taken]) -> None:
    """Count what was used though its reservation was released, without what is counted already (`extra`)."""
    counted = {one.base for one in extra}
    shares = wanted(rules, used, deps.clock() // 1000)
    force(deps, [share for share in shares if share.base not in counted])


def count_extension(
    deps: GateDeps, rules: Rules, reservation: Reservation, items: Sequence[Item]
) -> tuple[list[Taken], SharedRefusal | None]:
    """Take what a higher total adds to what is held."""
    gate = deps.gates.read(reservation.account)
    raw = None if gate is None else gate.holds.get(reservation.key)
    if raw is None or incarnation_of(raw) != reservation.incarnations[ACCOUNT]:
        return [], None  # it has ended: the gates say how
    now, held = deps.clock() // 1000, meter_units(unpack(raw).groups)
    asked = {share.base: share.units for share in wanted(rules, reservation.items, now)}
    single = all(len({item.meter for item in some}) == len(some) for some in (items, reservation.items))
    shares = []
    for share in wanted(rules, items, now):
        before = asked.get(share.base, ZERO)
        if single and before:
            # One item for each meter: the hold knows what earlier extensions added.
            meters = [rules.row.meters.index(item.meter) for item in items if item.meter in share.limit.meters]
            before = max(before, sum((held.get(meter, ZERO) for meter in meters), ZERO))
        if share.units > before:
            shares.append(share._replace(units=EXACT.subtract(share.units, before)))
    return take(deps, rules, shares)


def states(deps: GateDeps, shares: Iterable[Share], scale: int) -> list[SharedState]:
    """Limits as this process saw them last, without asking; those that it never saw are left out."""
    known, now_ms = deps.shared().known, deps.clock()
    found = (known.state(share, now_ms, scale) for share in shares)
    return [state for state in found if state is not None]


def _scale(rules: Rules) -> int:
    return max((meter.scale for meter in rules.meters.values()), default=0)


def _taken(share: Share, pieces: Sequence[tuple[int, Decimal]]) -> Taken:
    return Taken(share.base, share.window, share.ends, tuple(pieces))


def _refusal(deps: GateDeps, rules: Rules, share: Share, remaining: Decimal) -> SharedRefusal:
    state = deps.shared().known.state(share, deps.clock(), _scale(rules))
    if state is None:
        state = SharedState(share.limit, share.value, share.window, share.ends, ZERO, exact=True)
    return SharedRefusal(state, share.units, remaining)


def _look(deps: GateDeps, store: SharedStore, share: Share) -> None:
    names = [f"{share.counter}#{shard}" for shard in range(len(share.parts))]
    store.known.looked(share, store.counts(names), deps.clock())


def _place(deps: GateDeps, share: Share, *, forced: bool) -> tuple[list[tuple[int, Decimal]], Decimal | None]:
    """Put the units of a share on its shards. Returns the pieces placed, and None where all were; else what was seen
    to remain of the cap (forced units are then placed all the same)."""
    store, need, refused = deps.shared(), share.units, 0
    pieces: list[tuple[int, Decimal]] = []
    looked = store.known.fresh(share, deps.clock())
    tried: set[int] = set()
    missing: Decimal | None = None
    for _ in range(4 * len(share.parts) + BLIND):
        random = int.from_bytes(deps.nonce(), "big")
        counts = store.known.counts(share)
        step = plan(share, need, counts, random, looked=looked)
        if isinstance(step, Look) or (refused == BLIND and not looked):
            _look(deps, store, share)
            looked = True
            continue
        if isinstance(step, Refuse):
            missing = step.remaining
            break
        if _add(store, share, step, share.parts[step.shard]):
            pieces.append((step.shard, step.units))
            need = EXACT.subtract(need, step.units)
            if not need:
                return pieces, None
        else:
            refused += 1
            tried.add(step.shard)
            if len(tried) == len(share.parts) and not looked:
                looked = True  # each has just answered
                store.known.looked(share, [store.known.counts(share)[shard] for shard in sorted(tried)], deps.clock())
    if missing is None:
        missing = ZERO  # others were faster each time
    if forced:
        # What still fits goes where it fits, so that later reservations do not find that room once more.
        for shard, part in enumerate(share.parts):
            room = min(EXACT.subtract(part, store.known.counts(share).get(shard, ZERO)), need)
            if room > 0 and _add(store, share, Send(shard, room), part):
                pieces.append((shard, room))
                need = EXACT.subtract(need, room)
        if need:
            shard = int.from_bytes(deps.nonce(), "big") % len(share.parts)
            _add(store, share, Send(shard, need), None)
            pieces.append((shard, need))
    return pieces, missing


def _add(store: SharedStore, share: Share, step: Send, part: Decimal | None) -> bool:
    done, count = store.add(f"{share.counter}#{step.shard}", step.units, part, share.ends)
    store.known.saw(share.counter, step.shard, count)
    return done
