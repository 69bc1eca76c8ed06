"""What an account was told, for its own app to show: listed, and marked as read."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Protocol

from pydantic import Field

from tollgate.accounts.service import AccountDeps
from tollgate.alerts.notification_store import Notification, NotificationTable
from tollgate.alerts.outbox import message_id
from tollgate.clock import rfc3339_ms
from tollgate.errors import FieldError, Invalid, NotFound
from tollgate.http.pages import cursor, page
from tollgate.http.requests import Body, Key, account_id, idempotency_key, parse
from tollgate.http.routing import Request, Response, Route, json_body

_FORM: Final = r"msg_[0-9]{13}[0-9a-f]{20}"
_ID: Final = re.compile(_FORM, re.ASCII)


class ReadIn(Body):
    """Without `up_to`: everything there is now."""

    up_to: Annotated[
        str | None,
        Field(
            pattern=f"^{_FORM}$", description="The newest one that the customer saw; it and all older ones are read."
        ),
    ] = None
    idempotency_key: Key | None = None


class NotificationDeps(Protocol):
    """The part of the manage function's dependencies that these routes need."""

    @property
    def accounts(self) -> AccountDeps: ...
    @property
    def notifications(self) -> NotificationTable: ...


def list_notifications(deps: NotificationDeps, request: Request) -> Response:
    """What the account was told, newest first, also under the ids that became it."""
    limit, before = page(request, _ID)
    unread = request.query.get("unread", "false")
    if unread not in ("true", "false"):
        raise Invalid("`unread` is true or false.", (FieldError("unread", "boolean"),))
    rules = deps.accounts.rules.fresh(account_id(request.params["id"], "id"))
    found, after = deps.notifications.page(rules.homes, limit, before, unread=unread == "true")
    data = [_shown(one) for one in found]
    return Response(200, {"data": data, "next_cursor": None if after is None else cursor(after)})


def read_notification(deps: NotificationDeps, request: Request) -> Response:
    idempotency_key(request.headers, None)  # accepted, and not needed: reading twice is reading once
    rules = deps.accounts.rules.fresh(account_id(request.params["id"], "id"))
    wanted = request.params["notification"]
    found = None
    if _ID.fullmatch(wanted):
        found = deps.notifications.mark(rules.homes, wanted, deps.accounts.gate.clock())
    if found is None:
        raise NotFound("No such notification; GET …/notifications lists them.")
    return Response(200, _shown(found))


def read_all(deps: NotificationDeps, request: Request) -> Response:
    body = parse(ReadIn, json_body(request) if request.body.strip() else {})
    idempotency_key(request.headers, body.idempotency_key)  # checked, and not needed: the mark never goes back
    rules = deps.accounts.rules.fresh(account_id(request.params["id"], "id"))
    now_ms = deps.accounts.gate.clock()
    # A mark in the future would hide what comes until then.
    newest = f"{message_id(now_ms, '')[:-20]}{'f' * 20}"
    up_to = newest if body.up_to is None else min(body.up_to, newest)
    deps.notifications.mark_up_to(rules.account, up_to)
    return Response(200, {"read_up_to": up_to})


def _shown(one: Notification) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind,
        "subject": one.subject,
        "text": one.text,
        "facts": dict(one.facts),
        "at": rfc3339_ms(one.at_ms),
        "read": one.read,
    }


ROUTES = (
    Route("GET", "/v1/accounts/{id}/notifications", ("read",), list_notifications, "listNotifications"),
    Route("POST", "/v1/accounts/{id}/notifications/read", ("read",), read_all, "readNotifications"),
    Route(
        "POST", "/v1/accounts/{id}/notifications/{notification}/read", ("read",), read_notification, "readNotification"
    ),
)
