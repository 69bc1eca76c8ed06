"""An anonymous account becomes a known one, over HTTP: what both ids answer then."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from tests.contract.http.surface import CATALOG, ENV, Answer, Surface
from tollgate.catalog.schema import parse_catalog
from tollgate.gate.store import GateTable

PLANS = """
currency: usd
default_plan: free
meters:
  images: {name: Images, unit: image, scale: 0, stripe_event_name: images}
plans:
  free:
    name: Free
    limits:
      - {id: daily, meter: images, window: day, max: 10}
      - {id: own, meter: images, per: member, window: day, max: 8}
      - {id: jobs, concurrent: 50}
  open: {name: Open, limits: [{id: daily, meter: images, window: day, max: 10}]}
  packs:
    name: Packs
    overage: off
    prices: [{meter: images, scheme: per_unit, unit_price: "1"}]
    grants: [{meter: images, units: 5, every: month}]
  pro:
    name: Pro
    prices: [{meter: images, scheme: per_unit, unit_price: "1"}]
    limits: [{id: hourly, meter: images, window: hour, max: 100}]
"""
_NUMBERS = count()


@pytest.fixture(scope="module")
def api(surface: Surface) -> Iterator[Surface]:
    surface.manage_deps.accounts.catalog.publish(parse_catalog(PLANS))
    yield surface
    surface.manage_deps.accounts.catalog.publish(parse_catalog(CATALOG))


@pytest.fixture
def levels(api: Surface) -> Iterator[Surface]:
    """A catalogue with a level meter."""
    catalog = api.manage_deps.accounts.catalog
    catalog.publish(
        parse_catalog("""
currency: usd
default_plan: free
meters:
  storage: {name: Gigabytes stored, unit: gigabyte, kind: level}
plans:
  free: {name: Free, limits: [{id: room, meter: storage, max: 5}]}
""")
    )
    yield api
    catalog.publish(parse_catalog(PLANS))


def two(api: Surface, guest: str = "open", known: str = "open") -> tuple[str, str]:
    """The ids of a guest and a known account."""
    number = next(_NUMBERS)
    ids = f"anon-{number}", f"user-{number}"
    for account, plan in zip(ids, (guest, known), strict=True):
        assert api.call("PUT", f"/v1/accounts/{account}", {"plan": plan}).status == 200
    return ids


def identify(api: Surface, account: str, into: str, **more: Any) -> Answer:
    return api.call("POST", f"/v1/accounts/{account}/identify", {"into": into}, **more)


def reserve(api: Surface, account: str, images: int, member: str | None = None) -> Any:
    body = {"account": account, "meter": "images", "quantity": images} | ({"member": member} if member else {})
    return api.call("POST", "/v1/reservations", body).body


def use(api: Surface, account: str, images: int, member: str | None = None, event_id: str | None = None) -> Any:
    event = {"id": event_id or str(uuid.uuid4()), "account": account, "meter": "images", "quantity": images}
    event |= {"member": member} if member else {}
    answer = api.call("POST", "/v1/usage", {"events": [event]})
    assert answer.status == 200, answer
    return answer.body["results"][0]


def daily(api: Surface, account: str, limit: str = "daily", member: str | None = None) -> list[Decimal]:
    query = f"?member={member}" if member else ""
    limits = api.call("GET", f"/v1/accounts/{account}/usage{query}").body["limits"]
    found = next(one for one in limits if one["id"] == limit)
    return [Decimal(found["used"]), Decimal(found["held"])]


def test_both_ids_are_one_account_from_then_on(api: Surface) -> None:
    guest, known = two(api)
    use(api, guest, 4)
    held = reserve(api, guest, 2)
    use(api, known, 1)
    answer = identify(api, guest, known)
    assert answer.status == 200
    assert answer.body["id"] == known
    assert answer.body["aliases"] == [guest]
    for account in (guest, known):
        assert daily(api, account) == [5, 2]
        assert api.call("GET", f"/v1/accounts/{account}").body["id"] == known
    refused = reserve(api, guest, 4)
    assert refused["denial"]["code"] == "limit_reached"
    assert refused["denial"]["remaining"] == "3"
    shown = api.call("GET", f"/v1/reservations/{held['id']}").body
    assert [shown["status"], shown["account"]] == ["open", guest]
    assert api.call("POST", f"/v1/reservations/{held['id']}/commit", {"quantity": 1}).status == 200
    assert daily(api, known) == [6, 0]
    assert api.call("GET", f"/v1/reservations/{held['id']}").body["status"] == "committed"


def test_repeated_it_answers_the_same_and_nothing_else_follows(api: Surface) -> None:
    guest, known = two(api)
    use(api, guest, 4)
    first = identify(api, guest, known)
    assert identify(api, guest, known).body == first.body
    assert daily(api, known) == [4, 0]


def test_events_stay_where_they_were_recorded_and_are_listed_together(api: Surface) -> None:
    guest, known = two(api)
    sent = []
    for number in range(7):
        account = guest if number % 2 else known
        use(api, account, 1)
        sent.append(account)
    assert identify(api, guest, known).status == 200
    use(api, guest, 1)
    sent.append(guest)
    for asked in (guest, known):
        listed: list[str] = []
        path = f"/v1/accounts/{asked}/events?limit=3"
        while True:
            page = api.call("GET", path).body
            listed += [event["account"] for event in page["data"]]
            if page["next_cursor"] is None:
                break
            path = f"/v1/accounts/{asked}/events?limit=3&cursor={page['next_cursor']}"
        assert sorted(listed) == sorted(sent)
        assert len(listed) == 8


def test_the_same_id_under_both_names_is_listed_twice_over_pages(api: Surface) -> None:
    guest, known = two(api)
    same = "01936f4e-0000-7000-8000-000000000001"  # a UUIDv7: both rows stand at the same key
    assert use(api, guest, 1, event_id=same)["status"] == "recorded"
    assert use(api, known, 2, event_id=same)["status"] == "recorded"
    assert identify(api, guest, known).status == 200
    assert use(api, guest, 1, event_id=same)["status"] == "duplicate"
    first = api.call("GET", f"/v1/accounts/{known}/events?limit=1").body
    second = api.call("GET", f"/v1/accounts/{known}/events?limit=1&cursor={first['next_cursor']}").body
    assert [event["account"] for event in (*first["data"], *second["data"])] == [known, guest]


def test_members_come_along(api: Surface) -> None:
    guest, known = two(api, "free", "free")
    use(api, guest, 4, "ada")
    held = reserve(api, guest, 1, "ada")
    use(api, known, 2, "ada")
    assert identify(api, guest, known).status == 200
    assert daily(api, known, "own", "ada") == [6, 1]
    assert reserve(api, known, 2, "ada")["denial"]["limit"] == "own"
    assert [member["id"] for member in api.call("GET", f"/v1/accounts/{known}/members").body["data"]] == ["ada"]
    api.call("POST", f"/v1/reservations/{held['id']}/release")
    assert daily(api, known, "own", "ada") == [6, 0]


def test_credits_come_along_and_the_ledger_says_from_where(api: Surface) -> None:
    guest, known = two(api, "packs", "packs")
    credits = {"meter": "images", "units": 20, "source": "stripe", "source_id": f"pi-{guest}"}
    assert api.call("POST", f"/v1/accounts/{guest}/credits", credits | {"idempotency_key": "k1"}).status == 201
    use(api, guest, 1)
    held = reserve(api, guest, 3)
    use(api, known, 1)
    before = sum(_available(api, account) for account in (guest, known))
    assert before == (5 - 1 - 3) + 20 + (5 - 1)
    assert identify(api, guest, known).status == 200
    assert _available(api, known) == 20 + 4  # what a plan gives in a month it gives once
    assert api.call("POST", f"/v1/reservations/{held['id']}/commit", {"quantity": 2}).status == 200
    ledger = api.call("GET", f"/v1/accounts/{known}/ledger?limit=100").body["data"]
    assert ledger[0]["balance"] == str(_available(api, known))
    assert sum(Decimal(entry["units"]) for entry in ledger) == Decimal(ledger[0]["balance"])
    assert f"{guest}:1" in {entry["source_id"] for entry in ledger if entry["source"] == "identify"}
    # The source gave them once, under whatever id, and may take them back.
    again = api.call("POST", f"/v1/accounts/{known}/credits", credits | {"idempotency_key": "k2"})
    assert again.status == 200
    refund = {"meter": "images", "units": -30, "source": "stripe", "source_id": "re", "refund_of": f"pi-{guest}"}
    taken = api.call("POST", f"/v1/accounts/{guest}/credits", refund | {"idempotency_key": "k3"}).body["clawback"]
    assert Decimal(taken["taken"]) + Decimal(taken["short"]) == 30
    assert Decimal(taken["taken"]) == 20


def _available(api: Surface, account: str) -> Decimal:
    found = api.call("GET", f"/v1/accounts/{account}/usage").body["credits"]
    return Decimal(found[0]["available"]) if found else Decimal(0)


def test_usage_from_before_is_not_charged(api: Surface) -> None:
    guest, known = two(api, "open", "pro")
    use(api, guest, 9)
    held = reserve(api, guest, 1)
    assert identify(api, guest, known).status == 200
    api.call("POST", f"/v1/reservations/{held['id']}/commit", {"quantity": 1})
    use(api, guest, 2)  # by the known account's plan
    shown = api.call("GET", f"/v1/accounts/{guest}/usage").body
    assert shown["meters"][0]["used"] == "12"
    assert shown["spend"]["usage"] == "2"
    assert daily(api, known, "hourly") == [12, 0]


def test_what_cannot_become_another_account_is_refused_and_stays_as_it_was(api: Surface) -> None:
    guest, known = two(api)
    other, priced = two(api, "open", "pro")
    frozen, mapped = two(api)
    taken, into = two(api)
    use(api, priced, 1)
    api.call("POST", f"/v1/accounts/{frozen}/freeze", {"reason": "abuse"})
    api.call("PUT", f"/v1/accounts/{mapped}", {"stripe_customer_id": "cus_mapped"})
    assert identify(api, taken, into).status == 200
    before = api.contents()
    refusals = [
        identify(api, guest, guest),
        identify(api, "never-made", known),
        identify(api, guest, "never-made"),
        identify(api, mapped, known),
        identify(api, priced, known),
        identify(api, frozen, known),
        identify(api, taken, known),
        identify(api, into, known),
        identify(api, into, taken),
        api.call("POST", f"/v1/accounts/{guest}/identify", {}),
        api.call("POST", f"/v1/accounts/{guest}/identify", {"into": "two words"}),
        identify(api, guest, known, key="usage"),
    ]
    assert [(refusal.status, refusal.code) for refusal in refusals] == [
        (422, "invalid"),
        (404, "account_not_found"),
        (404, "account_not_found"),
        (409, "account_billed"),
        (409, "account_billed"),
        (409, "account_frozen"),
        (409, "already_identified"),
        (409, "already_identified"),
        (422, "invalid"),
        (422, "invalid"),
        (422, "invalid"),
        (403, "scope_missing"),
    ]
    assert api.contents() == before
    assert other


def test_a_priced_plan_with_nothing_paid_yet_may_become_another_account(api: Surface) -> None:
    guest, known = two(api, "pro", "pro")
    assert identify(api, guest, known).status == 200
    gate = GateTable(ENV["TOLLGATE_GATES_TABLE"]).read(guest)
    assert gate is not None
    assert gate.closed
    use(api, guest, 3)
    assert api.call("GET", f"/v1/accounts/{known}/usage").body["spend"]["usage"] == "3"


def test_the_list_of_accounts_knows_one(api: Surface) -> None:
    guest, known = two(api)
    identify(api, guest, known)
    ids = [account["id"] for account in api.call("GET", "/v1/accounts?limit=100").body["data"]]
    assert known in ids
    assert guest not in ids
    changed = api.call("PUT", f"/v1/accounts/{guest}", {"name": "Ada"})
    assert [changed.body["id"], changed.body["name"]] == [known, "Ada"]
    fields = [
        one["field"]
        for entry in api.call("GET", f"/v1/accounts/{known}/audit").body["data"]
        for one in entry["changes"]
    ]
    assert "aliases" in fields


def test_a_level_is_set_on_the_known_account_under_either_id(levels: Surface) -> None:
    guest, known = two(levels, "free", "free")
    path = "/v1/accounts/{}/levels/storage"
    assert levels.call("PUT", path.format(guest), {"level": 3}, headers={"Idempotency-Key": "l1"}).status == 200
    assert levels.call("PUT", path.format(known), {"level": 4}).status == 200
    assert identify(levels, guest, known).status == 200
    for account in (guest, known):
        assert levels.call("GET", path.format(account)).body["level"] == "4"  # levels do not add up
    repeated = levels.call("PUT", path.format(guest), {"level": 3}, headers={"Idempotency-Key": "l1"})
    assert repeated.status == 200
    assert levels.call("PUT", path.format(guest), {"level": 5}).status == 200
    assert levels.call("GET", path.format(known)).body["level"] == "5"
