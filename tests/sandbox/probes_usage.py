"""Probes of meter events, their error reports and summaries."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from typing import Any, Final
from uuid import uuid4

import stripe

from tests.sandbox.points import SUMMARY_S, NotProbed, Probe, Seen
from tests.sandbox.side import MeterAt, Probing, Side, said
from tollgate.billing.sink import Accepted, Duplicate, Refused, SendResult
from tollgate.errors import StripeUnavailable
from tollgate.stripe_api.events import StripeEvents
from tollgate.stripe_api.reading import called
from tollgate.webhooks.meter_errors import MeterErrors

D = Decimal
HOUR, DAY = 3_600, 86_400
STEADY_S: Final = 60
"""How long totals have to stay as expected before they are believed: a later event may still arrive."""
AT_ONCE: Final = 8
ROUNDS: Final = 3


def settled(side: Side, read: Callable[[], object], expected: object) -> Probe:
    """Waits until `read` gives what is expected and stays so; whatever it gives at the end is what was seen."""
    came = yield lambda: read() == expected
    if came:
        since = side.now()
        yield lambda: side.now() - since >= STEADY_S
    last = read()
    return Seen(shown(last), last == expected)


def move(side: Side, to: int) -> Generator[Probing, bool, None]:
    """Moves a side with a clock of its own, and waits until it is there."""
    side.time.pass_by(to - side.now())
    if not (yield side.arrived):
        raise NotProbed("the test clock did not arrive in time")


def shown(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(shown(one) for one in value)
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def refusal(result: SendResult, code: str) -> Seen:
    return Seen(said(result), isinstance(result, Refused) and result.code == code)


def identifier_scope(side: Side) -> Seen:
    meter, other = side.meter("sum"), side.meter("other")
    customer, stranger = side.customer(), side.customer()
    at, identifier = side.minute(), side.name("event")
    assert side.send(meter, customer, "1", at, identifier) == Accepted()
    same = side.send(meter, customer, "1", at, identifier) == Duplicate()
    by_customer = side.send(meter, stranger, "1", at, identifier) == Duplicate()
    by_meter = side.send(other, customer, "1", at, identifier) == Duplicate()
    scope = {
        (True, True, True): "unique in the whole account",
        (True, True, False): "unique in a meter, whatever the customer",
        (True, False, True): "unique for a customer, whatever the meter",
        (True, False, False): "unique for a customer and meter",
    }.get((same, by_customer, by_meter), "not unique at all")
    return Seen(scope, same and by_customer and by_meter)


def identifier_later(side: Side) -> Probe:
    if side.real:
        raise NotProbed("takes more than a day")
    aside = side.on_clock()
    meter, customer, begun, identifier = aside.meter("later"), aside.customer(), aside.now(), side.name("event")
    assert aside.send(meter, customer, "1", begun, identifier) == Accepted()
    yield from move(aside, begun + DAY)
    result = aside.send(meter, customer, "1", begun, identifier)
    return Seen(f"{said(result)} after 24 hours", result == Accepted())


def timestamp_ahead(side: Side) -> Seen:
    return refusal(side.send(side.meter("sum"), side.customer(), "1", side.now() + 600), "timestamp_in_future")


def timestamp_old(side: Side) -> Seen:
    at = side.now() - 36 * DAY
    return refusal(side.send(side.meter("sum"), side.customer(), "1", at), "timestamp_too_old")


def digits(side: Side) -> Seen:
    result = side.send(side.meter("sum"), side.customer(), "1234567890.123456", side.minute())
    return refusal(result, "too_many_digits")


def no_meter(side: Side) -> Seen:
    nowhere = MeterAt("", side.name("nothing"))
    return refusal(side.send(nowhere, side.customer(), "1", side.minute()), "no_active_meter")


def meter_archived(side: Side) -> Seen:
    meter = side.meter("archived")
    side.archive(meter.id)
    return refusal(side.send(meter, side.customer(), "1", side.minute()), "no_active_meter")


def customer_unknown(side: Side) -> Probe:
    return (yield from _reported(side, f"cus_{side.run}none"))


def customer_deleted(side: Side) -> Probe:
    customer = side.customer()
    side.asked(lambda client: client.v1.customers.delete(customer))
    return (yield from _reported(side, customer))


CODE: Final = "meter_event_customer_not_found"


def _reported(side: Side, customer: str) -> Probe:
    meter = side.meter("sum")
    result = side.send(meter, customer, "1", side.minute())
    if result != Accepted():
        return Seen(said(result), False)
    begun = side.now()
    if not (yield lambda: bool(_reports(side, meter))):
        return Seen(f"taken, and no error report within {side.now() - begun} s", False)
    codes = _reports(side, meter)[0].codes
    return Seen(f"taken; after {side.now() - begun} s a report: {shown(codes)}", codes == (CODE,))


def _reports(side: Side, meter: MeterAt) -> list[MeterErrors]:
    params: Any = {"types": ["v1.billing.meter.error_report_triggered"], "object_id": meter.id, "limit": 20}
    found = side.asked(lambda client: client.v2.core.events.list(params))
    events = StripeEvents(side.stripe)
    return [events.meter_errors(event.id) for event in found.data]


def report_request(side: Side) -> Probe:
    meter = side.meter("sum")
    event = side.event(meter, f"cus_{side.run}none", "1", side.minute())
    result = side.sink.send(event)
    if result != Accepted():
        raise NotProbed(f"the event for an unknown customer was {said(result)}")
    if not (yield lambda: bool(_reports(side, meter))):
        raise NotProbed("no error report came")
    report = _reports(side, meter)[0]
    named = [identifier for _, identifier in report.samples]
    raw = side.asked(lambda client: client.v2.core.events.retrieve(report.event)).to_dict()
    request = raw["data"]["reason"]["error_types"][0]["sample_errors"][0].get("request")
    kind = {event.identifier: "the identifier", event.idempotency_key: "the Idempotency-Key"}
    fields = ", ".join(f"{name} is {kind.get(str(value), value)}" for name, value in dict(request or {}).items())
    return Seen(f"request: {fields or 'nothing'}", named == [event.identifier])


def summary_freshness(side: Side) -> Probe:
    meter, customer, at = side.meter("sum"), side.customer(), side.minute()
    side.count(meter, customer, "1", at)
    begun = side.now()
    came = yield lambda: side.total(meter, customer, at, at + 60) == 1
    after = side.now() - begun
    return Seen(f"{'after at most' if came else 'not within'} {after} s", came and after <= SUMMARY_S)


def summary_edge(side: Side) -> Probe:
    meter, customer, at = side.meter("sum"), side.customer(), side.minute()
    for value, second in (("1", at), ("2", at + 59), ("4", at + 60)):
        side.count(meter, customer, value, second)
    if not (yield lambda: side.total(meter, customer, at, at + 120) == 7):
        raise NotProbed("the summaries did not show the usage in time")
    found = side.total(meter, customer, at, at + 60), side.total(meter, customer, at + 60, at + 120)
    words = {(D(3), D(4)): "first second in, last one out", (D(7), D(4)): "the last second is in both"}
    return Seen(words.get(found, f"{shown(found)} in place of 3, 4"), found == (D(3), D(4)))


def pre_aggregated_customer(side: Side) -> Probe:
    meter, one, other = side.meter("hourly", window="hour"), side.customer(), side.customer()
    hour = side.now() // HOUR * HOUR - HOUR
    for customer, value, second in ((one, "5", 60), (one, "7", 120), (other, "11", 180)):
        side.count(meter, customer, value, hour + second)
    return (
        yield from settled(
            side, lambda: [side.total(meter, customer, hour, hour + HOUR) for customer in (one, other)], [D(7), D(11)]
        )
    )


def pre_aggregated_order(side: Side) -> Probe:
    meter, customer = side.meter("hourly", window="hour"), side.customer()
    hour = side.now() // HOUR * HOUR - HOUR
    for value, second in (("5", 1_800), ("9", 600), ("2", -600)):
        side.count(meter, customer, value, hour + second)
    hours = ((hour - HOUR, hour), (hour, hour + HOUR), (hour - HOUR, hour + HOUR))
    return (
        yield from settled(
            side, lambda: [side.total(meter, customer, *bounds) for bounds in hours], [D(2), D(9), D(11)]
        )
    )


def last(side: Side) -> Probe:
    meter, customer, at = side.meter("last", "last"), side.customer(), side.minute()
    side.count(meter, customer, "5", at + 30)
    side.count(meter, customer, "9", at + 10)
    return (yield from settled(side, lambda: side.total(meter, customer, at, at + 60), D(5)))


def last_same_second(side: Side) -> Probe:
    meter, customer, at = side.meter("last", "last"), side.customer(), side.minute()
    side.count(meter, customer, "9", at)
    side.count(meter, customer, "5", at)
    return (yield from settled(side, lambda: side.total(meter, customer, at, at + 60), D(5)))


def duplicate(side: Side) -> Probe:
    meter, customer, at, identifier = side.meter("sum"), side.customer(), side.minute(), side.name("event")
    side.send(meter, customer, "5", at, identifier)
    again = side.send(meter, customer, "5", at, identifier)
    seen = yield from settled(side, lambda: side.total(meter, customer, at, at + 60), D(5))
    return Seen(f"{said(again)}; the total is {seen.text}", seen.agrees and again == Duplicate())


def decimals(side: Side) -> Probe:
    return (yield from _adds_up(side, ("123456789.012345", "0.000001", "0.1"), D("123456789.112346")))


def negative(side: Side) -> Probe:
    return (yield from _adds_up(side, ("10", "-4"), D(6)))


def _adds_up(side: Side, values: tuple[str, ...], total: Decimal) -> Probe:
    meter, customer, at = side.meter("sum"), side.customer(), side.minute()
    for value in values:
        side.count(meter, customer, value, at)
    return (yield from settled(side, lambda: side.total(meter, customer, at, at + 60), total))


def cancel(side: Side) -> Probe:
    meter, customer, at, identifier = side.meter("sum"), side.customer(), side.minute(), side.name("event")
    side.send(meter, customer, "5", at, identifier)
    side.count(meter, customer, "2", at)
    if not (yield lambda: side.total(meter, customer, at, at + 60) == 7):
        raise NotProbed("the summaries did not show the usage in time")
    assert side.totals.cancel(meter.event_name, identifier), "Stripe refuses to cancel an event"
    again = side.totals.cancel(meter.event_name, identifier)
    seen = yield from settled(side, lambda: side.total(meter, customer, at, at + 60), D(2))
    return Seen(f"the total is {seen.text}; again: {'taken' if again else 'refused'}", seen.agrees and not again)


def concurrency(side: Side) -> Probe:
    """The one probe that makes calls at one time for a customer and meter: that is what it asks about."""
    meter, customer, at = side.meter("sum"), side.customer(), side.minute()
    client, together = side.connect(), Barrier(AT_ONCE)

    def calls() -> list[str]:
        return [_call(side, client, together, meter, customer, at) for _ in range(ROUNDS)]

    with ThreadPoolExecutor(AT_ONCE) as threads:
        results = [
            one for calls_of_one in [threads.submit(calls) for _ in range(AT_ONCE)] for one in calls_of_one.result()
        ]
    taken, refused = results.count(""), sorted({result for result in results if result})
    if not refused:
        raise NotProbed(f"{len(results)} calls, {AT_ONCE} at a time, were all taken: no limit showed")
    seen = yield from settled(side, lambda: side.total(meter, customer, at, at + 60), D(taken))
    text = f"{taken} of {len(results)} taken, {seen.text} counted; refused: {shown(refused)}"
    return Seen(text, seen.agrees and refused == ["429 endpoint-concurrency"])


def _call(side: Side, client: stripe.StripeClient, together: Barrier, meter: MeterAt, customer: str, at: int) -> str:
    """How a call of a burst was refused; empty where it was taken."""
    params: Any = {
        "event_name": meter.event_name,
        "identifier": f"{side.run}{uuid4().hex}",
        "timestamp": at,
        "payload": {"stripe_customer_id": customer, "value": "1"},
    }
    together.wait(30)
    try:
        called(lambda: client.v1.billing.meter_events.create(params))
    except StripeUnavailable as refused:
        return f"{refused.http_status} {refused.reason}"
    return ""


def clock_timestamps(side: Side) -> Probe:
    aside = side.on_clock()
    meter, customer, begun = aside.meter("sum"), aside.customer(), aside.now()
    yield from move(aside, begun + 10 * DAY)
    at = aside.now() // 60 * 60 - 60
    result = aside.send(meter, customer, "1", at)
    if result != Accepted():
        return Seen(f"ten days ahead, where the clock is: {said(result)}", False)
    counted = yield lambda: aside.total(meter, customer, at, at + 60) == 1
    return Seen(f"ten days ahead, where the clock is: taken, {'' if counted else 'not '}counted", counted)
