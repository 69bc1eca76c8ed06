"""The AWS double: serial, fast on the wire, in stack time, and with SQS's memory."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.clock import StackClock
from local.testing import ROOT, free_ports, wait_until


@dataclass
class Double:
    """A running AWS double."""

    port: int
    clock: StackClock

    def client(self, service: str) -> Any:
        """A client of its own connection pool, without retries."""
        return boto3.session.Session().client(
            service,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(retries={"total_max_attempts": 1}, proxies={}, max_pool_connections=40),
        )


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Double]:
    """A double for this module's tests; each makes tables and queues of its own."""
    path: Path = tmp_path_factory.mktemp("aws") / "clock"
    clock = StackClock.create(path)
    port = free_ports()
    # Threads that change places every 10 us: without the lock, moto then oversells in most runs of these tests.
    program = "import sys; sys.setswitchinterval(1e-5); from local.aws_double import main; main()"
    process = subprocess.Popen([sys.executable, "-c", program, "--port", str(port), "--clock", str(path)], cwd=ROOT)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens)
    yield Double(port, clock)
    process.terminate()
    assert process.wait(5) == 0


def make_table(dynamodb: Any, name: str) -> None:
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def take(dynamodb: Any, table: str, cap: int) -> bool:
    try:
        dynamodb.update_item(
            TableName=table,
            Key={"pk": {"S": "gate"}},
            UpdateExpression="ADD taken :one",
            ConditionExpression="attribute_not_exists(taken) OR taken < :cap",
            ExpressionAttributeValues={":one": {"N": "1"}, ":cap": {"N": str(cap)}},
        )
    except ClientError as refused:
        if refused.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        return False
    return True


def test_conditional_writes_of_many_threads_never_oversell(double: Double) -> None:
    dynamodb = double.client("dynamodb")
    for round_ in range(15):
        table = f"race-{round_}"
        make_table(dynamodb, table)
        with ThreadPoolExecutor(24) as threads:
            granted = sum(threads.map(lambda _, table=table: take(dynamodb, table, 10), range(72)))
        stored = dynamodb.get_item(TableName=table, Key={"pk": {"S": "gate"}})["Item"]["taken"]["N"]
        assert (granted, stored) == (10, "10")


def test_transactions_of_many_threads_never_lose_a_write(double: Double) -> None:
    dynamodb = double.client("dynamodb")
    make_table(dynamodb, "transactions")

    def add(number: int) -> None:
        update = {
            "TableName": "transactions",
            "UpdateExpression": "ADD n :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
        keys = ("shared", f"own-{number % 7}")
        items = [{"Update": {**update, "Key": {"pk": {"S": key}}}} for key in keys]
        dynamodb.transact_write_items(TransactItems=items)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(add, range(240)))
    assert dynamodb.get_item(TableName="transactions", Key={"pk": {"S": "shared"}})["Item"]["n"]["N"] == "240"


def test_a_connection_is_kept_and_an_answer_comes_in_one_piece(double: Double) -> None:
    double.client("dynamodb").list_tables()
    body = b"{}"
    request = (
        b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: DynamoDB_20120810.ListTables\r\n"
        b"Authorization: AWS4-HMAC-SHA256 Credential=local/20261120/us-east-1/dynamodb/aws4_request, Signature=x\r\n"
        b"Content-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    with socket.create_connection(("127.0.0.1", double.port), timeout=5) as connection:
        times = []
        for _ in range(20):
            started = time.perf_counter()
            connection.sendall(request)
            answer = connection.recv(1 << 20)
            times.append(time.perf_counter() - started)
            head, _, rest = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert json.loads(rest)["TableNames"] is not None, "the whole body came with the head"
    assert sorted(times)[10] < 0.03, "no answer waits for a delayed acknowledgement"


def test_a_long_poll_stops_nobody_and_wakes_at_once(double: Double) -> None:
    sqs = double.client("sqs")
    receiver = double.client("sqs")
    url = sqs.create_queue(QueueName="plain")["QueueUrl"]
    delays = []
    for _ in range(3):
        got: list[tuple[float, Any]] = []

        def receive(got: list[tuple[float, Any]] = got) -> None:
            answer = receiver.receive_message(QueueUrl=url, WaitTimeSeconds=20)
            got.append((time.monotonic(), answer.get("Messages")))

        thread = threading.Thread(target=receive)
        thread.start()
        time.sleep(0.3)
        started = time.monotonic()
        for _ in range(10):
            sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        assert time.monotonic() - started < 10, "half of the poll's time, so the poll did not hold the lock"
        sent = time.monotonic()
        sqs.send_message(QueueUrl=url, MessageBody="hello")
        thread.join(20)
        ((received, messages),) = got
        assert messages[0]["Body"] == "hello"
        sqs.delete_message(QueueUrl=url, ReceiptHandle=messages[0]["ReceiptHandle"])
        delays.append(received - sent)
    # Faster at least once than the half second between two looks.
    assert min(delays) < 0.4


def test_an_empty_long_poll_ends_in_time(double: Double) -> None:
    sqs = double.client("sqs")
    url = sqs.create_queue(QueueName="empty")["QueueUrl"]
    started = time.monotonic()
    assert "Messages" not in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)
    assert 0.9 < time.monotonic() - started < 8


def test_visibility_runs_in_stack_time(double: Double) -> None:
    sqs = double.client("sqs")
    url = sqs.create_queue(QueueName="hidden", Attributes={"VisibilityTimeout": "600"})["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x")
    assert sqs.receive_message(QueueUrl=url)["Messages"]
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    double.clock.advance(601)
    assert sqs.receive_message(QueueUrl=url)["Messages"]


def test_a_fifo_queue_remembers_deduplication_ids_after_the_delete(double: Double) -> None:
    sqs = double.client("sqs")
    attributes = {"FifoQueue": "true", "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
    url = sqs.create_queue(QueueName="batches.fifo", Attributes=attributes)["QueueUrl"]

    def send_and_delete(group: str, identifier: str) -> int:
        sqs.send_message(QueueUrl=url, MessageBody="x", MessageGroupId=group, MessageDeduplicationId=identifier)
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return len(messages)

    assert send_and_delete("a", "1") == 1
    assert send_and_delete("a", "1") == 0, "dropped within five minutes, although the first was deleted"
    assert send_and_delete("b", "1") == 1, "the scope is the group"
    double.clock.advance(301)
    assert send_and_delete("a", "1") == 1


def test_a_message_of_a_fifo_queue_reaches_the_dead_letter_queue(double: Double) -> None:
    sqs = double.client("sqs")
    dead = sqs.create_queue(QueueName="dead.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    attributes = {"FifoQueue": "true", "VisibilityTimeout": "0", "RedrivePolicy": policy}
    url = sqs.create_queue(QueueName="live.fifo", Attributes=attributes)["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="g", MessageDeduplicationId="1")
    for _ in range(3):
        sqs.receive_message(QueueUrl=url)
        time.sleep(0.01)
    assert [message["Body"] for message in sqs.receive_message(QueueUrl=dead)["Messages"]] == ["x"]
