"""The running stack against its own OpenAPI document: generated calls, alone and along the document's links.

TOLLGATE_CONTRACT_EXAMPLES (200) is the number of generated calls for each operation.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from local.settings import LOCAL_API_KEY
from local.testing import StackProcess
from tests.contract.http.operations import BODIES, OPEN, OPEN_TO_EVERY_KEY, PUBLIC, READS, lacking

pytestmark = pytest.mark.stack

EXAMPLES = int(os.environ.get("TOLLGATE_CONTRACT_EXAMPLES", "200"))
SCENARIOS = 200
EXTRA_RUNS = 20
"""At most, of each kind. Hypothesis ends a run early where much of what it tries comes to nothing (long sequences of
calls, ids of a narrow pattern), so runs are repeated until enough was seen."""
NOTHING_TO_GENERATE = {"listKeys", "listPlans", "getPlatform", "getHealth", "getOpenapi"}
"""They take no input: every generated call of them is the same."""
NEEDS_MORE_THAN_A_CALL = {
    # What test_answers.py and test_busy.py show in process.
    *((name, "503") for name in (*BODIES, *READS, "listPlans")),
    ("listPlans", "304"),  # test_plans.py
    *(("auditInvoice", status) for status in ("200", "409")),  # test_invoice_audit.py
    *((name, "404") for name in ("createReservation", "createEstimate", "putLevel")),  # test_no_new_accounts.py
    # A trip's link: test_breaker.py.
    *((name, status) for name in ("getResume", "resumeByLink") for status in ("200", "409", "503")),
    ("getMargins", "200"),  # a look at a day that is over: test_margins.py
    ("readNotification", "200"),  # test_notifications.py
    # API Gateway's own.
    *((name, "429") for name in (*BODIES, *READS)),
}
SEMANTIC = {
    "conflict",
    "currency_mismatch",
    "cursor",
    "host",
    "https",
    "idempotency_key",
    "items",
    "itself",
    "level_meter",
    "limit_kind",
    "member_required",
    "missing",
    "no_level_meter",
    "not_priced",
    "not_sold",
    "past",
    "plan_not_for_sale",
    "price",
    "range",
    "reserved",
    "time",
    "too_few",
    "too_large",
    "too_many",
    "too_precise",
    "unknown_grant",
    "unknown_limit",
    "unknown_meter",
    "unknown_pack",
    "unknown_plan",
    "unknown_subscription",
    "unknown_timezone",
    "url",
    "zero",
}
"""Codes of wrong fields that no JSON Schema can foretell: they depend on the catalogue, the clock, a size in bytes,
the digits of a number, or on two parts of the request together."""
SEMANTIC_AS_A_WHOLE = {"quantity_too_large", "reservation_too_large", "too_many_counters"}
_OWN_KEY = "key_" + hashlib.sha256(LOCAL_API_KEY.encode()).hexdigest()[:16]


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """The run must not revoke the key that it uses (it finds its id in the list of keys)."""
    if case.path_parameters and case.path_parameters.get("id") == _OWN_KEY:
        case.path_parameters["id"] = "key_0000000000000000"


@schemathesis.check
def what_the_document_allows_is_understood(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """Data that fits the document is refused only for what no schema can say."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code not in (400, 422):
        return
    problem = response.json()
    codes = {one["code"] for one in problem["errors"]}
    understood = codes <= SEMANTIC if codes else problem["code"] in SEMANTIC_AS_A_WHOLE
    assert response.status_code == 422, f"the document allows what is malformed: {problem}"
    assert understood, f"the document allows what is refused: {problem}"


@dataclass
class Seen:
    """What the runs saw. `calls`: generated calls by operation; `links`: followed ones as (from, to)."""

    calls: Counter[str] = field(default_factory=Counter)
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    links: set[tuple[str, str]] = field(default_factory=set)
    scenarios: int = 0
    failures: list[str] = field(default_factory=list)
    deaths_before: dict[str, int] = field(default_factory=dict)


def narrowed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the catalogue's names where it says any text: else no generated call would ever count."""
    schemas = document["components"]["schemas"]
    meters = ["ai_credits", "llm_tokens", "no_such_meter"]
    for name in ("ItemIn", "UsedItemIn", "EventIn"):
        schemas[name]["properties"]["meter"] = {"enum": meters}
    schemas["ReservationIn"]["properties"]["meter"] = {"enum": [*meters, None]}
    document["components"]["parameters"]["LevelMeter"]["schema"] = {"enum": ["storage", "ai_credits", "no_such_meter"]}
    schemas["PlanIn"]["properties"]["plan"] = {"enum": ["free", "pro", "team", "gold", None]}
    schemas["AccountIn"]["properties"]["plan"] = {"enum": ["free", "pro", "team", "gold", None]}
    schemas["SubscriptionIn"]["properties"]["plan"] = {"enum": ["pro", "team", "free", "gold"]}
    schemas["CheckoutIn"]["properties"]["plan"] = {"enum": ["pro", "team", "free", "gold", None]}
    for name in ("success_url", "cancel_url"):
        schemas["CheckoutIn"]["properties"][name] = {"enum": ["https://app.example.com/", "http://app.example.com/"]}
    for name, urls in (("EndpointIn", ["https", "ftp"]), ("EndpointPatch", ["https", "ftp", None])):
        schemas[name]["properties"]["url"] = {"enum": [url and f"{url}://hooks.example.com/" for url in urls]}
    schemas["AccountIn"]["properties"]["timezone"] = {"enum": ["UTC", "Asia/Kathmandu", "Mars/Olympus", None]}
    return document


def cut(document: dict[str, Any], names: set[str], links: set[tuple[str, str]]) -> dict[str, Any]:
    """The narrowed document with only these operations and links."""
    document = narrowed(deepcopy(document))
    for path, methods in list(document["paths"].items()):
        kept = {method: operation for method, operation in methods.items() if operation["operationId"] in names}
        for operation in kept.values():
            for response in operation["responses"].values():
                for name, link in list(response.get("links", {}).items()):
                    if (operation["operationId"], link["operationId"]) not in links:
                        del response["links"][name]
        document["paths"][path] = kept
    return document


def friendly(document: dict[str, Any], links: set[tuple[str, str]]) -> dict[str, Any]:
    """The document with only these links and their ends, narrowed to reservations that are granted."""
    document = cut(document, {name for link in links for name in link}, links)
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        schema.get("properties", {}).pop("idempotency_key", None)  # it would conflict with the header
    reservation = schemas["ReservationIn"]
    del reservation["oneOf"], reservation["properties"]["items"]
    reservation["properties"] |= {"meter": {"const": "ai_credits"}, "quantity": {"enum": ["0.5", 1]}}
    reservation["properties"]["member"] = {"enum": ["u-1", "u-2"]}
    reservation["required"] = ["account", "member", "meter", "quantity"]
    return document


def run(
    stack: StackProcess,
    seen: Seen,
    seed: int,
    phases: set[str],
    document: dict[str, Any],
    mode: str,
    examples: int = EXAMPLES,
) -> None:
    """One run of schemathesis, added to `seen`. `mode`: positive, or all."""
    named = {
        (method.upper(), path): operation["operationId"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "base-url": stack.base_url,
            "headers": {"Authorization": f"Bearer {LOCAL_API_KEY}"},
            "generation": {"max-examples": examples, "database": "none", "mode": mode},
            "phases": {
                **{name: {"enabled": name in phases} for name in ("examples", "coverage", "fuzzing")},
                "stateful": {"enabled": "stateful" in phases, "inference": {"algorithms": []}},
            },
            # Refusals of data that fits the document are looked at more closely by the check above.
            "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "401", "403", "404", "409", "422"]}},
            "warnings": {"enabled": False},
        }
    )
    schema = schemathesis.openapi.from_dict(document, config=config)

    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            seen.failures.append(f"{event}")
        if isinstance(event, events.ScenarioFinished):
            seen.scenarios += event.phase.value.lower().startswith("stateful")
            _add(seen, event, named)


def _add(seen: Seen, event: events.ScenarioFinished, named: dict[tuple[str, str], str]) -> None:
    recorder = event.recorder
    for case_id, node in recorder.cases.items():
        case, interaction = node.value, recorder.interactions.get(case_id)
        name = named.get((case.method.upper(), case.operation.path))
        if interaction is None or interaction.response is None or name is None:
            continue
        seen.calls[name] += 1
        seen.answers[name, str(interaction.response.status_code)] += 1
        if node.is_transition_applied and node.parent_id in recorder.cases:
            parent = recorder.cases[node.parent_id].value
            seen.links.add((named[parent.method.upper(), parent.operation.path], name))
    for case_id, checks in recorder.checks.items():
        for check in checks:
            if check.failure_info is not None:
                failure = check.failure_info.failure
                seen.failures.append(f"{event.label or ''} {case_id} {check.name}: {failure.title} {failure.message}")


def directed(stack: StackProcess, seen: Seen) -> None:
    """The answers that generated data cannot bring about: other keys, huge bodies, keys used twice, what is gone."""
    reserve = {"account": "directed", "meter": "ai_credits", "quantity": "0.01"}
    keys = {
        scope: stack.api("POST", "/v1/keys", {"name": scope, "scopes": [scope]}).json()["secret"]
        for scope in ("usage", "read")
    }

    def opened() -> str:
        return str(stack.api("POST", "/v1/reservations", reserve).json()["id"])

    def call(name: str, method: str, path: str, **more: Any) -> None:
        answer = stack.api(method, path, **more)
        seen.answers[name, str(answer.status_code)] += 1

    stack.api("PUT", "/v1/accounts/bad-guest", {"plan": "free"})
    for account in ("bad", "directed"):  # a plan without limits for each member, on any of this run's calls
        stack.api("PUT", f"/v1/accounts/{account}", {"plan": "pro"})
    json = {"Content-Type": "application/json"}
    for name, (method, path, body) in BODIES.items():
        path = path.replace(OPEN, opened())
        call(name, method, path, content=b"{", headers=json)
        call(name, method, path, content=b'"' + b"x" * 600_000 + b'"', headers=json)
        call(name, method, path, content=b"a=b", headers={"Content-Type": "text/plain"})
        call(name, method, path, json=[])
        if name not in OPEN_TO_EVERY_KEY:
            call(name, method, path, json=body, key=keys[lacking(name)])
        call(name, method, path, json=body, key=None)
        call(name, method, path, json=body, headers={"Idempotency-Key": "directed"})
        call(name, method, path, json=_other(name, body), headers={"Idempotency-Key": "directed"})
        nobody = "made-by-put" if name in ("putAccount", "putLevel") else "never-made"
        gone = path.replace("bad", nobody) if "accounts" in path else re.sub("rsv_[^/]+", "rsv_x", path)
        call(name, method, gone, json=body)
    committed = opened()
    stack.api("POST", f"/v1/reservations/{committed}/commit", {})
    for action in ("release", "extend"):
        body = {"ttl_seconds": 60} if action == "extend" else {}
        call(f"{action}Reservation", "POST", f"/v1/reservations/{committed}/{action}", json=body)
    call("createReservation", "POST", "/v1/reservations", json={**reserve, "quantity": 10**9})
    for name, (method, path) in READS.items():
        path = path.replace(OPEN, committed)
        call(name, method, path)
        call(name, method, path, key=None)
        if name not in OPEN_TO_EVERY_KEY:
            call(name, method, path, key=keys[lacking(name)])
        call(name, method, path.replace("/bad", "/never-made").replace(committed, "rsv_x"))
        call(name, method, path.replace("/bad", "/..%20") + "?limit=0")
    call("revokeKey", "DELETE", "/v1/keys/key_0123456789abcdef", headers={"Idempotency-Key": "two words"})
    call("resumeByLink", "POST", "/v1/resume?token=x", headers={"Idempotency-Key": "two words"})
    page = {"plan": "pro", "success_url": "https://app.example.com/", "cancel_url": "https://app.example.com/"}
    for account in ("visitor", "subscriber"):
        stack.api("PUT", f"/v1/accounts/{account}", {"plan": "free"})
    call("createCheckout", "POST", "/v1/accounts/visitor/checkout", json=page)
    for _ in range(2):
        once = {"Idempotency-Key": "subscribe"}
        call("createSubscription", "POST", "/v1/accounts/subscriber/subscription", json={"plan": "pro"}, headers=once)
    call("createCheckout", "POST", "/v1/accounts/subscriber/checkout", json=page)
    again = {"Idempotency-Key": "subscribe-again"}
    call("createSubscription", "POST", "/v1/accounts/subscriber/subscription", json={"plan": "pro"}, headers=again)
    for plan in ("pro", "free"):
        once = {"Idempotency-Key": "plan"}
        call("changePlan", "POST", "/v1/accounts/directed/plan", json={"plan": plan}, headers=once)
    stack.api("POST", "/v1/reservations", {**reserve, "member": "leaving"})
    call("removeMember", "DELETE", "/v1/accounts/directed/members/leaving")
    credits: dict[str, Any] = {"meter": "ai_credits", "units": "5", "source_id": "directed"}
    for units in ("5", "5", "6"):
        once = {"Idempotency-Key": "credits"}
        call("postCredits", "POST", "/v1/accounts/directed/credits", json={**credits, "units": units}, headers=once)


def _other(name: str, body: dict[str, Any]) -> dict[str, Any]:
    """Another body that the operation would take."""
    field_name = {
        "createReservation": "ttl_seconds",
        "extendReservation": "ttl_seconds",
        "commitReservation": "quantity",
        "recordUsage": "events",
        "putAccount": "name",
        "freezeAccount": "reason",
        "changePlan": "plan",
        "identifyAccount": "into",
        "putControls": "soft_limit",
        "createKey": "name",
        "putLevel": "level",
    }.get(name)
    others: dict[str, Any] = {"ttl_seconds": 61, "quantity": "0.5", "name": "Other", "reason": "other", "plan": "free"}
    others["level"] = 1
    others |= {"into": "directed", "soft_limit": "6"}
    if field_name == "events":
        return {"events": [{**body["events"][0], "quantity": 2}]}
    return body if field_name is None else {**body, field_name: others[field_name]}


@pytest.fixture(scope="module")
def document(stack: StackProcess) -> dict[str, Any]:
    found: dict[str, Any] = stack.api("GET", "/v1/openapi.json").json()
    return found


def deaths(stack: StackProcess) -> dict[str, int]:
    """Invocations that died, by function: other suites kill some on purpose."""
    return {name: found["failures"] for name, found in stack.functions().items()}


@pytest.fixture(scope="module")
def seen(stack: StackProcess, document: dict[str, Any]) -> Seen:
    synced = stack.command("stripe", "sync", "--apply")  # else nothing could be sold
    assert synced.returncode == 0, synced.stderr
    found = Seen(deaths_before=deaths(stack))
    any_text = narrowed(deepcopy(document))
    run(stack, found, 1, {"examples", "coverage", "fuzzing"}, any_text, "all")
    for seed in range(2, EXTRA_RUNS + 2):
        for name in sorted(short_of_calls(found, document)):
            run(stack, found, seed, {"fuzzing"}, cut(document, {name}, set()), "all")
    for seed in range(1, EXTRA_RUNS + 1):
        if found.scenarios < SCENARIOS:
            run(stack, found, seed, {"stateful"}, any_text, "all")
    for endpoint in stack.api("GET", "/v1/webhook_endpoints").json()["data"]:  # as many as there may be, by now
        stack.api("DELETE", f"/v1/webhook_endpoints/{endpoint['id']}")
    for seed in range(1, EXTRA_RUNS + 1):
        for link in sorted(declared_links(document) - found.links):
            way = {link, ("createReservation", link[0])} & declared_links(document)
            run(stack, found, seed, {"stateful"}, friendly(document, way), "positive", examples=10)
    directed(stack, found)
    return found


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def short_of_calls(seen: Seen, document: dict[str, Any]) -> set[str]:
    names = {operation["operationId"] for operation in operations(document)} - NOTHING_TO_GENERATE
    return {name for name in names if seen.calls[name] < EXAMPLES}


def declared_links(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {
        (operation["operationId"], link["operationId"])
        for operation in operations(document)
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    }


def test_nothing_outside_the_document(seen: Seen) -> None:
    assert seen.failures == []


def test_no_server_error(seen: Seen, stack: StackProcess) -> None:
    assert stack.process.poll() is None, stack.output
    assert [answer for answer in seen.answers if answer[1].startswith("5")] == []
    assert deaths(stack) == seen.deaths_before


def test_as_many_calls_as_asked_for(seen: Seen, document: dict[str, Any]) -> None:
    assert {name: seen.calls[name] for name in short_of_calls(seen, document)} == {}
    assert set(seen.calls) >= NOTHING_TO_GENERATE


def test_every_operation_succeeds(seen: Seen, document: dict[str, Any]) -> None:
    missing = {
        operation["operationId"]
        for operation in operations(document)
        if not any(seen.answers[operation["operationId"], status] for status in ("200", "201"))
    }
    assert missing == {name for name, status in NEEDS_MORE_THAN_A_CALL if status == "200"}


def test_every_documented_status_is_seen(seen: Seen, document: dict[str, Any]) -> None:
    documented = {
        (operation["operationId"], status) for operation in operations(document) for status in operation["responses"]
    }
    assert documented - set(seen.answers) - NEEDS_MORE_THAN_A_CALL == set()
    assert set(seen.answers) <= documented


def test_every_link_is_followed(seen: Seen, document: dict[str, Any]) -> None:
    assert seen.scenarios >= SCENARIOS
    assert declared_links(document) - seen.links == set()


def test_public_operations_are_the_public_ones(document: dict[str, Any]) -> None:
    assert {operation["operationId"] for operation in operations(document) if not operation["security"]} == PUBLIC
