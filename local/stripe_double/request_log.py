"""What was asked of the double: exact counts by call, and the last requests one by one."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass

from local.stripe_double.wire import JsonObject

RECENT = 1000


@dataclass(frozen=True)
class LoggedRequest:
    """One request to Stripe's API. `status` 0: no answer was given. `at` is epoch seconds of the double's clock."""

    method: str
    path: str
    status: int
    idempotency_key: str | None
    fault: str | None
    at: int


class RequestLog:
    """Requests counted by method, path and status; `recent` holds the last thousand."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, int]] = Counter()
        self._recent: deque[LoggedRequest] = deque(maxlen=RECENT)

    def clear(self) -> None:
        self._counts.clear()
        self._recent.clear()

    def add(self, request: LoggedRequest) -> None:
        self._counts[request.method, request.path, request.status] += 1
        self._recent.append(request)

    def view(self, method: str | None, path: str | None) -> JsonObject:
        """`{count, by_status, recent}` of the requests with this method and path (None: any)."""
        by_status: Counter[str] = Counter()
        for (counted_method, counted_path, status), count in self._counts.items():
            if method in (None, counted_method) and path in (None, counted_path):
                by_status[str(status)] += count
        recent = [
            asdict(request)
            for request in self._recent
            if method in (None, request.method) and path in (None, request.path)
        ]
        return {"count": by_status.total(), "by_status": dict(by_status), "recent": recent}
