"""The function as Lambda runs it: the night's plan, the queue's parts, the weekly count."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest

from local.stripe_double.testing import account
from tests.unit.billing.test_handlers import Context
from tests.unit.billing.world import ACCOUNTS, BILLING, CONFIG, EVENTS, FREE, METERS, PRO, World, tables
from tests.unit.reconcile.stage import Stage
from tollgate import secrets
from tollgate.accounts.store import AccountTable, new_row
from tollgate.catalog.model import Catalog
from tollgate.catalog.store import CatalogTable
from tollgate.reconcile.account import DAY_S
from tollgate.reconcile.report_store import ReportTable
from tollgate.settings import BadSetting, ReconcileSettings

SAMPLES = Path(__file__).parents[3] / "events"
LONG = 600_000


class Deployed:
    """The function's module over moto's tables, queue and parameter, and the double."""

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stage = stage
        self.sqs = boto3.client("sqs", region_name="us-east-1")
        self.url = self.sqs.create_queue(QueueName="reconcile.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
        parameter = {"Name": "/test/stripe", "Value": "sk_test_secret", "Type": "SecureString"}
        boto3.client("ssm", region_name="us-east-1").put_parameter(**parameter)
        self.env = {
            "TOLLGATE_STACK": "tollgate-test",
            "TOLLGATE_EVENTS_TABLE": EVENTS,
            "TOLLGATE_BILLING_TABLE": BILLING,
            "TOLLGATE_ACCOUNTS_TABLE": ACCOUNTS,
            "TOLLGATE_CONFIG_TABLE": CONFIG,
            "TOLLGATE_RECONCILE_QUEUE_URL": self.url,
            "TOLLGATE_STRIPE_READS_MONTHLY": "100",
            "TOLLGATE_SEAL_SECONDS": "300",
            "TOLLGATE_SEAL_GRACE_SECONDS": "60",
            "TOLLGATE_STRIPE_SECRET_PARAMETER": "/test/stripe",
            "TOLLGATE_MODE": "test",
            "TOLLGATE_STRIPE_API_BASE": stage.stripe.url,
        }
        for name, value in self.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "tollgate-test-reconcile")
        monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Tollgate")
        secrets.read.cache_clear()
        self.app: ModuleType = importlib.import_module("reconcile.app")
        self.app.parts.cache_clear()
        catalog = CatalogTable(CONFIG)
        catalog.publish(Catalog("usd", "pro", True, METERS, {"free": FREE, "pro": PRO}))
        for name, customer in (("acme", stage.customer), ("other", stage.other)):
            row = replace(new_row(name, catalog, "pro", 0), stripe_customer_id=customer)
            assert AccountTable(ACCOUNTS).create(row)

    def run(self, event: dict[str, Any], remaining_ms: int = LONG) -> dict[str, Any]:
        answer: dict[str, Any] = self.app.handler(event, Context(remaining_ms))
        return answer

    def records(self) -> list[dict[str, Any]]:
        found = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages", [])
        return [{"messageId": one["MessageId"], "body": one["Body"]} for one in found]


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    now = int(time.time())  # the function reads the machine's clock
    with tables(), account(now=now) as stripe:
        stage = Stage(World(now=now // DAY_S * DAY_S - DAY_S - DAY_S // 2), stripe)
        yield Deployed(stage, monkeypatch)


def test_a_night_from_the_plan_to_the_report(deployed: Deployed, capsys: pytest.CaptureFixture[str]) -> None:
    deployed.stage.world.rules.add("other", customer=deployed.stage.other)
    deployed.stage.usage("3", "4")
    deployed.stage.world.record("9", account="other")
    deployed.stage.usage("1")
    deployed.stage.send("50", deployed.stage.world.now - 600, customer=deployed.stage.other)
    sample = json.loads((SAMPLES / "reconcile.json").read_text())
    planned = deployed.run(sample)
    assert (planned["parts"], planned["pairs"]) == (1, 2)
    records = deployed.records()
    assert deployed.run({"Records": records}) == {"batchItemFailures": []}
    run = ReportTable(BILLING).get(planned["run"])
    assert run is not None
    assert (run.finished, run.counts["settled"], run.counts["differing"]) == (True, 1, 1)
    assert '"DivergentPairs"' in capsys.readouterr().out


def test_poison_stops_no_other_part(deployed: Deployed) -> None:
    deployed.stage.usage("3")
    planned = deployed.run({})
    records = [{"messageId": "poison", "body": "{}"}, *deployed.records()]
    assert deployed.run({"Records": records}) == {"batchItemFailures": [{"itemIdentifier": "poison"}]}
    run = ReportTable(BILLING).get(planned["run"])
    assert run is not None
    assert run.counts["settled"] == 1


def test_out_of_time_leaves_parts_in_the_queue(deployed: Deployed) -> None:
    deployed.stage.usage("3")
    deployed.run({})
    records = deployed.records()
    assert len(deployed.run({"Records": records}, remaining_ms=1_000)["batchItemFailures"]) == 1


def test_what_is_parked_is_counted_once_a_week(deployed: Deployed) -> None:
    assert deployed.run({"task": "weekly"}) == {"parked": 0}
    assert deployed.stage.world.alerts() == []
    deployed.stage.usage("3", "4")
    first, second = deployed.stage.batches()
    deployed.stage.world.force(first, state="unconfirmed", reason="test", due_at=None)
    deployed.stage.world.force(second, state="no_customer", reason="test", due_at=deployed.stage.world.now)
    for _ in range(2):
        assert deployed.run({"task": "weekly"}) == {"parked": 2}
    (told,) = [json.loads(row["message"]) for row in deployed.stage.world.alerts()]
    assert (told["unconfirmed"], told["no_customer"]) == ("1", "1")
    repaired = deployed.stage.batches()[0]
    deployed.stage.world.force(repaired, repaired_by="x")
    assert deployed.run({"task": "weekly"}) == {"parked": 1}


def test_settings_are_read_and_checked(deployed: Deployed) -> None:
    assert ReconcileSettings.from_env(deployed.env).stripe_reads == 100
    with pytest.raises(BadSetting, match="READS_MONTHLY"):
        ReconcileSettings.from_env({**deployed.env, "TOLLGATE_STRIPE_READS_MONTHLY": "0"})
