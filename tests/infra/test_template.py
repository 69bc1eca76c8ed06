"""Functions, tables, queues, schedules, routes, times and alarms of the translated template."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from aws_lambda_powertools import Logger

from tests.infra.translated import Stack, name_of
from tollgate.accounts.key_store import ApiKey
from tollgate.http.dispatch import Api
from tollgate.http.routing import Router
from tollgate.notify.letter import LEASE_S

FUNCTIONS = [
    "AlertFunction",
    "BillingFunction",
    "FlushFunction",
    "GateFunction",
    "ManageFunction",
    "NotifyFunction",
    "ReconcileFunction",
    "SealFunction",
    "StripeEventsFunction",
    "StripeWebhookFunction",
    "SweepFunction",
]
CALL_STRIPE = {"BillingFunction", "FlushFunction", "ReconcileFunction", "StripeEventsFunction"}
TABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "GatesTable": {"": ("pk:S:HASH",)},
    "EventsTable": {"": ("pk:S:HASH", "sk:S:RANGE")},
    "BillingTable": {
        "": ("pk:S:HASH", "sk:S:RANGE"),
        "due": ("due_shard:S:HASH", "due_at:N:RANGE"),
        "days": ("day_shard:S:HASH", "pk:S:RANGE"),
    },
    "AccountsTable": {"": ("pk:S:HASH", "sk:S:RANGE")},
    "ConfigTable": {"": ("pk:S:HASH", "sk:S:RANGE")},
}
BILLING_ROUTES = {
    "POST /v1/accounts/{id}/checkout",
    "POST /v1/accounts/{id}/subscription",
    "GET /v1/accounts/{id}/invoices/{invoice}/audit",
}
GATE_ROUTES = {
    "POST /v1/reservations",
    "GET /v1/reservations/{id}",
    "POST /v1/reservations/{id}/commit",
    "POST /v1/reservations/{id}/release",
    "POST /v1/reservations/{id}/extend",
    "POST /v1/usage",
    "POST /v1/estimates",
}
SDK_RETRIES_SECONDS = 12
"""The longest one SDK call goes on: 4 attempts of 1 s to connect and 2 s to read. A gate killed at its timeout may have
one in flight."""
CLOCK_SKEW_SECONDS = 2


def test_the_functions_are_the_known_ones(stack: Stack) -> None:
    assert sorted(stack.functions) == FUNCTIONS


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_runs_our_runtime_and_keeps_its_logs_for_a_set_time(stack: Stack, function: str) -> None:
    properties = stack.functions[function]
    assert properties["Runtime"] == "python3.13"
    assert properties["Architectures"] == ["arm64"]
    assert properties["Handler"] == "app.handler"
    assert properties["MemorySize"] >= 512
    assert stack.folder(function).is_dir()
    group = stack.of_type("AWS::Logs::LogGroup")[name_of(properties["LoggingConfig"]["LogGroup"])]
    assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    assert properties["LoggingConfig"]["LogFormat"] == "JSON"
    groups = [name_of(stack.functions[name]["LoggingConfig"]["LogGroup"]) for name in FUNCTIONS]
    assert len(set(groups)) == len(FUNCTIONS)


def test_only_functions_that_call_stripe_carry_its_layer(stack: Stack) -> None:
    assert {f for f in stack.functions if "StripeLayer" in stack.layers(f)} == CALL_STRIPE
    assert all("CommonLayer" in stack.layers(f) for f in stack.functions)


# ---- tables


def keys(schema: list[dict[str, str]], types: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{key['AttributeName']}:{types[key['AttributeName']]}:{key['KeyType']}" for key in schema)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_a_table_has_its_keys_and_survives(stack: Stack, table: str) -> None:
    resource = stack.resources[table]
    properties = resource["Properties"]
    types = {a["AttributeName"]: a["AttributeType"] for a in properties["AttributeDefinitions"]}
    schemas = {"": keys(properties["KeySchema"], types)}
    for index in properties.get("GlobalSecondaryIndexes", []):
        schemas[index["IndexName"]] = keys(index["KeySchema"], types)
        assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    assert schemas == TABLES[table]
    assert len(types) == len({key.split(":")[0] for schema in schemas.values() for key in schema})

    assert resource["DeletionPolicy"] == "Retain"
    assert resource["UpdateReplacePolicy"] == "Retain"
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["DeletionProtectionEnabled"] == {"Fn::If": ["IsProd", True, False]}
    # A named table that outlives its stack would stand in the way of the next one.
    assert "TableName" not in properties


def test_there_is_no_other_table(stack: Stack) -> None:
    assert set(stack.of_type("AWS::DynamoDB::Table")) == set(TABLES)


# ---- queues


def dead_letter_queues(stack: Stack) -> set[str]:
    return {
        name_of(queue["RedrivePolicy"]["deadLetterTargetArn"])
        for queue in stack.of_type("AWS::SQS::Queue").values()
        if "RedrivePolicy" in queue
    }


def test_every_queue_has_a_dead_letter_queue_that_keeps_messages_as_long(stack: Stack) -> None:
    queues = stack.of_type("AWS::SQS::Queue")
    parked = dead_letter_queues(stack)
    assert parked
    for name, queue in queues.items():
        assert queue["SqsManagedSseEnabled"] is True
        if name in parked:
            assert "RedrivePolicy" not in queue, f"{name} would lose messages in a chain"
            continue
        target = queues[name_of(queue["RedrivePolicy"]["deadLetterTargetArn"])]
        assert target.get("FifoQueue") == queue.get("FifoQueue")
        # A moved message keeps its first sending time, so a shorter retention would drop it on arrival.
        assert target["MessageRetentionPeriod"] >= queue["MessageRetentionPeriod"]
        assert queue["RedrivePolicy"]["maxReceiveCount"] >= 5


def test_a_fifo_queues_name_says_so_and_its_senders_name_the_deduplication(stack: Stack) -> None:
    fifo = {name for name, queue in stack.of_type("AWS::SQS::Queue").items() if queue.get("FifoQueue")}
    assert fifo == {"FlushQueue", "FlushDeadLetterQueue", "ReconcileQueue", "ReconcileDeadLetterQueue"}
    for name, queue in stack.of_type("AWS::SQS::Queue").items():
        assert queue["QueueName"]["Fn::Sub"].endswith(".fifo") is (name in fifo)
        # By content, a batch that seal queues again within five minutes would silently be dropped.
        assert "ContentBasedDeduplication" not in queue


def test_a_message_stays_hidden_for_six_times_its_consumers_timeout(stack: Stack) -> None:
    mappings = stack.of_type("AWS::Lambda::EventSourceMapping")
    consumed = set()
    for mapping in mappings.values():
        queue = name_of(mapping["EventSourceArn"])
        consumed.add(queue)
        timeout = stack.functions[name_of(mapping["FunctionName"])]["Timeout"]
        window = mapping.get("MaximumBatchingWindowInSeconds", 0)
        assert stack.of_type("AWS::SQS::Queue")[queue]["VisibilityTimeout"] >= 6 * timeout + window
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["BatchSize"] == 10
    assert consumed == set(stack.of_type("AWS::SQS::Queue")) - dead_letter_queues(stack)


def test_flush_polls_no_more_than_it_may_run(stack: Stack) -> None:
    """Polls past the reserved concurrency are throttled, and each of those counts towards the dead letter queue."""
    (mapping,) = (
        one
        for one in stack.of_type("AWS::Lambda::EventSourceMapping").values()
        if name_of(one["FunctionName"]) == "FlushFunction"
    )
    reserved = stack.functions["FlushFunction"]["ReservedConcurrentExecutions"]
    assert mapping["ScalingConfig"]["MaximumConcurrency"] == {"Ref": "FlushConcurrency"}
    assert reserved == {"Fn::If": ["ReservesConcurrency", {"Ref": "FlushConcurrency"}, {"Ref": "AWS::NoValue"}]}
    assert mapping["Enabled"] == {"Fn::If": ["IsFlushEnabled", True, False]}
    assert stack.default("FlushEnabled") == "true"


# ---- schedules


def schedules(stack: Stack, function: str) -> list[tuple[str, Any]]:
    found = []
    for rule in stack.of_type("AWS::Events::Rule").values():
        for target in rule["Targets"]:
            if name_of(target["Arn"]) == function:
                found.append((rule["ScheduleExpression"], json.loads(target["Input"])))
    return found


def test_four_rules_seal_each_of_the_sixteen_shards_once_a_minute(stack: Stack) -> None:
    rules = schedules(stack, "SealFunction")
    assert [rate for rate, _ in rules] == ["rate(1 minute)"] * 4
    assert sorted(shard for _, event in rules for shard in event["shards"]) == list(range(16))


def test_sweep_runs_every_quarter_of_an_hour_and_ends_before_the_next(stack: Stack) -> None:
    assert schedules(stack, "SweepFunction") == [("rate(15 minutes)", {})]
    assert stack.functions["SweepFunction"]["Timeout"] < 15 * 60
    assert stack.functions["SealFunction"]["Timeout"] < 60


def test_messages_are_delivered_every_minute_by_one_run_at_a_time(stack: Stack) -> None:
    assert schedules(stack, "NotifyFunction") == [("rate(1 minute)", {})]
    # A message is a run's own for its lease: no run may outlive it.
    assert stack.functions["NotifyFunction"]["Timeout"] < min(60, LEASE_S)


def test_reconciliation_runs_every_day_and_counts_what_is_parked_every_week(stack: Stack) -> None:
    assert sorted(schedules(stack, "ReconcileFunction")) == [
        ("rate(1 day)", {}),
        ("rate(7 days)", {"task": "weekly"}),
    ]


def test_thresholds_that_a_crash_swallowed_are_looked_for_every_five_minutes(stack: Stack) -> None:
    assert ("rate(5 minutes)", {"task": "thresholds"}) in schedules(stack, "AlertFunction")
    assert ("rate(60 minutes)", {"task": "anomalies"}) in schedules(stack, "AlertFunction")
    assert ("rate(1 day)", {"task": "volume"}) in schedules(stack, "AlertFunction")
    assert ("rate(60 minutes)", {"task": "breaker"}) in schedules(stack, "AlertFunction")
    assert ("rate(60 minutes)", {"task": "margins"}) in schedules(stack, "AlertFunction")
    assert stack.functions["AlertFunction"]["Timeout"] < 5 * 60


def test_every_rule_may_call_its_function(stack: Stack) -> None:
    permitted = {
        (name_of(permission["FunctionName"]), permission["SourceArn"]["Fn::GetAtt"][0])
        for permission in stack.of_type("AWS::Lambda::Permission").values()
        if permission["Principal"] == "events.amazonaws.com"
    }
    wanted = {
        (name_of(target["Arn"]), rule)
        for rule, properties in stack.of_type("AWS::Events::Rule").items()
        for target in properties["Targets"]
    }
    assert wanted
    assert permitted == wanted


def test_a_scheduled_function_is_not_retried_beside_its_next_run(stack: Stack) -> None:
    configs = {name_of(c["FunctionName"]): c for c in stack.of_type("AWS::Lambda::EventInvokeConfig").values()}
    rules = stack.of_type("AWS::Events::Rule").values()
    assert set(configs) == {name_of(target["Arn"]) for rule in rules for target in rule["Targets"]}
    assert {c["MaximumRetryAttempts"] for c in configs.values()} == {0}


# ---- routes


def routes(stack: Stack) -> dict[str, tuple[str, str]]:
    """Route key -> (function, payload version), from the API's own definition."""
    (api,) = stack.of_type("AWS::ApiGatewayV2::Api").values()
    found: dict[str, tuple[str, str]] = {}
    for path, methods in api["Body"]["paths"].items():
        for method, operation in methods.items():
            integration = operation["x-amazon-apigateway-integration"]
            match = re.search(r"\$\{(\w+)\.Arn\}", integration["uri"]["Fn::Sub"])
            assert match
            is_default = (path, method) == ("/$default", "x-amazon-apigateway-any-method")
            assert operation.get("isDefaultRoute", False) is is_default
            key = "$default" if is_default else f"{method.upper()} {path}"
            found[key] = (match[1], integration["payloadFormatVersion"])
    return found


def test_the_gate_has_its_routes_and_everything_else_goes_to_manage(stack: Stack) -> None:
    expected = dict.fromkeys(GATE_ROUTES, ("GateFunction", "2.0"))
    expected |= dict.fromkeys(BILLING_ROUTES, ("BillingFunction", "2.0"))
    expected["$default"] = ("ManageFunction", "2.0")
    assert routes(stack) == expected


def test_the_api_is_throttled_and_answers_before_api_gateway_gives_up(stack: Stack) -> None:
    (stage,) = stack.of_type("AWS::ApiGatewayV2::Stage").values()
    assert stage["StageName"] == "$default"
    assert stage["AutoDeploy"] is True
    assert set(stage["DefaultRouteSettings"]) == {"ThrottlingRateLimit", "ThrottlingBurstLimit"}
    for function in ("BillingFunction", "GateFunction", "ManageFunction"):
        assert stack.functions[function]["Timeout"] < 30, "HTTP APIs cut an answer off at 30 s"


def test_stripe_reaches_its_ingress_without_iam_and_nothing_else_has_a_url(stack: Stack) -> None:
    (url,) = stack.of_type("AWS::Lambda::Url").values()
    assert name_of(url["TargetFunctionArn"]) == "StripeWebhookFunction"
    assert url["AuthType"] == "NONE"
    assert url.get("InvokeMode", "BUFFERED") == "BUFFERED"
    assert "Cors" not in url, "no browser calls it"
    # Stripe waits about 20 s for an answer, and delivers again.
    assert stack.functions["StripeWebhookFunction"]["Timeout"] <= 20


# ---- times


def test_a_window_is_sealed_only_when_no_gate_can_still_write_into_it(stack: Stack) -> None:
    timeout = stack.functions["GateFunction"]["Timeout"]
    assert timeout == 10
    assert stack.default("SealGraceSeconds") > timeout + SDK_RETRIES_SECONDS + CLOCK_SKEW_SECONDS
    assert stack.default("SealSeconds") == 300


# ---- alarms


def alarms_on(stack: Stack, namespace: str, metric: str) -> dict[str, dict[str, Any]]:
    return {
        name_of(alarm["Dimensions"][0]["Value"]): alarm
        for alarm in stack.of_type("AWS::CloudWatch::Alarm").values()
        if (alarm["Namespace"], alarm["MetricName"]) == (namespace, metric)
    }


def test_every_function_has_an_alarm_on_its_errors(stack: Stack) -> None:
    assert sorted(alarms_on(stack, "AWS/Lambda", "Errors")) == FUNCTIONS


def test_the_first_parked_message_raises_an_alarm(stack: Stack) -> None:
    alarms = alarms_on(stack, "AWS/SQS", "ApproximateNumberOfMessagesVisible")
    assert set(alarms) == dead_letter_queues(stack)
    assert all(a["Threshold"] == 1 and a["Statistic"] == "Maximum" for a in alarms.values())


def own_metrics(stack: Stack) -> dict[str, dict[str, Any]]:
    """Alarms on metrics that our code makes, by logical id."""
    alarms = stack.of_type("AWS::CloudWatch::Alarm")
    return {name: alarm for name, alarm in alarms.items() if alarm["Namespace"] == "Tollgate"}


OWN_ALARMS = {
    "BatchAgeAlarm": ("OldestUnflushedSeconds", "SealFunction"),
    "SealParkedBatchesAlarm": ("BatchesParked", "SealFunction"),
    "FlushParkedBatchesAlarm": ("BatchesParked", "FlushFunction"),
    "StripeEventsParkedBatchesAlarm": ("BatchesParked", "StripeEventsFunction"),
    "RepairedGatesAlarm": ("RepairedGates", "SweepFunction"),
    "MessagesFailedAlarm": ("MessagesFailed", "NotifyFunction"),
    "DivergenceAlarm": ("DivergentPairs", "ReconcileFunction"),
    "ReconcileFailuresAlarm": ("ReconcileFailures", "ReconcileFunction"),
    "GateDefectsAlarm": ("UnexpectedErrors", "GateFunction"),
    "ManageDefectsAlarm": ("UnexpectedErrors", "ManageFunction"),
    "BillingDefectsAlarm": ("UnexpectedErrors", "BillingFunction"),
    "RefusalsAlarm": ("Refusals", "GateFunction"),
    "GateRetriesAlarm": ("GateRetries", "GateFunction"),
    "GateReclaimedHoldsAlarm": ("ReclaimedHolds", "GateFunction"),
    "SweepReclaimedHoldsAlarm": ("ReclaimedHolds", "SweepFunction"),
    "UnsealedWindowsAlarm": ("OldestUnsealedSeconds", "SealFunction"),
    "BreakerTripsAlarm": ("BreakerTrips", "GateFunction"),
    "StripeEventsFailuresAlarm": ("StripeEventsFailed", "StripeEventsFunction"),
    "RefusedDeliveriesAlarm": ("DeliveriesRefused", "StripeWebhookFunction"),
}


def test_waiting_messages_and_waiting_batches_raise_an_alarm(stack: Stack) -> None:
    queues = set(stack.of_type("AWS::SQS::Queue")) - dead_letter_queues(stack)
    assert set(alarms_on(stack, "AWS/SQS", "ApproximateAgeOfOldestMessage")) == queues
    # A seal that no longer runs measures nothing: silence is trouble here.
    assert own_metrics(stack)["BatchAgeAlarm"]["TreatMissingData"] == "breaching"


def test_an_alarm_on_our_own_metric_looks_where_its_function_writes(stack: Stack) -> None:
    found = own_metrics(stack)
    assert {name: alarm["MetricName"] for name, alarm in found.items()} == {
        name: metric for name, (metric, _) in OWN_ALARMS.items()
    }
    for name, (_, function) in OWN_ALARMS.items():
        environment = stack.environment(function)
        assert found[name]["Dimensions"] == [{"Name": "service", "Value": environment["POWERTOOLS_SERVICE_NAME"]}]
        assert environment["POWERTOOLS_METRICS_NAMESPACE"] == found[name]["Namespace"]


LASTING = {"BatchesParked", "BreakerTrips", "DivergentPairs", "ReconcileFailures", "MessagesFailed", "RepairedGates"}
"""What does not end by itself: a mail that the alarm is over would be a lie."""


@pytest.mark.parametrize(
    "name", sorted(name for name, (metric, _) in OWN_ALARMS.items() if metric in {*LASTING, "UnexpectedErrors"})
)
def test_a_single_parked_batch_repaired_gate_or_defect_raises_its_alarm(stack: Stack, name: str) -> None:
    alarm = own_metrics(stack)[name]
    assert (alarm["Statistic"], alarm["Threshold"], alarm["EvaluationPeriods"]) == ("Sum", 1, 1)


@pytest.mark.parametrize("function", ["Billing", "Gate", "Manage"])
def test_a_defect_is_counted_from_the_line_that_the_dispatcher_logs(
    stack: Stack, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = (
        properties
        for properties in stack.of_type("AWS::Logs::MetricFilter").values()
        if name_of(properties["LogGroupName"]) == f"{function}LogGroup"
    )
    match = re.fullmatch(r'\{ \$\.(\w+) = "([^"]+)" \}', found["FilterPattern"])
    assert match
    (transformation,) = found["MetricTransformations"]
    assert (transformation["MetricNamespace"], transformation["MetricName"]) == ("Tollgate", "UnexpectedErrors")
    assert transformation["MetricValue"] == "1"
    (dimension,) = transformation["Dimensions"]
    assert "DefaultValue" not in transformation, "CloudWatch refuses it beside dimensions"

    service = f"tollgate-test-{function.lower()}"  # loggers of one name are one logger
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", service)
    printed = io.StringIO()
    api = Api(Router(()), NoKeys(), None, Logger(stream=printed, logger_handler=None))
    answer = api.answer({})  # no event that API Gateway makes
    assert answer["statusCode"] == 500
    (line,) = map(json.loads, printed.getvalue().splitlines())
    assert line[match[1]] == match[2]
    assert line[dimension["Value"].removeprefix("$.")] == service


class NoKeys:
    def authenticate(self, secret: str) -> ApiKey:
        raise AssertionError("nobody is asked for a key")


def test_every_alarm_reaches_the_topic_when_it_rises_and_when_its_trouble_ends(stack: Stack) -> None:
    for name, alarm in stack.of_type("AWS::CloudWatch::Alarm").items():
        assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}], name
        assert alarm.get("OKActions", []) == ([] if alarm["MetricName"] in LASTING else alarm["AlarmActions"]), name
        assert alarm["AlarmDescription"].endswith("."), name
        assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold", name
        assert alarm["TreatMissingData"] == ("breaching" if name == "BatchAgeAlarm" else "notBreaching"), name
