"""The sweep function: every 15 minutes, reclaims expired holds of idle gates, audits counters against events, and tells
the thresholds that nobody told."""

from __future__ import annotations

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from tollgate import wiring
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.alerts.telling import tell_standing
from tollgate.clock import system_clock
from tollgate.gate.store import GateTable
from tollgate.gate.sweep import sweep
from tollgate.gate.sweep_store import AuditLog, GateAudits, SweepCursor
from tollgate.undone import undone

PAGE = 100
MARGIN_MS = 20_000

logger = Logger()
metrics = Metrics()
deps = wiring.gate_deps(os.environ, wiring.rules_table(os.environ))
gates = GateTable(os.environ["TOLLGATE_GATES_TABLE"])
outbox = OutboxTable(os.environ["TOLLGATE_BILLING_TABLE"], system_clock)
cursor = SweepCursor(os.environ["TOLLGATE_BILLING_TABLE"])
audits = AuditLog(os.environ["TOLLGATE_BILLING_TABLE"])


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """`{"audit": false}` in the event only reclaims. Raises an ExceptionGroup at the end, where gates failed."""
    swept, complete = sweep(
        deps,
        lambda start: gates.scan(start, PAGE),
        cursor,
        lambda: context.get_remaining_time_in_millis() > MARGIN_MS,
        audit=bool(event.get("audit", True)),
        look=lambda rules, gate, member: tell_standing(outbox, rules, gate, member, deps.clock()),
    )
    for found in swept.repaired:
        logger.error("counters did not equal events; repaired", subject=found.subject, slots=len(found.changed))
    if swept.audited:  # an idle stack writes nothing
        audits.add(deps.clock(), GateAudits(swept.audited, len(swept.repaired)))
    if swept.reclaimed:  # CloudWatch bills a metric by the hours in which it has values; to the alarms silence is none
        metrics.add_metric("ReclaimedHolds", MetricUnit.Count, swept.reclaimed)
    if swept.repaired:
        metrics.add_metric("RepairedGates", MetricUnit.Count, len(swept.repaired))
    if swept.failures:
        raise undone(logger, "gates could not be swept; each has its turn again", swept.failures)
    return {
        "gates": swept.gates,
        "reclaimed": swept.reclaimed,
        "audited": swept.audited,
        "repaired": len(swept.repaired),
        "complete": complete,
    }
