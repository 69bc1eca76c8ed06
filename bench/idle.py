"""What a stack costs in a month in which nobody calls it: schedules, polling, alarms and metrics.

Schedules and alarms are read from the template. Each scheduled event is run on an empty stack, and its requests, log
lines and metrics are counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.dollars import (
    CALL_MS,
    LAMBDA_REQUESTS,
    LOG_LINE_BYTES,
    LOGS_GB,
    MILLION,
    MINUTES,
    POLLS,
    READ_UNITS,
    REQUEST_MS,
    SCHEDULER,
    SQS_FIFO,
    WRITE_UNITS,
    duration,
)
from bench.report import Listing, Section
from bench.stage import LambdaContext, Stage

# Dollars a month.
ALARM = Decimal("0.10")  # one metric, standard resolution: c3x.dev/resources/aws/aws_cloudwatch_metric_alarm
DASHBOARD = Decimal("3.00")  # a fourth one: AWS gives three
METRIC = Decimal("0.30")  # the first 10,000 of our own: cal53.calculator.city/cloudwatch-custom-metrics-calculator

_RATE = re.compile(r"^rate\((\d+) (minute|day)s?\)$")
_MINUTES = {"minute": 1, "day": 1440}


@dataclass(frozen=True, slots=True)
class Schedule:
    """One rule: the function's folder, the event it is given, and how many minutes lie between two runs."""

    function: str
    event: Any
    minutes: int


@dataclass(slots=True)
class Idle:
    """A month of one function's scheduled runs."""

    runs: int = 0
    requests: int = 0
    write: int = 0
    read: Decimal = Decimal(0)
    log_bytes: int = 0

    @property
    def milliseconds(self) -> int:
        return self.runs * CALL_MS + self.requests * REQUEST_MS


def schedules(resources: dict[str, Any]) -> Iterator[Schedule]:
    """The template's scheduled events. Raises ValueError for a schedule that is no rate in minutes or days."""
    for resource in resources.values():
        properties = resource.get("Properties", {})
        for event in properties.get("Events", {}).values() if resource["Type"] == "AWS::Serverless::Function" else ():
            if event["Type"] == "Schedule":
                rate = _RATE.match(event["Properties"]["Schedule"])
                if rate is None:
                    raise ValueError(f"how often is {event['Properties']['Schedule']}?")
                given = json.loads(event["Properties"]["Input"])
                yield Schedule(Path(properties["CodeUri"]).name, given, int(rate[1]) * _MINUTES[rate[2]])


def consumers(resources: dict[str, Any]) -> list[str]:
    """The folders of functions that a queue feeds."""
    return sorted(
        Path(resource["Properties"]["CodeUri"]).name
        for resource in resources.values()
        if resource["Type"] == "AWS::Serverless::Function"
        and any(event["Type"] == "SQS" for event in resource["Properties"].get("Events", {}).values())
    )


def section(stage: Stage) -> Section:
    """Run every schedule on the stage, which must be empty: no account, no batch."""
    from samtranslator.yaml_helper import yaml_parse

    resources = yaml_parse((ROOT / "template.yaml").read_text())["Resources"]
    alarms = sum(1 for resource in resources.values() if resource["Type"] == "AWS::CloudWatch::Alarm")
    dashboards = sum(1 for resource in resources.values() if resource["Type"] == "AWS::CloudWatch::Dashboard")
    idle: dict[str, Idle] = {}
    metrics: set[tuple[str, str]] = set()
    for schedule in schedules(resources):
        month = idle.setdefault(schedule.function, Idle())
        metrics |= _run(stage, schedule, month)
    rows = [row for function, month in sorted(idle.items()) for row in _rows(function, month)]
    rows += [
        (f"{function}: polling its empty queue", POLLS * MINUTES, POLLS * MINUTES * SQS_FIFO / MILLION)
        for function in consumers(resources)
    ]
    rows += [
        ("alarms", alarms, alarms * ALARM),
        ("dashboards", dashboards, dashboards * DASHBOARD),
        ("metrics of our own", len(metrics), len(metrics) * METRIC),
    ]
    total = sum((row[2] for row in rows), Decimal(0))
    rows.append(("together", "", total))
    return Section(
        "A month in which nobody calls",
        [Listing(("list price", "how many", "dollars a month"), rows)],
        notes=[
            f"Metrics that have values on an empty stack: {', '.join(sorted(name for _, name in metrics))}. The others "
            f"cost ${METRIC} each for a month in which they always have values, and less by the hour.",
            "Not in it: storage of code, logs, rows and backups (cents while there is little of it). The API, the "
            "tables' capacity, SNS and SSM cost nothing without calls. AWS's free tiers are not taken off.",
        ],
        facts={"alarms": alarms, "dashboards": dashboards, "metrics": len(metrics), "dollars_a_month": total},
    )


def _run(stage: Stage, schedule: Schedule, month: Idle) -> set[tuple[str, str]]:
    """Add a schedule's month; returns the metrics that its run emitted."""
    handler = stage.app(schedule.function).handler
    handler(schedule.event, LambdaContext())  # the first run of a container makes its clients
    before = len(stage.logs.lines)
    with stage.ledger.counting() as tally:
        handler(schedule.event, LambdaContext())
    lines = stage.logs.lines[before:]
    runs = MINUTES // schedule.minutes
    month.runs += runs
    month.requests += runs * tally.requests
    month.write += runs * tally.write
    month.read += runs * tally.read
    month.log_bytes += runs * sum(len(line.encode()) + LOG_LINE_BYTES for line in lines)
    return {
        (schedule.function, metric["Name"])
        for line in lines
        if '"_aws"' in line
        for directive in json.loads(line)["_aws"]["CloudWatchMetrics"]
        for metric in directive["Metrics"]
    }


def _rows(function: str, month: Idle) -> list[tuple[str, int | str | Decimal, Decimal]]:
    each = SCHEDULER + LAMBDA_REQUESTS
    return [
        (f"{function}: runs", month.runs, month.runs * each / MILLION + duration(Decimal(month.milliseconds))),
        (f"{function}: read units", month.read, month.read * READ_UNITS / MILLION),
        (f"{function}: write units", month.write, month.write * WRITE_UNITS / MILLION),
        (f"{function}: bytes logged, metrics included", month.log_bytes, month.log_bytes * LOGS_GB / 10**9),
    ]
