"""The ledger against requests whose cost is known: what it counts is what DynamoDB would bill."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import boto3
import botocore.session
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from bench.ledger import Ledger, UnusedPlaceholder

KB = "x" * 1024


class Scene(NamedTuple):
    ledger: Ledger
    client: Any


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        look = boto3.session.Session().client("dynamodb")
        look.create_table(
            TableName="things",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": kind}
                for name, kind in (("pk", "S"), ("sk", "S"), ("shard", "S"), ("due", "N"))
            ],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "due",
                    "KeySchema": [
                        {"AttributeName": "shard", "KeyType": "HASH"},
                        {"AttributeName": "due", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        session = botocore.session.get_session()
        ledger = Ledger(session, look)
        yield Scene(ledger, session.create_client("dynamodb"))


def key(sk: str = "a") -> dict[str, Any]:
    return {"pk": {"S": "p"}, "sk": {"S": sk}}


def put(scene: Scene, sk: str = "a", **more: Any) -> None:
    scene.client.put_item(TableName="things", Item={**key(sk), **more})


def test_nothing_is_counted_outside(scene: Scene) -> None:
    put(scene)
    with scene.ledger.counting() as tally:
        pass
    put(scene)
    assert tally.calls == []


def test_a_write_costs_the_larger_of_before_and_after(scene: Scene) -> None:
    put(scene, text={"S": KB})
    with scene.ledger.counting() as tally:
        put(scene)
    assert (tally.requests, tally.write, tally.read) == (1, 2, Decimal(0))
    with scene.ledger.counting() as tally:
        put(scene)
    assert tally.write == 1


def test_a_refused_write_is_billed_for_what_stands_there(scene: Scene) -> None:
    put(scene, text={"S": KB + KB})
    with scene.ledger.counting() as tally, pytest.raises(ClientError):
        scene.client.update_item(
            TableName="things",
            Key=key(),
            UpdateExpression="SET n = :n",
            ConditionExpression="attribute_not_exists(pk)",
            ExpressionAttributeValues={":n": {"N": "1"}},
        )
    assert tally.write == 3
    assert tally.calls[0].refused


def test_a_transaction_is_one_request_of_twice_the_units(scene: Scene) -> None:
    put(scene, "b", text={"S": KB})
    with scene.ledger.counting() as tally:
        scene.client.transact_write_items(
            TransactItems=[
                {"Put": {"TableName": "things", "Item": key("a")}},
                {
                    "ConditionCheck": {
                        "TableName": "things",
                        "Key": key("b"),
                        "ConditionExpression": "attribute_exists(pk)",
                    }
                },
            ]
        )
    assert (tally.requests, tally.write) == (1, 2 * 1 + 2 * 2)


def test_a_query_pays_for_what_its_filter_drops(scene: Scene) -> None:
    for index in range(9):
        put(scene, f"{index}", text={"S": KB}, keep={"BOOL": index == 0})
    request = {
        "TableName": "things",
        "KeyConditionExpression": "pk = :p",
        "FilterExpression": "keep = :yes",
        "ExpressionAttributeValues": {":p": {"S": "p"}, ":yes": {"BOOL": True}},
    }
    with scene.ledger.counting() as tally:
        found = scene.client.query(**request, ConsistentRead=True)["Items"]
        scene.client.query(**request)
    assert len(found) == 1
    assert [call.read for call in tally.calls] == [Decimal(3), Decimal("1.5")]


def test_a_missing_item_is_read_for_one_unit(scene: Scene) -> None:
    with scene.ledger.counting() as tally:
        scene.client.get_item(TableName="things", Key=key("none"), ConsistentRead=True)
        scene.client.get_item(TableName="things", Key=key("none"))
    assert tally.read == Decimal("1.5")


def test_index_writes_are_counted_apart(scene: Scene) -> None:
    with scene.ledger.counting() as tally:
        put(scene)
        put(scene, shard={"S": "00"}, due={"N": "1"})
        put(scene, shard={"S": "00"}, due={"N": "1"}, text={"S": "other"})
        put(scene, shard={"S": "00"}, due={"N": "2"})
        put(scene)
    assert [call.index_write for call in tally.calls] == [0, 1, 0, 2, 1]
    assert tally.write == 5 + 4


def test_what_it_does_not_know_is_not_guessed(scene: Scene) -> None:
    with scene.ledger.counting(), pytest.raises(NotImplementedError, match="BatchWriteItem"):
        scene.client.batch_write_item(RequestItems={"things": [{"PutRequest": {"Item": key()}}]})


def test_runs_of_the_same_call_are_named_together(scene: Scene) -> None:
    with scene.ledger.counting() as tally:
        put(scene)
        put(scene)
        scene.client.get_item(TableName="things", Key=key())
    assert tally.named() == "2 x Put things, Get things"


def test_a_request_that_dynamodb_would_refuse_is_not_counted(scene: Scene) -> None:
    request = {
        "TableName": "things",
        "Key": key(),
        "UpdateExpression": "SET n = :n",
        "ExpressionAttributeValues": {":n": {"N": "1"}, ":unused": {"N": "2"}},
    }
    with scene.ledger.counting(), pytest.raises(UnusedPlaceholder, match=":unused"):
        scene.client.update_item(**request)
