"""Reading template.yaml: everything found, and each mistake named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from local.settings import Settings, StartupError
from local.template import Route, read_template
from local.testing import ROOT

TOY = Path(__file__).parent / "fixtures" / "toy"


def test_functions_have_their_folder_limits_layers_and_resolved_environment(toy_settings: Settings) -> None:
    gate = read_template(toy_settings).functions["gate"]
    assert gate.folder == TOY / "functions" / "gate"
    assert (gate.handler, gate.timeout_seconds, gate.memory_mb) == ("app.handler", 8, 256)
    assert gate.layers == (TOY / "layers" / "common",)
    assert gate.environment == {
        "TOLLGATE_STACK": "tollgate-local",
        "TOLLGATE_STAGE": "local",
        "TOLLGATE_BILLING_TABLE": "tollgate-local-BillingTable",
        "TOLLGATE_SEAL_SECONDS": "5",
        "TOLLGATE_SIGNING_SECRET_PARAMETER": "/toy/tollgate-local/signing",
        "WHERE": "here",
    }


def test_routes_mappings_schedules(toy_settings: Settings) -> None:
    stack = read_template(toy_settings)
    assert set(stack.routes) == {
        Route("POST", "/v1/do", "gate"),
        Route("POST", "/v1/things/{id}/commit", "gate"),
        Route("ANY", "$default", "manage"),
    }
    (mapping,) = stack.mappings
    assert (mapping.queue, mapping.function, mapping.batch_size, mapping.report_item_failures) == (
        "tollgate-local-FlushQueue.fifo",
        "flush",
        10,
        True,
    )
    assert sorted((s.function, s.every_seconds, s.event["shards"]) for s in stack.schedules) == [
        ("seal", 60, [0]),
        ("seal", 60, [1]),
    ]


def test_queues_know_their_dead_letter_queue_and_tables_their_index(toy_settings: Settings) -> None:
    stack = read_template(toy_settings)
    queue = next(queue for queue in stack.queues if queue.logical_id == "FlushQueue")
    assert queue.url == "http://127.0.0.1:8952/123456789012/tollgate-local-FlushQueue.fifo"
    assert queue.attributes["VisibilityTimeout"] == "30"
    assert "tollgate-local-FlushDeadLetterQueue.fifo" in queue.attributes["RedrivePolicy"]
    assert stack.environment("TOLLGATE_FLUSH_QUEUE_URL") == queue.url
    (table,) = stack.tables
    assert table.properties["GlobalSecondaryIndexes"][0]["IndexName"] == "due"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "!Ref FlushQueue\n",
            "!Ref FlushQueu\n",
            "ManageFunction, environment TOLLGATE_FLUSH_QUEUE_URL: Ref FlushQueu",
        ),
        ("Queue: !GetAtt FlushQueue.Arn", "Queue: !GetAtt FlushQueue.Color", "GetAtt FlushQueue.Color"),
        (
            "CodeUri: functions/seal/",
            "CodeUri: functions/seel/",
            "SealFunction: handler 'app.handler' is not in functions/seel/",
        ),
        ("Handler: app.handler", "Handler: app", "handler 'app' is not in"),
        ('rate(1 minute), Input: \'{"kind": "seal", "shards": [1]}\'', "cron(0 1 * * ? *)", "cron(0 1 * * ? *)"),
        ('\'{"kind": "seal", "shards": [1]}\'', "'{shards'", "its Input is not JSON"),
        ("!If [IsLocal, here, there]", "!If [IsLocl, here, there]", "Condition IsLocl does not exist"),
        ("Timeout: 8\n", "Timeout: 901\n", "Timeout 901"),
        ("FlushDeadLetterQueue.Arn", "DeadLetterQueue.Arn", "FlushQueue: GetAtt DeadLetterQueue.Arn names no resource"),
        ("      CodeUri: functions/gate/\n", "", "GateFunction has no CodeUri"),
        ("Type: HttpApi\n", "Type: HtpApi\n", "GateFunction"),
        ("Resources:\n", "Resorces:\n", "has no Resources"),
        ("Resources:\n", "Resources:\n  - {\n", "is not YAML"),
        ('!Sub "/toy/${AWS::StackName}/stripe"', '!Sub "/toy/${Nobody}/stripe"', "Ref Nobody names no parameter"),
        ('!Sub "/toy/${AWS::StackName}/stripe"', '!ImportValue "x"', "Fn::ImportValue is not known"),
        (
            "FifoQueue: true\n      VisibilityTimeout",
            "QueueName: plain\n      FifoQueue: true\n      VisibilityTimeout",
            "ends in .fifo",
        ),
    ],
)
def test_a_mistake_is_one_clear_message(
    toy_settings: Settings, tmp_path: Path, old: str, new: str, message: str
) -> None:
    shutil.copytree(TOY, tmp_path / "toy")
    path = tmp_path / "toy" / "template.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(StartupError) as refused:
        read_template(replace(toy_settings, template=path))
    assert message in str(refused.value)
    assert "template.yaml" in str(refused.value)


FUNCTIONS = sorted(file.parent.name for file in (ROOT / "functions").glob("*/app.py"))


def test_the_projects_own_template_can_be_read(toy_settings: Settings, tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    shutil.copy(ROOT / "template.yaml", template)
    for name in FUNCTIONS:
        folder = tmp_path / "functions" / name
        folder.mkdir(parents=True)
        (folder / "app.py").touch()
    stack = read_template(replace(toy_settings, template=template))
    assert set(FUNCTIONS) == set(stack.functions)
    assert stack.urls == {"stripe_webhook"}
    assert {table.logical_id for table in stack.tables} >= {
        "GatesTable",
        "EventsTable",
        "BillingTable",
        "AccountsTable",
        "ConfigTable",
    }
    # Only those who call Stripe may learn where its key is.
    with_key = {n for n, f in stack.functions.items() if "TOLLGATE_STRIPE_SECRET_PARAMETER" in f.environment}
    assert with_key == {"billing", "flush", "reconcile", "stripe_events"}
    assert sorted(shard for s in stack.schedules if s.function == "seal" for shard in s.event["shards"]) == list(
        range(16)
    )
