"""`auto_create_accounts: false`: usage of an account that nobody made is answered 404, and leaves nothing behind."""

from __future__ import annotations

import pytest

from tests.contract.http.surface import CATALOG, ENV, Surface
from tollgate import wiring
from tollgate.catalog.schema import parse_catalog

USE = {"account": "nobody", "meter": "ai_credits", "quantity": 1}


@pytest.fixture(scope="module", autouse=True)
def _closed(surface: Surface) -> None:
    wiring.catalog_table(ENV).publish(parse_catalog(f"auto_create_accounts: false\n{CATALOG}"))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/reservations", USE),
        ("POST", "/v1/estimates", USE),
        ("PUT", "/v1/accounts/nobody/levels/storage", {"level": 5}),
    ],
)
def test_a_call_for_an_unknown_account(surface: Surface, method: str, path: str, body: dict[str, object]) -> None:
    before = surface.contents()
    answer = surface.call(method, path, body)
    assert (answer.status, answer.code) == (404, "account_not_found")
    assert surface.contents() == before


def test_usage_of_an_unknown_account(surface: Surface) -> None:
    answer = surface.call("POST", "/v1/usage", {"events": [{**USE, "id": "one"}]})
    [result] = answer.body["results"]
    assert (answer.status, result["status"], result["error"]["code"]) == (200, "rejected", "account_not_found")
    assert surface.call("GET", "/v1/accounts/nobody").status == 404
