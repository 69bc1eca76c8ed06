"""What is sent to endpoints: one delivery for each event and endpoint, tried until it is taken or three days are over.

Stripe retries for up to three days with exponential backoff, in no order, and may send an event twice [docs:
webhooks]. The steps between attempts are ours [assumed]. Trouble is made by rules and by pausing, see `Deliveries.set`.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from local.stripe_double.clock import DAY_MS, SECOND_MS
from local.stripe_double.endpoints import SNAPSHOT, THIN, Endpoint
from local.stripe_double.ids import new_id
from local.stripe_double.wire import JsonObject, to_json

GIVE_UP_MS = 3 * DAY_MS
_MINUTE = 60 * SECOND_MS
BACKOFF_MS = (1 * _MINUTE, 5 * _MINUTE, 30 * _MINUTE, 120 * _MINUTE, 300 * _MINUTE, 600 * _MINUTE)
"""Between attempts; the last one goes on to the end of the three days."""

WAITING, DELIVERED, FAILED, DROPPED = "waiting", "delivered", "failed", "dropped"
ORDERS = ("created", "reversed", "shuffled")
ACTIONS = ("duplicate", "delay", "drop")


class BadRule(ValueError):
    """A rule that cannot be understood; the message says why."""


@dataclass(frozen=True)
class Attempt:
    """One POST. `status` 0: no answer, for the reason in `error`. `at_ms` is the double's time."""

    at_ms: int
    status: int
    error: str | None = None


@dataclass
class Delivery:
    """One event on its way to one endpoint. `turn`: asked for by a control, sent before all others in that order."""

    id: str
    event_id: str
    event_type: str
    endpoint_id: str
    body: str
    created_ms: int
    due_ms: int
    state: str = WAITING
    turn: int | None = None
    attempts: list[Attempt] = field(default_factory=list)


@dataclass
class Rule:
    """What happens to deliveries of events whose type meets `type` (`*` allowed), `left` times (None: always)."""

    type: str
    action: str
    delay_ms: int = 0
    left: int | None = None


class Deliveries:
    """All deliveries, oldest first, and the trouble they meet. Used under the double's lock."""

    def __init__(self) -> None:
        self._all: dict[str, Delivery] = {}
        self._waiting: dict[str, Delivery] = {}
        self._of_event: dict[str, list[Delivery]] = {}
        self._thin_seen: set[str] = set()
        self._rules: list[Rule] = []
        self._order = "created"
        self._random = random.Random(0)
        self._paused = False
        self._turns = 0
        self.wake = threading.Event()
        """Set when there may be something to send."""

    def snapshot(self, event: JsonObject, endpoints: Iterable[Endpoint], now_ms: int) -> None:
        """An event of the v1 API for all endpoints with snapshot payloads that want it."""
        self._schedule(event, SNAPSHOT, endpoints, now_ms)

    def thin(self, event: JsonObject, endpoints: Iterable[Endpoint], now_ms: int) -> None:
        """An event of the v2 API, which is seen again and again, for all destinations with thin payloads: without its
        `data`, which is to be fetched [docs: thin events]."""
        if event["id"] not in self._thin_seen:
            self._thin_seen.add(event["id"])
            bare = {name: value for name, value in event.items() if name != "data"}
            self._schedule(bare, THIN, endpoints, now_ms)

    def _schedule(self, event: JsonObject, payload: str, endpoints: Iterable[Endpoint], now_ms: int) -> None:
        wanted = [
            one
            for one in endpoints
            if one.enabled
            and one.payload == payload
            and any(fnmatchcase(event["type"], pattern) for pattern in one.enabled_events)
        ]
        for endpoint in wanted:
            rule = self._rule(event["type"])
            # Every delivery of an event tells how many endpoints it is for [SDK: Event.pending_webhooks].
            body = to_json({**event, "pending_webhooks": len(wanted)} if payload == SNAPSHOT else event)
            for _ in range(2 if rule and rule.action == "duplicate" else 1):
                delivery = self.add(event, endpoint, body, now_ms)
                if rule and rule.action == "drop":
                    self.drop(delivery)
                elif rule and rule.action == "delay":
                    delivery.due_ms += rule.delay_ms
        self.wake.set()

    def add(self, event: JsonObject, endpoint: Endpoint, body: str, now_ms: int) -> Delivery:
        return self._keep(Delivery(new_id("dlv"), event["id"], event["type"], endpoint.id, body, now_ms, now_ms))

    def _keep(self, delivery: Delivery) -> Delivery:
        self._all[delivery.id] = self._waiting[delivery.id] = delivery
        self._of_event.setdefault(delivery.event_id, []).append(delivery)
        return delivery

    def _rule(self, event_type: str) -> Rule | None:
        for rule in self._rules:
            if rule.left != 0 and fnmatchcase(event_type, rule.type):
                if rule.left is not None:
                    rule.left -= 1
                return rule
        return None

    def next(self, now_ms: int) -> Delivery | None:
        """What to send now: asked-for deliveries in their order; else, unless paused, what is due in the set order."""
        turns = [(one.turn, one.id) for one in self._waiting.values() if one.turn is not None]
        if turns:
            return self._waiting[min(turns)[1]]
        due = [] if self._paused else [one for one in self._waiting.values() if one.due_ms <= now_ms]
        if not due:
            return None
        if self._order == "shuffled":
            return self._random.choice(due)
        return due[-1] if self._order == "reversed" else due[0]

    def attempted(self, delivery: Delivery, attempt: Attempt) -> None:
        """Note how a POST went: 2xx is taken; anything else is tried again until three days are over."""
        delivery.attempts.append(attempt)
        delivery.turn = None
        if 200 <= attempt.status < 300:
            self._end(delivery, DELIVERED)
            return
        step = BACKOFF_MS[min(len(delivery.attempts), len(BACKOFF_MS)) - 1]
        delivery.due_ms = attempt.at_ms + step
        if delivery.due_ms > delivery.created_ms + GIVE_UP_MS:
            self._end(delivery, FAILED)

    def drop(self, delivery: Delivery) -> None:
        """It cannot be sent any more: its endpoint is gone or disabled."""
        self._end(delivery, DROPPED)

    def _end(self, delivery: Delivery, state: str) -> None:
        delivery.state = state
        self._waiting.pop(delivery.id, None)

    def pending(self, event_id: str) -> int:
        """To how many endpoints the event is still on its way."""
        return len({one.endpoint_id for one in self._of_event.get(event_id, []) if one.state == WAITING})

    def all_delivered(self, event_id: str) -> bool:
        """Whether every endpoint that wanted it took it. A dropped delivery is one that Stripe never got through."""
        of_event = self._of_event.get(event_id, [])
        taken = {one.endpoint_id for one in of_event if one.state == DELIVERED}
        return {one.endpoint_id for one in of_event} <= taken

    def listing(self, query: Mapping[str, str]) -> list[JsonObject]:
        """All deliveries, oldest first, by `event`, `endpoint`, `type` (`*` allowed) and `state`."""
        return [
            {
                "id": one.id,
                "event": one.event_id,
                "type": one.event_type,
                "endpoint": one.endpoint_id,
                "state": one.state,
                "created_ms": one.created_ms,
                "due_ms": one.due_ms if one.state == WAITING else None,
                "attempts": [{"at_ms": a.at_ms, "status": a.status, "error": a.error} for a in one.attempts],
            }
            for one in self._all.values()
            if query.get("event", one.event_id) == one.event_id
            and query.get("endpoint", one.endpoint_id) == one.endpoint_id
            and query.get("state", one.state) == one.state
            and fnmatchcase(one.event_type, query.get("type", "*"))
        ]

    def send(self, delivery_ids: object) -> int:
        """Send these now and in this order, paused or not, whatever became of them before; how many. Raises BadRule."""
        if not isinstance(delivery_ids, list) or any(one not in self._all for one in delivery_ids):
            raise BadRule("ids must be a list of known deliveries")
        for delivery_id in delivery_ids:
            delivery = self._all[delivery_id]
            if delivery.turn is not None or delivery.state != WAITING:
                # Sent before, or asked for twice in this list: one more of its kind.
                again = Delivery(
                    new_id("dlv"),
                    delivery.event_id,
                    delivery.event_type,
                    delivery.endpoint_id,
                    delivery.body,
                    delivery.created_ms,
                    delivery.due_ms,
                )
                delivery = self._keep(again)
            self._turns += 1
            delivery.turn = self._turns
        self.wake.set()
        return len(delivery_ids)

    def set(self, body: Mapping[str, Any]) -> JsonObject:
        """Change `paused`, `order` (created, reversed, shuffled, the last with `seed`) and `rules`
        `[{type, action: duplicate|delay|drop, seconds?, times?}]`, which hold for events to come; the first one that
        meets an event's type is used. Raises BadRule."""
        if "rules" in body:
            if not isinstance(body["rules"], list):
                raise BadRule("rules must be a list")
            self._rules = [_rule(one) for one in body["rules"]]
        if "order" in body:
            if body["order"] not in ORDERS:
                raise BadRule(f"order must be one of {', '.join(ORDERS)}")
            self._order = body["order"]
        if "seed" in body:
            self._random = random.Random(str(body["seed"]))
        if "paused" in body:
            if not isinstance(body["paused"], bool):
                raise BadRule("paused must be true or false")
            self._paused = body["paused"]
        self.wake.set()
        return {"paused": self._paused, "order": self._order, "rules": len(self._rules)}


def _rule(description: object) -> Rule:
    if not isinstance(description, Mapping) or set(description) - {"type", "action", "seconds", "times"}:
        raise BadRule("a rule is {type, action, seconds?, times?}")
    if description.get("action") not in ACTIONS:
        raise BadRule(f"action must be one of {', '.join(ACTIONS)}")
    numbers = {name: description.get(name) for name in ("seconds", "times")}
    for name, value in numbers.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise BadRule(f"{name} must be a whole number, at least 0")
    if (description["action"] == "delay") != (numbers["seconds"] is not None):
        raise BadRule("seconds goes with the action `delay`, and only with it")
    return Rule(
        type=str(description.get("type", "*")),
        action=description["action"],
        delay_ms=(numbers["seconds"] or 0) * SECOND_MS,
        left=numbers["times"],
    )
