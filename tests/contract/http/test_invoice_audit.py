"""`GET /v1/accounts/{id}/invoices/{invoice}/audit` over the API; what is in an audit: tests/unit/billing."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.contract.http.surface import Surface
from tollgate.billing.invoice import Invoice, InvoiceLine, InvoicePrice

NOVEMBER, DECEMBER = 1_793_491_200, 1_796_083_200


@pytest.fixture
def invoiced(surface: Surface) -> Iterator[Surface]:
    """Two accounts with customers; an invoice of the first one, for usage that was not recorded here."""
    for name in ("audited", "neighbour"):
        surface.call("PUT", f"/v1/accounts/{name}", {"plan": "usage", "stripe_customer_id": f"cus_{name}"})
    surface.invoices.prices = {"price_1": InvoicePrice("price_1", "mtr_1", "llm_tokens", "usage", 1)}
    line = InvoiceLine("il_1", Decimal("1.5"), Decimal(3), "price_1", NOVEMBER, DECEMBER, "si_1")
    surface.invoices.invoices["in_audited"] = Invoice(
        "in_audited", "cus_audited", "sub_1", "paid", "usd", DECEMBER, Decimal("1.5"), Decimal("1.5"), (line,)
    )
    yield surface
    surface.invoices.invoices.clear()


def test_an_invoice_that_usage_does_not_explain_is_shown_as_that(invoiced: Surface) -> None:
    answer = invoiced.call("GET", "/v1/accounts/audited/invoices/in_audited/audit", key="read")
    assert answer.status == 200
    assert (answer.body["agrees"], answer.body["data"], answer.body["next_cursor"]) == (False, [], None)
    (line,) = answer.body["lines"]
    assert (line["amount"], line["units"], line["quantity"]) == ("1.5", "0", "3")
    assert (line["rated"], line["difference"]) == ("0", "1.5")


def test_it_comes_as_csv(invoiced: Surface) -> None:
    path = "/v1/accounts/audited/invoices/in_audited/audit"
    answer = invoiced.call("GET", f"{path}?format=csv&rows=batches")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.body.startswith("line,meter,account,start,end,batches")
    assert answer.body == invoiced.call("GET", f"{path}?rows=batches", headers={"accept": "text/csv"}).body


def test_another_accounts_invoice_is_not_there(invoiced: Surface) -> None:
    theirs = invoiced.call("GET", "/v1/accounts/neighbour/invoices/in_audited/audit")
    none = invoiced.call("GET", "/v1/accounts/neighbour/invoices/in_nothing/audit")
    assert (theirs.status, theirs.code, none.code) == (404, "invoice_not_found", "invoice_not_found")
    assert invoiced.call("GET", "/v1/accounts/nobody-here/invoices/in_audited/audit").code == "account_not_found"


@pytest.mark.parametrize("query", ["limit=0", "limit=5001", "cursor=x", "rows=all", "format=xml"])
def test_bad_queries_are_named(invoiced: Surface, query: str) -> None:
    answer = invoiced.call("GET", f"/v1/accounts/audited/invoices/in_audited/audit?{query}")
    assert (answer.status, answer.body["errors"][0]["path"]) == (422, query.partition("=")[0])
