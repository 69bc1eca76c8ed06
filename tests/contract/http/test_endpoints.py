"""Webhook endpoints over HTTP: secrets shown once, rotation, and URLs that lead inside refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from tests.contract.http.surface import Surface
from tollgate.notify.addresses import Resolve
from tollgate.notify.endpoint import MOST

URL = "https://hooks.test/tollgate"


@pytest.fixture(autouse=True)
def _none(surface: Surface) -> Iterator[None]:
    yield
    for one in surface.manage_deps.channels.endpoints():
        surface.manage_deps.channels.delete_endpoint(one.id)


def make(surface: Surface, **body: Any) -> dict[str, Any]:
    answer = surface.call("POST", "/v1/webhook_endpoints", {"url": URL, **body})
    assert answer.status == 201, answer
    return dict(answer.body)


def test_the_secret_is_shown_once(surface: Surface) -> None:
    made = make(surface, events=["breaker*"], description="ours")
    assert made["secret"].startswith("whsec_")
    shown = {key: value for key, value in made.items() if key != "secret"}
    assert surface.call("GET", f"/v1/webhook_endpoints/{made['id']}").body == shown
    assert surface.call("GET", "/v1/webhook_endpoints").body == {"data": [shown], "next_cursor": None}
    assert (shown["url"], shown["events"], shown["enabled"], shown["old_secret_until"]) == (
        URL,
        ["breaker*"],
        True,
        None,
    )


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://127.0.0.1/", "private_address"),
        ("https://10.0.0.1/", "private_address"),
        ("https://169.254.169.254/latest/meta-data/", "private_address"),
        ("https://[::1]/", "private_address"),
        ("https://[::ffff:10.0.0.1]/", "private_address"),
        ("https://inside.test/", "private_address"),
        ("https://nowhere.test/", "unresolved"),
        ("http://hooks.test/", "https"),
        ("https://user@hooks.test/", "host"),
        ("gopher://hooks.test/", "https"),
    ],
)
def test_a_url_that_leads_inside_is_refused(surface: Surface, url: str, code: str) -> None:
    made = make(surface)
    for method, path in (("POST", "/v1/webhook_endpoints"), ("PUT", f"/v1/webhook_endpoints/{made['id']}")):
        answer = surface.call(method, path, {"url": url})
        assert (answer.status, answer.body["errors"]) == (422, [{"path": "url", "code": code}])
    assert surface.call("GET", f"/v1/webhook_endpoints/{made['id']}").body["url"] == URL


def test_the_local_stack_takes_what_is_on_the_machine_and_asks_no_resolver(
    surface: Surface, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(surface.manage_deps, private_webhooks=True, resolve=cast(Resolve, None))
    monkeypatch.setattr(surface.manage, "_deps", asked)
    assert make(surface, url="http://127.0.0.1:9000/hook")["url"] == "http://127.0.0.1:9000/hook"


def test_rotation_keeps_the_old_secret_for_the_overlap(surface: Surface) -> None:
    made = make(surface)
    path = f"/v1/webhook_endpoints/{made['id']}"
    done = surface.call("POST", f"{path}/rotate", {"overlap_seconds": 3600}).body
    assert done["secret"] != made["secret"]
    assert done["old_secret_until"] is not None
    now = surface.manage_deps.accounts.gate.clock() // 1000
    there = surface.manage_deps.channels.endpoint(made["id"])
    assert there.signers(now) == (done["secret"], made["secret"])
    assert there.signers(now + 3601) == (done["secret"],)
    done = surface.call("POST", f"{path}/rotate", {"overlap_seconds": 0}).body
    assert done["old_secret_until"] is None
    assert surface.manage_deps.channels.endpoint(made["id"]).signers(now + 1) == (done["secret"],)


def test_changes_keep_what_is_absent(surface: Surface) -> None:
    made = make(surface, events=["margin"], description="ours")
    path = f"/v1/webhook_endpoints/{made['id']}"
    assert surface.call("PUT", path, {"enabled": False}).body["disabled_reason"] == "by the operator"
    changed = surface.call("PUT", path, {"enabled": True, "events": ["*"]}).body
    assert (changed["enabled"], changed["events"], changed["description"]) == (True, ["*"], "ours")
    assert surface.manage_deps.channels.endpoint(made["id"]).secret == made["secret"]


def test_deleted(surface: Surface) -> None:
    path = f"/v1/webhook_endpoints/{make(surface)['id']}"
    for _ in range(2):
        assert surface.call("DELETE", path).status == 200
    for method, body in (("GET", None), ("PUT", {"enabled": True})):
        assert surface.call(method, path, body).status == 404
    assert surface.call("POST", f"{path}/rotate").status == 404
    assert surface.call("GET", "/v1/webhook_endpoints/whe_x").status == 404


def test_pages(surface: Surface) -> None:
    made = [make(surface)["id"] for _ in range(5)]
    seen, cursor = [], ""
    for _ in range(3):
        answer = surface.call("GET", f"/v1/webhook_endpoints?limit=2{cursor}")
        seen += [one["id"] for one in answer.body["data"]]
        cursor = f"&cursor={answer.body['next_cursor']}"
    assert sorted(seen) == sorted(made)
    assert answer.body["next_cursor"] is None


def test_there_are_not_too_many(surface: Surface) -> None:
    for _ in range(MOST):
        make(surface)
    answer = surface.call("POST", "/v1/webhook_endpoints", {"url": URL})
    assert (answer.status, answer.code) == (409, "too_many_endpoints")


_names = itertools.count()


def test_a_repeat_makes_no_second_secret(surface: Surface) -> None:
    named = {"Idempotency-Key": f"endpoint-{next(_names)}"}
    made = surface.call("POST", "/v1/webhook_endpoints", {"url": URL}, headers=named)
    assert made.status == 201
    again = surface.call("POST", "/v1/webhook_endpoints", {"url": URL}, headers=named)
    assert (again.status, again.code) == (409, "secret_already_shown")
    other = surface.call("POST", "/v1/webhook_endpoints", {"url": f"{URL}/2"}, headers=named)
    assert (other.status, other.code) == (409, "idempotency_mismatch")
    assert len(surface.manage_deps.channels.endpoints()) == 1
    path = f"/v1/webhook_endpoints/{made.body['id']}/rotate"
    first = surface.call("POST", path, {}, headers=named)
    assert first.status == 200
    assert surface.call("POST", path, {}, headers=named).code == "secret_already_shown"
    assert surface.manage_deps.channels.endpoint(made.body["id"]).secret == first.body["secret"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": ""},
        {"url": 7},
        {"url": URL, "events": []},
        {"url": URL, "events": ["Breaker"]},
        {"url": URL, "events": ["*"] * 21},
        {"url": URL, "description": "x" * 257},
        {"url": URL, "secret": "whsec_mine"},
    ],
)
def test_bad_bodies(surface: Surface, body: dict[str, Any]) -> None:
    assert surface.call("POST", "/v1/webhook_endpoints", body).status == 422


@pytest.mark.parametrize("overlap", [-1, 604_801, "1", 1.5, None])
def test_bad_overlaps(surface: Surface, overlap: object) -> None:
    path = f"/v1/webhook_endpoints/{make(surface)['id']}/rotate"
    assert surface.call("POST", path, {"overlap_seconds": overlap}).status == 422
