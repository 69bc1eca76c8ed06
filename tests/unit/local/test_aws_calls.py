"""Which rights a call needs, as the AWS double notes them."""

from __future__ import annotations

import json

from local.aws_calls import Calls
from local.wire import Request
from tests.support.stack import beyond_rights


def call(caller: str, target: str, body: object) -> Request:
    headers = {
        "x-amz-target": target,
        "authorization": f"AWS4-HMAC-SHA256 Credential={caller}/20261121/eu/x/aws4_request",
    }
    return Request("POST", "/", headers, json.dumps(body).encode())


def test_a_transaction_needs_the_rights_of_its_parts() -> None:
    calls = Calls()
    parts = [{"Put": {"TableName": "e"}}, {"Update": {"TableName": "g"}}, {"ConditionCheck": {"TableName": "g"}}]
    calls.note(call("gate", "DynamoDB_20120810.TransactWriteItems", {"TransactItems": parts}))
    assert calls.listed() == [
        ["gate", "dynamodb:ConditionCheckItem", "g"],
        ["gate", "dynamodb:PutItem", "e"],
        ["gate", "dynamodb:UpdateItem", "g"],
    ]


def test_an_index_a_batch_and_a_parameter() -> None:
    calls = Calls()
    calls.note(call("seal", "DynamoDB_20120810.Query", {"TableName": "b", "IndexName": "due"}))
    calls.note(call("seal", "AmazonSQS.SendMessageBatch", {"QueueUrl": "http://127.0.0.1/1/flush.fifo"}))
    calls.note(call("gate", "AmazonSSM.GetParameter", {"Name": "/tollgate/x/signing-secret"}))
    assert calls.listed() == [
        ["gate", "ssm:GetParameter", "/tollgate/x/signing-secret"],
        ["seal", "dynamodb:Query", "b/index/due"],
        ["seal", "sqs:SendMessage", "flush.fifo"],
    ]


def test_a_batch_read_needs_the_right_on_each_table() -> None:
    calls = Calls()
    calls.note(call("gate", "DynamoDB_20120810.BatchGetItem", {"RequestItems": {"g": {"Keys": []}, "h": {"Keys": []}}}))
    assert calls.listed() == [["gate", "dynamodb:BatchGetItem", "g"], ["gate", "dynamodb:BatchGetItem", "h"]]


def test_a_call_beyond_the_matrix_is_named() -> None:
    assert beyond_rights([("gate", "dynamodb:Scan", "tollgate-local-GatesTable")]) == [
        "gate: dynamodb:Scan on tollgate-local-GatesTable"
    ]
    assert beyond_rights([("gate", "dynamodb:UpdateItem", "tollgate-local-GatesTable")]) == []
    assert beyond_rights([("local", "dynamodb:CreateTable", "tollgate-local-GatesTable")]) == []
