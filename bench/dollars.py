"""List price of a million calls, from what was counted: API Gateway to Stripe, logs included.

Prices are those of us-east-1 without free tiers, savings or discounts. What a count cannot tell is assumed, and every
assumption is printed with the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from bench.billing import PAIRS, WindowCost
from bench.calls import Counted, Minutes
from bench.report import Check, Listing, Section

MILLION = Decimal(1_000_000)
BUDGET = Decimal(5)
BATCHED_BUDGET = Decimal("1.5")

# Dollars a million unless said otherwise.
HTTP_API = Decimal("1.00")  # requests up to 512 KB: aws.amazon.com/api-gateway/pricing, checked 2025-12
LAMBDA_REQUESTS = Decimal("0.20")  # cloudchipr.com/blog/aws-lambda-pricing, checked 2026-05
LAMBDA_GB_SECOND = Decimal("0.0000133334")  # arm64, one second of 1 GB; same page
WRITE_UNITS = Decimal("0.625")  # on demand: airbyte.com/data-engineering-resources/dynamodb-pricing, 2025-07
READ_UNITS = Decimal("0.125")  # same page
SQS_FIFO = Decimal("0.50")  # cloudburn.io/blog/amazon-sqs-pricing, 2026-03 (standard queues 0.40)
SCHEDULER = Decimal("1.00")  # cloudburn.io/blog/amazon-eventbridge-pricing, 2026-03; an upper bound for rules
LOGS_GB = Decimal("0.50")  # CloudWatch Logs, ingestion of one GB

MEMORY_GB = Decimal("0.5")
LOG_LINE_BYTES = 26
"""CloudWatch counts so many bytes more for each event."""
CALL_MS = 3
"""Assumed time of a call beside its requests to DynamoDB."""
CPU_MS = 3
"""Assumed CPU time of one request to DynamoDB at the 0.29 vCPU that 512 MB buy; `bench.cpu` measures it."""
REQUEST_MS = 5 + CPU_MS
"""Assumed time of one request to DynamoDB: 5 ms of waiting, and its CPU."""
FLUSH_MS = 400
"""Assumed time of a flush beside its requests to DynamoDB: one call to Stripe."""
START_MS = 1_200
STARTS = Decimal(1) / 1_000
"""Assumed cold starts: one in a thousand calls, each billed for its initialisation."""
MONTH = 10_000_000
"""Assumed size of the stack: calls (pairs, or events) a month, over which the fixed costs are spread."""
CONTAINERS = 2
"""Assumed containers that an active account's calls meet: each reads the rules once a minute."""
WINDOW_MINUTES = 5
MINUTES = 30 * 24 * 60
POLLS = 15
"""Receives a minute of an idle queue: five pollers, 20 s each."""


@dataclass(frozen=True, slots=True)
class Line:
    what: str
    dollars: Decimal
    """A million pairs or events."""


def section(found: Counted, minutes: Minutes, window: WindowCost, logged: int) -> Section:
    """The price of reserve + commit and of batched usage. `logged`: bytes logged by a reserve and its commit."""
    pair = _pair(found, minutes, window, logged)
    plain = _batched(found, minutes, window, "usage: 100 events, ids no UUIDv7")
    batched = _batched(found, minutes, window, "usage: 100 events of one account")
    rows = [
        (line.what, line.dollars, batch.dollars, other.dollars)
        for line, batch, other in zip(pair, batched, plain, strict=True)
    ]
    total, total_batched, total_plain = (
        sum((line.dollars for line in lines), Decimal(0)) for lines in (pair, batched, plain)
    )
    rates = [
        (
            f"{rate} in a window of 5 min",
            sum((line.dollars for line in _pair(found, minutes, window, logged, rate)), Decimal(0)),
        )
        for rate in (5, 15, PAIRS, 300, 3000)
    ]
    answer_bytes = found.answer_bytes["reserve"] + found.answer_bytes["commit"]
    columns = ("dollars a million", "reserve + commit", "usage, batches of 100", "the same, ids no UUIDv7")
    return Section(
        "List price",
        [
            Listing(columns, [*rows, ("together", total, total_batched, total_plain)]),
            Listing(("how often an account reserves and commits", "dollars a million pairs"), rates),
        ],
        [
            Check("a million of reserve + commit", total, BUDGET, "dollars"),
            Check("a million events in batches of 100, one account", total_batched, BATCHED_BUDGET, "dollars"),
            Check("the same, ids that are no UUIDv7", total_plain, BATCHED_BUDGET, "dollars"),
        ],
        [
            f"Assumed: {MONTH:,} pairs (or events) a month; an active account has {PAIRS} pairs (or {PAIRS * 100:,} "
            f"events) in a seal window of 5 min, on one meter, met by {CONTAINERS} containers, with a limit a minute.",
            f"Assumed durations: {CALL_MS} ms a call and {REQUEST_MS} ms a request to DynamoDB (5 ms waiting, 3 ms "
            f"CPU at 0.29 vCPU), {FLUSH_MS} ms a Stripe call; one cold start of {START_MS} ms in 1,000 calls; 512 MB, "
            "arm64.",
            "Not in it: storage and its backups (what is kept, not what is called), metrics and alarms (a fixed sum), "
            f"Stripe's own fees, and data out (the answers of a million pairs: {Decimal(answer_bytes) / 1000:.1f} GB; "
            "the first 100 GB a month cost nothing, then $0.09 each).",
        ],
        {"answer_bytes": answer_bytes, "logged_bytes": logged},
    )


def _pair(found: Counted, minutes: Minutes, window: WindowCost, logged: int, rate: int = PAIRS) -> list[Line]:
    """`rate`: pairs of one account in a seal window."""
    reserve, commit = found["reserve"], found["commit"]
    requests = reserve.requests + commit.requests
    write, read = Decimal(reserve.write + commit.write), reserve.read + commit.read
    return _lines(
        minutes,
        window,
        calls=Decimal(2),
        milliseconds=Decimal(2 * CALL_MS + requests * REQUEST_MS),
        write=write,
        read=read,
        log_bytes=Decimal(logged),
        each_window=rate,
    )


def _batched(found: Counted, minutes: Minutes, window: WindowCost, name: str) -> list[Line]:
    batch = found[name]
    return _lines(
        minutes,
        window,
        calls=Decimal(1) / 100,
        milliseconds=Decimal(CALL_MS + batch.requests * REQUEST_MS) / 100,
        write=Decimal(batch.write) / 100,
        read=batch.read / 100,
        log_bytes=Decimal(0),
        each_window=PAIRS * 100,
    )


def _lines(
    minutes: Minutes,
    window: WindowCost,
    *,
    calls: Decimal,
    milliseconds: Decimal,
    write: Decimal,
    read: Decimal,
    log_bytes: Decimal,
    each_window: int,
) -> list[Line]:
    """The lines of one pair or event, times a million. `each_window`: how many share a window's sealing."""
    seal, flush, idle = window.seal, window.flush, window.idle
    share = Decimal(1) / each_window
    a_window = Decimal(WINDOW_MINUTES) / minutes.minutes
    markers_and_rolls = share * min(1 + a_window * minutes.extra, Decimal(each_window))
    rules = share * min(a_window * minutes.rules * CONTAINERS, Decimal(each_window))
    # Seal reads every row once; the measured window held a few, so what they took is left out and added row by row.
    row_units = Decimal(window.row_bytes) / 4096
    seal_read = max(seal.read - PAIRS * row_units, Decimal(0))
    sealing_ms = seal.requests * REQUEST_MS + flush.requests * REQUEST_MS + FLUSH_MS
    log = sum(len(line.encode()) + LOG_LINE_BYTES for line in window.log_lines)
    return [
        Line("API Gateway", calls * HTTP_API),
        Line("Lambda requests", calls * LAMBDA_REQUESTS),
        Line("Lambda duration", MILLION * duration(milliseconds + calls * STARTS * START_MS)),
        Line("DynamoDB writes", write * WRITE_UNITS),
        Line("markers, windows rolled over", markers_and_rolls * WRITE_UNITS),
        Line("DynamoDB reads: rules", (read + rules) * READ_UNITS),
        Line("seal and flush: DynamoDB writes", share * (seal.write + flush.write) * WRITE_UNITS),
        Line("seal and flush: DynamoDB reads", (row_units + share * (seal_read + flush.read)) * READ_UNITS),
        Line(
            "seal and flush: Lambda, SQS",
            share * (LAMBDA_REQUESTS + 3 * SQS_FIFO + MILLION * duration(Decimal(sealing_ms))),
        ),
        Line("logs and metrics", MILLION * (log_bytes + share * log) / 10**9 * LOGS_GB),
        Line("fixed: schedules, idle seals, polling", MILLION / MONTH * _fixed(idle.requests, idle.read)),
    ]


def _fixed(requests: int, read: Decimal) -> Decimal:
    """Dollars a month of a stack that nobody calls."""
    runs = 4 * MINUTES
    each = (SCHEDULER + LAMBDA_REQUESTS) / MILLION
    idle_ms = Decimal(requests * REQUEST_MS + 4 * CALL_MS)
    polling = POLLS * MINUTES * SQS_FIFO / MILLION
    return runs * each + MINUTES * (read * READ_UNITS / MILLION + duration(idle_ms)) + polling


def duration(milliseconds: Decimal) -> Decimal:
    """Dollars of so many billed milliseconds at 512 MB."""
    return milliseconds / 1000 * MEMORY_GB * LAMBDA_GB_SECOND
