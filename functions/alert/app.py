"""alert: scheduled looks for trouble that nothing tells by itself. `{"task": name}` runs one; without it, all run."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from tollgate.alerts.tasks import Task, tasks
from tollgate.undone import undone

logger = Logger()
metrics = Metrics()

RESERVE_MS = 20_000
"""What is left of the function's time when a task stops taking on more."""


@lru_cache(maxsize=1)
def known() -> dict[str, Task]:
    """Made at the first run; the environment decides."""
    return tasks(os.environ)


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, dict[str, int]]:
    """Answers what each task counted, by task. Raises KeyError for a name that is none, and an ExceptionGroup once all
    are done, where some failed."""
    name = event.get("task")
    chosen = known() if name is None else {name: known()[name]}
    answer: dict[str, dict[str, int]] = {}
    failures: list[Exception] = []
    for task, run in chosen.items():
        try:
            done = run(lambda: int(context.get_remaining_time_in_millis()) > RESERVE_MS)
        except Exception as error:  # noqa: BLE001 - one task's failure keeps no other from its run; raised below
            error.add_note(f"task {task}")
            failures.append(error)
            continue
        answer[task] = dict(done.counts)
        failures += done.failures
        if done.trips:
            # Among the gate's own, so that one alarm tells of every trip, whoever found it.
            trips = EphemeralMetrics(service=f"{os.environ['TOLLGATE_STACK']}-gate")
            trips.add_metric(name="BreakerTrips", unit=MetricUnit.Count, value=done.trips)
            trips.flush_metrics()
        if done.counts.get("told"):  # CloudWatch bills a metric by the hours in which it has values
            metrics.add_metric(name="AlertsTold", unit=MetricUnit.Count, value=done.counts["told"])
            logger.info("told", extra={"task": task, **done.counts})
    if failures:
        raise undone(logger, "alert left work undone", failures)
    return answer
