"""Scenarios of handler calls, and how one is played: whole (to record its calls), or cut and continued."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from tests.support.crash_audit import Promise, audit, caps, told
from tests.support.crash_wire import AWS_KINDS, STRIPE_KINDS, Cut
from tests.support.crash_world import KEY, MOST_RECEIVED, Answer, State, World
from tollgate.billing.batch import NO_CUSTOMER
from tollgate.billing.batch_store import batch_of

NEVER: Final = "never retried"
AT_ONCE: Final = "retried at once"
EXPIRED: Final = "retried after the hold expired"
CONTINUATIONS: Final = (NEVER, AT_ONCE, EXPIRED)
EACH: Final = int(os.environ.get("TOLLGATE_CRASH_CONTINUATIONS", len(CONTINUATIONS)))
"""How many of them each cut gets. With fewer than all they take turns, over the calls and over the kinds of a cut."""

LONG_S: Final = 1000
"""Past every hold, lease and wait that a scenario leaves: usage tokens live for 900 s."""
FLUSHED_AT_ONCE: Final = 10
GRANTED: Final = frozenset({"201"})
OK: Final = frozenset({"200"})


@dataclass(frozen=True, slots=True)
class Call:
    """One handler call. `event` makes what the function gets from what the client remembers.

    `ok`: the answers (status and code) that are right; `again`: those that a repeat may get besides. `cut` False: it
    is part of the scene only. `process`: which of several processes of the function takes it. `check` looks at a right
    answer's body.
    """

    name: str
    function: str
    event: Callable[[World], dict[str, Any]]
    ok: frozenset[str] = OK
    again: frozenset[str] = frozenset()
    cut: bool = True
    process: str = ""
    check: Callable[[Any], None] | None = None


@dataclass(frozen=True, slots=True)
class Act:
    """What happens around the functions: time, faults, clocks."""

    name: str
    do: Callable[[World], None]


@dataclass(frozen=True, slots=True)
class Broken:
    """A call that is cut in the scene: at the first call to the outside named `at` (of those, the `nth`)."""

    call: Call
    at: str
    kind: str
    nth: int = 0


@dataclass(frozen=True, slots=True)
class Scenario:
    """`before` makes the scene, once and uncut; `calls` are cut. `used`: the units recorded in the end, by account and
    meter, where every call got through. `over`: accounts whose caps do not bind (usage that has happened, plans with
    less). `replanned`: accounts that were not on one plan all the time."""

    name: str
    calls: Sequence[Call | Act]
    before: Sequence[Call | Act | Broken] = ()
    used: Mapping[tuple[str, str], Decimal] = field(default_factory=dict)
    over: frozenset[str] = frozenset()
    replanned: frozenset[str] = frozenset()

    @property
    def handlers(self) -> set[str]:
        return {call.function for call in self.calls if isinstance(call, Call) and call.cut}


@dataclass(frozen=True, slots=True)
class Point:
    """One recorded call: of which step, at which place in it, and its name (`dynamodb.put_item`)."""

    step: int
    index: int
    name: str

    @property
    def kinds(self) -> tuple[str, ...]:
        return STRIPE_KINDS if self.name.startswith("stripe.") else AWS_KINDS


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a scenario: cut at `point` in the way `kind`, and continued."""

    point: Point
    kind: str
    continuation: str


class Violation(AssertionError):
    """The system broke a promise."""


def expect(right: object, *facts: object) -> None:
    """Raises Violation with the facts unless `right`."""
    if not right:
        raise Violation(*facts)


# --- doing ------------------------------------------------------------------------------------------------------------


def do(world: World, call: Call, cut: Cut | None = None) -> Answer:
    """One call; a right answer is remembered under its name."""
    if call.function == "flush":
        return deliver(world, cut)
    answer = world.invoke(call.function, call.event(world), cut, call.process)
    if outcome(answer) in call.ok | call.again:
        world.memory[call.name] = answer.body
    return answer


def outcome(answer: Answer) -> str:
    """`200`, `409 already_released`, or how the function ended."""
    if answer.status is None:
        return answer.how
    code = answer.code if answer.status >= 400 else None
    return str(answer.status) if code is None else f"{answer.status} {code}"


def deliver(world: World, cut: Cut | None = None) -> Answer:
    """Up to ten messages to flush, as the event source mapping would: what fails or dies is received again, five times
    at most."""
    queue = world.wire.queue
    batch, queue.waiting = queue.waiting[:FLUSHED_AT_ONCE], queue.waiting[FLUSHED_AT_ONCE:]
    records = [{"messageId": str(at), "body": body} for at, (body, _) in enumerate(batch)]
    answer = world.invoke("flush", {"Records": records}, cut)
    failed = {one["itemIdentifier"] for one in answer.body["batchItemFailures"]} if answer.status else None
    for at, (body, received) in enumerate(batch):
        if failed is None or str(at) in failed:
            if received + 1 >= MOST_RECEIVED:
                world.dead_letters.append(body)
            else:
                queue.waiting.append((body, received + 1))
    if failed:
        return Answer(200, answer.body, "some messages failed")
    return answer


def prepare(world: World, base: State, scenario: Scenario) -> State:
    """The scene, before the first of the calls that are cut."""
    world.restore(base)
    for step in scenario.before:
        if isinstance(step, Act):
            step.do(world)
        elif isinstance(step, Broken):
            _break(world, step)
        else:
            answer = do(world, step)
            expect(outcome(answer) in step.ok, "scene", step.name, answer)
    return world.snapshot()


def _break(world: World, broken: Broken) -> None:
    before = world.snapshot()
    world.restart()
    do(world, broken.call)
    places = [index for index, name in enumerate(world.wire.calls) if name == broken.at]
    world.restore(before)
    do(world, broken.call, Cut(places[broken.nth], broken.kind))
    expect(world.wire.fired, "the scene was not cut", broken)
    world.restart()


# --- playing ----------------------------------------------------------------------------------------------------------


@dataclass
class Suite:
    """Plays scenarios in one world and counts. `audited`: worlds that were led to their end and found right; an equal
    one needs no second time."""

    world: World
    base: State
    audited: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    scenarios: dict[str, set[Run]] = field(default_factory=dict)
    """What was really cut, by scenario: noted where the cut fired."""
    handlers: set[str] = field(default_factory=set)
    recorded: set[str] = field(default_factory=set)

    def cut_in(self, scenario: Scenario) -> set[Run]:
        return self.scenarios.get(scenario.name, set())

    def report(self) -> list[str]:
        """The counts, as lines."""
        runs = self.counts.get("runs", 0)
        cuts = sum(len({(run.point, run.kind) for run in done}) for done in self.scenarios.values())
        points = sum(len({run.point for run in done}) for done in self.scenarios.values())
        return [
            f"handlers {len(self.handlers)} ({', '.join(sorted(self.handlers))}), scenarios {len(self.scenarios)}",
            f"recorded calls {self.counts.get('recorded', 0)} ({', '.join(sorted(self.recorded))}), cut {points}",
            f"cuts {cuts}, each continued in {EACH} of {len(CONTINUATIONS)} ways, runs {runs}, of which "
            f"{self.counts.get('alike', 0)} ended in a world that was audited before",
            f"answers {dict(sorted(self.statuses.items()))}",
            f"violations {self.counts.get('violations', 0)}",
        ]

    def count(self, what: str, more: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + more

    def record(self, scenario: Scenario, state: State) -> list[Point]:
        """Play it whole; every call to the outside is a place to cut."""
        points: list[Point] = []

        def note(step: int) -> None:
            points.extend(Point(step, index, name) for index, name in enumerate(self.world.wire.calls))

        self._play(scenario, state, None, note)
        self.count("recorded", len(points))
        self.handlers |= scenario.handlers
        self.recorded |= {point.name for point in points}
        return points

    def runs(self, points: Sequence[Point]) -> list[Run]:
        return [
            Run(point, kind, CONTINUATIONS[(at + place + turn) % len(CONTINUATIONS)])
            for at, point in enumerate(points)
            for place, kind in enumerate(point.kinds)
            for turn in range(EACH)
        ]

    def play(self, scenario: Scenario, state: State, run: Run) -> None:
        """One cut run to its end. Raises Violation with the run in front."""
        self.count("runs")
        try:
            self._play(scenario, state, run, lambda step: None)
        except AssertionError as error:
            self.count("violations")
            raise Violation(run, *error.args) from error

    def _play(self, scenario: Scenario, state: State, run: Run | None, note: Callable[[int], None]) -> None:
        world = self.world
        world.restore(state)
        promises = [Promise(name, body) for name, body in world.memory.items() if name != "customers"]
        complete = True
        for at, step in enumerate(scenario.calls):
            if isinstance(step, Act):
                step.do(world)
                continue
            cut = Cut(run.point.index, run.kind) if run is not None and run.point.step == at else None
            answer = do(world, step, cut)
            self._judge(step, answer, cut)
            if step.cut:
                note(at)
            if cut is not None:
                expect(world.wire.fired, "no call to cut: the run went another way than the recorded one", run)
                assert run is not None
                expect(world.wire.calls[cut.index] == run.point.name, "another call stood here", world.wire.calls, run)
                self.scenarios.setdefault(scenario.name, set()).add(run)
                answer = self._continue(step, answer, run)
            caps(world, scenario.over)
            if outcome(answer) not in step.ok | step.again:
                complete = False
                break
            promises.append(Promise(step.name, answer.body))
        for promise in promises:
            promise.note(world)
        digest = world.digest(scenario.name, complete, [promise.text for promise in promises])
        if digest in self.audited:
            self.count("alike")
            return
        aftermath(world)
        caps(world, scenario.over)
        audit(world, promises, scenario.used, complete, scenario.replanned)
        self.audited.add(digest)

    def _judge(self, step: Call, answer: Answer, cut: Cut | None) -> None:
        """A first answer is right, or none at all, or (under a cut) an honest failure."""
        found = outcome(answer)
        self.statuses[found.split(":")[0]] = self.statuses.get(found.split(":")[0], 0) + 1
        if found in step.ok:
            if step.check is not None:
                step.check(answer.body)
            return
        honest = cut is not None and (answer.status is None or answer.status == 503)
        expect(honest, f"{step.name} was answered", found, answer)

    def _continue(self, step: Call, answer: Answer, run: Run) -> Answer:
        world = self.world
        if run.continuation == NEVER:
            if step.function == "flush":
                world.wire.queue.waiting.clear()
            return answer
        if run.continuation == EXPIRED:
            world.wait(LONG_S)
        repeated = do(world, step)
        found = outcome(repeated)
        expect(found in step.ok | step.again, f"{step.name}, repeated, was answered", found, repeated)
        if step.check is not None and found in step.ok:
            step.check(repeated.body)
        if outcome(answer) in step.ok:
            return answer if found not in step.ok else repeated
        return repeated


# --- the end of every run ---------------------------------------------------------------------------------------------

ROUNDS: Final = (400, 400, 900, 1900, 1900, 7200, 86_400, 86_400)


def aftermath(world: World) -> None:
    """Time moves past every hold and window; sweep, seal and flush run until nothing is left to do."""
    world.restart()
    world.skew_ms.clear()
    world.wait(2 * LONG_S)
    for at in range(2):
        swept = world.invoke("sweep", {})
        expect(swept.status == 200, "sweep", swept)
        expect(swept.body["repaired"] == 0 and swept.body["complete"], "counters did not equal events", swept)
        expect(at == 0 or swept.body["reclaimed"] == 0, "a second sweep still found holds", swept)
    told(world)
    for wait in ROUNDS:
        world.wait(wait)
        sealed = world.invoke("seal", {"shards": [0]})
        expect(sealed.status == 200, "seal", sealed)
        while world.wire.queue.waiting:
            flushed = deliver(world)
            expect(flushed.status == 200 and not flushed.how, "flush", flushed)
        if quiet(world):
            return
    raise Violation("not quiet in the end", world.rows("billing", "batch#"), world.rows("billing", "marker#"))


def quiet(world: World) -> bool:
    """Nothing sealed is on its way any more, and no marker stands."""
    if world.wire.queue.waiting or world.rows("billing", "marker#"):
        return False
    batches = map(batch_of, world.rows("billing", "batch#"))
    return all(batch.due_at is None or batch.state == NO_CUSTOMER for batch in batches)


# --- calls over HTTP --------------------------------------------------------------------------------------------------


def http(method: str, path: str, body: Any = None, key: str | None = None) -> dict[str, Any]:
    """An HTTP API event (payload 2.0)."""
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    if key is not None:
        headers["idempotency-key"] = key
    return {
        "version": "2.0",
        "rawPath": path,
        "headers": headers,
        "requestContext": {"http": {"method": method}, "requestId": "request"},
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }
