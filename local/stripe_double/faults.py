"""Injected trouble: rate limits, errors before and after the effect, lost answers, outages of any length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from local.stripe_double.clock import SECOND_MS

KINDS = frozenset(
    {
        "429",
        "500_before",
        "500_after",
        "timeout_before",
        "timeout_after",
        "connection_reset",
        "status",
    }
)


class BadFault(Exception):
    """A fault that cannot be understood; the message says why."""


@dataclass
class Fault:
    """One fault. `left` None: no end by count; `until_ms` None: no end by time (epoch milliseconds of the double's
    clock).
    """

    kind: str
    method: str | None = None
    path: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None
    reason: str = "global-rate"
    left: int | None = None
    until_ms: int | None = None

    def meets(self, method: str, path: str, params: Mapping[str, str], now_ms: int) -> bool:
        return (
            self.left != 0
            and (self.until_ms is None or now_ms < self.until_ms)
            and (self.method is None or self.method == method)
            and (self.path is None or fnmatchcase(path, self.path))
            and all(params.get(name) == value for name, value in self.params.items())
        )


class Faults:
    """The faults in force. The first one that meets a request is used."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def replace(self, descriptions: object, now_ms: int) -> int:
        """Put these faults in place of all others and say how many; an empty list ends all trouble. Raises BadFault.

        Each is `{"match": {"method"?, "path"?, "params"?}, "kind", "times"?, "until_seconds"?, "status"?,
        "reason"?}`. `path` may hold `*`; `params` compares form names as sent, `{"payload[stripe_customer_id]":
        "cus_1"}`; `until_seconds` counts from now on the double's clock; `status` goes with the kind `status`,
        `reason` (a Stripe-Rate-Limited-Reason) with `429`.
        """
        if not isinstance(descriptions, Sequence) or isinstance(descriptions, str):
            raise BadFault("faults must be a list")
        self._faults = [_read(description, now_ms) for description in descriptions]
        return len(self._faults)

    def take(self, method: str, path: str, params: Mapping[str, str], now_ms: int) -> Fault | None:
        """The fault that this request meets, counted as used."""
        for fault in self._faults:
            if fault.meets(method, path, params, now_ms):
                if fault.left is not None:
                    fault.left -= 1
                return fault
        return None


def _read(description: object, now_ms: int) -> Fault:
    if not isinstance(description, Mapping):
        raise BadFault("a fault must be an object")
    unknown = set(description) - {"match", "kind", "status", "reason", "times", "until_seconds"}
    match = description.get("match") or {}
    if not isinstance(match, Mapping):
        raise BadFault("match must be an object")
    unknown |= {f"match.{name}" for name in set(match) - {"method", "path", "params"}}
    if unknown:
        raise BadFault(f"unknown fields: {', '.join(sorted(unknown))}")
    kind = description.get("kind")
    if kind not in KINDS:
        raise BadFault(f"kind must be one of {', '.join(sorted(KINDS))}")
    status = _whole(description, "status")
    if (kind == "status") != (status is not None):
        raise BadFault("status goes with the kind `status`, and only with it")
    if status is not None and not 400 <= status <= 599:
        raise BadFault("status must lie in 400..599")
    seconds = _whole(description, "until_seconds")
    params = match.get("params") or {}
    if not isinstance(params, Mapping):
        raise BadFault("match.params must be an object")
    return Fault(
        kind=kind,
        method=_word(match, "method"),
        path=_word(match, "path"),
        params={str(name): str(value) for name, value in params.items()},
        status=status,
        reason=_word(description, "reason") or "global-rate",
        left=_whole(description, "times"),
        until_ms=None if seconds is None else now_ms + seconds * SECOND_MS,
    )


def _whole(source: Mapping[str, Any], name: str) -> int | None:
    value = source.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadFault(f"{name} must be a whole number, at least 0")
    return value


def _word(source: Mapping[str, Any], name: str) -> str | None:
    value = source.get(name)
    if value is not None and not isinstance(value, str):
        raise BadFault(f"{name} must be a string")
    return value
