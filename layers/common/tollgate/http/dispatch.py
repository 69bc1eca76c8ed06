"""From an HTTP API event to an answer: parse, authenticate, route, and turn every error into a problem document."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tollgate.accounts.key_store import ApiKey
from tollgate.errors import Busy, ScopeMissing, TollgateError, Unauthorized
from tollgate.http.routing import Request, Response, Router, WrongMethod, request_of

_JSON = json.JSONEncoder(separators=(",", ":"))


class Keys(Protocol):
    def authenticate(self, secret: str) -> ApiKey: ...


class Log(Protocol):
    def info(self, msg: object, *args: object, **kwargs: Any) -> None: ...
    def exception(self, msg: object, *args: object, **kwargs: Any) -> None: ...


class Api:
    """One function's HTTP surface. `deps` is handed to each handler. `outage` knows the errors of a store that gave no
    answer: the caller gets 503 `busy` and sends the same request again, which every write allows."""

    def __init__(
        self,
        router: Router,
        keys: Keys,
        deps: Any,
        log: Log,
        outage: Callable[[Exception], bool] = lambda error: False,
    ) -> None:
        self._router, self._keys, self._deps, self._log, self._outage = router, keys, deps, log, outage

    def answer(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to an HTTP API event (payload 2.0)."""
        request_id = str(event.get("requestContext", {}).get("requestId", ""))
        try:
            return _encoded(self._respond(request_of(event)))
        except TollgateError as error:
            return _encoded(problem(error, request_id))
        except Exception as error:  # noqa: BLE001 - logged with its traceback, and the caller still gets our shape
            if self._outage(error):
                self._log.exception("a store gave no answer", request_id=request_id)
                return _encoded(problem(Busy(), request_id))
            self._log.exception("unexpected error", request_id=request_id)
            return _encoded(problem(TollgateError("Something broke on our side; it has been logged."), request_id))

    def _respond(self, request: Request) -> Response:
        route, params = self._router.find(request.method, request.path)
        if route.scopes:
            key = self._keys.authenticate(_bearer(request))
            if not any(key.allows(scope) for scope in route.scopes):
                raise ScopeMissing(route.scopes[0])
        return route.handle(
            self._deps,
            Request(
                request.method,
                request.path,
                request.query,
                request.headers,
                request.body,
                request.request_id,
                params,
            ),
        )


def _bearer(request: Request) -> str:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret or len(secret) > 256 or not secret.isascii():
        raise Unauthorized
    return secret


def problem(error: TollgateError, request_id: str) -> Response:
    """An RFC 9457 problem document."""
    body = {
        "type": f"urn:tollgate:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "errors": [{"path": field.path, "code": field.code} for field in error.errors],
        "retryable": error.retryable,
        "request_id": request_id,
    }
    headers = {"content-type": "application/problem+json"}
    if isinstance(error, Busy):
        headers["retry-after"] = str(error.retry_after_seconds)
    if isinstance(error, WrongMethod):
        headers["allow"] = ", ".join(error.allowed)
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    return Response(error.status, body, headers)


def _encoded(response: Response) -> dict[str, Any]:
    text = response.body if isinstance(response.body, str) else _JSON.encode(response.body)
    return {
        "statusCode": response.status,
        "headers": {"content-type": "application/json", **response.headers},
        "body": text,
        "isBase64Encoded": False,
    }
