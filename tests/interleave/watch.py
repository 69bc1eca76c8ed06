"""What must hold in every run: checked at every single write, and once everything has come to rest.

Nothing here uses the gate's planning or its recount: caps, holds and events are read from the stored items and compared
with sums made in this module, so that a defect in the product cannot hide itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from tests.interleave.money_watch import MoneyWatch
from tests.interleave.violation import Violation
from tests.support.memory import World
from tests.support.scheduler import Scheduler
from tollgate.accounts.rules import Counter, Rules, windowed_end
from tollgate.gate.hold import unpack
from tollgate.gate.item import Gate
from tollgate.gate.steps import LEARNT_S
from tollgate.usage.outcome import Event, Outcome

ZERO, ONE = Decimal(0), Decimal(1)
GRANTING = frozenset({"reserve", "extend"})
FORCING = frozenset({"commit", "record"})


@lru_cache(maxsize=200_000)
def held_units(raw: bytes) -> Mapping[int, Decimal]:
    """Units by counter slot in a packed hold."""
    found: dict[int, Decimal] = {}
    for group in unpack(raw).groups:
        for slot in group.slots:
            found[slot] = found.get(slot, ZERO) + group.units
    return found


class Gates(dict[str, Gate]):
    """The gates of a world; every new state of one is checked as it is written."""

    def __init__(self, watch: Watch, gates: Mapping[str, Gate]) -> None:
        super().__init__(gates)
        self._watch = watch

    def __setitem__(self, subject: str, gate: Gate) -> None:
        self._watch.gate_written(self.get(subject), gate)
        super().__setitem__(subject, gate)


class Rows(dict[Any, Outcome]):
    """The outcome rows of a world; every change of one is checked as it is written."""

    def __setitem__(self, at: Any, row: Outcome) -> None:
        before = self.get(at)
        if isinstance(before, Event) and before != row:
            raise Violation(f"the event {before} was overwritten by {row}")
        if before is not None and not isinstance(row, Event):
            for per, incarnation in before.incarnations.items():
                if row.incarnations.get(per, b"") < incarnation:
                    raise Violation(f"the void {before} was lowered to {row}")
        super().__setitem__(at, row)


class Watch:
    """The checks of one run over one account."""

    def __init__(self, world: World, account: str, scheduler: Scheduler | None = None) -> None:
        self.world, self.account, self.scheduler = world, account, scheduler
        self.rules: dict[int, Rules] = {}
        self.applied_rev = 0
        """The newest revision whose change has been answered."""
        self.granted: dict[tuple[str, str, bytes], dict[int, Decimal]] = {}
        """Units that a reserve or extend was granted: (subject, key, incarnation) -> slot -> units."""
        self.windows: dict[tuple[str, str, bytes], dict[int, int]] = {}
        """The windows (by slot) that those units were first counted in."""
        self.asked: dict[str, Decimal] = {}
        """The most that any call asked for, by key hash: no hold of the key is larger."""
        self.money = MoneyWatch(world, account, self.rules)
        world.gates = Gates(self, world.gates)
        world.outcomes = Rows(world.outcomes)
        self.see_rules()
        for subject, gate in world.gates.items():
            for key, raw in gate.holds.items():
                self.windows[subject, key, raw[1:17]] = {slot: gate.counts[slot].window for slot in held_units(raw)}
                self.granted[subject, key, raw[1:17]] = dict(held_units(raw))
                self.ask(key, max(held_units(raw).values(), default=ZERO))
        self.money.begin()

    def ask(self, key: str, quantity: Decimal) -> None:
        """A call is about to ask for this much under this key."""
        self.asked[key] = max(quantity, self.asked.get(key, ZERO))

    def see_rules(self) -> Rules:
        rules = self.world.rules(self.account)
        self.rules[rules.rev] = rules
        return rules

    # -- at every write --------------------------------------------------------------------------------------------

    def gate_written(self, before: Gate | None, after: Gate) -> None:
        self._rules_at(after, before)
        held: dict[int, Decimal] = {}
        for raw in after.holds.values():
            for slot, units in held_units(raw).items():
                held[slot] = held.get(slot, ZERO) + units
        for slot, count in after.counts.items():
            if not ZERO <= count.held <= count.taken:
                raise Violation(f"counter {slot} of {after.subject} is {count}")
            if count.held != held.pop(slot, ZERO):
                raise Violation(f"counter {slot} of {after.subject} is {count}; its open holds say otherwise")
        if any(held.values()):
            raise Violation(f"{after.subject} has holds that name missing counters: {held}")
        if after.money is not None or after.grants or (before is not None and before.grants):
            assert self.scheduler is not None
            moving = self.scheduler.moving
            self.money.gate_written(before, after, granting=moving is not None and moving.kind in GRANTING)
        if before is None:
            self._holds_written(before, after)
            return
        for slot, count in before.counts.items():
            if slot not in after.counts or after.counts[slot].window < count.window:
                raise Violation(f"counter {slot} of {after.subject} went back from {count}")
        if before.rev > 0:
            self._holds_written(before, after)
            self._holds_ended(before, after)

    def _holds_ended(self, before: Gate, after: Gate) -> None:
        """No hold is taken out alive, unless its call ended; and what a call used was on the gate before its row."""
        scheduler = self.scheduler
        assert scheduler is not None
        assert scheduler.moving is not None
        ended = [key for key in before.holds if key not in after.holds]
        now = (scheduler.moving.planned_ms + scheduler.moving.skew_ms) // 1000
        if scheduler.moving.kind == "sweep":
            for key in ended:
                if _expiry(before.holds[key]) > now and self._expired_only(key):
                    raise Violation(f"the hold {key} of {after.subject} was reclaimed before its expiry")
        if not ended or len(self.rules) > 1 or (scheduler.moving.calls or "").startswith("commits late"):
            return
        for slot, count in before.counts.items():
            if after.counts[slot].window == count.window and after.counts[slot].taken > count.taken:
                raise Violation(f"{ended} used more than they held on counter {slot} of {after.subject}")

    def _expired_only(self, key: str) -> bool:
        """Whether all that is known of a key is that its hold expired."""
        rows = [row for row in self.world.outcomes.values() if row.at.key == key]
        return bool(rows) and all(not isinstance(row, Event) and row.why == "expired" for row in rows)

    def _rules_at(self, after: Gate, before: Gate | None) -> None:
        if before is not None and abs(after.rev) < abs(before.rev):
            raise Violation(f"{after.subject} went back from revision {before.rev} to {after.rev}")
        if abs(after.rev) not in self.rules and self.see_rules().rev != abs(after.rev):
            raise Violation(f"{after.subject} is at revision {after.rev}, which never was")

    def _holds_written(self, before: Gate | None, after: Gate) -> None:
        """A hold made or grown by a reserve or extend fits every cap; nothing else makes or grows one, unless the usage
        has happened."""
        scheduler = self.scheduler
        assert scheduler is not None
        assert scheduler.moving is not None
        kind = scheduler.moving.kind
        now = (scheduler.moving.planned_ms + scheduler.moving.skew_ms) // 1000
        for key, raw in after.holds.items():
            old = None if before is None else before.holds.get(key)
            if raw == old:
                continue
            new, was = held_units(raw), {} if old is None else held_units(old)
            slots = [slot for slot, units in new.items() if units > was.get(slot, ZERO)]
            revived = old is not None and _expiry(old) <= now < _expiry(raw)
            if revived and kind in GRANTING:
                slots = list(new)
            if not slots and old is not None:
                continue
            if key in self.asked and any(units > max(self.asked[key], ONE) for units in new.values()):
                raise Violation(f"the hold {key} is {dict(new)}; only {self.asked[key]} was ever asked for")
            if kind in GRANTING:
                self._granted(after, key, raw, slots)
            elif kind not in FORCING:
                raise Violation(f"a {kind} made or grew the hold {key} on {after.subject}")

    def _granted(self, after: Gate, key: str, raw: bytes, slots: Iterable[int]) -> None:
        rules = self.rules[abs(after.rev)]
        if after.rev < 0:
            raise Violation(f"granted on {after.subject} while it was frozen for a recount")
        if rules.row.frozen is not None:
            raise Violation("granted on a frozen account")
        if after.subject == self.account and after.rev < self.applied_rev:
            raise Violation(f"granted under revision {after.rev} after {self.applied_rev} was in force")
        for slot in slots:
            cap = cap_of(rules, slot)
            if cap is not None and after.counts[slot].taken > cap:
                raise Violation(
                    f"granted past the cap {cap} of counter {slot} of {after.subject}: {after.counts[slot]}"
                )
        ledger = self.granted.setdefault((after.subject, key, raw[1:17]), {})
        windows = self.windows.setdefault((after.subject, key, raw[1:17]), {})
        for slot, units in held_units(raw).items():
            ledger[slot] = max(units, ledger.get(slot, ZERO))
            windows.setdefault(slot, after.counts[slot].window)

    # -- at rest ---------------------------------------------------------------------------------------------------

    def at_rest(self) -> None:
        """All calls over, all holds swept: counters equal events, each key counted once, no window oversold."""
        rules = self.world.rules(self.account)
        events = self.world.events(self.account)
        keys = [event.at.key for event in events]
        if len(keys) != len(set(keys)):
            raise Violation(f"a key was counted twice: {events}")
        subjects = {self.account: events}
        for event in events:
            if event.member is not None:
                subjects.setdefault(f"{self.account}#{event.member}", []).append(event)
        for subject in self.world.gates:
            subjects.setdefault(subject, [])
        for subject, rows in subjects.items():
            gate = self.world.gates.get(subject)
            if gate is not None:
                if gate.rev < 0:
                    raise Violation(f"{subject} was left frozen")
                if gate.holds:
                    raise Violation(f"{subject} was left with holds {list(gate.holds)}")
            self._counters_equal_events(rules, subject, gate, rows)
            self._no_window_oversold(rules, subject, rows)
        self.money.at_rest(events)

    def _counters_equal_events(self, rules: Rules, subject: str, gate: Gate | None, rows: list[Event]) -> None:
        per = "account" if subject == self.account else "member"
        for counter in rules.counters:
            if counter.key.per != per or counter.kind is None:
                continue
            count = None if gate is None else gate.counts.get(counter.slot)
            start = self._current_start(rules, counter) if count is None else count.window
            if count is None and counter.since + LEARNT_S > start:
                continue  # seeded before anything is taken from it
            end = windowed_end(counter, start, rules.row.calendar)
            used = ZERO
            for event in rows:
                at = event.recorded_ms // 1000
                if at >= start and units_of(counter, event):
                    if end is not None and at >= end:
                        raise Violation(f"{subject} counter {counter.slot} was not rolled over for {event}")
                    used += units_of(counter, event)
            taken = ZERO if count is None else count.taken
            if taken != used:
                raise Violation(f"counter {counter.slot} of {subject} is {count}, its events say {used}")

    def _current_start(self, rules: Rules, counter: Counter) -> int:
        assert counter.kind is not None
        now = self.world.now_ms // 1000
        return now - counter.kind.hours * 3600 if counter.kind.hours else rules.window(counter, now).start

    def _no_window_oversold(self, rules: Rules, subject: str, rows: list[Event]) -> None:
        """By events alone: what reservations were granted and used in one window never passes the cap."""
        if not rows:
            return
        per = "account" if subject == self.account else "member"
        for counter in rules.counters:
            caps = [cap_of(known, counter.slot) for known in self.rules.values()]
            if counter.key.per == per and counter.kind is not None and counter.since == 0:
                self._in_their_windows(rules, subject, counter, rows)
            highest = max((cap for cap in caps if cap is not None), default=None)
            kind = counter.kind
            if counter.key.per != per or kind is None or kind.hours or highest is None or None in caps:
                continue
            windows: dict[int, Decimal] = {}
            for event in rows:
                if event.late or event.token is not None:
                    continue
                ledger = self.granted.get((subject, event.at.key, event.incarnations.get(per, b"")), {})
                start = rules.window(counter, event.recorded_s).start
                units = min(units_of(counter, event), ledger.get(counter.slot, ZERO))
                windows[start] = windows.get(start, ZERO) + units
            for start, used in windows.items():
                if used > highest:
                    raise Violation(f"{subject}: {used} granted and used in window {start}, past the cap {highest}")

    def _in_their_windows(self, rules: Rules, subject: str, counter: Counter, rows: list[Event]) -> None:
        """Nothing was recorded before the window that it was held in."""
        assert counter.kind is not None
        per = "account" if subject == self.account else "member"
        for event in rows:
            held = self.windows.get((subject, event.at.key, event.incarnations.get(per, b"")), {}).get(counter.slot)
            if held is None or event.late or not units_of(counter, event):
                continue
            start = event.recorded_s if counter.kind.hours else rules.window(counter, event.recorded_s).start
            if start < held:
                raise Violation(f"{event} was recorded before the window {held} that counter {counter.slot} held it in")


def cap_of(rules: Rules, slot: int) -> Decimal | None:
    """The lowest cap on a counter."""
    limits = (*rules.limits, *rules.breakers)
    caps = [ruled.maximum for ruled in limits if ruled.counter.slot == slot and ruled.maximum is not None]
    return min(caps) if caps else None


def units_of(counter: Counter, event: Event) -> Decimal:
    """What an event counts on a counter."""
    return sum((item.units for item in event.items if counter.takes(item.meter, item.dimensions)), ZERO)


def _expiry(raw: bytes) -> int:
    return int.from_bytes(raw[17:22], "big")
