"""Tells what is passed: by a write, or by what a gate shows. The outbox takes each mark once."""

from __future__ import annotations

from typing import Protocol

from tollgate.accounts.rules import Rules
from tollgate.alerts.outbox import Outbox
from tollgate.alerts.texts import alert_of
from tollgate.alerts.thresholds import crossed, standing
from tollgate.gate.item import Gate, GateWrite


class KnowingOutbox(Outbox, Protocol):
    def knows(self, alert_id: str) -> bool:
        """Whether the alert was put before. Cheaper than putting it again."""


def tell(outbox: Outbox, rules: Rules, write: GateWrite, gate: Gate, member: str | None, now_ms: int) -> None:
    """Tell what a write passed; `gate` is what it left. A crash before this leaves a gate that says so: `tell_standing`
    finds it."""
    for crossing in crossed(rules, write, gate, member, now_ms // 1000):
        outbox.put(alert_of(rules, crossing, member, now_ms))


def tell_standing(outbox: KnowingOutbox, rules: Rules, gate: Gate, member: str | None, now_ms: int) -> int:
    """Tell what a gate has passed and nobody told; returns how much that was."""
    alerts = [alert_of(rules, crossing, member, now_ms) for crossing in standing(rules, gate, member, now_ms // 1000)]
    return sum(outbox.put(alert) for alert in alerts if not outbox.knows(alert.id))
