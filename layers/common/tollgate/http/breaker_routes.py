"""Going on after the circuit breaker: by the signed link of its message, and the platform as a whole."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any, Final, Protocol

from tollgate.accounts.service import AccountDeps
from tollgate.breaker.link import Link, decode
from tollgate.breaker.platform import PlatformStore, Stop, resume_all
from tollgate.breaker.resume import lifts, resume
from tollgate.clock import rfc3339
from tollgate.errors import AlreadyResumed
from tollgate.http.requests import idempotency_key
from tollgate.http.routing import Request, Response, Route
from tollgate.quantities import plain

_HTML: Final = "text/html"
_HEADERS: Final = {
    "content-type": _HTML,
    "cache-control": "no-store",
    # The link is a key: it is not to be told to whatever the page leads to, and nothing on the page is not ours.
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
}
BY: Final = "resume link"
"""Who resumed, in the account's audit."""


class BreakerDeps(Protocol):
    """The part of the manage function's dependencies that these routes need."""

    @property
    def accounts(self) -> AccountDeps: ...
    @property
    def link_secret(self) -> Callable[[], bytes]: ...
    @property
    def platform(self) -> PlatformStore: ...


def get_resume(deps: BreakerDeps, request: Request) -> Response:
    """What the link would do. Changes nothing: mail scanners open links."""
    link = _link(deps, request)
    if not lifts(link, deps.accounts.rules.fresh(link.account).row.frozen):
        raise AlreadyResumed(link.account)
    name = escape(link.account)
    page = f'<p>{name} was stopped by its circuit breaker.</p><form method="post"><button>Resume {name}</button></form>'
    return _answer(request, link, page, resumed=False)


def post_resume(deps: BreakerDeps, request: Request) -> Response:
    idempotency_key(request.headers, None)  # accepted, and not needed: a link resumes once
    link = _link(deps, request)
    resume(deps.accounts, link.account, by=BY, link=link)
    return _answer(request, link, f"<p>{escape(link.account)} goes on.</p>", resumed=True)


def _link(deps: BreakerDeps, request: Request) -> Link:
    return decode(request.query.get("token", ""), deps.link_secret(), deps.accounts.gate.clock() // 1000)


def _answer(request: Request, link: Link, page: str, *, resumed: bool) -> Response:
    """A page for browsers, JSON for all others."""
    if _HTML in request.headers.get("accept", ""):
        head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Tollgate</title>'
        return Response(200, f"{head}<body>{page}</body></html>", _HEADERS)
    body = {"account": link.account, "resumed": resumed, "expires_at": rfc3339(link.expires_at)}
    return Response(200, body, {"cache-control": "no-store"})


def get_platform(deps: BreakerDeps, request: Request) -> Response:
    return Response(200, {"stopped": _stop(deps.platform.stopped())})


def post_platform_resume(deps: BreakerDeps, request: Request) -> Response:
    """Gates learn of it within a minute."""
    idempotency_key(request.headers, None)  # accepted, and not needed: where nothing is stopped nothing changes
    before = resume_all(deps.platform, deps.accounts.gate.clock() // 1000)
    return Response(
        200, {"resumed": before is not None, "was": _stop(before), "stopped": _stop(deps.platform.stopped())}
    )


def _stop(stop: Stop | None) -> dict[str, Any] | None:
    if stop is None:
        return None
    return {
        "since": rfc3339(stop.since),
        "hour": rfc3339(stop.hour),
        "provider_cost": plain(stop.cost),
        "cap": plain(stop.cap),
    }


ROUTES = (
    Route("GET", "/v1/resume", (), get_resume, "getResume"),
    Route("POST", "/v1/resume", (), post_resume, "resumeByLink"),
    Route("GET", "/v1/platform", ("admin",), get_platform, "getPlatform"),
    Route("POST", "/v1/platform/resume", ("admin",), post_platform_resume, "resumePlatform"),
)
