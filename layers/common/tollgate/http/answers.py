"""Answers of the request-time calls as JSON values: decimals as plain strings, times as RFC 3339 UTC."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tollgate.accounts.rules import Item
from tollgate.catalog.model import Limit, SharedLimit
from tollgate.clock import rfc3339, rfc3339_ms
from tollgate.gate.commit import Committed
from tollgate.gate.limits import LimitState, SharedState
from tollgate.gate.reserve import Granted
from tollgate.quantities import ZERO, plain
from tollgate.usage.outcome import Event
from tollgate.usage.store import sort_key


def time_or_null(seconds: int | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)


def limit_scope(limit: Limit | SharedLimit) -> dict[str, Any]:
    """What a limit counts, and in which window."""
    answer: dict[str, Any] = {"meters": list(limit.meters)}
    if limit.where:
        answer["where"] = {name: values[0] if len(values) == 1 else list(values) for name, values in limit.where}
    answer["window"] = "concurrent" if limit.window is None else limit.window.text
    return answer


def limit_state(state: LimitState) -> dict[str, Any]:
    ruled, limit = state.ruled, state.ruled.limit
    answer: dict[str, Any] = {"id": limit.id, "source": ruled.source, "per": limit.per}
    if state.member is not None:
        answer["member"] = state.member
    answer |= limit_scope(limit)
    answer["window_start"] = time_or_null(state.window_start)
    answer["resets_at"] = time_or_null(state.resets_at)
    answer["max"] = None if ruled.maximum is None else plain(ruled.maximum)
    answer["used"] = plain(state.used)
    answer["held"] = plain(state.held)
    answer["remaining"] = None if state.remaining is None else plain(state.remaining)
    answer["over"] = state.over
    return answer


def shared_state(state: SharedState) -> dict[str, Any]:
    """A limit that accounts share. Held and used units are counted as one."""
    limit = state.limit
    answer: dict[str, Any] = {"id": limit.id, "source": "plan", "per": limit.per}
    if state.value is not None:
        answer["value"] = state.value
    answer |= limit_scope(limit)
    answer["window_start"] = time_or_null(state.window_start)
    answer["resets_at"] = time_or_null(state.resets_at)
    answer["max"] = plain(limit.max)
    answer["used"] = plain(state.counted)
    answer["held"] = "0"
    answer["remaining"] = plain(state.remaining)
    answer["over"] = state.counted > limit.max
    if not state.exact:
        answer["approximate"] = True
    return answer


def limit_states(limits: Iterable[LimitState]) -> list[dict[str, Any]]:
    return [limit_state(state) for state in limits]


def items(measured: Sequence[Item]) -> list[dict[str, Any]]:
    return [{"meter": item.meter, "quantity": plain(item.quantity), "units": plain(item.units)} for item in measured]


def granted(found: Granted, reservation_id: str) -> dict[str, Any]:
    expires = max(hold.expires_at for hold in found.holds.values())
    return {
        "id": reservation_id,
        "allowed": True,
        "units": plain(sum((item.units for item in found.items), ZERO)),
        "items": items(found.items),
        "expires_at": rfc3339(expires),
        "limits": limit_states(found.limits) + [shared_state(state) for state in found.shared],
    }


def event_ids(event: Event) -> list[str]:
    """One usage event for each item of the row."""
    name = sort_key(event.at)
    return [f"evt_{name}.{index}" for index in range(len(event.items))]


def committed(found: Committed) -> dict[str, Any]:
    event = found.event
    return {
        "event_ids": event_ids(event),
        "units": plain(event.units),
        "waived": plain(event.waived),
        "duplicate": found.duplicate,
        "late": event.late,
        "over_reserved": event.over_reserved,
        "limits": limit_states(found.limits),
    }


def events(event: Event) -> list[dict[str, Any]]:
    """The usage events of a row, as `GET …/events` lists them."""
    return [
        {
            "id": event_id,
            "usage_id": event.usage_id,
            "account": event.at.account,
            "member": event.member,
            "meter": item.meter,
            "quantity": plain(item.quantity),
            "weight": plain(item.weight),
            "units": plain(item.units),
            "level_change": item.level,
            "credit_funded": plain(item.credit_funded),
            "waived": plain(item.waived),
            "dimensions": dict(item.dimensions),
            "plan": {"id": event.plan, "version": event.plan_version},
            "recorded_at": rfc3339_ms(event.recorded_ms),
            "occurred_at": None if event.occurred_ms is None else rfc3339_ms(event.occurred_ms),
            "cached": event.cached,
            "late": event.late,
            "over_reserved": event.over_reserved,
            "provider_cost": None if event.provider_cost is None else plain(event.provider_cost),
            "metadata": event.metadata,
        }
        for event_id, item in zip(event_ids(event), event.items, strict=True)
    ]
