"""Plays a trace against the stack: reserve, then commit, release or nothing; usage; resends. Remembers every answer.

Accounts are dealt out to threads, so the calls of one account happen in the order of their times, also those that
overlap: a call ends at its own time, after others have begun.
"""

from __future__ import annotations

import heapq
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

from demo.answers import Answer
from demo.api import Reply, Stack, StackLost
from demo.trace import Item, Request

_TTL_SECONDS = 60
_SHORTEST_TTL_SECONDS = 5
_LONGEST_TTL_SECONDS = 86_400
_LATE_BY_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Run:
    """How one replay is played."""

    prefix: str
    """Stands before account names and usage ids: another run meets other accounts."""
    open_stack: Callable[[], Stack]
    """A connection for a thread."""
    progress: Callable[[Answer], None]
    """Called by the threads after each call of the trace."""
    threads: int = 4
    speed: Decimal | None = None
    """Seconds of the trace in one second; None: as fast as the stack answers."""
    clock_offset_seconds: int = 0


def replay(trace: Sequence[Request], run: Run) -> list[Answer]:
    """The answers, in the trace's order. Raises StackLost."""
    stop = threading.Event()
    start = time.monotonic()
    players = [_Player(run, share, start, stop) for share in _shares(trace, run.threads)]
    with ThreadPoolExecutor(max(1, len(players))) as pool:
        played = [pool.submit(player.play) for player in players]
        try:
            wait(played, return_when="FIRST_EXCEPTION")
        finally:
            # Also on Ctrl-C: the others end after the call that they are in.
            if any(not job.done() or job.exception() for job in played):
                stop.set()
        answers = {answer.request.id: answer for job in played for answer in job.result()}
    return [answers[request.id] for request in trace]


def _shares(trace: Sequence[Request], threads: int) -> list[list[Request]]:
    """Whole accounts for each thread, the busiest dealt out first."""
    of_account: dict[str, list[Request]] = defaultdict(list)
    for request in trace:
        of_account[request.account].append(request)
    shares: list[list[Request]] = [[] for _ in range(threads)]
    for requests in sorted(of_account.values(), key=len, reverse=True):
        min(shares, key=len).extend(requests)
    return [share for share in shares if share]


def uuid7(now_ms: int) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): as an idempotency key it carries the time of its request."""
    value = (now_ms << 80) | secrets.randbits(80)
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


@dataclass(order=True, slots=True)
class _Step:
    """Something to do at a time of the trace."""

    at: Decimal
    order: int
    act: Callable[[], None] = field(compare=False)


class _Player:
    """One thread's accounts."""

    def __init__(self, run: Run, requests: Iterable[Request], start: float, stop: threading.Event) -> None:
        self._run, self._start, self._stop = run, start, stop
        self._answers: list[Answer] = []
        self._steps: list[_Step] = []
        self._late: list[tuple[float, Request, str]] = []
        self._order = 0
        for request in sorted(requests, key=lambda one: one.at):
            self._plan(request.at, partial(self._begin, request))

    def _plan(self, at: Decimal, act: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._steps, _Step(at, self._order, act))

    def play(self) -> list[Answer]:
        """Everything, in order; ends early where another thread has failed. Raises StackLost."""
        self._stack = self._run.open_stack()
        try:
            while self._steps and not self._stop.is_set():
                step = heapq.heappop(self._steps)
                self._wait_for(step.at)
                step.act()
            for due, request, reservation in self._late:
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    break
                self._finish(request, reservation)
        finally:
            self._stack.close()
        return self._answers

    def _wait_for(self, at: Decimal) -> None:
        if self._run.speed is not None:
            due = self._start + float(at / self._run.speed)
            self._stop.wait(max(0.0, due - time.monotonic()))

    def _done(self, answer: Answer) -> None:
        self._answers.append(answer)
        self._run.progress(answer)

    # -- the calls ---------------------------------------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        if request.call == "usage":
            self._record(request)
            return
        key = uuid7(time.time_ns() // 1_000_000 + self._run.clock_offset_seconds * 1000)
        body = self._reservation(request)
        reply = self._stack.call("POST", "/v1/reservations", body, key)
        if not reply.ok:
            self._done(Answer(request, "rejected", "none", reply.code))
        elif not reply.body["allowed"]:
            denial = reply.body["denial"]
            self._done(Answer(request, "refused", "none", denial["limit"] or denial["code"]))
        elif request.call == "once":
            again = [self._stack.call("POST", "/v1/reservations", body, key) for _ in range(request.sends - 1)]
            self._done(_committed(request, reply, again))
        elif request.outcome == "no_commit":
            self._done(Answer(request, "granted", "crashed"))
        elif request.outcome == "late":
            due = time.monotonic() + _SHORTEST_TTL_SECONDS + _LATE_BY_SECONDS
            self._late.append((due, request, reply.body["id"]))
        else:
            reservation = reply.body["id"]
            self._plan(request.at + request.seconds, partial(self._finish, request, reservation))

    def _reservation(self, request: Request) -> dict[str, Any]:
        once = request.call == "once"
        body: dict[str, Any] = {"account": self._run.prefix + request.account}
        if request.member is not None:
            body["member"] = request.member
        items = [_item(item, item.used if once else item.reserved) for item in request.items]
        body |= items[0] if len(items) == 1 else {"items": items}
        if once:
            body["commit"] = True
        elif request.outcome == "late":
            body["ttl_seconds"] = _SHORTEST_TTL_SECONDS
        else:
            body["ttl_seconds"] = min(_LONGEST_TTL_SECONDS, max(_TTL_SECONDS, int(2 * request.seconds)))
        return body

    def _finish(self, request: Request, reservation: str) -> None:
        path = f"/v1/reservations/{reservation}"
        if request.outcome == "failed":
            reply = self._stack.call("POST", f"{path}/release", {})
            self._done(Answer(request, "granted", "released") if reply.ok else _rejected_end(request, reply))
            return
        body: dict[str, Any] = {}
        if request.outcome == "cached":
            body["cached"] = True
        elif len(request.items) == 1:
            body["quantity"] = format(request.items[0].used, "f")
        else:
            body["items"] = [_item(item, item.used) for item in request.items]
        first, *again = [self._stack.call("POST", f"{path}/commit", body) for _ in range(request.sends)]
        self._done(_committed(request, first, again))

    def _record(self, request: Request) -> None:
        events = [
            {
                "id": f"{self._run.prefix}{_event_name(request.id)}.{index}",
                "account": self._run.prefix + request.account,
                **({} if request.member is None else {"member": request.member}),
                **({"cached": True} if request.outcome == "cached" else {}),
                **_item(item, item.used),
            }
            for index, item in enumerate(request.items)
        ]
        first, *again = [self._stack.call("POST", "/v1/usage", {"events": events}) for _ in range(request.sends)]
        self._done(_recorded(request, first, again))


def _event_name(request: str) -> str:
    return request.replace(" ", "-")


def _item(item: Item, quantity: Decimal) -> dict[str, Any]:
    body: dict[str, Any] = {"meter": item.meter, "quantity": format(quantity, "f")}
    if item.dimensions:
        body["dimensions"] = dict(item.dimensions)
    return body


# -- reading the answers -----------------------------------------------------------------------------------------------


def _rejected_end(request: Request, reply: Reply) -> Answer:
    """A reservation that was granted and cannot be ended. Only a body that is wrong in itself (422) explains it."""
    surprise = f"{request.id}: its end was answered {reply.status} {reply.code}"
    return Answer(request, "rejected", "none", reply.code, surprises=() if reply.status == 422 else (surprise,))


def _committed(request: Request, reply: Reply, again: Sequence[Reply]) -> Answer:
    if not reply.ok:
        return _rejected_end(request, reply)
    units = Decimal(reply.body["units"])
    surprises = []
    for other in again:
        if not other.ok:
            surprises.append(f"{request.id}: a resend was answered {other.status} {other.code}")
        elif other.body.get("duplicate") is not True or Decimal(other.body["units"]) != units:
            surprises.append(f"{request.id}: a resend was not answered as the duplicate that it is")
    return Answer(
        request,
        "granted",
        "committed",
        counted=(True,) * len(request.items),
        units=units,
        waived=(Decimal(reply.body["waived"]),),
        late=bool(reply.body["late"]),
        over_reserved=bool(reply.body["over_reserved"]),
        surprises=tuple(surprises),
    )


def _recorded(request: Request, reply: Reply, again: Sequence[Reply]) -> Answer:
    if not reply.ok:
        return Answer(request, "rejected", "none", reply.code)
    results = reply.body["results"]
    if len(results) != len(request.items):
        raise StackLost(f"{len(request.items)} usage events were answered by {len(results)} results")
    counted = tuple(result["status"] in ("recorded", "duplicate") for result in results)
    surprises = []
    for other in again:
        if not other.ok:
            surprises.append(f"{request.id}: a resend was answered {other.status} {other.code}")
            continue
        for place, (before, now) in enumerate(zip(results, other.body["results"], strict=True)):
            if counted[place] and (now["status"] != "duplicate" or Decimal(now["units"]) != Decimal(before["units"])):
                surprises.append(f"{request.id}.{place}: a resend was answered {now['status']}, {now['units']} units")
    reasons = [result["error"]["code"] for result in results if result["status"] == "rejected"]
    return Answer(
        request,
        "granted" if any(counted) else "rejected",
        "committed" if any(counted) else "none",
        reason=reasons[0] if reasons else "",
        counted=counted,
        units=sum((Decimal(result["units"]) for result in results), Decimal(0)),
        waived=tuple(Decimal(result["waived"]) for result in results),
        surprises=tuple(surprises),
    )
