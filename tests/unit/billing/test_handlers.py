"""The two functions as Lambda runs them: events in, answers and metrics out, from rows to the Stripe double."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest

from local.stripe_double.testing import Account, account
from tests.unit.billing.world import ACCOUNTS, BILLING, CONFIG, EVENTS, FREE, METERS, PRO, World
from tollgate import secrets
from tollgate.accounts.store import AccountTable, new_row
from tollgate.catalog.model import Catalog
from tollgate.catalog.store import CatalogTable
from tollgate.usage.markers import shard_of

SAMPLES = Path(__file__).parents[3] / "events"


class Context:
    """What the handlers and the logger use of Lambda's context."""

    function_name = "test"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:test"
    aws_request_id = "00000000-0000-4000-8000-000000000000"

    def __init__(self, remaining_ms: int = 55_000) -> None:
        self.remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


class Deployed:
    """The functions' modules over moto's tables, queue and parameter, and the double."""

    def __init__(self, world: World, stripe: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.stripe = world, stripe
        self.sqs = boto3.client("sqs", region_name="us-east-1")
        attributes = {"FifoQueue": "true", "DeduplicationScope": "messageGroup"}
        self.url = self.sqs.create_queue(QueueName="flush.fifo", Attributes=attributes)["QueueUrl"]
        self.tasks_url = self.sqs.create_queue(QueueName="stripe-events")["QueueUrl"]
        parameter = {"Name": "/test/stripe", "Value": "sk_test_secret", "Type": "SecureString"}
        boto3.client("ssm", region_name="us-east-1").put_parameter(**parameter)
        environment = {
            "TOLLGATE_STACK": "tollgate-test",
            "TOLLGATE_EVENTS_TABLE": EVENTS,
            "TOLLGATE_BILLING_TABLE": BILLING,
            "TOLLGATE_ACCOUNTS_TABLE": ACCOUNTS,
            "TOLLGATE_CONFIG_TABLE": CONFIG,
            "TOLLGATE_FLUSH_QUEUE_URL": self.url,
            "TOLLGATE_STRIPE_EVENTS_QUEUE_URL": self.tasks_url,
            "TOLLGATE_SEAL_SECONDS": "300",
            "TOLLGATE_SEAL_GRACE_SECONDS": "60",
            "TOLLGATE_STRIPE_SECRET_PARAMETER": "/test/stripe",
            "TOLLGATE_MODE": "test",
            "TOLLGATE_STRIPE_API_BASE": stripe.url,
            "POWERTOOLS_SERVICE_NAME": "tollgate-test-seal",
            "POWERTOOLS_METRICS_NAMESPACE": "Tollgate",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        secrets.read.cache_clear()
        self.seal, self.flush = self._fresh("seal"), self._fresh("flush")
        catalog = CatalogTable(CONFIG)
        catalog.publish(Catalog("usd", "pro", True, METERS, {"free": FREE, "pro": PRO}))
        row = new_row("acme", catalog, "pro", 0)
        self.customer = stripe.customer()
        stripe.meter("credits_used")
        assert AccountTable(ACCOUNTS).create(replace(row, stripe_customer_id=self.customer))

    @staticmethod
    def _fresh(function: str) -> ModuleType:
        module = importlib.import_module(f"{function}.app")
        module.deps.cache_clear()
        return module

    def run_seal(self, event: dict[str, Any], remaining_ms: int = 55_000) -> dict[str, int]:
        answer: dict[str, int] = self.seal.handler(event, Context(remaining_ms))
        return answer

    def messages(self) -> list[dict[str, Any]]:
        """What waits, as Lambda hands it over; taken out of the queue."""
        records = []
        for message in self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages", []):
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
            records.append({"messageId": message["MessageId"], "body": message["Body"]})
        return records

    def run_flush(self, records: list[dict[str, Any]], remaining_ms: int = 55_000) -> dict[str, Any]:
        answer: dict[str, Any] = self.flush.handler({"Records": records}, Context(remaining_ms))
        return answer


@pytest.fixture
def deployed(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    world.now = int(time.time())  # the functions read the machine's clock
    with account(now=world.now) as stripe:
        yield Deployed(world, stripe, monkeypatch)


def metrics_of(text: str) -> dict[str, Any]:
    """The last embedded metrics that were printed."""
    lines = [json.loads(line) for line in text.splitlines() if "_aws" in line]
    found: dict[str, Any] = lines[-1]
    return found


def old_usage(deployed: Deployed, units: str = "3") -> None:
    deployed.world.record(units, at=deployed.world.now - 900)


def test_from_rows_to_stripe(deployed: Deployed, capsys: pytest.CaptureFixture[str]) -> None:
    old_usage(deployed)
    assert deployed.run_seal({}) == {"windows": 1, "batches": 1, "queued": 1, "requeued": 0}
    assert deployed.run_flush(deployed.messages()) == {"batchItemFailures": []}
    (event,) = deployed.stripe.look("meter_events")["data"]
    assert (event["customer"], event["value"], event["counted"]) == (deployed.customer, "3", True)
    metrics = metrics_of(capsys.readouterr().out)
    assert metrics["BatchesFlushed"] == [1]
    assert metrics["service"] == "tollgate-test-seal"


def test_the_sample_event_names_its_shards(deployed: Deployed) -> None:
    old_usage(deployed)
    sample = json.loads((SAMPLES / "seal.json").read_text())
    quarter = sample["shards"]
    windows = [deployed.run_seal({"shards": [shard + at for shard in quarter]})["windows"] for at in (0, 4, 8, 12)]
    assert windows.index(1) == shard_of("acme") // 4
    assert sum(windows) == 1


def test_the_alarms_metric_is_there_on_every_run(deployed: Deployed, capsys: pytest.CaptureFixture[str]) -> None:
    deployed.run_seal({})
    assert metrics_of(capsys.readouterr().out)["OldestUnflushedSeconds"] == [0]
    old_usage(deployed)
    deployed.run_seal({}, remaining_ms=5_000)  # no time for anything: it is late, and says so
    assert 900 <= metrics_of(capsys.readouterr().out)["OldestUnflushedSeconds"][0] < 1300


def test_a_batch_that_seal_parks_is_a_metric_of_its_alarm(
    deployed: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts = AccountTable(ACCOUNTS)
    row = accounts.read("acme")
    assert row is not None
    assert accounts.update(replace(row, stripe_customer_id=None, rev=row.rev + 1), row)
    old_usage(deployed)
    deployed.run_seal({})
    assert deployed.world.batch().state == "no_customer"
    assert metrics_of(capsys.readouterr().out)["BatchesParked"] == [1]
    deployed.run_seal({})
    assert "BatchesParked" not in metrics_of(capsys.readouterr().out), "counted once"


def test_a_batch_that_flush_parks_is_a_metric_of_its_alarm(
    deployed: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    old_usage(deployed)
    deployed.run_seal({})
    (record,) = deployed.messages()
    deployed.stripe.client.v1.customers.delete(deployed.customer)
    deployed.run_flush([record])
    assert deployed.world.batch().state == "rejected"
    assert metrics_of(capsys.readouterr().out)["BatchesParked"] == [1]
    deployed.run_flush([record])
    metrics = metrics_of(capsys.readouterr().out)
    assert "BatchesParked" not in metrics, "delivered again, but parked once"
    assert metrics["BatchesRejected"] == [1]


def test_failures_are_raised_once_the_rest_is_done(deployed: Deployed, capsys: pytest.CaptureFixture[str]) -> None:
    old_usage(deployed)
    row = AccountTable(ACCOUNTS).read("acme")
    assert row is not None
    boto3.client("dynamodb", region_name="us-east-1").delete_item(
        TableName=CONFIG, Key={"pk": {"S": "plan#pro"}, "sk": {"S": f"v#{row.plan_version:08d}"}}
    )
    with pytest.raises(ExceptionGroup) as raised:
        deployed.run_seal({})
    assert len(raised.value.exceptions) == 1
    metrics = metrics_of(capsys.readouterr().out)
    assert metrics["OldestUnflushedSeconds"][0] >= 900
    assert "WindowsSealed" not in metrics


def test_one_broken_message_repeats_alone(deployed: Deployed) -> None:
    old_usage(deployed)
    deployed.run_seal({})
    records = [{"messageId": "broken", "body": "{}"}, *deployed.messages()]
    assert deployed.run_flush(records) == {"batchItemFailures": [{"itemIdentifier": "broken"}]}
    assert len(deployed.stripe.look("meter_events")["data"]) == 1


def test_the_sample_message_is_understood(deployed: Deployed) -> None:
    sample = json.loads((SAMPLES / "flush.json").read_text())
    assert deployed.run_flush(sample["Records"]) == {"batchItemFailures": []}  # of a batch that is not there


def test_a_failing_store_is_repeated_by_sqs(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    old_usage(deployed)
    deployed.run_seal({})
    records = deployed.messages()
    monkeypatch.setenv("TOLLGATE_BILLING_TABLE", "no-such-table")
    deployed.flush.deps.cache_clear()
    assert deployed.run_flush(records) == {"batchItemFailures": [{"itemIdentifier": records[0]["messageId"]}]}


def test_an_outage_is_acknowledged_and_stands_in_the_row(deployed: Deployed) -> None:
    old_usage(deployed)
    deployed.run_seal({})
    deployed.stripe.control("faults", {"faults": [{"kind": "429", "match": {"path": "/v1/billing/meter_events"}}]})
    assert deployed.run_flush(deployed.messages()) == {"batchItemFailures": []}
    batch = deployed.world.batch()
    assert (batch.state, batch.units) == ("sealed", Decimal(3))
    assert batch.retry_at == batch.due_at
    assert batch.retry_at is not None


def test_a_batch_is_put_off_where_the_functions_time_is_short(deployed: Deployed) -> None:
    old_usage(deployed)
    deployed.run_seal({})
    assert deployed.run_flush(deployed.messages(), remaining_ms=20_000) == {"batchItemFailures": []}
    assert deployed.stripe.look("meter_events")["data"] == []
    assert deployed.world.batch().retry_at is not None


def test_a_rotated_key_is_read_again(deployed: Deployed) -> None:
    def stored(key: str) -> None:
        ssm.put_parameter(Name="/test/stripe", Value=key, Type="SecureString", Overwrite=True)

    ssm = boto3.client("ssm", region_name="us-east-1")
    old_usage(deployed)
    deployed.run_seal({})
    (record,) = deployed.messages()
    expired = {"kind": "status", "status": 401, "match": {"path": "/v1/billing/meter_events"}, "times": 1}
    deployed.stripe.control("faults", {"faults": [expired]})
    deployed.run_flush([record])
    assert deployed.world.batch().state == "sealed"
    stored("sk_live_by_mistake")  # while the function runs: it has no client any more
    deployed.world.force(deployed.world.batch(), retry_at=None)
    deployed.run_flush([record])
    batch = deployed.world.batch()
    assert (batch.state, batch.doubt_since) == ("sealed", None), "nothing was sent, so nothing is in doubt"
    assert "holds a live mode key" in str(batch.detail)
    stored("sk_test_new")
    deployed.world.force(deployed.world.batch(), retry_at=None)
    deployed.run_flush([record])
    assert deployed.world.batch().state == "flushed"
    assert len(deployed.stripe.look("meter_events")["data"]) == 1


def test_no_secret_is_logged(deployed: Deployed, capsys: pytest.CaptureFixture[str]) -> None:
    old_usage(deployed)
    deployed.run_seal({})
    deployed.stripe.control("faults", {"faults": [{"kind": "500_before"}]})
    deployed.run_flush(deployed.messages())
    printed = capsys.readouterr()
    assert "sk_test" not in printed.out + printed.err
    assert "sk_test" not in str(deployed.world.rows(""))
