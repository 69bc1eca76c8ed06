"""Where events go: an address, the events it wants, its payload style and its secret. Two APIs make them:
`webhook_endpoints` (v1) and `event_destinations` (v2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from local.stripe_double.errors import invalid

_URL = re.compile(r"https?://[^\s/?#]+[^\s#]*")
_NAME = re.compile(r"\*|[a-z0-9_]+(\.[a-z0-9_]+)+(\.\*)?|[a-z0-9_]+\.\*")
_THIN = ("v1.", "v2.")
SNAPSHOT, THIN = "snapshot", "thin"


@dataclass
class Endpoint:
    """One place that events are sent to. Times are epoch milliseconds. `standing`: a reset of the double leaves it."""

    id: str
    url: str
    enabled_events: list[str]
    secret: str
    payload: str
    created_ms: int
    api_version: str | None = None
    name: str = ""
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    enabled: bool = True
    updated_ms: int = 0
    standing: bool = False


class Endpoints:
    """All endpoints of the account, oldest first."""

    def __init__(self, standing: list[Endpoint] | None = None) -> None:
        self._by_id: dict[str, Endpoint] = {one.id: one for one in standing or []}

    def add(self, endpoint: Endpoint) -> None:
        self._by_id[endpoint.id] = endpoint

    def remove(self, endpoint_id: str) -> None:
        del self._by_id[endpoint_id]

    def get(self, endpoint_id: str, prefix: str = "") -> Endpoint | None:
        """The endpoint with this id, if it begins with this prefix: each API has its own."""
        return self._by_id.get(endpoint_id) if endpoint_id.startswith(prefix) else None

    def all(self, prefix: str = "") -> list[Endpoint]:
        return [one for one in self._by_id.values() if one.id.startswith(prefix)]

    def standing(self) -> list[Endpoint]:
        return [one for one in self._by_id.values() if one.standing]


def check_url(url: str, param: str) -> None:
    """A test account also takes plain HTTP [SDK: EventDestinationCreateParamsWebhookEndpoint.url]. Raises ApiError."""
    if _URL.fullmatch(url) is None:
        raise invalid(f"Invalid URL: {url}", param, "url_invalid")


def check_events(names: list[str], payload: str) -> None:
    """Names look like event types, and no endpoint wants what its payload style cannot carry: `v1.…` and `v2.…` are
    thin only, all others snapshots [docs: event destinations]. Raises ApiError."""
    if not names:
        raise invalid("enabled_events must name at least one event", "enabled_events")
    for index, name in enumerate(names):
        at = f"enabled_events[{index}]"
        if _NAME.fullmatch(name) is None:
            raise invalid(f"Invalid event type: {name}", at)
        if name != "*" and name.startswith(_THIN) != (payload == THIN):
            raise invalid(f"The event type {name} cannot be delivered as a {payload} event", at)
