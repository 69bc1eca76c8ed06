"""The replay against an API that is played by hand: what is sent, in which order, and how answers are read."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from demo import replay as replay_module
from demo.answers import Answer
from demo.api import Stack, StackLost
from demo.replay import Run, replay, uuid7
from demo.trace import Request

from .making import item, request

IMAGE = item("ai_credits", "2", "3", operation="image")
Handler = Callable[[str, dict[str, Any]], tuple[int, Any]]


class Api:
    """Grants everything and counts one unit for each quantity; tests overrule single answers."""

    def __init__(self, overrule: Handler | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any], str | None]] = []
        self._overrule = overrule
        self._lock = threading.Lock()
        self._seen: set[str] = set()

    def __call__(self, sent: httpx.Request) -> httpx.Response:
        body = json.loads(sent.content) if sent.content else {}
        path = sent.url.path
        with self._lock:
            self.calls.append((path, body, sent.headers.get("idempotency-key")))
            status, answer = (self._overrule(path, body) if self._overrule else (0, None)) or (0, None)
            if not status:
                status, answer = self._answer(path, body)
        return httpx.Response(status, json=answer)

    def _answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/v1/usage":
            results = []
            for event in body["events"]:
                status = "duplicate" if event["id"] in self._seen else "recorded"
                self._seen.add(event["id"])
                results.append({"id": event["id"], "status": status, "units": event["quantity"], "waived": "0"})
            return 200, {"results": results}
        if path.endswith("/release"):
            return 200, {"status": "released"}
        duplicate = path in self._seen
        self._seen.add(path)
        units = "0" if body.get("cached") else str(sum(Decimal(one["quantity"]) for one in body.get("items", [body])))
        done = {"units": units, "waived": "0", "duplicate": duplicate, "late": False, "over_reserved": False}
        if path.endswith("/commit"):
            return 200, done
        name = f"{body['account']}-{len(self.calls)}"
        return 201, {"id": name, "allowed": True, **(done if body.get("commit") else {})}

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.calls]


def run(api: Api, *trace: Request, threads: int = 1, speed: str | None = None) -> list[Answer]:
    told: list[Answer] = []
    answers = replay(
        trace,
        Run(
            prefix="p-",
            open_stack=lambda: Stack("http://stack", "key", httpx.MockTransport(api)),
            progress=told.append,
            threads=threads,
            speed=None if speed is None else Decimal(speed),
        ),
    )
    assert sorted(one.request.id for one in told) == sorted(one.id for one in trace)
    assert [one.request for one in answers] == list(trace)
    return answers


def test_a_call_is_reserved_and_committed_with_what_was_used() -> None:
    api = Api()
    (answer,) = run(api, request("one", IMAGE))
    (reserve, commit) = api.calls
    assert reserve[:2] == (
        "/v1/reservations",
        {
            "account": "p-acme",
            "member": "ann",
            "meter": "ai_credits",
            "quantity": "3",
            "dimensions": {"operation": "image"},
            "ttl_seconds": 60,
        },
    )
    assert uuid.UUID(reserve[2]).version == 7
    assert commit[0].endswith("/commit")
    assert commit[1] == {"quantity": "2"}
    assert (answer.verdict, answer.end, str(answer.units), answer.counted) == ("granted", "committed", "2", (True,))


def test_items_of_a_call_go_together_with_their_dimensions() -> None:
    api = Api()
    tokens = item("llm_tokens", "7", "9", direction="output")
    (answer,) = run(api, request("one", IMAGE, tokens, member=None))
    assert [one["quantity"] for one in api.calls[0][1]["items"]] == ["3", "9"]
    assert "member" not in api.calls[0][1]
    assert api.calls[1][1]["items"] == [
        {"meter": "ai_credits", "quantity": "2", "dimensions": {"operation": "image"}},
        {"meter": "llm_tokens", "quantity": "7", "dimensions": {"direction": "output"}},
    ]
    assert answer.units == 9


def test_outcomes_end_as_they_should() -> None:
    api = Api()
    answers = run(
        api,
        request("failed", IMAGE, outcome="failed"),
        request("cached", IMAGE, outcome="cached"),
        request("crashed", IMAGE, outcome="no_commit"),
        request("once", IMAGE, call="once"),
    )
    ends = {one.request.id: (one.end, str(one.units)) for one in answers}
    assert ends == {
        "failed": ("released", "0"),
        "cached": ("committed", "0"),
        "crashed": ("crashed", "0"),
        "once": ("committed", "2"),
    }
    assert sum(path.endswith("/release") for path in api.paths()) == 1
    assert [body for path, body, _ in api.calls if path.endswith("/commit")] == [{"cached": True}]
    assert [body["quantity"] for _, body, _ in api.calls if body.get("commit")] == ["2"]


def test_calls_of_an_account_overlap_in_the_order_of_their_times() -> None:
    api = Api()
    run(
        api,
        request("long", IMAGE, at="0", seconds="10"),
        request("short", IMAGE, at="1", seconds="2"),
        request("after", IMAGE, at="5", seconds="1"),
    )
    assert [path.rpartition("/")[2] for path in api.paths()] == [
        "reservations",
        "reservations",
        "commit",
        "reservations",
        "commit",
        "commit",
    ]
    assert api.paths()[-1] == "/v1/reservations/p-acme-1/commit"


def test_accounts_are_dealt_out_whole() -> None:
    api = Api()
    trace = [request(f"{name}{n}", IMAGE, account=name, at=str(n)) for n in range(6) for name in ("a", "b", "c", "d")]
    run(api, *trace, threads=4)
    for name in ("a", "b", "c", "d"):
        mine = [key for path, body, key in api.calls if body.get("account") == f"p-{name}"]
        assert len(mine) == 6
        assert len(set(mine)) == 6


def test_a_late_commit_comes_after_the_holds_expiry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "_SHORTEST_TTL_SECONDS", 0)
    monkeypatch.setattr(replay_module, "_LATE_BY_SECONDS", 0.3)
    api = Api()
    begun = time.monotonic()
    answers = run(api, request("late", IMAGE, outcome="late"), request("other", IMAGE, at="50"))
    assert time.monotonic() - begun >= 0.3
    assert api.calls[0][1]["ttl_seconds"] == 0
    assert api.paths()[-1] == "/v1/reservations/p-acme-1/commit"
    assert answers[0].end == "committed"


def test_a_refusal_is_remembered_by_its_limit_and_ends_the_call() -> None:
    def refuse(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        limit = "daily" if body["member"] == "ann" else None
        return 200, {
            "allowed": False,
            "denial": {"code": "not_in_plan" if limit is None else "limit_reached", "limit": limit},
        }

    api = Api(refuse)
    answers = run(api, request("one", IMAGE), request("two", IMAGE, member="bob"))
    assert [(one.verdict, one.end, one.reason) for one in answers] == [
        ("refused", "none", "daily"),
        ("refused", "none", "not_in_plan"),
    ]
    assert len(api.calls) == 2


def test_a_resend_uses_the_same_key_and_must_be_a_duplicate() -> None:
    api = Api()
    once, commit, usage = run(
        api,
        request("once", IMAGE, call="once", sends=2),
        request("commit", IMAGE, account="b", sends=3),
        request("usage", IMAGE, IMAGE, account="c", call="usage", sends=2),
    )
    keys = [key for _, body, key in api.calls if body.get("commit")]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert (once.surprises, commit.surprises, usage.surprises) == ((), (), ())
    assert [once.units, commit.units, usage.units] == [2, 2, 4]
    sent = [[event["id"] for event in body["events"]] for path, body, _ in api.calls if path == "/v1/usage"]
    assert sent == [["p-usage.0", "p-usage.1"]] * 2


def test_a_resend_that_counts_again_is_a_surprise() -> None:
    def forgetful(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        done = {"units": "2", "waived": "0", "duplicate": False, "late": False, "over_reserved": False}
        if path == "/v1/usage":
            return 200, {"results": [{"status": "recorded", "units": "2", "waived": "0"}]}
        return (200, done) if path.endswith("/commit") else (201, {"id": "x", "allowed": True})

    commit, usage = run(
        Api(forgetful), request("commit", IMAGE, sends=2), request("usage", IMAGE, account="b", call="usage", sends=2)
    )
    assert commit.surprises == ("commit: a resend was not answered as the duplicate that it is",)
    assert usage.surprises == ("usage.0: a resend was answered recorded, 2 units",)


def test_a_granted_call_whose_end_is_refused_is_a_surprise() -> None:
    def broken(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path.endswith("/commit"):
            return 409, {"code": "already_released", "detail": "gone"}
        return 201, {"id": "x", "allowed": True}

    (answer,) = run(Api(broken), request("one", IMAGE))
    assert (answer.verdict, answer.end, str(answer.units)) == ("rejected", "none", "0")
    assert answer.surprises == ("one: its end was answered 409 already_released",)


def test_what_the_api_calls_wrong_is_counted_by_its_code() -> None:
    def strict(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/v1/usage":
            rejected = {"status": "rejected", "units": "0", "waived": "0", "error": {"code": "unknown_meter"}}
            return 200, {"results": [{"status": "recorded", "units": "2", "waived": "0"}, rejected]}
        return 422, {"code": "member_required", "detail": "send `member`"}

    reserve, usage = run(Api(strict), request("one", IMAGE), request("two", IMAGE, IMAGE, call="usage"))
    assert (reserve.verdict, reserve.reason, reserve.surprises) == ("rejected", "member_required", ())
    assert (usage.verdict, usage.reason, usage.counted) == ("granted", "unknown_meter", (True, False))


def test_a_lost_answer_is_asked_for_again_with_the_same_key() -> None:
    tried: list[str] = []

    def flaky(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        tried.append(path)
        if len(tried) == 1:
            raise httpx.ReadError("connection lost")
        return (503, {"code": "busy"}) if len(tried) == 2 else (0, None)

    api = Api(flaky)
    (answer,) = run(api, request("one", IMAGE))
    assert answer.end == "committed"
    assert len({key for path, _, key in api.calls if path == "/v1/reservations"}) == 1
    assert api.paths().count("/v1/reservations") == 3


def test_a_stack_that_stays_away_ends_the_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.api._FIRST_PAUSE_SECONDS", 0.001)

    def gone(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr("demo.api._LONGEST_PAUSE_SECONDS", 0.001)
    with pytest.raises(StackLost, match=r"POST /v1/reservations failed 8 times \(ConnectError: refused\)"):
        run(Api(gone), request("one", IMAGE), request("two", IMAGE, account="b"), threads=2)


def test_speed_keeps_the_traces_pace() -> None:
    begun = time.monotonic()
    run(Api(), request("one", IMAGE, at="0"), request("two", IMAGE, at="4"), speed="10")
    assert 0.4 <= time.monotonic() - begun < 2


def test_a_key_is_a_uuid_of_version_7_with_its_time() -> None:
    keys = [uuid.UUID(uuid7(1_795_228_097_123)) for _ in range(200)]
    assert len(set(keys)) == 200
    for key in keys:
        assert (key.version, key.variant, key.int >> 80) == (7, uuid.RFC_4122, 1_795_228_097_123)
