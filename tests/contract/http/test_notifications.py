"""Notifications of an account: put with their alert in one transaction, listed, and marked as read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.contract.http.surface import ENV, Surface
from tollgate import dynamo
from tollgate.alerts.outbox import Alert, Words, message_id
from tollgate.alerts.outbox_store import OutboxTable
from tollgate.clock import rfc3339_ms

TABLE = ENV["TOLLGATE_BILLING_TABLE"]
T0 = 1_795_262_400_000
ALERT = Alert(
    "threshold#note-1", "threshold", "note-1", "80 % used", "You've used 80 out of 100 free messages this month.", T0,
    {"meter": "messages", "limit": "monthly", "provider_cost": "3.20"}, "customer",
)  # fmt: skip


@pytest.fixture
def told(surface: Surface) -> _Told:
    return _Told(surface)


class _Told:
    """An account of its own for each test, whose alerts come a second after another."""

    made = 0

    def __init__(self, surface: Surface) -> None:
        type(self).made += 1
        self.surface, self.account, self.now = surface, f"note-{type(self).made}", T0
        assert surface.call("PUT", f"/v1/accounts/{self.account}", {"plan": "free"}).status == 200

    def put(self, name: str, account: str | None = None, **changes: Any) -> str:
        """Puts an alert; the id of its notification."""
        self.now += 1_000
        owner = account or self.account
        alert = replace(ALERT, **({"id": f"{owner}#{name}", "account": owner, "subject": name} | changes))
        assert OutboxTable(TABLE, lambda: self.now).put(alert)
        return message_id(self.now, alert.id)

    def listed(self, query: str = "") -> list[dict[str, Any]]:
        answer = self.surface.call("GET", f"/v1/accounts/{self.account}/notifications{query}")
        assert answer.status == 200, answer
        return list(answer.body["data"])

    def subjects(self, query: str = "") -> list[str]:
        return [one["subject"] for one in self.listed(query)]

    def post(self, path: str, body: Any = None) -> Any:
        return self.surface.call("POST", f"/v1/accounts/{self.account}/notifications{path}", body)


def test_what_the_customer_is_told_is_listed_without_the_operators_facts(told: _Told) -> None:
    name = told.put("80 % used")
    assert told.listed() == [
        {
            "id": name,
            "kind": "threshold",
            "subject": "80 % used",
            "text": "You've used 80 out of 100 free messages this month.",
            "facts": {"meter": "messages", "limit": "monthly"},
            "at": rfc3339_ms(told.now),
            "read": False,
        }
    ]


def test_the_customers_own_words_where_both_are_told(told: _Told) -> None:
    told.put("margin is gone", audience="both", customer=Words("Paused", "Your use is paused."))
    told.put("an account costs too much", audience="operator")
    [one] = told.listed()
    assert (one["subject"], one["text"]) == ("Paused", "Your use is paused.")


def test_an_alert_for_a_customer_names_its_account() -> None:
    with pytest.raises(ValueError, match="names no account"):
        replace(ALERT, account="")


def test_newest_first_page_by_page(told: _Told) -> None:
    for at in range(7):
        told.put(str(at))
    seen, cursor = [], ""
    for _ in range(4):
        answer = told.surface.call("GET", f"/v1/accounts/{told.account}/notifications?limit=2{cursor}")
        seen.append([one["subject"] for one in answer.body["data"]])
        cursor = f"&cursor={answer.body['next_cursor']}"
    assert seen == [["6", "5"], ["4", "3"], ["2", "1"], ["0"]]
    assert answer.body["next_cursor"] is None


def test_one_is_marked_as_read_once_and_for_all(told: _Told) -> None:
    first, _ = told.put("first"), told.put("second")
    for _ in range(2):
        answer = told.post(f"/{first}/read")
        assert (answer.status, answer.body["id"], answer.body["read"]) == (200, first, True)
    assert told.subjects("?unread=true") == ["second"]
    assert told.subjects("?unread=false") == told.subjects() == ["second", "first"]


def test_all_are_marked_and_what_comes_after_is_unread(told: _Told) -> None:
    seen = [told.put(str(at)) for at in range(3)]
    assert told.post("/read", {"up_to": seen[1]}).body == {"read_up_to": seen[1]}
    assert told.subjects("?unread=true") == ["2"]
    told.post("/read", {"up_to": seen[0]})
    assert told.subjects("?unread=true") == ["2"], "the mark went back"
    told.now = told.surface.manage_deps.accounts.gate.clock() - 1_000
    told.put("now")
    assert told.post("/read").status == 200
    assert told.subjects("?unread=true") == []
    told.now += 60_000
    told.put("later")
    assert told.subjects("?unread=true") == ["later"]
    assert [one["read"] for one in told.listed()] == [False, True, True, True, True]


def test_a_mark_in_the_future_hides_nothing_that_is_to_come(told: _Told) -> None:
    told.post("/read", {"up_to": f"msg_{'9' * 13}{'f' * 20}"})
    told.now = told.surface.manage_deps.accounts.gate.clock() + 60_000
    told.put("tomorrow")
    assert told.subjects("?unread=true") == ["tomorrow"]


def test_what_was_said_to_an_anonymous_account_follows_it(told: _Told) -> None:
    guest = f"{told.account}-guest"
    told.surface.call("PUT", f"/v1/accounts/{guest}", {"plan": "free"})
    before = told.put("as a guest", guest)
    assert told.surface.call("POST", f"/v1/accounts/{guest}/identify", {"into": told.account}).status == 200
    told.put("known")
    assert told.subjects() == ["known", "as a guest"]
    assert told.post(f"/{before}/read").status == 200
    assert told.subjects("?unread=true") == ["known"]


def test_what_an_anonymous_account_had_read_stays_read(told: _Told) -> None:
    guest = f"{told.account}-guest"
    told.surface.call("PUT", f"/v1/accounts/{guest}", {"plan": "free"})
    told.put("read", guest)
    seen = told.put("read, too", guest)
    assert told.surface.call("POST", f"/v1/accounts/{guest}/notifications/read", {"up_to": seen}).status == 200
    told.put("not read", guest)
    assert told.surface.call("POST", f"/v1/accounts/{guest}/identify", {"into": told.account}).status == 200
    assert told.subjects("?unread=true") == ["not read"]
    assert [one["read"] for one in told.listed()] == [False, True, True]


def test_no_one_marks_or_sees_anothers(told: _Told, surface: Surface) -> None:
    name = told.put("mine")
    other = _Told(surface)
    assert other.listed() == []
    assert other.post(f"/{name}/read").status == 404
    assert other.post("/read").status == 200
    assert told.subjects("?unread=true") == ["mine"]


@pytest.mark.parametrize("name", ["read", "msg_1", "x" * 300, f"msg_{'1' * 13}{'A' * 20}"])
def test_an_id_that_is_none(told: _Told, name: str) -> None:
    assert told.post(f"/{name}/read").status == 404


@pytest.mark.parametrize("query", ["?unread=yes", "?unread=", "?cursor=cmVhZA==", "?limit=0"])
def test_bad_queries(told: _Told, query: str) -> None:
    assert told.surface.call("GET", f"/v1/accounts/{told.account}/notifications{query}").status == 422


def test_alert_message_and_notification_stand_or_fall_together(told: _Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction: there is no point at which a crash leaves one without the others."""
    sent: list[Any] = []

    class Watched:
        def transact_write_items(self, **request: Any) -> None:
            sent.append(request)
            raise KeyboardInterrupt

    monkeypatch.setattr(dynamo, "client", Watched)
    with pytest.raises(KeyboardInterrupt):
        told.put("cut")
    [request] = sent
    keys = [put["Put"]["Item"]["pk"]["S"] for put in request["TransactItems"]]
    assert keys == [f"alert#{told.account}#cut", "outbox", f"note#{told.account}"]
    monkeypatch.undo()
    told.put("cut")
    assert told.subjects() == ["cut"]


def test_the_outbox_says_for_whom(told: _Told) -> None:
    told.put("both", audience="both", customer=Words("Yours", "Your text"))
    rows = dynamo.query(TABLE, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": dynamo.s("outbox")})
    [message] = [json.loads(row["message"]["S"]) for row in rows if told.account in row["sk"]["S"]]
    assert (message["audience"], message["customer"]) == ("both", {"subject": "Yours", "text": "Your text"})
