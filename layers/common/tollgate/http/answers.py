"""Answers of the request-time calls as JSON values: decimals as plain strings, times as RFC 3339 UTC."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tollgate.accounts.rules import Item
from tollgate.catalog.model import Limit
from tollgate.clock import rfc3339, rfc3339_ms
from tollgate.gate.commit import Committed
from tollgate.gate.limits import LimitState
from tollgate.gate.reserve import Denied, Granted
from tollgate.quantities import ZERO, plain
from tollgate.usage.outcome import Event
from tollgate.usage.store import sort_key


def time_or_null(seconds: int | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)


def limit_scope(limit: Limit) -> dict[str, Any]:
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
        "limits": limit_states(found.limits),
    }


def denied(found: Denied, now: int) -> dict[str, Any]:
    """A refusal is an answer, not an error: 200 with the one reason (HTTP clients retry 429 by themselves)."""
    return {"allowed": False, "denial": denial(found, now), "limits": limit_states(found.limits)}


def denial(found: Denied, now: int) -> dict[str, Any]:
    state = found.state
    wait = None if found.resets_at is None else max(found.resets_at - now, 0)
    resolve = _resolve(found)
    return {
        "code": found.code,
        "limit": None if state is None else state.ruled.limit.id,
        "source": "operator" if found.code == "frozen" else "plan" if state is None else state.ruled.source,
        "requested": plain(found.requested),
        "remaining": plain(found.remaining),
        "resets_at": time_or_null(found.resets_at),
        "retry_after_seconds": wait,
        "resolve": resolve,
        "message": _message(found),
    }


def _resolve(found: Denied) -> str:
    if found.code == "frozen":
        return "contact"
    if found.code == "too_many_open":
        return "wait"
    state = found.state
    if state is None or found.resets_at is None:
        return "upgrade"
    if state.ruled.maximum is not None and found.requested > state.ruled.maximum:
        # Waiting never helps: it is more than a whole window allows.
        return "contact" if state.ruled.source == "operator" else "upgrade"
    return "wait"


def _message(found: Denied) -> str:
    if found.code == "frozen":
        return f"This account is frozen: {found.reason}"
    if found.code == "not_in_plan":
        return f"The plan {found.rules.plan.name} does not include this."
    if found.code == "too_many_open":
        return "Too many reservations are open; commit or release some."
    assert found.state is not None
    limit, maximum = found.state.ruled.limit, found.state.ruled.maximum
    assert maximum is not None
    if limit.concurrent is not None:
        return f"{plain(maximum)} reservations are open, which is the most allowed at once."
    used = plain(maximum - found.remaining)
    unit = ", ".join(found.rules.meters[meter].name for meter in limit.meters)
    window = "" if limit.window is None else _WINDOWS.get(limit.window.name, "")
    return f"You've used {used} out of {plain(maximum)} {unit}{window}; this needs {plain(found.requested)} more."


_WINDOWS = {
    "minute": " this minute",
    "hour": " this hour",
    "day": " today",
    "week": " this week",
    "month": " this month",
    "period": " this billing period",
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
