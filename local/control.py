"""`/_local` and the front page: only the local runner serves them."""

from __future__ import annotations

import html
import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from local.settings import LOCAL_API_KEY
from local.stack import NoDouble, RunningStack

_MAX_ADVANCE_SECONDS = 10 * 366 * 86400


class _Refused(Exception):
    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


def _problem(status: int, code: str, detail: str) -> JSONResponse:
    body = {"type": "about:blank", "title": code.replace("_", " "), "status": status, "code": code, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")


async def _on_refused(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, _Refused)
    return _problem(problem.status, problem.code, problem.detail)


async def _on_no_double(_request: Request, problem: Exception) -> Response:
    return _problem(409, "real_stripe", str(problem))


async def _on_unknown(request: Request, _problem_: Exception) -> Response:
    return _problem(404, "not_found", f"The local runner has no {request.method} {request.url.path}.")


async def _json_body(request: Request) -> Any:
    text = await request.body()
    if not text:
        return {}
    try:
        return json.loads(text)
    except ValueError as problem:
        raise _Refused(400, "malformed", f"The body is not JSON: {problem}") from problem


class Control:
    """The handlers; each looks at the running stack and answers."""

    def __init__(self, stack: RunningStack) -> None:
        self._stack = stack

    async def move_clock(self, request: Request) -> Response:
        body = await _json_body(request)
        seconds = body.get("advance_seconds") if isinstance(body, dict) else None
        if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 <= seconds <= _MAX_ADVANCE_SECONDS:
            raise _Refused(
                422, "invalid", "advance_seconds is a whole number of seconds, 0 or more: time never runs back."
            )
        return JSONResponse(await self._stack.advance(seconds))

    async def read_clock(self, _request: Request) -> Response:
        return JSONResponse(self._stack.now())

    async def run_function(self, request: Request) -> Response:
        name = request.path_params["function"]
        scheduler = self._stack.scheduler
        if not scheduler.of(name):
            known = ", ".join(sorted({schedule.function for schedule in scheduler.schedules}))
            raise _Refused(404, "not_found", f"No scheduled function is called {name!r}; there are: {known}.")
        extra = await _json_body(request)
        if not isinstance(extra, dict):
            raise _Refused(422, "invalid", "The body is an object that is laid over the schedule's input.")
        outcome = await scheduler.run_now(name, extra)
        result = json.loads(outcome.payload)
        if outcome.failure is not None:
            detail = f"{result.get('errorType')}: {result.get('errorMessage')}"
            raise _Refused(502, f"function_{outcome.failure.value}", detail)
        return JSONResponse({"result": result})

    async def stripe_faults(self, request: Request) -> Response:
        status, answer = await self._stack.double("/_double/faults", await _json_body(request))
        return JSONResponse(answer, status)

    async def outbox(self, _request: Request) -> Response:
        return JSONResponse({"data": await self._stack.outbox()})

    async def queues(self, _request: Request) -> Response:
        return JSONResponse({"data": await self._stack.queues()})

    async def functions(self, _request: Request) -> Response:
        return JSONResponse({"data": self._functions()})

    def _functions(self) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "pids": pool.pids,
                "busy_pids": pool.busy_pids,
                "invocations": pool.invocations,
                "failures": pool.failures,
                "timeout_seconds": pool.spec.timeout_seconds,
                "log": str(pool.log.path),
            }
            for name, pool in sorted(self._stack.pools.items())
        ]

    async def front_page(self, request: Request) -> Response:
        sections = self._page()
        if "text/html" not in request.headers.get("accept", ""):
            lines = [line for title, rows in sections for line in (title, *(f"  {a:<34} {b}" for a, b in rows), "")]
            return PlainTextResponse("\n".join(lines))
        parts = ["<!doctype html><html lang=en><meta charset=utf-8><title>Tollgate, local stack</title>", _STYLE]
        parts.append("<h1>Tollgate, local stack</h1>")
        for title, rows in sections:
            parts.append(f"<h2>{html.escape(title)}</h2><table>")
            parts += [f"<tr><td>{_linked(a)}</td><td>{_linked(b)}</td></tr>" for a, b in rows]
            parts.append("</table>")
        return HTMLResponse("".join(parts))

    def _page(self) -> list[tuple[str, list[tuple[str, str]]]]:
        settings, stack = self._stack.settings, self._stack
        stripe = settings.stripe_url or "the real sandbox (STRIPE_SECRET_KEY)"
        dynamodb = settings.dynamodb_endpoint
        base = settings.api_url
        key = f"-H 'Authorization: Bearer {LOCAL_API_KEY}' -H 'Content-Type: application/json'"
        reserve = '{"account": "alice", "member": "ann", "meter": "ai_credits", "quantity": "1"}'
        schedules = [
            (s.function, f"every {stack.scheduler.period(s)} s  {json.dumps(s.event)}")
            for s in stack.scheduler.schedules
        ]
        return [
            (
                "Running",
                [
                    ("API", base),
                    ("Secret key", LOCAL_API_KEY),
                    ("Stripe", stripe),
                    ("DynamoDB", dynamodb),
                    ("SQS, SSM", settings.aws_url),
                    ("Time", str(stack.now()["now"])),
                    ("Seal window, grace", f"{settings.seal_seconds} s, {settings.seal_grace_seconds} s"),
                    ("Logs", str(settings.state / "logs")),
                ],
            ),
            (
                "Functions",
                [
                    (
                        f["name"],
                        f"{f['invocations']} invocations, {f['failures']} failures, processes {f['pids'] or '-'}",
                    )
                    for f in self._functions()
                ],
            ),
            ("Routes", [(route.key, route.function) for route in stack.template.routes]),
            ("Schedules", schedules),
            ("Tables", [(table.logical_id, table.name) for table in stack.template.tables]),
            ("Queues", [(queue.logical_id, queue.url) for queue in stack.template.queues]),
            (
                "Next",
                [
                    ("Reserve", f"curl {base}/v1/reservations {key} -d '{reserve}'"),
                    ("See what is used", f"curl {base}/v1/accounts/alice/usage {key}"),
                    ("Move time by an hour", f"curl {base}/_local/clock -d '{{\"advance_seconds\": 3600}}'"),
                    ("Seal now", f"curl -X POST {base}/_local/run/seal"),
                    ("Messages", f"{base}/_local/outbox"),
                    ("Processes, queues", f"{base}/_local/functions  {base}/_local/queues"),
                    ("Command line", "tollgate --help"),
                ],
            ),
        ]

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/", self.front_page),
                Route("/_local/clock", self.move_clock, methods=["POST"]),
                Route("/_local/clock", self.read_clock, methods=["GET"]),
                Route("/_local/run/{function}", self.run_function, methods=["POST"]),
                Route("/_local/stripe/faults", self.stripe_faults, methods=["POST"]),
                Route("/_local/outbox", self.outbox),
                Route("/_local/functions", self.functions),
                Route("/_local/queues", self.queues),
            ],
            exception_handlers={_Refused: _on_refused, NoDouble: _on_no_double, 404: _on_unknown, 405: _on_unknown},
        )


_STYLE = (
    "<style>body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "h1{font-size:1.5rem}h2{font-size:1.05rem;margin:1.6rem 0 .3rem}table{border-collapse:collapse;width:100%}"
    "td{border-top:1px solid #d8dee4;padding:.25rem .6rem .25rem 0;vertical-align:top;overflow-wrap:anywhere}"
    "td:first-child{width:17rem;color:#57606a}td:last-child{font-family:ui-monospace,monospace;font-size:13px}"
    "@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}td{border-color:#30363d}"
    "td:first-child{color:#9198a1}a{color:#58a6ff}}</style>"
)


def _linked(text: str) -> str:
    safe = html.escape(text)
    return f'<a href="{safe}">{safe}</a>' if text.startswith("http://") else safe
