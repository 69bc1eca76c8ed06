"""Controls, overrides, plans and the audit over HTTP: what is answered, and what the very next reservation meets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.http.surface import CATALOG, Answer, Surface
from tollgate.catalog.schema import parse_catalog

PRICED = """
currency: usd
default_plan: free
meters:
  images: {name: Images, unit: image, scale: 0, stripe_event_name: images}
  tokens: {name: Tokens, unit: token, scale: 0, stripe_event_name: tokens}
plans:
  free: {name: Free, limits: [{id: daily, meter: images, window: day, max: 10}]}
  pro:
    name: Pro
    base_fee: "29.00"
    spend_cap: "60.00"
    prices:
      - {meter: images, scheme: per_unit, unit_price: "1"}
      - meter: tokens
        scheme: graduated
        tiers: [{up_to: 1000, unit_price: "0"}, {up_to: inf, unit_price: "0.001"}]
    limits:
      - {id: daily, meter: images, window: day, max: 5000}
      - {id: seat, per: member, amount: "40.00"}
  asked: {name: Asked, overage: opt_in, prices: [{meter: images, scheme: per_unit, unit_price: "1"}]}
  secret: {name: Secret, public: false, prices: [{meter: images, scheme: per_unit, unit_price: "3"}]}
"""
UNTIL = "2090-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def priced(surface: Surface) -> Iterator[Surface]:
    publish(surface, PRICED)
    yield surface
    publish(surface, CATALOG)


def publish(surface: Surface, text: str) -> None:
    surface.manage_deps.accounts.catalog.publish(parse_catalog(text))


def put(surface: Surface, account: str, **body: Any) -> Answer:
    answer = surface.call("PUT", f"/v1/accounts/{account}", body)
    assert answer.status == 200, answer
    return answer


def control(surface: Surface, account: str, **body: Any) -> dict[str, Any]:
    answer = surface.call("PUT", f"/v1/accounts/{account}/controls", body)
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.body
    return found


def reserve(surface: Surface, account: str, images: int, **more: Any) -> str:
    """What became of a reservation: `allowed`, or the refusal's code and source."""
    body = {"account": account, "meter": "images", "quantity": images, **more}
    answer = surface.call("POST", "/v1/reservations", body).body
    assert "allowed" in answer, answer
    if answer["allowed"]:
        return "allowed"
    return f"{answer['denial']['code']} by {answer['denial']['source']}"


def changes(surface: Surface, account: str) -> list[Any]:
    answer = surface.call("GET", f"/v1/accounts/{account}/audit")
    assert answer.status == 200, answer
    return [[change["field"] for change in entry["changes"]] for entry in answer.body["data"]]


# -- controls ----------------------------------------------------------------------------------------------------------


def test_a_hard_limit_binds_the_very_next_reservation(priced: Surface) -> None:
    put(priced, "careful", plan="pro")
    assert reserve(priced, "careful", 15, commit=True) == "allowed"
    assert control(priced, "careful", hard_limit="20.00") == {
        "soft_limit": None,
        "soft_limit_source": None,
        "hard_limit": "20",
        "block_overage": None,
        "thresholds": [50, 80, 90, 100],
        "currency": "usd",
    }
    assert reserve(priced, "careful", 6) == "hard_limit by customer"
    assert reserve(priced, "careful", 5) == "allowed"
    control(priced, "careful", hard_limit=10)
    assert reserve(priced, "careful", 1) == "hard_limit by customer"
    control(priced, "careful", hard_limit="500")
    assert reserve(priced, "careful", 41) == "spend_cap by plan"
    control(priced, "careful", hard_limit=None)
    assert reserve(priced, "careful", 40) == "allowed"


def test_overage_is_blocked_and_opted_into(priced: Surface) -> None:
    put(priced, "blocked", plan="pro")
    control(priced, "blocked", block_overage=True)
    assert reserve(priced, "blocked", 1) == "overage_blocked by customer"
    assert reserve(priced, "blocked", 1000, meter="tokens") == "allowed"
    assert reserve(priced, "blocked", 1, meter="tokens") == "overage_blocked by customer"
    control(priced, "blocked", block_overage=None)
    assert reserve(priced, "blocked", 1) == "allowed"
    put(priced, "asked", plan="asked")
    assert reserve(priced, "asked", 1) == "overage_blocked by customer"
    control(priced, "asked", block_overage=False)
    assert reserve(priced, "asked", 1) == "allowed"


def test_controls_are_shown_wherever_they_are_asked_for(priced: Surface) -> None:
    put(priced, "shown", plan="pro")
    said = control(priced, "shown", soft_limit=12.5, block_overage=False)
    assert (said["soft_limit"], said["soft_limit_source"], said["block_overage"]) == ("12.5", "customer", False)
    assert priced.call("GET", "/v1/accounts/shown/controls", key="read").body == said
    assert priced.call("GET", "/v1/accounts/shown").body["controls"] == said
    assert put(priced, "shown", name="Shown").body["controls"] == said
    assert control(priced, "shown") == said


def test_the_customer_says_when_to_be_told(priced: Surface) -> None:
    put(priced, "told", plan="pro")
    assert control(priced, "told")["thresholds"] == [50, 80, 90, 100], "the plan's"
    assert control(priced, "told", thresholds=[1000, 1, 75, 75])["thresholds"] == [1, 75, 1000]
    assert control(priced, "told", hard_limit=20)["thresholds"] == [1, 75, 1000]
    assert control(priced, "told", thresholds=[])["thresholds"] == []
    assert control(priced, "told", thresholds=None)["thresholds"] == [50, 80, 90, 100]
    assert changes(priced, "told") == [["controls"]] * 4 + [["plan"]]


def test_a_key_of_controls_belongs_to_its_body(priced: Surface) -> None:
    put(priced, "keyed", plan="pro")
    path, headers = "/v1/accounts/keyed/controls", {"Idempotency-Key": "c-1"}
    first = priced.call("PUT", path, {"hard_limit": "20"}, headers=headers)
    again = priced.call("PUT", path, {"hard_limit": "20"}, headers=headers)
    assert first.body == again.body
    other = priced.call("PUT", path, {"hard_limit": "21"}, headers=headers)
    assert (other.status, other.code) == (409, "idempotency_mismatch")
    assert changes(priced, "keyed") == [["controls"], ["plan"]]


@pytest.mark.parametrize(
    ("body", "path", "code"),
    [
        ({"hard_limit": "-1"}, "hard_limit", "negative"),
        ({"soft_limit": -0.5}, "soft_limit", "negative"),
        ({"hard_limit": "20.001"}, "hard_limit", "too_precise"),
        ({"soft_limit": "0.0000000000001"}, "soft_limit", "too_precise"),
        ({"hard_limit": "1e3"}, "hard_limit", "decimal"),
        ({"hard_limit": 10**15}, "hard_limit", "too_large"),
        ({"hard_limit": True}, "hard_limit", "decimal"),
        ({"hard_limit": ["20"]}, "hard_limit", "decimal"),
        ({"block_overage": "yes"}, "block_overage", "bool_type"),
        ({"block_overage": 1}, "block_overage", "bool_type"),
        ({"hard_limit": "20", "soft_limit": "x"}, "soft_limit", "decimal"),
        ({"hard-limit": "20"}, "hard-limit", "extra_forbidden"),
        ({"thresholds": [0]}, "thresholds.0", "greater_than_equal"),
        ({"thresholds": [50, 1001]}, "thresholds.1", "less_than_equal"),
        ({"thresholds": list(range(1, 12))}, "thresholds", "too_long"),
        ({"thresholds": ["50"]}, "thresholds.0", "integer"),
        ({"thresholds": [50.5]}, "thresholds.0", "integer"),
        ({"thresholds": 50}, "thresholds", "list_type"),
    ],
)
def test_wrong_controls_change_nothing(priced: Surface, body: dict[str, Any], path: str, code: str) -> None:
    put(priced, "wrong", plan="pro")
    before = priced.contents()
    answer = priced.call("PUT", "/v1/accounts/wrong/controls", body, headers={"Idempotency-Key": "w"})
    assert (answer.status, answer.body["errors"]) == (422, [{"path": path, "code": code}])
    assert priced.contents() == before


@pytest.mark.parametrize(("method", "rest"), [("PUT", "controls"), ("GET", "controls"), ("GET", "audit")])
def test_nobodys_terms(priced: Surface, method: str, rest: str) -> None:
    before = priced.contents()
    body = {"hard_limit": "1"} if method == "PUT" else None
    for name, status in (("nobody", 404), ("a%23b", 422)):
        answer = priced.call(method, f"/v1/accounts/{name}/{rest}", body)
        assert answer.status == status
    assert priced.contents() == before


# -- overrides ---------------------------------------------------------------------------------------------------------

CHEAP = {"meter": "images", "scheme": "per_unit", "unit_price": "0.50"}
TIERS = [{"up_to": 10, "unit_price": "0.40", "flat": "1"}, {"up_to": "inf", "unit_price": "0.20"}]


def test_a_negotiated_price_binds_the_very_next_reservation(priced: Surface) -> None:
    put(priced, "negotiated", plan="pro", overrides={"prices": [CHEAP]})
    assert reserve(priced, "negotiated", 121) == "spend_cap by plan"
    assert reserve(priced, "negotiated", 120, commit=True) == "allowed"
    put(priced, "negotiated", overrides={"prices": [CHEAP], "spend_cap": "61"})
    assert reserve(priced, "negotiated", 3) == "spend_cap by operator"
    assert reserve(priced, "negotiated", 2) == "allowed"
    put(priced, "negotiated", overrides={"spend_cap": None})
    assert reserve(priced, "negotiated", 4000) == "allowed"
    put(priced, "negotiated", overrides=None)
    assert reserve(priced, "negotiated", 1) == "spend_cap by plan"


def test_a_members_own_money_limit(priced: Surface) -> None:
    put(priced, "seated", plan="pro", overrides={"limits": {"seat": {"amount": "5.00"}}})
    assert reserve(priced, "seated", 6, member="m") == "spend_cap by operator"
    assert reserve(priced, "seated", 5, member="m") == "allowed"


def test_overrides_are_shown_as_the_catalogue_writes_them(priced: Surface) -> None:
    sent = {
        "limits": {"daily": {"max": 7, "reason": "trial", "by": "Ann", "until": "2090-01-01T01:00:00+01:00"}},
        "prices": [
            {**CHEAP, "until": "2090-01-01T00:00:00.25Z", "minimum": "1.00", "markup": "10"},
            {"meter": "tokens", "scheme": "volume", "tiers": TIERS, "by": "Ann"},
        ],
        "spend_cap": {"amount": 100.5, "until": UNTIL},
        "base_fee": "19.00",
    }
    expected = {
        "limits": {"daily": {"max": "7", "reason": "trial", "by": "Ann", "until": UNTIL}},
        "prices": [
            {
                "meter": "images",
                "scheme": "per_unit",
                "unit_price": "0.5",
                "minimum": "1",
                "markup": "10",
                "until": "2090-01-01T00:00:01Z",
            },
            {
                "meter": "tokens",
                "scheme": "volume",
                "tiers": [
                    {"up_to": "10", "unit_price": "0.4", "flat": "1"},
                    {"up_to": "inf", "unit_price": "0.2"},
                ],
                "by": "Ann",
            },
        ],
        "spend_cap": {"amount": "100.5", "until": UNTIL},
        "base_fee": "19",
    }
    shown = put(priced, "echo", plan="pro", overrides=sent).body
    assert shown["overrides"] == expected
    again = put(priced, "echo", overrides=shown["overrides"]).body
    assert (again["overrides"], again["rev"]) == (expected, shown["rev"]), "what is shown can be sent back"
    assert put(priced, "echo", overrides={}).body["overrides"] is None
    package = {"meter": "images", "scheme": "package", "package_size": "10", "package_price": "3", "round": "down"}
    assert put(priced, "echo", overrides={"prices": [package]}).body["overrides"] == {"prices": [package]}


def test_an_override_ends_by_itself(priced: Surface) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=2)
    until = soon.strftime("%Y-%m-%dT%H:%M:%SZ")
    put(priced, "brief", plan="pro", overrides={"limits": {"daily": {"max": 0, "until": until}}})
    assert reserve(priced, "brief", 1) == "limit_reached by operator"
    time.sleep(2.1)
    assert reserve(priced, "brief", 1) == "allowed"
    assert priced.call("GET", "/v1/accounts/brief").body["overrides"] is None
    newest = priced.call("GET", "/v1/accounts/brief/audit?limit=1").body["data"][0]
    assert (newest["by"], newest["changes"][0]["field"], newest["changes"][0]["after"]) == (
        "schedule",
        "overrides",
        None,
    )


def tiers(*ends: str | int) -> dict[str, Any]:
    priced_tiers = [{"up_to": end, "unit_price": "1"} for end in ends]
    return {"prices": [{"meter": "images", "scheme": "graduated", "tiers": priced_tiers}]}


@pytest.mark.parametrize(
    ("overrides", "path", "code"),
    [
        ({"prices": [{**CHEAP, "meter": "voice"}]}, "prices.0.meter", "unknown_meter"),
        ({"prices": [CHEAP, CHEAP]}, "prices.1.meter", "price"),
        ({"prices": [{**CHEAP, "unit_price": "-1"}]}, "prices.0.unit_price", "price"),
        ({"prices": [{**CHEAP, "unit_price": 0.5}]}, "prices.0.unit_price", "price"),
        ({"prices": [{**CHEAP, "unit_price": None}]}, "prices.0.unit_price", "price"),
        ({"prices": [{**CHEAP, "unit_price": "0.0000000000001"}]}, "prices.0.unit_price", "price"),
        ({"prices": [{**CHEAP, "minimum": "1.001"}]}, "prices.0.minimum", "price"),
        ({"prices": [{**CHEAP, "minimum": "2", "maximum": "1"}]}, "prices.0.maximum", "price"),
        ({"prices": [{**CHEAP, "included_per_seat": 5}]}, "prices.0.included_per_seat", "price"),
        ({"prices": [{**CHEAP, "scheme": "flat"}]}, "prices.0", "union_tag_invalid"),
        ({"prices": [{"meter": "images", "unit_price": "1"}]}, "prices.0", "union_tag_not_found"),
        ({"prices": [{**CHEAP, "tiers": TIERS}]}, "prices.0.tiers", "extra_forbidden"),
        ({"prices": [{"meter": "images", "scheme": "per_unit"}]}, "prices.0.unit_price", "missing"),
        ({"prices": [{**CHEAP, "until": "2001-01-01T00:00:00Z"}]}, "prices.0.until", "range"),
        ({"prices": [{**CHEAP, "until": "tomorrow"}]}, "prices.0.until", "time"),
        ({"prices": [{**CHEAP, "reason": ""}]}, "prices.0.reason", "string_too_short"),
        (tiers(10), "prices.0.tiers.0.up_to", "price"),
        (tiers(10, 10, "inf"), "prices.0.tiers.1.up_to", "price"),
        (tiers("inf", "inf"), "prices.0.tiers.0.up_to", "price"),
        (tiers(0, "inf"), "prices.0.tiers.0.up_to", "price"),
        (tiers("0.5", "inf"), "prices.0.tiers.0.up_to", "price"),
        ({"prices": [{"meter": "images", "scheme": "volume", "tiers": []}]}, "prices.0.tiers", "too_short"),
        ({"prices": CHEAP}, "prices", "list_type"),
        ({"spend_cap": "-1"}, "spend_cap", "negative"),
        ({"spend_cap": "0.001"}, "spend_cap", "too_precise"),
        ({"spend_cap": {"amount": "0.001"}}, "spend_cap.amount", "too_precise"),
        ({"spend_cap": {}}, "spend_cap.amount", "missing"),
        ({"spend_cap": {"amount": "1", "until": "2001-01-01T00:00:00Z"}}, "spend_cap.until", "range"),
        ({"spend_cap": {"amount": "1", "until": "9999-12-31T23:59:59Z"}}, "spend_cap.until", "range"),
        ({"spend_cap": {"amount": "1", "since": UNTIL}}, "spend_cap.since", "extra_forbidden"),
        ({"base_fee": None}, "base_fee", "decimal"),
        ({"base_fee": "9.999"}, "base_fee", "too_precise"),
        ({"limits": {"daily": {"amount": "5"}}}, "limits.daily.amount", "limit_kind"),
        ({"limits": {"seat": {"max": "5"}}}, "limits.seat.max", "limit_kind"),
        ({"limits": {"seat": {"amount": "5.001"}}}, "limits.seat.amount", "too_precise"),
        ({"limits": {"seat": {}}}, "limits.seat", "missing"),
        ({"limits": {"seat": {"max": "5", "amount": "5"}}}, "limits.seat", "missing"),
        ({"limits": {"gone": {"max": "5"}}}, "limits.gone", "unknown_limit"),
        ({"discount": "5"}, "discount", "extra_forbidden"),
    ],
)
def test_wrong_overrides_change_nothing(priced: Surface, overrides: dict[str, Any], path: str, code: str) -> None:
    put(priced, "wrong-terms", plan="pro", overrides={"spend_cap": "99"})
    before = priced.contents()
    for account in ("wrong-terms", "never-made"):
        body = {"plan": "pro", "name": "N", "overrides": overrides}
        answer = priced.call("PUT", f"/v1/accounts/{account}", body, headers={"Idempotency-Key": "w"})
        assert (answer.status, answer.body["errors"]) == (422, [{"path": f"overrides.{path}", "code": code}])
        assert "Value error" not in answer.body["detail"]
    assert priced.contents() == before


def test_a_price_of_what_the_plan_does_not_price(priced: Surface) -> None:
    answer = priced.call("PUT", "/v1/accounts/unpriced", {"plan": "free", "overrides": {"prices": [CHEAP]}})
    assert (answer.status, answer.body["errors"][0]["code"]) == (422, "not_priced")


def test_overrides_have_a_size(priced: Surface) -> None:
    long = [
        {**CHEAP, "scheme": "volume", "tiers": [{"up_to": n, "unit_price": "1." + "1" * 12} for n in range(1, 101)]}
    ]
    del long[0]["unit_price"]
    answer = priced.call("PUT", "/v1/accounts/huge", {"overrides": {"prices": long * 20}})
    assert (answer.status, answer.body["errors"]) == (422, [{"path": "overrides", "code": "too_large"}])


# -- plans -------------------------------------------------------------------------------------------------------------


def test_cancelling_is_a_move_to_no_plan(priced: Surface) -> None:
    put(priced, "leaving", plan="pro")
    assert reserve(priced, "leaving", 9, commit=True) == "allowed"
    later = priced.call("POST", "/v1/accounts/leaving/plan", {"plan": None, "when": "period_end"})
    assert (later.body["plan"]["id"], later.body["next_plan"]["id"]) == ("pro", "free")
    now = priced.call("POST", "/v1/accounts/leaving/plan", {"plan": None})
    assert (now.body["plan"]["id"], now.body["next_plan"]) == ("free", None)
    assert reserve(priced, "leaving", 2) == "limit_reached by plan", "what was used stays used"
    assert priced.call("POST", "/v1/accounts/leaving/plan", {"when": "now"}).status == 422


def test_a_private_plan_is_not_on_the_page_and_can_be_had(priced: Surface) -> None:
    assert "secret" not in [plan["id"] for plan in priced.call("GET", "/v1/plans", key=None).body["data"]]
    assert put(priced, "insider", plan="secret").body["plan"]["name"] == "Secret"
    assert priced.call("POST", "/v1/accounts/leaving/plan", {"plan": "secret"}).status == 200


def test_a_plan_in_another_currency_waits_for_the_period(priced: Surface) -> None:
    put(priced, "abroad", plan="pro")
    publish(priced, PRICED.replace("currency: usd", "currency: eur"))
    try:
        before = priced.contents()
        for method, path in (("POST", "/v1/accounts/abroad/plan"), ("PUT", "/v1/accounts/abroad")):
            answer = priced.call(method, path, {"plan": "asked"}, headers={"Idempotency-Key": "m"})
            assert (answer.status, answer.code) == (409, "currency_mismatch")
        assert priced.contents() == before
        later = priced.call("POST", "/v1/accounts/abroad/plan", {"plan": "asked", "when": "period_end"})
        assert (later.status, later.body["next_plan"]["id"]) == (200, "asked")
    finally:
        publish(priced, PRICED)


# -- audit -------------------------------------------------------------------------------------------------------------


def test_the_audit_says_who_changed_what(priced: Surface) -> None:
    put(priced, "watched", plan="pro")
    control(priced, "watched", hard_limit="5")
    priced.call("POST", "/v1/accounts/watched/freeze", {"reason": "unpaid"})
    priced.call("POST", "/v1/accounts/watched/unfreeze")
    put(priced, "watched", name="Not of the terms")
    put(priced, "watched", overrides={"spend_cap": "1"})
    priced.call("POST", "/v1/accounts/watched/plan", {"plan": "free"})
    answer = priced.call("GET", "/v1/accounts/watched/audit?limit=2")
    assert len(answer.body["data"]) == 2
    rest = priced.call("GET", f"/v1/accounts/watched/audit?cursor={answer.body['next_cursor']}")
    found = [*answer.body["data"], *rest.body["data"]]
    assert [[change["field"] for change in entry["changes"]] for entry in found] == [
        ["plan"],
        ["overrides"],
        ["frozen"],
        ["frozen"],
        ["controls"],
        ["plan"],
    ]
    me = next(key["id"] for key in priced.call("GET", "/v1/keys").body["data"] if key["name"] == "admin")
    assert {entry["by"] for entry in found} == {me}
    assert rest.body["next_cursor"] is None
    assert found[4]["changes"][0] == {
        "field": "controls",
        "before": None,
        "after": {"soft_limit": None, "hard_limit": "5", "block_overage": None},
    }


@pytest.mark.parametrize("cursor", ["x", "MA==", "LTE=", "MDE=", "YXVkaXQ="])
def test_wrong_pages_of_the_audit(priced: Surface, cursor: str) -> None:
    put(priced, "paged")
    assert priced.call("GET", f"/v1/accounts/paged/audit?cursor={cursor}").status == 422
