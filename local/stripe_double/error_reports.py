"""Asynchronous meter error reports: meter events that Stripe took with 200 and then did not count.

Failures are collected in windows of ten seconds by meter, and become one event each a moment after the window [docs:
v2 core events, the sample's validation_start, validation_end and created]. Samples are samples: a report may stand
for more events than it shows, so at most five are shown for each code [assumed]. The shapes are the SDK's
`V1BillingMeterErrorReportTriggeredEvent` and `V1BillingMeterNoMeterFoundEvent`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from local.stripe_double.clock import SECOND_MS, rfc3339
from local.stripe_double.ids import derived_id
from local.stripe_double.wire import JsonObject

WINDOW_MS = 10 * SECOND_MS
DELAY_MS = 2 * SECOND_MS
SAMPLES = 5

ERROR_REPORT = "v1.billing.meter.error_report_triggered"
NO_METER = "v1.billing.meter.no_meter_found"


@dataclass(frozen=True)
class Failure:
    """One event that was not counted. `request_identifier` is the request's idempotency key [SDK:
    Request.identifier].
    """

    meter_id: str | None
    code: str
    message: str
    request_identifier: str
    at_ms: int


class ErrorReports:
    """Failures, and the reports they have become by a given time."""

    def __init__(self) -> None:
        self._failures: list[Failure] = []

    def add(self, failure: Failure) -> None:
        self._failures.append(failure)

    def published(self, now_ms: int) -> list[JsonObject]:
        """Every report whose time has come, oldest first. The same failures always make the same event."""
        reports = []
        ordered = sorted(self._failures, key=lambda failure: (failure.at_ms // WINDOW_MS, failure.meter_id or ""))
        for (window, meter_id), failures in groupby(ordered, key=lambda f: (f.at_ms // WINDOW_MS, f.meter_id)):
            end_ms = (window + 1) * WINDOW_MS
            if end_ms + DELAY_MS <= now_ms:
                reports.append(_report(meter_id, end_ms, list(failures)))
        return reports


def _report(meter_id: str | None, end_ms: int, failures: list[Failure]) -> JsonObject:
    error_types = []
    for code, same in groupby(sorted(failures, key=attrgetter("code")), key=attrgetter("code")):
        of_code = list(same)
        samples = [
            {"error_message": failure.message, "request": {"identifier": failure.request_identifier}}
            for failure in of_code[:SAMPLES]
        ]
        error_types.append({"code": code, "error_count": len(of_code), "sample_errors": samples})
    count = len(failures)
    event: JsonObject = {
        "id": derived_id("evt_test", meter_id, end_ms),
        "object": "v2.core.event",
        "context": None,
        "created": rfc3339(end_ms + DELAY_MS),
        "data": {
            "developer_message_summary": "There is 1 invalid event"
            if count == 1
            else f"There are {count} invalid events",
            "reason": {"error_count": count, "error_types": error_types},
            "validation_end": rfc3339(end_ms),
            "validation_start": rfc3339(end_ms - WINDOW_MS),
        },
        "livemode": False,
        "reason": None,
        "type": NO_METER if meter_id is None else ERROR_REPORT,
    }
    if meter_id is not None:
        url = f"/v1/billing/meters/{meter_id}"
        event["related_object"] = {"id": meter_id, "type": "billing.meter", "url": url}
    return event
