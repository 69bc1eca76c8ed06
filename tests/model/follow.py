"""After each step the gates and outcome rows are compared with the reference, which first follows what was left open.

Left open by the design, and so followed, are only these: expired holds may be ended in passing; a refused or broken-off
try may have entered a window; a counter of newer rules may begin only when an answer needs it; a call that died got as
far as it got.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from tests.model.endings import Sent, weighed
from tests.model.reference import (
    Account,
    Counter,
    GateState,
    Hold,
    Recorded,
    Ticket,
    Voided,
    by_meter,
    counter_of,
    maximum_of,
    named_by,
)
from tests.model.shapes import Body
from tests.model.stores import WeighedWorld
from tollgate.gate.hold import unpack
from tollgate.gate.item import Gate
from tollgate.usage.outcome import Event, Void
from tollgate.windows import window_at


class BrokenOff(NamedTuple):
    """A reserve that died: what it may have left on a gate."""

    key: str
    digest: bytes
    body: Body
    ttl: int


class Died(NamedTuple):
    """A commit that died: its holds may be grown, made or settled."""

    ticket: Ticket
    sent: Sent


def assert_same(what: str, got: object, expected: object) -> None:
    assert got == expected, f"{what}:\n  the product says   {got}\n  the reference says {expected}"


def more_than_none(units: Mapping[Counter, Decimal]) -> dict[Counter, Decimal]:
    """Without counters that nothing is taken from."""
    return {counter: value for counter, value in units.items() if value}


def counter_name(account: Account, slot: int) -> Counter:
    """The counter that the account numbers `slot`: counters are appended in the order in which rules need them."""
    return list(account.now_bound.kept)[slot]


def follow(account: Account, world: WeighedWorld, now_ms: int, died: BrokenOff | Died | None = None) -> None:
    """Compare every gate and outcome of the account; `now_ms`: the clock of the process that acted."""
    now = now_ms // 1000
    names = list(account.now_bound.kept)
    row = world.rows[account.name]
    assert_same("counters", [tuple(key.__getattribute__(f) for f in Counter._fields) for key, _ in row.counters], names)
    for subject, real in world.gates.items():
        owner, _, member = subject.partition("#")
        if owner != account.name:
            continue
        gate = account.gate(member or None)
        gate.recounting = False
        _follow_holds(account, gate, real, names, now, died)
        gate.recounting = real.rev < 0
        _follow_windows(account, gate, real, names, now, died)
        _compare(account, gate, real, names)
        gate.beginning.clear()
    _follow_voids(account, world, died is not None)
    for name, gate in account.gates.items():
        subject = account.name if name is None else f"{account.name}#{name}"
        assert subject in world.gates or not gate.holds, f"no gate {subject}"


def follow_first_pass(
    account: Account, world: WeighedWorld, learning: Mapping[str, Gate], member: str | None, key: str, now_ms: int
) -> None:
    """A process under old rules met the member's gate first: it may have begun counters and first-use windows there,
    ended expired holds, and renewed a dead hold of this key only to drop it, before it learnt of the newer rules.
    `learning`: the gates at that moment."""
    real = learning.get(f"{account.name}#{member}")
    if member is None or real is None:
        return
    now, gate = now_ms // 1000, account.gate(member)
    _begin(account, gate, real, now)
    for slot, count in real.counts.items():
        counter = counter_name(account, slot)
        kind, start = counter.kind, gate.windows.get(counter, 0)
        if kind is not None and kind.hours is not None and count.window == now and start + kind.hours * 3600 <= now:
            if counter in gate.windows:
                gate.windows[counter] = now
    for hold in gate.expired(now):
        if hold.key not in real.holds and hold.key != key:
            account.reclaim(gate, hold, now)
    own = gate.holds.get(key)
    voids = [row for (name, _, at), row in world.outcomes.items() if (name, at) == (account.name, key)]
    if own is not None and own.expires_at <= now and voids and isinstance(voids[0], Void):
        there = account.outcomes.get(key)
        said = {} if there is None else there.incs
        if voids[0].incarnations.get("member") == own.inc and said.get("member") != own.inc:
            account.void(key, {"member": own.inc}, "refused")
            del gate.holds[key]


def _follow_voids(account: Account, world: WeighedWorld, died: bool) -> None:
    seen = set()
    for (owner, _, key), row in world.outcomes.items():
        if owner != account.name or (isinstance(row, Event) and row.token is not None):
            continue
        seen.add(key)
        there = account.outcomes.get(key)
        if isinstance(row, Void):
            if died and not isinstance(there, Recorded):
                account.outcomes[key] = Voided(dict(row.incarnations), row.why, row.release_key)
                continue
            assert isinstance(there, Voided), f"a void of {key} stands, the reference has {there}"
            assert_same("void", (dict(row.incarnations), row.why), (there.incs, there.why))
        else:
            assert isinstance(there, Recorded), f"an event of {key} stands, the reference has {there}"
            assert_same("event's holds", dict(row.incarnations), there.incs)
    assert_same("outcomes", set(account.outcomes), seen)


def follow_begun(account: Account, world: WeighedWorld, now_ms: int) -> None:
    """Counters that the gates keep by now begin in the reference, too."""
    for subject, real in world.gates.items():
        owner, _, member = subject.partition("#")
        if owner == account.name:
            _begin(account, account.gate(member or None), real, now_ms // 1000)


def _begin(account: Account, gate: GateState, real: Gate, now: int) -> None:
    names = list(account.now_bound.kept)
    kept = {names[slot] for slot in real.counts}
    assert gate.begun <= kept, f"{gate.per} {gate.member} lost the counters {gate.begun - kept}"
    new, gate.begun = kept - gate.begun, gate.begun | kept
    gate.beginning |= new
    for counter in set(gate.windows) - kept:  # nobody was shown it
        del gate.windows[counter]
        for hold in gate.holds.values():
            hold.units.pop(counter, None)
    fresh = kept - set(gate.windows)
    if fresh:
        account.seed(gate, now, fresh)
    for slot, count in real.counts.items():
        counter = names[slot]
        if counter not in new or counter.kind is None or counter.kind.hours is None:
            continue
        # An expired hold may or may not have been there to be its first use; usage is never left out.
        used = account.used_in(gate, counter, gate.windows[counter], account.now_bound.calendar)
        if used == account.used_in(gate, counter, count.window, account.now_bound.calendar):
            gate.windows[counter] = count.window


def _follow_holds(
    account: Account, gate: GateState, real: Gate, names: Sequence[Counter], now: int, died: BrokenOff | Died | None
) -> None:
    _begin(account, gate, real, now)
    for key, gone in list(gate.holds.items()):
        if key in real.holds:
            continue
        if isinstance(died, Died) and key == died.ticket.key:
            event = account.outcomes.get(key)
            if isinstance(event, Recorded) and event.incs.get(gate.per) == gone.inc:
                account.settle(gate, event, now)
            else:
                del gate.holds[key]
            continue
        assert gone.expires_at <= now, f"the open hold {key} of {gate.per} {gate.member} is gone"
        account.reclaim(gate, gone, now)
    for key, raw in real.holds.items():
        found = unpack(raw)
        hold = gate.holds.get(key)
        if isinstance(died, BrokenOff) and key == died.key and (hold is None or hold.expires_at != found.expires_at):
            hold = _left_by_reserve(account, gate, died, found.incarnation, hold, now)
        elif isinstance(died, Died) and hold is None and key == died.ticket.key:
            items = weighed(account.bound(died.sent.known), died.ticket, died.sent)
            wanted = account.bound(died.sent.known).on_counters(items, gate.per, jobs=False)
            hold = Hold(key, found.incarnation, found.expires_at, b"", wanted, by_meter(items), now)
            gate.holds[key] = hold
        assert hold is not None, f"{gate.per} {gate.member} has a hold {key} that the reference has not"
        units = {names[slot]: value for slot, value in found.units().items()}
        for counter in gate.beginning & set(units) - set(hold.units):
            # Begun while this hold stood, or before it was made: a counter that begins may name it.
            if counter.kind is not None and units[counter] == named_by(hold, counter):
                hold.units[counter] = units[counter]
        assert_same(f"hold of {gate.per} {gate.member}", more_than_none(units), more_than_none(hold.units))
        assert_same("incarnation", found.incarnation, hold.inc)
        assert_same("expiry", found.expires_at, hold.expires_at)
        hold.body = found.fingerprint if isinstance(died, Died) and not hold.body else hold.body


def _left_by_reserve(
    account: Account, gate: GateState, died: BrokenOff, inc: bytes, before: Hold | None, now: int
) -> Hold:
    """A hold that a dead reserve made or renewed: for what was asked, and within every limit."""
    bound = account.now_bound
    items = bound.weigh(died.body)
    wanted = bound.on_counters(items, gate.per, jobs=True)
    assert before is None or before.expires_at <= now, "a live hold was overwritten"
    made = now if before is None else before.made
    hold = Hold(died.key, inc, now + died.ttl, died.digest, wanted, by_meter(items), made)
    gate.holds[died.key] = hold
    account.enter(gate, wanted, now)
    for limit in bound.limits_for(items, gate.per):
        taken = account.taken(gate, counter_of(limit), now)
        assert taken <= maximum_of(limit), f"oversold: {taken} of {limit}"
    return hold


def _follow_windows(
    account: Account, gate: GateState, real: Gate, names: Sequence[Counter], now: int, died: BrokenOff | Died | None
) -> None:
    """A try that was refused or died may have entered the windows of its time."""
    times = {now}
    if isinstance(died, Died):
        times.add(max(now, died.ticket.floor))
    for slot, count in real.counts.items():
        counter = names[slot]
        kind, start = counter.kind, gate.windows[counter]
        if kind is None or count.window == start:
            continue
        if kind.hours is not None:
            over = start + kind.hours * 3600 <= now
            allowed = over and count.window in times
        else:
            entered = {window_at(kind, account.now_bound.calendar, at).start for at in times}
            allowed = count.window > start and count.window in entered
        assert allowed, f"{counter} of {gate.per} {gate.member} is in window {count.window}, not {start}"
        gate.windows[counter] = count.window


def _compare(account: Account, gate: GateState, real: Gate, names: Sequence[Counter]) -> None:
    counted: dict[Counter, tuple[int, Decimal, Decimal]] = {}
    for slot, count in real.counts.items():
        counted[names[slot]] = (count.window, count.taken, count.held)
    expected: dict[Counter, tuple[int, Decimal, Decimal]] = {}
    for counter, start in gate.windows.items():
        held = gate.held(counter)
        used = account.used_in(gate, counter, start, account.now_bound.calendar)
        expected[counter] = (start, used + held, held)
    assert_same(f"counters of {gate.per} {gate.member}", counted, expected)
