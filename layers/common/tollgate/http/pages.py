"""Pages of lists: `?limit=1..100&cursor=` asks for one, `next_cursor` leads to the next."""

from __future__ import annotations

import base64
import binascii
import re

from tollgate.errors import FieldError, Invalid
from tollgate.http.routing import Request


def page(request: Request, form: re.Pattern[str]) -> tuple[int, str | None]:
    """`limit` (1 to 100, default 50) and the decoded cursor, which has the form of a list's keys. Raises Invalid."""
    text, sent = request.query.get("limit", "50"), request.query.get("cursor")
    if not re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) or not 1 <= int(text) <= 100:
        raise Invalid("`limit` is 1 to 100.", (FieldError("limit", "range"),))
    if sent is None:
        return int(text), None
    try:
        decoded = base64.b64decode(sent.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        decoded = ""
    if not form.fullmatch(decoded):
        raise Invalid("`cursor` is not one that a list returned.", (FieldError("cursor", "cursor"),))
    return int(text), decoded


def cursor(key: str) -> str:
    """A list's key as callers send it back."""
    return base64.urlsafe_b64encode(key.encode()).decode()
