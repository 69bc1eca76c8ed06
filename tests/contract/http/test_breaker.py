"""Going on after the breaker: the signed link (a GET changes nothing), an unfreeze with a grace, the platform."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.contract.http.surface import ENV, SECRET, Surface
from tollgate.accounts.rules import BREAKER, Frozen
from tollgate.accounts.service import change
from tollgate.breaker.link import LASTS_S, Link, encode
from tollgate.breaker.platform import Stop
from tollgate.breaker.platform_store import PlatformTable

HTML = {"accept": "text/html,application/xhtml+xml"}


def stopped(surface: Surface, account: str, trip: str, *, old: bool = False) -> str:
    """Makes an account that this trip stopped; returns the path of its link."""
    surface.call("PUT", f"/v1/accounts/{account}", {})
    deps = surface.manage_deps.accounts
    now = deps.gate.clock() // 1000
    change(deps, account, lambda row: replace(row, frozen=Frozen(BREAKER, now, trip)), None)
    return f"/v1/resume?token={encode(Link(account, trip, now - 1 if old else now + LASTS_S), SECRET)}"


def frozen(surface: Surface, account: str) -> object:
    return surface.call("GET", f"/v1/accounts/{account}").body["frozen"]


def test_a_link_resumes_once_and_looking_at_it_changes_nothing(surface: Surface) -> None:
    link = stopped(surface, "linked", "ai_credits/1/0")
    for _ in range(3):
        looked = surface.call("GET", link, key=None)
        assert (looked.status, looked.body["account"], looked.body["resumed"]) == (200, "linked", False)
    assert frozen(surface, "linked") is not None
    done = surface.call("POST", link, key=None)
    assert (done.status, done.body["resumed"]) == (200, True)
    assert frozen(surface, "linked") is None
    for method in ("GET", "POST"):
        again = surface.call(method, link, key=None)
        assert (again.status, again.code) == (409, "already_resumed")


def test_a_browser_gets_a_page_whose_button_resumes(surface: Surface) -> None:
    link = stopped(surface, "seen", "ai_credits/2/0")
    page = surface.call("GET", link, key=None, headers=HTML)
    assert page.headers["content-type"].startswith("text/html")
    assert '<form method="post"><button>Resume seen</button></form>' in page.body
    assert page.headers["cache-control"] == "no-store"
    form = {**HTML, "content-type": "application/x-www-form-urlencoded"}
    assert "seen goes on" in surface.call("POST", link, key=None, headers=form).body
    assert frozen(surface, "seen") is None


def test_an_expired_or_forged_link_does_nothing(surface: Surface) -> None:
    expired = stopped(surface, "late", "ai_credits/3/0", old=True)
    other = encode(Link("late", "ai_credits/3/0", 1 << 40), b"not our secret")
    for method in ("GET", "POST"):
        found = surface.call(method, expired, key=None)
        assert (found.status, found.code) == (409, "resume_link_expired")
        for path in (f"/v1/resume?token={other}", "/v1/resume?token=", "/v1/resume"):
            found = surface.call(method, path, key=None)
            assert (found.status, found.code) == (404, "resume_link_invalid")
    assert frozen(surface, "late") is not None


def test_an_unfreeze_may_say_a_grace(surface: Surface) -> None:
    stopped(surface, "graced", "ai_credits/4/0")
    for wrong in ("0", "0.9", "10.1", -1, "x"):
        refused = surface.call("POST", "/v1/accounts/graced/unfreeze", {"grace": wrong})
        assert (refused.status, refused.code) == (422, "invalid")
    assert surface.call("POST", "/v1/accounts/graced/unfreeze", {"grace": "2.5"}).body["frozen"] is None
    row = surface.manage_deps.accounts.rules.stored("graced")
    assert row.grace is not None
    assert row.grace.number == 1
    assert row.grace.maxima == {}, "nothing is known of the account yet"


def test_the_platform_is_resumed_by_one_call(surface: Surface) -> None:
    assert surface.call("GET", "/v1/platform").body == {"stopped": None}
    PlatformTable(ENV["TOLLGATE_BILLING_TABLE"]).stop(
        Stop(1_795_262_460, 1_795_262_400, Decimal("512.5"), Decimal(500))
    )
    shown = {
        "since": "2026-11-21T12:01:00Z",
        "hour": "2026-11-21T12:00:00Z",
        "provider_cost": "512.5",
        "cap": "500",
    }
    assert surface.call("GET", "/v1/platform").body == {"stopped": shown}
    done = surface.call("POST", "/v1/platform/resume")
    assert done.body == {"resumed": True, "was": shown, "stopped": None}
    assert surface.call("POST", "/v1/platform/resume").body == {"resumed": False, "was": None, "stopped": None}


@pytest.mark.parametrize("call", [("GET", "/v1/platform"), ("POST", "/v1/platform/resume")])
def test_the_platform_is_the_operators(surface: Surface, call: tuple[str, str]) -> None:
    assert surface.call(*call, key=None).status == 401
