"""The audit of an invoice: from each metered line to the events behind it, and back to its amount."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.billing.closing import DECEMBER, INVOICE, PRICES, Closing
from tests.unit.billing.test_levels import STORED
from tests.unit.billing.world import PRO, World
from tollgate.billing import invoice_audit
from tollgate.billing.invoice import Invoice
from tollgate.billing.invoice_audit import Audit, AuditDeps, audit
from tollgate.errors import Invalid, InvoiceTooLarge, UnknownAccount, UnknownInvoice, UnknownPlan
from tollgate.http.audit_routes import get_audit
from tollgate.http.routing import Request, Response


class Plans:
    def version(self, plan: str, version: int) -> Any:
        if (plan, version) != ("pro", 1):
            raise UnknownPlan(plan)
        return SimpleNamespace(plan=PRO)


class Scene:
    """A month of usage, sealed and sent, and its invoice."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.rules.add("acme")
        self.stripe = Closing().stripe
        self.holders = {"cus_1": "acme"}

    def use(self, *units: str, account: str = "acme", meter: str = "ai_credits") -> None:
        for one in units:
            self.world.record(one, account=account, meter=meter)
            self.world.now += 1

    def send(self) -> None:
        self.world.close_window()
        self.world.seal()
        assert set(self.world.flush_all()) <= {"flushed"}

    def invoice(self, **amounts: str) -> Invoice:
        made = Closing()
        draft = made.draft(prices=amounts)
        lines = [
            line if line.price == "price_base" else line._replace(amount=Decimal(amounts[line.id.removeprefix("il_")]))
            for line in draft.lines
        ]
        found = draft._replace(lines=tuple(lines), status="paid")
        self.stripe.invoices[INVOICE] = found
        return found

    @property
    def deps(self) -> AuditDeps:
        return AuditDeps(
            invoices=self.stripe,
            accounts=SimpleNamespace(holder=self.holders.get),
            rules=self.world.rules,
            plans=Plans(),
            batches=self.world.batches,
            seals=self.world.seals,
            events=self.world.events,
        )

    def audit(self, account: str = "acme") -> Audit:
        return audit(self.deps, account, INVOICE)

    def get(self, account: str = "acme", invoice: str = INVOICE, accept: str = "*/*", **query: str) -> Response:
        request = Request("GET", "/", query, {"accept": accept}, b"", "r", {"id": account, "invoice": invoice})
        return get_audit(SimpleNamespace(audit=self.deps), request)


@pytest.fixture
def scene(world: World) -> Scene:
    return Scene(world)


def test_a_line_leads_to_its_events_and_back_to_its_amount(scene: Scene) -> None:
    scene.use("150", "50.5")
    scene.send()
    scene.use("100", meter="llm_tokens")
    scene.use("99.5")
    scene.send()
    scene.invoice(credits="3", tokens="1")
    found = scene.audit()
    assert found.agrees
    credits, tokens = found.lines
    assert credits.price.meter == "ai_credits"
    assert (credits.units, credits.rated, credits.amount) == (Decimal(300), Decimal(3), Decimal(3))
    assert [window.units for window in credits.windows] == [Decimal("200.5"), Decimal("99.5")]
    assert [len(window.events) for window in credits.windows] == [2, 1]
    assert (tokens.units, tokens.rated) == (Decimal(100), Decimal(1))
    assert [one.item.meter for one in tokens.events] == ["llm_tokens"]


def test_an_amount_that_is_not_ours_shows(scene: Scene) -> None:
    scene.use("150")
    scene.send()
    scene.invoice(credits="1.51")
    found = scene.audit()
    assert not found.agrees
    assert (found.lines[0].amount, found.lines[0].rated) == (Decimal("1.51"), Decimal("1.50"))


def test_a_batch_that_its_events_do_not_explain_shows(scene: Scene) -> None:
    scene.use("150")
    scene.send()
    scene.world.force(scene.world.batch(), units=Decimal(151))
    scene.invoice(credits="1.51")
    found = scene.audit()
    assert found.lines[0].rated == found.lines[0].amount
    assert not found.agrees
    assert not found.lines[0].windows[0].agrees


def test_what_was_not_sent_is_not_on_the_line(scene: Scene) -> None:
    scene.use("150")
    scene.send()
    scene.use("10")
    scene.world.close_window()
    scene.world.seal()
    scene.invoice(credits="1.5")
    assert scene.audit().lines[0].units == 150
    assert scene.audit().agrees


def test_a_correction_that_undoes_a_stray_event_is_no_usage_of_the_line(scene: Scene) -> None:
    scene.use("150")
    scene.send()
    usage = scene.world.batch()
    scene.world.batches.put_new(replace(usage, supplement=900, units=Decimal(-80), identifier="undoing", version=0))
    scene.invoice(credits="1.5")
    assert scene.audit().lines[0].units == 150
    assert scene.audit().agrees


def test_units_that_credits_paid_for_are_events_without_a_price(scene: Scene) -> None:
    scene.world.record("10", credit_funded="4", waived="1")
    scene.send()
    scene.invoice(credits="0.05")
    (event,) = scene.audit().lines[0].events
    assert (event.item.units, event.billable) == (Decimal(10), Decimal(5))
    assert scene.audit().agrees


def test_the_periods_of_lines_share_no_event(scene: Scene) -> None:
    scene.world.now = DECEMBER - 1
    scene.use("7")
    assert scene.world.now == DECEMBER
    scene.use("9")
    scene.send()
    scene.invoice(credits="0.07")
    found = scene.audit()
    assert [one.item.units for one in found.lines[0].events] == [7]
    assert found.agrees


def test_usage_of_accounts_that_became_this_one_is_in_it(scene: Scene) -> None:
    scene.world.rules.add("guest", customer=None)
    scene.world.rules.change("guest", merged_into="acme")
    scene.world.rules.change("acme", merged=("guest",))
    scene.use("5", account="guest")
    scene.use("7")
    scene.send()
    scene.invoice(credits="0.12")
    found = scene.audit()
    assert found.agrees
    assert sorted(one.event.at.account for one in found.lines[0].events) == ["acme", "guest"]
    assert audit(scene.deps, "guest", INVOICE) == found


def test_a_level_is_its_last_batch(scene: Scene) -> None:
    scene.world.rules.plans["stored"] = STORED
    scene.world.rules.add("acme", STORED)
    scene.world.set_level(1, 8)
    scene.world.set_level(2, 6)
    scene.send()
    scene.world.set_level(3, 5)
    scene.send()
    scene.invoice(storage="0.5")
    plans: Any = SimpleNamespace(version=lambda plan, version: SimpleNamespace(plan=STORED))
    found = audit(replace(scene.deps, plans=plans), "acme", INVOICE)
    assert (found.lines[0].units, found.lines[0].rated) == (Decimal(5), Decimal("0.50"))
    assert found.agrees
    assert [len(window.events) for window in found.lines[0].windows] == [2, 1]


def test_a_price_that_is_not_ours_is_not_rated(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.use("5")
    scene.send()
    scene.invoice(credits="0.05")
    monkeypatch.setitem(PRICES, "price_credits", PRICES["price_credits"]._replace(plan_version=9))
    assert scene.audit().lines[0].rated is None
    assert not scene.audit().agrees


# --- the hash --------------------------------------------------------------------------------------------------------


def test_the_hash_is_the_content_s_in_whatever_order_it_is_read(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.use("1", "2", "3")
    scene.send()
    scene.use("4")
    scene.send()
    scene.invoice(credits="0.1")
    first = scene.audit()
    batches, events = scene.world.batches.booked, scene.world.events.events_between
    monkeypatch.setattr(scene.world.batches, "booked", lambda *key: iter(reversed(list(batches(*key)))))
    monkeypatch.setattr(scene.world.events, "events_between", lambda *key: iter(reversed(list(events(*key)))))
    lines = scene.stripe.invoices[INVOICE].lines
    scene.stripe.invoices[INVOICE] = scene.stripe.invoices[INVOICE]._replace(lines=tuple(reversed(lines)))
    assert scene.audit().hash == first.hash
    scene.world.force(scene.world.all_batches()[0], units=Decimal(7))
    assert scene.audit().hash != first.hash


# --- who may see it, and how much ------------------------------------------------------------------------------------


def test_no_account_sees_anothers_invoice(scene: Scene) -> None:
    scene.world.rules.add("other", customer="cus_2")
    scene.invoice(credits="0")
    scene.holders["cus_2"] = "other"
    with pytest.raises(UnknownInvoice) as theirs:
        scene.audit("other")
    del scene.stripe.invoices[INVOICE]
    with pytest.raises(UnknownInvoice) as none:
        scene.audit("other")
    assert str(theirs.value) == str(none.value)
    with pytest.raises(UnknownAccount):
        scene.audit("nobody")


def test_there_is_a_bound(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.use("1", "2", "3")
    scene.send()
    scene.invoice(credits="0.06")
    monkeypatch.setattr(invoice_audit, "MOST_EVENTS", 2)
    with pytest.raises(InvoiceTooLarge):
        scene.audit()


# --- the route -------------------------------------------------------------------------------------------------------


def test_pages_of_events_are_complete_and_keep_the_totals(scene: Scene) -> None:
    scene.use("1", "2", "3")
    scene.send()
    scene.use("4", meter="llm_tokens")
    scene.send()
    scene.invoice(credits="0.06", tokens="0.04")
    rows: list[Any] = []
    query: dict[str, str] = {"limit": "3"}
    for _ in range(2):
        body = scene.get(**query).body
        assert (body["agrees"], [line["events"] for line in body["lines"]]) == (True, [3, 1])
        rows += body["data"]
        if body["next_cursor"]:
            query["cursor"] = body["next_cursor"]
    assert body["next_cursor"] is None
    assert [row["units"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["id"].startswith("evt_")
    assert rows[0]["batches"] == [scene.world.batches.get(scene.world.all_batches()[0].key).identifier]  # type: ignore[union-attr]


def test_batches_are_rows_as_well(scene: Scene) -> None:
    scene.use("1", "2")
    scene.send()
    scene.invoice(credits="0.03")
    (row,) = scene.get(rows="batches").body["data"]
    assert (row["units"], row["events"], row["events_units"], row["agrees"]) == ("3", 2, "3", True)
    assert row["start"] == "2026-11-21T12:00:00Z"


def test_csv_is_asked_for_by_name_or_by_header(scene: Scene) -> None:
    scene.use("1", "2")
    scene.send()
    scene.invoice(credits="0.03")
    by_name = scene.get(format="csv")
    assert by_name == scene.get(accept="text/csv, application/json;q=0.5")
    assert by_name.headers["content-type"] == "text/csv; charset=utf-8"
    assert by_name.headers["x-tollgate-audit-hash"] == scene.audit().hash
    rows = list(csv.DictReader(io.StringIO(by_name.body)))
    assert [(row["meter"], row["units"], row["member"]) for row in rows] == [
        ("ai_credits", "1", ""),
        ("ai_credits", "2", ""),
    ]
    first = scene.get(format="csv", limit="1")
    rest = scene.get(format="csv", limit="1", cursor=first.headers["x-tollgate-next-cursor"])
    assert first.body + rest.body.partition("\r\n")[2] == by_name.body
    assert "x-tollgate-next-cursor" not in rest.headers
    assert scene.get(format="json", accept="text/csv").body["hash"] == scene.audit().hash
    assert len(list(csv.DictReader(io.StringIO(scene.get(format="csv", rows="batches").body)))) == 1


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "5001"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"cursor": "%"}, "cursor"),
        ({"cursor": "eA=="}, "cursor"),
        ({"format": "xml"}, "format"),
        ({"rows": "all"}, "rows"),
    ],
)
def test_bad_queries_are_refused(scene: Scene, query: dict[str, str], path: str) -> None:
    scene.invoice(credits="0")
    with pytest.raises(Invalid) as refused:
        scene.get(**query)
    assert [error.path for error in refused.value.errors] == [path]
    assert scene.stripe.reads == []


@pytest.mark.parametrize("invoice", ["in_", "ch_1", "in_../../x", "in_" + "x" * 61])
def test_what_is_no_invoice_is_not_asked_for(scene: Scene, invoice: str) -> None:
    with pytest.raises(UnknownInvoice):
        scene.get(invoice=invoice)
    assert scene.stripe.reads == []


def test_the_line_of_an_invoice_without_usage(scene: Scene) -> None:
    scene.invoice(credits="0")
    body = scene.get().body
    assert (body["agrees"], body["data"], body["lines"][0]["rated"]) == (True, [], "0")
    assert body["lines"][0]["period"] == {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
