"""`GET /v1/accounts/{id}/invoices/{invoice}/audit`: what an invoice is made of, as JSON or CSV, page by page."""

from __future__ import annotations

import base64
import binascii
import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from tollgate.billing.invoice_audit import Audit, AuditDeps, AuditedEvent, AuditedLine, AuditedWindow, audit
from tollgate.clock import rfc3339, rfc3339_ms
from tollgate.errors import FieldError, Invalid, UnknownInvoice
from tollgate.http.answers import event_ids
from tollgate.http.requests import account_id
from tollgate.http.routing import Request, Response, Route
from tollgate.quantities import EXACT, plain

MOST_ROWS: Final = 5_000
"""Rows of one answer: about 3 MB of JSON, and a function may answer 6."""
DEFAULT_ROWS: Final = 1_000
_INVOICE = re.compile(r"in_[A-Za-z0-9_]{1,60}")
_NUMBER = re.compile(r"[0-9]{1,6}")

Row = Mapping[str, Any]


class AuditApiDeps(Protocol):
    @property
    def audit(self) -> AuditDeps: ...


def get_audit(deps: AuditApiDeps, request: Request) -> Response:
    account, invoice = account_id(request.params["id"], "id"), request.params["invoice"]
    if not _INVOICE.fullmatch(invoice):
        raise UnknownInvoice(invoice[:64])
    what = request.query.get("rows", "events")
    if what not in _ROWS:
        raise Invalid("`rows` is events or batches.", (FieldError("rows", "choice"),))
    as_csv = _wants_csv(request)
    limit, first = _page(request)
    found = audit(deps.audit, account, invoice)
    rows = [row for line in found.lines for row in _ROWS[what](line)]
    page = rows[first : first + limit]
    after = _cursor(first + limit) if first + limit < len(rows) else None
    if as_csv:
        return _csv(_COLUMNS[what], page, found, after)
    return Response(200, {**_summary(found), "rows": what, "data": page, "next_cursor": after})


def _wants_csv(request: Request) -> bool:
    wanted = request.query.get("format")
    if wanted is None:
        return request.headers.get("accept", "").split(";")[0].split(",")[0].strip().lower() == "text/csv"
    if wanted not in ("json", "csv"):
        raise Invalid("`format` is json or csv.", (FieldError("format", "choice"),))
    return wanted == "csv"


def _page(request: Request) -> tuple[int, int]:
    text, sent = request.query.get("limit", str(DEFAULT_ROWS)), request.query.get("cursor")
    if not re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) or not 1 <= int(text) <= MOST_ROWS:
        raise Invalid(f"`limit` is 1 to {MOST_ROWS}.", (FieldError("limit", "range"),))
    if sent is None:
        return int(text), 0
    try:
        decoded = base64.b64decode(sent.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        decoded = ""
    if not _NUMBER.fullmatch(decoded):
        raise Invalid("`cursor` is not one that this call returned.", (FieldError("cursor", "cursor"),))
    return int(text), int(decoded)


def _cursor(row: int) -> str:
    return base64.urlsafe_b64encode(str(row).encode()).decode()


def _summary(found: Audit) -> dict[str, Any]:
    invoice = found.invoice
    return {
        "account": found.account,
        "invoice": {
            "id": invoice.id,
            "status": invoice.status,
            "currency": invoice.currency,
            "subtotal": plain(invoice.subtotal),
            "total": plain(invoice.total),
            "created_at": rfc3339(invoice.created),
        },
        "agrees": found.agrees,
        "hash": found.hash,
        "lines": [_line(line) for line in found.lines],
    }


def _line(line: AuditedLine) -> dict[str, Any]:
    price = line.price
    return {
        "ids": [one.id for one in line.lines],
        "price": price.id,
        "meter": price.meter,
        "plan": None if price.plan is None else {"id": price.plan, "version": price.plan_version},
        "period": {"start": rfc3339(line.start), "end": rfc3339(line.end)},
        "quantity": None if line.quantity is None else plain(line.quantity),
        "units": plain(line.units),
        "amount": plain(line.amount),
        "rated": None if line.rated is None else plain(line.rated),
        "difference": None if line.rated is None else plain(EXACT.subtract(line.amount, line.rated)),
        "windows": len(line.windows),
        "events": sum(len(window.events) for window in line.windows),
        "agrees": line.agrees,
        "hash": line.hash,
    }


def _batch_rows(line: AuditedLine) -> Iterator[Row]:
    for window in line.windows:
        yield {
            "line": line.lines[0].id,
            "meter": line.price.meter,
            "account": window.account,
            "start": rfc3339(window.start),
            "end": rfc3339(window.end),
            "batches": [batch.identifier for batch in window.batches],
            "booked_at": [rfc3339(batch.timestamp) for batch in window.batches],
            "units": plain(window.units),
            "events": len(window.events),
            "events_units": plain(window.events_units),
            "agrees": window.agrees,
            "hash": window.hash,
        }


def _event_rows(line: AuditedLine) -> Iterator[Row]:
    for window in line.windows:
        for one in window.events:
            yield _event_row(line, window, one)


def _event_row(line: AuditedLine, window: AuditedWindow, one: AuditedEvent) -> Row:
    event, item = one.event, one.item
    return {
        "line": line.lines[0].id,
        "meter": item.meter,
        "batches": [batch.identifier for batch in window.batches],
        "id": event_ids(event)[one.place],
        "usage_id": event.usage_id,
        "account": event.at.account,
        "member": event.member,
        "recorded_at": rfc3339_ms(event.recorded_ms),
        "quantity": plain(item.quantity),
        "weight": plain(item.weight),
        "units": plain(item.units),
        "credit_funded": plain(item.credit_funded),
        "waived": plain(item.waived),
        "billable": plain(one.billable),
    }


_ROWS: Final[Mapping[str, Callable[[AuditedLine], Iterator[Row]]]] = {"events": _event_rows, "batches": _batch_rows}
_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "events": (
        *("line", "meter", "batches", "id", "usage_id", "account", "member", "recorded_at", "quantity", "weight"),
        *("units", "credit_funded", "waived", "billable"),
    ),
    "batches": (
        *("line", "meter", "account", "start", "end", "batches", "booked_at", "units", "events", "events_units"),
        *("agrees", "hash"),
    ),
}


def _csv(columns: Sequence[str], rows: Sequence[Row], found: Audit, after: str | None) -> Response:
    """RFC 4180, one header line; lists are joined by spaces. The hash and the next page stand in headers."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[column]) for column in columns])
    headers = {"content-type": "text/csv; charset=utf-8", "x-tollgate-audit-hash": found.hash}
    if after is not None:
        headers["x-tollgate-next-cursor"] = after
    return Response(200, text.getvalue(), headers)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


ROUTES = (Route("GET", "/v1/accounts/{id}/invoices/{invoice}/audit", ("read",), get_audit, "auditInvoice"),)
