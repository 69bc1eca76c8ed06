"""The HTTP functions in this process, over moto, behind events as API Gateway builds them.

Every answer is held against the OpenAPI document: its status, content type, headers and body.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from jsonschema import Draft202012Validator

from local import payload, template
from tests.support.invoices import MemoryInvoices
from tests.support.shop import MemoryShop
from tollgate import dynamo, wiring
from tollgate.accounts.rules import AccountRow
from tollgate.accounts.service import AccountPatch, put_account
from tollgate.alerts.notification_store import NotificationTable
from tollgate.billing.batch_store import BatchTable
from tollgate.billing.invoice_audit import AuditDeps
from tollgate.billing.sealed_store import SealTable
from tollgate.breaker.platform_store import PlatformTable
from tollgate.catalog.schema import parse_catalog
from tollgate.http import billing_routes, gate_routes, manage_routes
from tollgate.http.dispatch import Api
from tollgate.http.openapi import document_text
from tollgate.http.routing import Route, Router
from tollgate.margins.book_store import BookTable
from tollgate.margins.margin_store import MarginTable
from tollgate.notify.channel_store import ChannelTable
from tollgate.reconcile.report_store import ReportTable
from tollgate.subscriptions.asked_store import AskedTable
from tollgate.subscriptions.checkout import SaleDeps
from tollgate.usage.idempotency_store import IdempotencyTable

ENV = {
    "TOLLGATE_GATES_TABLE": "gates",
    "TOLLGATE_EVENTS_TABLE": "events",
    "TOLLGATE_BILLING_TABLE": "billing",
    "TOLLGATE_ACCOUNTS_TABLE": "accounts",
    "TOLLGATE_CONFIG_TABLE": "config",
    "TOLLGATE_SEAL_SECONDS": "5",
    "TOLLGATE_SEAL_GRACE_SECONDS": "6",
    "TOLLGATE_SIGNING_SECRET_PARAMETER": "/tollgate/contract/signing-secret",
    "TOLLGATE_MODE": "test",
}
SECRET = b"signs the ids of these tests"
CATALOG = """
currency: usd
default_plan: free
meters:
  ai_credits: {name: AI credits, stripe_event_name: ai_credits}
  llm_tokens: {name: LLM tokens, scale: 3, stripe_event_name: llm_tokens}
  storage: {name: Gigabytes stored, unit: gigabyte, kind: level}
plans:
  free:
    name: Free
    limits:
      - {id: daily, meter: ai_credits, per: account, window: day, max: 1000000}
      - {id: models, meter: ai_credits, per: account, window: month, where: {model: ["a-*", b]}, max: 5}
  seats:
    name: Seats
    description: Limits for each member.
    base_fee: "29.00"
    period: {interval: month, anchor: signup}
    limits:
      - {id: seat, meter: ai_credits, per: member, window: {hours: 5, starts: first_use}, max: 10}
      - {id: jobs, per: member, concurrent: 2}
    features: {private_mode: true, seats: 25, support: priority}
  usage:
    name: Usage
    public: false
    base_fee: "29.00"
    seats: {unit_price: "10.00", minimum: 2}
    prices: [{meter: llm_tokens, scheme: per_unit, unit_price: "0.01"}]
    packs:
      - {id: small, name: Small pack, meter: ai_credits, units: 500, price: "5.00"}
"""


ROUTES = (*gate_routes.ROUTES, *manage_routes.ROUTES, *billing_routes.ROUTES)


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` parsed; `operation`: the name of the route that answered, None where none did."""

    operation: str | None
    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def code(self) -> str:
        assert self.headers["content-type"] == "application/problem+json", self
        return str(self.body["code"])


NAMES = {"hooks.test": ["93.184.216.34"], "inside.test": ["10.0.0.7"], "nowhere.test": []}
"""What names of webhook receivers resolve to; others are addresses themselves."""


class Surface:
    """The HTTP API: calls, keys of every kind, and what the tables hold."""

    def __init__(self) -> None:
        _create_tables()
        wiring.catalog_table(ENV).publish(parse_catalog(CATALOG))
        self.document = json.loads(document_text())
        self._keys = wiring.keys(ENV)
        self.rules = wiring.rules_table(ENV)
        self.gate_deps = gate_routes.GateApiDeps(
            wiring.gate_deps(ENV, self.rules), IdempotencyTable(ENV["TOLLGATE_EVENTS_TABLE"]), SECRET
        )
        self.manage_deps = manage_routes.ManageApiDeps(
            accounts=wiring.account_deps(ENV),
            events=wiring.event_table(ENV),
            keys=self._keys,
            idempotency=IdempotencyTable(ENV["TOLLGATE_ACCOUNTS_TABLE"]),
            mode="test",
            openapi=document_text,
            customer_mapped=lambda rules: None,
            members=wiring.member_table(ENV),
            runs=ReportTable(ENV["TOLLGATE_BILLING_TABLE"]),
            link_secret=lambda: SECRET,
            platform=PlatformTable(ENV["TOLLGATE_BILLING_TABLE"]),
            notifications=NotificationTable(ENV["TOLLGATE_BILLING_TABLE"]),
            channels=ChannelTable(ENV["TOLLGATE_CONFIG_TABLE"]),
            margins=MarginTable(ENV["TOLLGATE_BILLING_TABLE"]),
            book=BookTable(ENV["TOLLGATE_CONFIG_TABLE"], lambda: time.time_ns() // 1_000_000),
            resolve=lambda host, port: NAMES.get(host, [host]),
        )
        self.shop = MemoryShop()
        self.sales = SaleDeps(
            stack="test",
            rules=self.manage_deps.accounts.rules,
            catalog=self.manage_deps.accounts.catalog,
            shop=self.shop,
            customer=self._customer,
            asked=AskedTable(ENV["TOLLGATE_ACCOUNTS_TABLE"]),
            clock=lambda: time.time_ns() // 1_000_000,
        )
        log = Logger(service="test")
        self.gate = Api(Router(gate_routes.ROUTES), self._keys, self.gate_deps, log, dynamo.unavailable)
        self.manage = Api(Router(manage_routes.ROUTES), self._keys, self.manage_deps, log, dynamo.unavailable)
        self.invoices = MemoryInvoices()
        self.audit = AuditDeps(
            invoices=self.invoices,
            accounts=self.manage_deps.accounts.accounts,
            rules=self.manage_deps.accounts.rules,
            plans=self.manage_deps.accounts.catalog,
            batches=BatchTable(ENV["TOLLGATE_BILLING_TABLE"]),
            seals=SealTable(ENV["TOLLGATE_BILLING_TABLE"]),
            events=self.manage_deps.events,
        )
        billing_deps = billing_routes.BillingApiDeps(self.sales, self.audit, loopback=False)
        self.billing = Api(Router(billing_routes.ROUTES), self._keys, billing_deps, log, dynamo.unavailable)
        self._routes = payload.Router(
            [template.Route(route.method, route.path, "gate") for route in gate_routes.ROUTES]
            + [template.Route(route.method, route.path, "billing") for route in billing_routes.ROUTES]
            + [template.Route("ANY", "$default", "manage")]
        )
        self._described = {(route.method, route.path): route for route in ROUTES}
        self.keys = {name: self._keys.create(name, "test", [name])[1] for name in ("usage", "read", "admin")}
        revoked, self.keys["revoked"] = self._keys.create("revoked", "test", ["admin"])
        self._keys.revoke(revoked.id)
        self.keys["unknown"] = "tg_test_nobody"

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "admin",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """One request. `key`: a name in `keys`, None for no Authorization; `content`: bytes instead of JSON."""
        sent = {"host": "api.test", "content-type": "application/json"}
        if key is not None:
            sent["authorization"] = f"Bearer {self.keys[key]}"
        sent |= {name.lower(): text for name, text in (headers or {}).items()}
        raw = content if content is not None else b"" if body is None else json.dumps(body).encode()
        target, _, query = path.partition("?")
        request = payload.HttpRequest(
            method,
            target.encode(),
            query.encode(),
            [(name.encode(), text.encode("latin-1")) for name, text in sent.items()],
            raw,
            "127.0.0.1",
        )
        found = self._routes.find(method, request.raw_path)
        assert found is not None
        route, parameters = found
        event = json.loads(payload.build_event(request, route, parameters, "req-1", time.time()))
        answer = {"gate": self.gate, "billing": self.billing, "manage": self.manage}[route.function].answer(event)
        read = payload.read_answer(json.dumps(answer).encode())
        shown = Answer(
            self._operation(method, target),
            read.status,
            {name.decode(): text.decode() for name, text in read.headers},
            _parsed(read) if read.body else None,
        )
        self._check(shown)
        return shown

    def _customer(self, row: AccountRow) -> str:
        """The account's new customer."""
        customer = f"cus_{row.account}".replace(".", "").replace("-", "")
        put_account(self.manage_deps.accounts, row.account, AccountPatch(stripe_customer_id=customer))
        return customer

    def contents(self) -> dict[str, list[dict[str, Any]]]:
        """All items of all tables."""
        client = dynamo.client()
        return {
            name: sorted(client.scan(TableName=ENV[name])["Items"], key=repr) for name in ENV if name.endswith("_TABLE")
        }

    def schema(self, reference: str) -> dict[str, Any]:
        return {"$ref": f"#/components/schemas/{reference}", "components": self.document["components"]}

    def _operation(self, method: str, path: str) -> str | None:
        for route in self._described.values():
            if _fits(route, method, path):
                return route.name
        return None

    def _check(self, answer: Answer) -> None:
        """The answer says what the document says. Raises AssertionError."""
        if answer.operation is None:
            assert answer.headers["content-type"] == "application/problem+json"
            validate(self.schema("Problem"), answer.body)
            return
        operation = next(
            operation
            for path in self.document["paths"].values()
            for operation in path.values()
            if operation["operationId"] == answer.operation
        )
        assert str(answer.status) in operation["responses"], f"undocumented: {answer}"
        described = operation["responses"][str(answer.status)]
        for name in described.get("headers", {}):
            assert name.lower() in answer.headers, f"{name} is missing: {answer}"
        if "content" not in described:
            assert answer.body is None, f"a body that is not described: {answer}"
            return
        assert answer.headers["content-type"] in described["content"], answer
        content = described["content"][answer.headers["content-type"]]
        validate({**content["schema"], "components": self.document["components"]}, answer.body)
        if answer.headers["content-type"] == "application/problem+json":
            assert answer.body["status"] == answer.status
            assert answer.body["request_id"] == "req-1"
            assert answer.code in content["examples"], f"{answer.operation} may not answer {answer.code}"


def _parsed(answer: payload.HttpAnswer) -> Any:
    is_text = dict(answer.headers).get(b"content-type", b"").startswith(b"text/")
    return answer.body.decode() if is_text else json.loads(answer.body)


def validate(schema: dict[str, Any], value: Any) -> None:
    """Raises AssertionError with every deviation."""
    found = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(value)]
    assert not found, found


def _fits(route: Route, method: str, path: str) -> bool:
    pieces = path.strip("/").split("/")
    return (
        route.method == method
        and len(pieces) == len(route.parts)
        and all(part == piece or (part[0] == "{" and piece) for part, piece in zip(route.parts, pieces, strict=True))
    )


def _create_tables() -> None:
    client = boto3.client("dynamodb")
    for name in (ENV[variable] for variable in ENV if variable.endswith("_TABLE")):
        keys = ["pk"] if name == "gates" else ["pk", "sk"]
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[
                {"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
            ],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        )
