from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest
import requests
import stripe
from hypothesis import given, settings
from hypothesis import strategies as st

from local.stripe_double import customers, meters
from local.stripe_double.event_summaries import LIST, list_all
from local.stripe_double.meter_events import create
from local.stripe_double.operations import Call
from local.stripe_double.state import Double
from local.stripe_double.testing import NOON, Account
from local.stripe_double.wire import to_json

MINUTE, HOUR, DAY = 60, 3_600, 86_400
MIDNIGHT = NOON - 12 * HOUR


def summaries(
    stripe_account: Account, meter: str, customer: str, start: int, end: int, **more: Any
) -> stripe.ListObject[stripe.billing.MeterEventSummary]:
    params: Any = {"customer": customer, "start_time": start, "end_time": end, **more}
    return stripe_account.client.v1.billing.meters.event_summaries.list(meter, params)


def test_a_summary_has_the_sdks_fields(stripe_account: Account) -> None:
    meter, customer = stripe_account.meter(), stripe_account.customer()
    stripe_account.send(customer, "1.25")
    stripe_account.send(customer, "2")
    found = summaries(stripe_account, meter, customer, NOON, NOON + MINUTE)
    assert (len(found.data), found.has_more) == (1, False)
    fields = {name for name in stripe.billing.MeterEventSummary.__annotations__ if name != "OBJECT_NAME"}
    summary = found.data[0]
    assert set(summary.to_dict()) == fields
    assert (summary.aggregated_value, summary.start_time, summary.end_time, summary.meter) == (
        3.25,
        NOON,
        NOON + MINUTE,
        meter,
    )


def test_start_is_inclusive_and_end_exclusive(stripe_account: Account) -> None:
    meter, customer = stripe_account.meter(), stripe_account.customer()
    for timestamp, value in ((NOON - 61, "1"), (NOON - 60, "10"), (NOON - 1, "100"), (NOON, "1000")):
        stripe_account.send(customer, value, timestamp=timestamp)
    assert stripe_account.total(meter, customer, NOON - 60, NOON) == 110


def test_customers_and_meters_do_not_mix(stripe_account: Account) -> None:
    meter, other_meter = stripe_account.meter(), stripe_account.meter("llm_tokens")
    customer, other = stripe_account.customer(), stripe_account.customer()
    stripe_account.send(customer, "1")
    stripe_account.send(other, "10")
    stripe_account.send(customer, "100", event_name="llm_tokens")
    assert stripe_account.total(meter, customer, NOON, NOON + 60) == 1
    assert stripe_account.total(meter, other, NOON, NOON + 60) == 10
    assert stripe_account.total(other_meter, customer, NOON, NOON + 60) == 100
    assert stripe_account.total(other_meter, other, NOON, NOON + 60) is None


@pytest.mark.parametrize(
    ("start", "end", "grouping", "param"),
    [
        (NOON + 1, NOON + 60, None, "start_time"),
        (NOON, NOON + 59, None, "end_time"),
        (NOON + 60, NOON + 7200, "hour", "start_time"),
        (NOON, NOON + 90 * 60, "hour", "end_time"),
        (NOON, NOON + DAY, "day", "start_time"),
        (MIDNIGHT, NOON, "day", "end_time"),
        (NOON, NOON, None, "end_time"),
        (NOON, NOON - 60, None, "end_time"),
        (0, NOON, None, "start_time"),
    ],
)
def test_misaligned_and_empty_ranges_are_refused(
    stripe_account: Account, start: int, end: int, grouping: str | None, param: str
) -> None:
    meter, customer = stripe_account.meter(), stripe_account.customer()
    more = {"value_grouping_window": grouping} if grouping else {}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        summaries(stripe_account, meter, customer, start, end, **more)
    assert (refused.value.http_status, refused.value.param) == (400, param)


@pytest.mark.parametrize("grouping", ["month", "week", "minute"])
def test_only_hour_and_day_group(stripe_account: Account, grouping: str) -> None:
    meter, customer = stripe_account.meter(), stripe_account.customer()
    with pytest.raises(stripe.InvalidRequestError):
        summaries(stripe_account, meter, customer, MIDNIGHT, MIDNIGHT + DAY, value_grouping_window=grouping)


def test_groups_come_newest_first_without_empty_ones_and_in_pages(stripe_account: Account) -> None:
    meter, customer = stripe_account.meter(), stripe_account.customer()
    for hours_ago in (0, 1, 3, 30):
        stripe_account.send(customer, str(hours_ago + 1), timestamp=NOON - hours_ago * HOUR)
    hourly = summaries(
        stripe_account, meter, customer, NOON - 30 * HOUR, NOON + HOUR, value_grouping_window="hour", limit=3
    )
    assert [(row.start_time, row.aggregated_value) for row in hourly.data] == [
        (NOON, 1),
        (NOON - HOUR, 2),
        (NOON - 3 * HOUR, 4),
    ]
    assert hourly.has_more
    assert all(row.end_time - row.start_time == HOUR for row in hourly.data)
    assert [row.aggregated_value for row in hourly.auto_paging_iter()] == [1, 2, 4, 31]
    daily = summaries(stripe_account, meter, customer, MIDNIGHT - DAY, MIDNIGHT + DAY, value_grouping_window="day").data
    assert [(row.start_time, row.aggregated_value) for row in daily] == [(MIDNIGHT, 7), (MIDNIGHT - DAY, 31)]


def test_the_default_page_has_ten(stripe_account: Account) -> None:
    meter, customer = stripe_account.meter(), stripe_account.customer()
    for hours_ago in range(12):
        stripe_account.send(customer, timestamp=NOON - hours_ago * HOUR)
    found = summaries(stripe_account, meter, customer, NOON - DAY, NOON + HOUR, value_grouping_window="hour")
    assert (len(found.data), found.has_more) == (10, True)
    rest = summaries(
        stripe_account,
        meter,
        customer,
        NOON - DAY,
        NOON + HOUR,
        value_grouping_window="hour",
        starting_after=found.data[-1].id,
    )
    assert (len(rest.data), rest.has_more) == (2, False)


def test_an_event_shows_after_the_lag(stripe_account: Account) -> None:
    stripe_account.control("settings", {"lag_seconds": 90})
    meter, customer = stripe_account.meter(), stripe_account.customer()
    stripe_account.send(customer, "5", timestamp=NOON)
    stripe_account.advance(89)
    assert stripe_account.total(meter, customer, NOON, NOON + 60) is None
    stripe_account.send(customer, "7", timestamp=NOON)
    stripe_account.advance(1)
    assert stripe_account.total(meter, customer, NOON, NOON + 60) == 5
    stripe_account.advance(90)
    assert stripe_account.total(meter, customer, NOON, NOON + 60) == 12


def test_an_event_before_35_days_can_still_be_read(stripe_account: Account) -> None:
    meter, customer = stripe_account.meter(), stripe_account.customer()
    stripe_account.send(customer, "5")
    stripe_account.advance(400 * DAY)
    assert stripe_account.total(meter, customer, NOON - NOON % DAY, NOON + 399 * DAY) == 5


def test_count_and_last(stripe_account: Account) -> None:
    count, last = stripe_account.meter("calls", "count"), stripe_account.meter("seats", "last")
    customer = stripe_account.customer()
    create_event = stripe_account.client.v1.billing.meter_events.create
    create_event({"event_name": "calls", "payload": {"stripe_customer_id": customer}})
    stripe_account.send(customer, "50", event_name="calls")
    assert stripe_account.total(count, customer, NOON, NOON + 60) == 2
    stripe_account.send(customer, "9", event_name="seats", timestamp=NOON + 30)
    stripe_account.send(customer, "4", event_name="seats", timestamp=NOON + 10)
    assert stripe_account.total(last, customer, NOON, NOON + 60) == 9
    stripe_account.send(customer, "6", event_name="seats", timestamp=NOON + 30)
    assert stripe_account.total(last, customer, NOON, NOON + 60) == 6


@pytest.mark.parametrize(("window", "size"), [("hour", HOUR), ("day", DAY)])
def test_in_a_pre_aggregated_meter_the_last_received_event_of_a_window_counts(
    stripe_account: Account, window: str, size: int
) -> None:
    meter, customer = stripe_account.meter(event_time_window=window), stripe_account.customer()
    other = stripe_account.customer()
    start = NOON // size * size
    stripe_account.send(customer, "5", timestamp=start + 50, identifier="a")
    stripe_account.send(customer, "9", timestamp=start + 10, identifier="b")
    stripe_account.send(customer, "100", timestamp=start - 1, identifier="c")
    stripe_account.send(other, "1000", timestamp=start + 20, identifier="d")
    assert stripe_account.total(meter, customer, start - size, start + size) == 109
    rows = stripe_account.look("meter_events")["data"]
    assert [(row["identifier"], row["reason"]) for row in rows] == [
        ("a", "superseded"),
        ("b", None),
        ("c", None),
        ("d", None),
    ]
    # A range that cuts through the hour sees neither what was superseded nor what lies outside it.
    if window == "hour":
        assert stripe_account.total(meter, customer, start, start + 60) == 9
        stripe_account.send(customer, "11", timestamp=start + 120)
        assert stripe_account.total(meter, customer, start, start + 60) is None
        assert stripe_account.total(meter, customer, start + 120, start + 180) == 11


def test_an_unknown_customer_is_a_400_and_an_unknown_meter_a_404(stripe_account: Account) -> None:
    meter, customer = stripe_account.meter(), stripe_account.customer()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        summaries(stripe_account, meter, "cus_none", NOON, NOON + 60)
    assert (refused.value.http_status, refused.value.code, refused.value.param) == (400, "resource_missing", "customer")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        summaries(stripe_account, "mtr_none", customer, NOON, NOON + 60)
    assert refused.value.http_status == 404


def test_a_deleted_customers_past_usage_stays(stripe_account: Account) -> None:
    meter, customer = stripe_account.meter(), stripe_account.customer()
    stripe_account.send(customer, "5")
    stripe_account.client.v1.customers.delete(customer)
    assert stripe_account.total(meter, customer, NOON, NOON + 60) == 5


def test_the_value_goes_out_as_an_exact_json_number(stripe_account: Account) -> None:
    meter, customer = stripe_account.meter(), stripe_account.customer()
    for value in ("999999999999999", "0.000000000000001", "0.1", "0.2"):
        stripe_account.send(customer, value)
    raw = requests.get(
        f"{stripe_account.url}/v1/billing/meters/{meter}/event_summaries",
        params={"customer": customer, "start_time": str(NOON), "end_time": str(NOON + 60)},
        headers={"Authorization": "Bearer sk_test_x"},
        timeout=5,
    ).text
    assert '"aggregated_value": 999999999999999.300000000000001,' in raw


@given(
    st.lists(
        st.decimals(min_value=-(10**14), max_value=10**14, allow_nan=False, places=6).filter(
            lambda value: len(str(abs(value)).replace(".", "").lstrip("0")) <= 15
        ),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=50, deadline=None)
def test_sums_are_exact(values: list[Decimal]) -> None:
    double, meter, customer = bare_double()
    for value in values:
        send(double, customer, format(value, "f"), NOON)
    total = summed(double, meter, customer, NOON, NOON + 60)
    scaled = sum(int(value.scaleb(6)) for value in values)
    assert total == Decimal(scaled).scaleb(-6)
    assert "e" not in to_json(total).lower()


def test_summaries_stay_fast_with_100_000_events() -> None:
    double, meter, customer = bare_double()
    others = [add_customer(double) for _ in range(9)]
    for number in range(100_000):
        whose = customer if number % 10 == 0 else others[number % 9]
        send(double, whose, "0.000001", NOON - (number * 37) % (30 * DAY))
    started = time.perf_counter()
    for _ in range(20):
        total = summed(double, meter, customer, NOON - 30 * DAY, NOON + 60)
    whole = (time.perf_counter() - started) / 20
    assert total == Decimal("0.01")
    started = time.perf_counter()
    for _ in range(20):
        summed(double, meter, customer, NOON - DAY, NOON)
    day = (time.perf_counter() - started) / 20
    print(f"10,000 events of 100,000: {whole * 1000:.2f} ms; one day of them: {day * 1000:.2f} ms")
    assert whole < 0.25
    assert day < whole


def bare_double() -> tuple[Double, str, str]:
    """State without a server: what many thousand events are put through."""
    double = Double(lambda: NOON * 1000)
    view = meters.create(
        double,
        Call(
            {},
            {"display_name": "c", "event_name": "ai_credits", "default_aggregation": {"formula": "sum"}},
            "/v1/billing/meters",
        ),
    )
    return double, view["id"], add_customer(double)


def add_customer(double: Double) -> str:
    customer_id: str = customers.create(double, Call({}, {}, "/v1/customers"))["id"]
    return customer_id


def send(double: Double, customer: str, value: str, timestamp: int) -> None:
    payload = {"stripe_customer_id": customer, "value": value}
    params = {"event_name": "ai_credits", "payload": payload, "timestamp": timestamp}
    create(double, Call({}, params, "/v1/billing/meter_events"))


def summed(double: Double, meter: str, customer: str, start: int, end: int) -> Decimal:
    params = LIST.read({"customer": customer, "start_time": str(start), "end_time": str(end)})
    answer = list_all(double, Call({"id": meter}, params, ""))
    value = answer["data"][0]["aggregated_value"]
    assert isinstance(value, Decimal)
    return value
