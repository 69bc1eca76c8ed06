from __future__ import annotations

from typing import Any, cast

import pytest
import stripe

from local.stripe_double.testing import NOON, Account
from local.stripe_double.wire import API_VERSION

URL = "https://example.com/stripe"
THIN = ["v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"]


def destination(stripe_account: Account, **more: Any) -> Any:
    params = {
        "name": "tollgate",
        "type": "webhook_endpoint",
        "event_payload": "thin",
        "enabled_events": THIN,
        "webhook_endpoint": {"url": URL},
        **more,
    }
    return stripe_account.client.v2.core.event_destinations.create(cast(Any, params))


def test_an_endpoint_shows_its_secret_once(stripe_account: Account) -> None:
    endpoints = stripe_account.client.v1.webhook_endpoints
    made = endpoints.create(
        {"url": URL, "enabled_events": ["invoice.paid"], "api_version": "2026-10-28.endive", "metadata": {"a": "1"}}
    )
    assert made.secret is not None
    assert made.secret.startswith("whsec_")
    seen = endpoints.retrieve(made.id)
    assert seen.to_dict() == {name: value for name, value in made.to_dict().items() if name != "secret"}
    assert (seen.api_version, seen.status, seen.created, seen.url) == (API_VERSION, "enabled", NOON, URL)
    assert seen.enabled_events == ["invoice.paid"]
    assert [one.id for one in endpoints.list().data] == [made.id]


def test_an_endpoint_is_changed_and_deleted(stripe_account: Account) -> None:
    endpoints = stripe_account.client.v1.webhook_endpoints
    made = endpoints.create({"url": URL, "enabled_events": ["*"], "metadata": {"a": "1", "b": "2"}})
    changed = endpoints.update(
        made.id, {"enabled_events": ["invoice.paid"], "disabled": True, "metadata": {"a": ""}, "url": URL + "2"}
    )
    assert (changed.enabled_events, changed.status, changed.url) == (["invoice.paid"], "disabled", URL + "2")
    assert changed.metadata.to_dict() == {"b": "2"}
    assert endpoints.update(made.id, {"disabled": False}).status == "enabled"
    assert endpoints.delete(made.id).deleted
    with pytest.raises(stripe.InvalidRequestError) as refused:
        endpoints.retrieve(made.id)
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"url": "example.com"}, "url"),
        ({"url": "ftp://example.com"}, "url"),
        ({"enabled_events": []}, "enabled_events"),
        ({"enabled_events": ["invoice.paid", "Invoice paid"]}, "enabled_events[1]"),
        ({"enabled_events": THIN}, "enabled_events[0]"),
        ({"api_version": "2020-08-27"}, "api_version"),
    ],
)
def test_a_wrong_endpoint_is_refused(stripe_account: Account, wrong: dict[str, Any], param: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_account.client.v1.webhook_endpoints.create(
            cast(Any, {"url": URL, "enabled_events": ["invoice.paid"], **wrong})
        )
    assert (refused.value.http_status, refused.value.param) == (400, param)


def test_an_account_has_16_endpoints_at_most(stripe_account: Account) -> None:
    endpoints = stripe_account.client.v1.webhook_endpoints
    for _ in range(16):
        endpoints.create({"url": URL, "enabled_events": ["*"]})
    with pytest.raises(stripe.InvalidRequestError):
        endpoints.create({"url": URL, "enabled_events": ["*"]})
    assert len(list(endpoints.list({"limit": 7}).auto_paging_iter())) == 16


def test_a_destination_shows_what_is_included(stripe_account: Account) -> None:
    destinations = stripe_account.client.v2.core.event_destinations
    bare = destination(stripe_account)
    assert bare.webhook_endpoint.to_dict() == {}
    full = destination(stripe_account, include=["webhook_endpoint.signing_secret", "webhook_endpoint.url"])
    assert full.webhook_endpoint.url == URL
    assert full.webhook_endpoint.signing_secret.startswith("whsec_")
    assert (full.object, full.event_payload, full.type) == ("v2.core.event_destination", "thin", "webhook_endpoint")
    assert (full.status, full.enabled_events, full.name) == ("enabled", THIN, "tollgate")
    seen = destinations.retrieve(full.id, {"include": ["webhook_endpoint.url"]})
    assert seen.webhook_endpoint is not None
    assert seen.webhook_endpoint.to_dict() == {"url": URL}
    with pytest.raises(stripe.InvalidRequestError):
        destinations.retrieve(full.id, {"include": ["webhook_endpoint.signing_secret"]})
    listed = destinations.list({"include": ["webhook_endpoint.url"], "limit": 1})
    assert [one.to_dict()["webhook_endpoint"] for one in listed.auto_paging_iter()] == [{"url": URL}, {"url": URL}]


def test_a_destination_is_changed_switched_and_deleted(stripe_account: Account) -> None:
    destinations = stripe_account.client.v2.core.event_destinations
    made = destination(stripe_account, metadata={"a": "1"})
    changed = destinations.update(
        made.id, {"enabled_events": THIN[:1], "webhook_endpoint": {"url": URL + "2"}, "metadata": {"b": "2"}}
    )
    assert changed.enabled_events == THIN[:1]
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"a": "1", "b": "2"}
    assert destinations.disable(made.id).status == "disabled"
    assert destinations.enable(made.id).status == "enabled"
    assert destinations.delete(made.id).id == made.id
    with pytest.raises(stripe.InvalidRequestError) as refused:
        destinations.retrieve(made.id)
    assert (refused.value.http_status, refused.value.code) == (404, "not_found")


def test_snapshot_destinations_have_a_version_and_thin_ones_none(stripe_account: Account) -> None:
    snapshot = destination(
        stripe_account, event_payload="snapshot", enabled_events=["invoice.paid"], snapshot_api_version=API_VERSION
    )
    assert snapshot.snapshot_api_version == API_VERSION
    for wrong in (
        {"snapshot_api_version": API_VERSION},
        {"enabled_events": ["invoice.paid"]},
        {"event_payload": "snapshot"},
        {"webhook_endpoint": {"url": "nowhere"}},
        {"type": "amazon_eventbridge"},
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            destination(stripe_account, **wrong)
        assert refused.value.http_status == 400
