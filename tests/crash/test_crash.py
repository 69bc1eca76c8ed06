"""Every handler is cut before and after each call to DynamoDB, SQS, SSM and Stripe, and continued in three ways (or in
TOLLGATE_CRASH_CONTINUATIONS of them, in turn).

The cut points are those that a recording run met: a call that was recorded and not cut fails the test.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.crash.scenarios import SCENARIOS
from tests.support.crash_run import EACH, Call, Scenario, Suite, prepare
from tests.support.crash_world import World
from tollgate.http import billing_routes, gate_routes, manage_routes
from tollgate.http.routing import Router

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_cut_at_every_call(suite: Suite, scenario: Scenario) -> None:
    state = prepare(suite.world, suite.base, scenario)
    points = suite.record(scenario, state)
    assert points, "nothing was recorded: there is nothing to cut"
    for run in suite.runs(points):
        suite.play(scenario, state, run)
    cuts = Counter((run.point, run.kind) for run in suite.cut_in(scenario))
    wanted = {(point, kind): EACH for point in points for kind in point.kinds}
    assert cuts == wanted, "a recorded call was not cut, or not continued in as many ways as it should be"


CUT_ELSEWHERE = {
    "putLevel": "tests/unit/gate/test_level_races.py",
    "getLevel": "tests/unit/gate/test_level_races.py",
    "identifyAccount": "tests/unit/gate/test_identify.py",
    "createCheckout": "tests/contract/http/test_sale_crashes.py",
    "createSubscription": "tests/contract/http/test_sale_crashes.py",
    "auditInvoice": "tests/unit/billing/test_invoice_audit.py",  # it writes nothing
    **dict.fromkeys(
        ("listNotifications", "readNotification", "readNotifications"), "tests/contract/http/test_notifications.py"
    ),
    **dict.fromkeys(
        (
            "createWebhookEndpoint",
            "listWebhookEndpoints",
            "getWebhookEndpoint",
            "putWebhookEndpoint",
            "rotateWebhookEndpoint",
            "deleteWebhookEndpoint",
        ),
        "tests/contract/http/test_endpoints.py",
    ),
    **dict.fromkeys(("getPlatform", "resumePlatform"), "tests/unit/breaker/test_platform.py"),
    "listReconciliations": "tests/unit/reconcile/test_run.py",
    **dict.fromkeys(("getMargins", "listAccountMargins"), "tests/unit/margins/test_run.py"),
}
"""Routes whose writes are cut one by one in memory: what they write is not in this suite's catalogue or audit."""


def test_every_handler_and_route_is_in_a_scenario(suite: Suite) -> None:
    handlers = set[str]().union(*(scenario.handlers for scenario in SCENARIOS))
    assert handlers == {
        "alert",
        "gate",
        "manage",
        "seal",
        "flush",
        "sweep",
    }  # reconcile: tests/unit/reconcile/test_crash.py
    functions = (("gate", gate_routes.ROUTES), ("manage", manage_routes.ROUTES), ("billing", billing_routes.ROUTES))
    for function, routes in functions:
        router = Router(routes)
        met = {name for scenario in SCENARIOS for name in _routes(suite.world, router, scenario, function)}
        unmet = {route.name for route in routes if route.scopes} - met
        assert unmet <= CUT_ELSEWHERE.keys(), f"no scenario cuts {unmet}"


def _routes(world: World, router: Router, scenario: Scenario, function: str) -> set[str]:
    """The routes that a scenario cuts. Its ids are made up: only the form of the paths counts."""
    world.memory = _Anything(customers=_Anything())
    found = set()
    for call in scenario.calls:
        if isinstance(call, Call) and call.cut and call.function == function:
            event = call.event(world)
            found.add(router.find(event["requestContext"]["http"]["method"], event["rawPath"])[0].name)
    return found


class _Anything(dict[str, object]):
    def __missing__(self, name: str) -> object:
        return {"id": "x"}
