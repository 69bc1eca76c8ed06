"""`tollgate stripe connect` against the double: both destinations, once, whatever happens in between."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import pytest
from stripe.events import V1BillingMeterErrorReportTriggeredEvent, V1BillingMeterNoMeterFoundEvent
from stripe.params import WebhookEndpointCreateParams

from local.stripe_double.testing import Account, account
from tollgate.stripe_api.client import STRIPE_VERSION
from tollgate.stripe_api.endpoints import StripeDestinations
from tollgate.stripe_api.reading import Connection
from tollgate.webhooks.connect import Destination, Step, apply, fingerprint, plan, wanted
from tollgate.webhooks.dispatch import TYPES

URL = "https://abc.lambda-url.us-east-1.on.aws/"
STACK = "tollgate-dev"
WISHES = wanted(URL, TYPES, STRIPE_VERSION)


class Stored:
    """Secrets in memory."""

    def __init__(self) -> None:
        self.secrets: tuple[str, ...] = ()

    def read(self) -> tuple[str, ...]:
        return self.secrets

    def write(self, secrets: Sequence[str]) -> None:
        self.secrets = tuple(secrets)


@pytest.fixture
def double() -> Iterator[Account]:
    with account() as opened:
        yield opened


@pytest.fixture
def port(double: Account) -> StripeDestinations:
    return StripeDestinations(Connection(lambda: double.client))


def run(port: Any, stored: Any, wishes: Any = WISHES) -> list[str]:
    """One run of the command; what it did."""
    steps = plan(wishes, port.all(), STACK, stored.read())
    apply(port, stored, steps, STACK, lambda step: None)
    return [step.kind for step in steps]


def test_both_destinations_are_made_once(double: Account, port: StripeDestinations) -> None:
    stored = Stored()
    assert run(port, stored) == ["create", "create"]
    assert run(port, stored) == ["match", "match"]
    (endpoint,) = double.client.v1.webhook_endpoints.list().data
    assert (endpoint.url, endpoint.api_version, endpoint.status) == (URL, STRIPE_VERSION, "enabled")
    assert len(stored.secrets) == 2
    assert all(secret.startswith("whsec_") for secret in stored.secrets)
    (thin,) = double.client.v2.core.event_destinations.list().data
    assert (thin.event_payload, sorted(thin.enabled_events)) == (
        "thin",
        ["v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"],
    )


def test_exactly_the_handled_events_are_asked_for_and_stripe_has_them(double: Account) -> None:
    snapshot, thin = WISHES
    assert snapshot.events | thin.events == set(TYPES)
    (names,) = typing.get_args(WebhookEndpointCreateParams.__annotations__["enabled_events"])
    assert snapshot.events <= set(typing.get_args(names))
    assert thin.events == {
        V1BillingMeterErrorReportTriggeredEvent.LOOKUP_TYPE,
        V1BillingMeterNoMeterFoundEvent.LOOKUP_TYPE,
    }


def test_what_was_changed_by_hand_is_put_right(double: Account, port: StripeDestinations) -> None:
    stored = Stored()
    run(port, stored)
    before = {one.id for one in port.all()}
    (endpoint,) = double.client.v1.webhook_endpoints.list().data
    (thin,) = double.client.v2.core.event_destinations.list().data
    double.client.v1.webhook_endpoints.update(endpoint.id, {"enabled_events": ["invoice.paid"], "disabled": True})
    double.client.v2.core.event_destinations.disable(thin.id)
    assert run(port, stored) == ["update", "update"]
    assert run(port, stored) == ["match", "match"]
    elsewhere = wanted("https://new.example.com/", TYPES, STRIPE_VERSION)
    assert run(port, stored, elsewhere) == ["update", "update"]
    assert {one.url for one in port.all()} == {"https://new.example.com/"}
    assert {one.id for one in port.all()} == before, "secrets stay valid"


def test_a_lost_secret_replaces_its_destination(double: Account, port: StripeDestinations) -> None:
    stored = Stored()
    run(port, stored)
    stored.secrets = stored.secrets[:1]
    assert run(port, stored) == ["match", "replace"]
    assert run(port, stored) == ["match", "match"]
    assert len(port.all()) == 2


def test_a_destination_made_by_hand_is_left_alone_and_told_of(double: Account, port: StripeDestinations) -> None:
    double.client.v1.webhook_endpoints.create({"url": URL, "enabled_events": ["invoice.paid"]})
    stored = Stored()
    assert run(port, stored) == ["foreign", "create", "create"]
    assert len(double.client.v1.webhook_endpoints.list().data) == 2


def test_other_stacks_are_left_alone(double: Account, port: StripeDestinations) -> None:
    stored = Stored()
    run(port, stored)
    other = wanted("https://other.example.com/", TYPES, STRIPE_VERSION)
    steps = plan(other, port.all(), "tollgate-prod", ())
    assert [step.kind for step in steps] == ["create", "create"]


class Killed(BaseException):
    """The process is gone."""


class Cut:
    """Dies before or after the call at `place`, counted over both ports."""

    def __init__(self, place: int, after: bool) -> None:
        self.place, self.after, self.made = place, after, 0

    def around(self, port: Any) -> Any:
        cut = self

        class Port:
            def __getattr__(self, name: str) -> Any:
                def call(*given: Any) -> Any:
                    here, cut.made = cut.made == cut.place, cut.made + 1
                    if here and not cut.after:
                        raise Killed
                    done = getattr(port, name)(*given)
                    if here:
                        raise Killed
                    return done

                return call

        return Port()


def test_a_crash_anywhere_is_healed_by_the_next_run(double: Account, port: StripeDestinations) -> None:
    for place in count():
        for after in (False, True):
            with double.double.lock:
                double.double.reset()
            stored = Stored()
            cut = Cut(place, after)
            try:
                run(cut.around(port), cut.around(stored))
            except Killed:
                run(port, stored)
            else:
                assert place >= 10, "nothing was cut"
                return
            assert run(port, stored) == ["match", "match"], (place, after)
            found = port.all()
            assert len(found) == 2
            assert {one.mark for one in found} <= {fingerprint(secret) for secret in stored.secrets}


def test_another_version_cannot_be_changed_and_a_second_destination_is_removed() -> None:
    snapshot, thin = WISHES
    old = Destination("we_1", "snapshot", URL, snapshot.events, "2020-08-27", True, STACK, fingerprint("whsec_a"))
    newer = old._replace(id="we_2", version=STRIPE_VERSION)
    lost = newer._replace(id="we_0", mark=None)
    there = Destination("ed_1", "thin", URL, thin.events, None, True, STACK, fingerprint("whsec_b"))
    secrets = ("whsec_a", "whsec_b")
    assert [(step.kind, step.found) for step in plan(WISHES, (old, there), STACK, secrets)] == [
        ("replace", old),
        ("match", there),
    ]
    assert [(step.kind, step.found) for step in plan(WISHES, (lost, newer, there), STACK, secrets)] == [
        ("match", newer),
        ("remove", lost),
        ("match", there),
    ]


def test_the_steps_say_what_differs() -> None:
    snapshot, _ = WISHES
    assert Step("create", snapshot, None, f"{len(snapshot.events)} event types") in plan(WISHES, (), STACK, ())
