"""What reconciliation found: runs, newest first."""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

from tollgate.http.pages import cursor, page
from tollgate.http.routing import Request, Response, Route
from tollgate.reconcile.report import Run

MOST_PAIRS: Final = 25
"""Pairs that differ, shown with each run."""
_RUN = re.compile(r"\d{13}\.[a-z_]{1,20}", re.ASCII)


class RunReader(Protocol):
    def page(self, limit: int, before: str | None) -> tuple[list[Run], str | None]: ...
    def pairs(self, run: str, limit: int) -> list[dict[str, Any]]: ...


class ReconcileApiDeps(Protocol):
    """The part of the manage function's dependencies that this route needs."""

    @property
    def runs(self) -> RunReader: ...


def list_runs(deps: ReconcileApiDeps, request: Request) -> Response:
    limit, before = page(request, _RUN)
    runs, after = deps.runs.page(limit, before)
    data = [run.fields(deps.runs.pairs(run.id, MOST_PAIRS) if run.counts["differing"] else ()) for run in runs]
    return Response(200, {"data": data, "next_cursor": None if after is None else cursor(after)})


ROUTES = (Route("GET", "/v1/reconciliations", ("admin",), list_runs, "listReconciliations"),)
