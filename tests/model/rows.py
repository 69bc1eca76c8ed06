"""How often each row of the design's tables was met: counted where the planner and the stores are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from tollgate.accounts.rules import Rules
from tollgate.gate import taking
from tollgate.gate.item import Gate, Step

RESERVE_ROWS: Final = (
    "key in h, not expired: the same answer",
    "key in h, not expired, other body: idempotency_mismatch",
    "key in h, expired: renewed in one write",
    "a lower rev: the loaded rules are applied",
    "a higher rev: rules reloaded, again from the narrowest gate",
    "an older window id: rolled over in the same write",
    "a newer window id: that window is the current one",
    "a counter at its cap, expired holds: reclaimed",
    "a counter at its cap, none expired: refused",
)
RESERVE_EXTRAS: Final = (
    "no gate yet: created",
    "too many open holds, some expired: reclaimed",
    "too many open holds: refused",
    "a counter first needed in mid-window: recounted",
)
OUTCOME_ROWS: Final = (
    "commit, no row: the event is put",
    "commit over a void of an older incarnation: the event is put",
    "release, no row: the void is put",
    "release over a void of an older incarnation: raised",
    "release meets an equal or newer void: it stays",
    "reclaim, no row: the void is put",
    "reclaim over a void of an older incarnation: raised",
    "reclaim meets an equal or newer void: it stays",
    "drop after a wider refusal, no row: the void is put",
    "release meets an event of its incarnation",
    "release meets an event of another incarnation",
    "reclaim meets an event of its incarnation",
    "reclaim meets an event of another incarnation",
    "commit meets a void of its own or a newer incarnation: own hold there",
    "commit meets a void of its own or a newer incarnation: hold gone",
    "late commit: own hold settled",
    "late commit: units onto the gate",
    "late commit whose transaction fails: again from the put",
    "commit meets an event: own hold of the row's incarnation",
    "commit meets an event: own hold of another incarnation",
    "commit meets an event: hold gone",
)
EVERY_ROW: Final = (*RESERVE_ROWS, *RESERVE_EXTRAS, *OUTCOME_ROWS)


class Rows:
    """Counts by row. `plan_take` stands in for the planner's: it counts what the returned item showed."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def hit(self, row: str) -> None:
        self.counts[row] += 1

    def counting(self, plan_take: Callable[..., taking.Plan]) -> Callable[..., taking.Plan]:
        def counted(*args: object) -> taking.Plan:
            plan = plan_take(*args)
            self._planned(plan, *args)
            return plan

        return counted

    def _planned(self, plan: taking.Plan, rules: object, wanted: object, seen: object, now: object, *_: object) -> None:
        if isinstance(plan, taking.Live):
            self.hit("key in h, not expired: the same answer")
        elif isinstance(plan, taking.Mismatch):
            self.hit("key in h, not expired, other body: idempotency_mismatch")
        elif isinstance(plan, taking.Stale):
            self.hit("a higher rev: rules reloaded, again from the narrowest gate")
        elif isinstance(plan, taking.NeedsRecount):
            self.hit("a counter first needed in mid-window: recounted")
        elif isinstance(plan, taking.Reclaim):
            self.hit(
                "too many open holds, some expired: reclaimed"
                if self._full(seen, wanted)
                else "a counter at its cap, expired holds: reclaimed"
            )
        elif isinstance(plan, taking.Refuse):
            full = plan.limit is None
            self.hit("too many open holds: refused" if full else "a counter at its cap, none expired: refused")
        elif isinstance(plan, taking.Send):
            self._sent(plan, rules, now)

    def _full(self, seen: object, wanted: object) -> bool:
        assert isinstance(seen, Gate)
        assert isinstance(wanted, taking.Wanted)
        return wanted.key not in seen.holds and len(seen.holds) >= taking.MAX_HOLDS

    def _sent(self, plan: taking.Send, rules: object, now: object) -> None:
        assert isinstance(rules, Rules)
        assert isinstance(now, int)
        write = plan.write
        if write.rev is None:
            self.hit("no gate yet: created")
        elif write.rev < write.new_rev:
            self.hit("a lower rev: the loaded rules are applied")
        if write.holds[0].expect is not None:
            self.hit("key in h, expired: renewed in one write")
        for counter in write.counters:
            if counter.step is Step.ROLL:
                self.hit("an older window id: rolled over in the same write")
            kind = rules.counters[counter.slot].kind
            if counter.step is Step.ADD and kind is not None and kind.hours is None:
                start = rules.window(rules.counters[counter.slot], now).start
                if counter.window > start:
                    self.hit("a newer window id: that window is the current one")

    def missing(self) -> list[str]:
        return [row for row in EVERY_ROW if not self.counts[row]]


ROWS: Final = Rows()
