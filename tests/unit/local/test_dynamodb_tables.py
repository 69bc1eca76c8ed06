"""moto's DynamoDB made lighter: whatever is asked, in whatever order, the answers are moto's own."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.dynamodb.models.dynamo_type import Item
from moto.dynamodb.models.table import Table

from local import dynamodb_tables

WIDE, NARROW = "wide", "narrow"
"""Tables with a range key and two indexes, and with a hash key alone."""
ADDED = (
    "z = :one",
    "z = if_not_exists(z, :one) + :one",
    "#m.x[0] = :one",  # fails where the item, or `fresh`, is not there
    "#m.y = :one REMOVE m.x[1], m.x[0]",
    "m.x = list_append(m.x, m.x)",
    "z = :one, z = :one",  # never allowed
    "z =",
    "m.x[0] = n",
)
Answer = Any


@pytest.fixture
def plain() -> Iterator[None]:
    """moto as it comes: all other tests have it light."""
    dynamodb_tables.restore()
    yield
    dynamodb_tables.lighten()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")


def tables() -> Any:
    dynamodb = boto3.client("dynamodb", region_name="us-east-1")
    attributes = [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "shard")]
    attributes.append({"AttributeName": "at", "AttributeType": "N"})
    projection = {"Projection": {"ProjectionType": "ALL"}}
    dynamodb.create_table(
        TableName=WIDE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=attributes,
        GlobalSecondaryIndexes=[
            {
                "IndexName": "due",
                "KeySchema": [
                    {"AttributeName": "shard", "KeyType": "HASH"},
                    {"AttributeName": "at", "KeyType": "RANGE"},
                ],
                **projection,
            },
            {"IndexName": "numbers", "KeySchema": [{"AttributeName": "at", "KeyType": "HASH"}], **projection},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.create_table(
        TableName=NARROW,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return dynamodb


class Player:
    """Random calls, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def key(self, table: str) -> dict[str, Any]:
        pk = {"pk": {"S": f"p{self.random.randrange(4)}"}}
        return pk if table == NARROW else {**pk, "sk": {"S": f"s{self.random.randrange(6)}"}}

    def item(self, table: str) -> dict[str, Any]:
        item = {**self.key(table), "n": {"N": str(self.random.randrange(5))}, "m": {"M": {"x": {"L": [{"N": "1"}]}}}}
        if self.random.random() < 0.7:
            item["shard"] = {"S": f"d{self.random.randrange(2)}"}
        if self.random.random() < 0.7:
            item["at"] = {"N": self.random.choice(["1", "1.0", "2", "3"])}
        return item

    def condition(self, names: bool = True) -> dict[str, Any]:
        kind = self.random.randrange(4)
        said: dict[str, Any] = {}
        if kind == 1:
            said = {"ConditionExpression": "attribute_not_exists(pk)"}
        elif kind == 2:
            said = {"ConditionExpression": "n < :c", "ExpressionAttributeValues": {":c": {"N": "3"}}}
        if said and self.random.random() < 0.5:
            said["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        return said

    def write(self) -> tuple[str, dict[str, Any]]:
        table = self.random.choice((WIDE, WIDE, NARROW))
        kind = self.random.choice(("Put", "Delete", "Update", "ConditionCheck"))
        if kind == "Put":
            return kind, {"TableName": table, "Item": self.item(table), **self.condition()}
        op: dict[str, Any] = {"TableName": table, "Key": self.key(table), **self.condition()}
        if kind == "Update":
            values = {**op.get("ExpressionAttributeValues", {}), ":one": {"N": "1"}}
            added = self.random.choice(ADDED)
            op |= {"UpdateExpression": f"SET {added} ADD n :one", "ExpressionAttributeValues": values}
            if "#" in added:
                op["ExpressionAttributeNames"] = {"#m": self.random.choice(("m", "fresh"))}
        elif kind == "ConditionCheck":
            op |= {"ConditionExpression": "attribute_exists(pk)"}
            op.pop("ExpressionAttributeValues", None)
        return kind, op

    def call(self, dynamodb: Any) -> Answer:
        kind = self.random.randrange(10)
        if kind < 3:
            name, op = self.write()
            method = {"Put": "put_item", "Delete": "delete_item", "Update": "update_item"}.get(name)
            return getattr(dynamodb, method)(**op) if method else None
        if kind < 6:
            items = [dict([self.write()]) for _ in range(self.random.randrange(1, 5))]
            if self.random.random() < 0.05:
                items[0] = {"Delete": {"TableName": WIDE, "Key": {"pk": {"S": "p1"}}}}  # no range key
            return dynamodb.transact_write_items(TransactItems=items)
        return self.query(dynamodb)

    def query(self, dynamodb: Any) -> Answer:
        asked: dict[str, Any] = {"TableName": WIDE, "ScanIndexForward": self.random.random() < 0.5}
        index = self.random.choice((None, None, "due", "numbers", "nothing", NARROW))
        hash_name = {"due": "shard", "numbers": "at"}.get(index or "", "pk")
        value = {"shard": {"S": "d1"}, "at": {"N": "1"}}.get(hash_name, {"S": f"p{self.random.randrange(5)}"})
        condition, values = f"{hash_name} = :h", {":h": value}
        if index == NARROW:
            asked["TableName"] = NARROW
        elif index is not None:
            asked["IndexName"] = index
        if index in (None, "due") and self.random.random() < 0.5:
            range_name, low, high = (
                ("sk", {"S": "s1"}, {"S": "s4"}) if index is None else ("at", {"N": "1"}, {"N": "2"})
            )
            condition += f" AND {range_name} BETWEEN :low AND :high"
            values |= {":low": low, ":high": high}
        if self.random.random() < 0.3:
            asked["FilterExpression"] = "n > :f"
            values |= {":f": {"N": "1"}}
        if self.random.random() < 0.3:
            asked["ProjectionExpression"] = "pk, n"
        if self.random.random() < 0.5:
            asked["Limit"] = self.random.randrange(1, 4)
        pages = []
        while True:
            page = dynamodb.query(KeyConditionExpression=condition, ExpressionAttributeValues=values, **asked)
            pages.append(page)
            if "LastEvaluatedKey" not in page:
                return pages
            asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def without_metadata(answer: Answer) -> Answer:
    if isinstance(answer, list):
        return [without_metadata(one) for one in answer]
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"} if answer else answer


def played(seed: int, calls: int) -> list[Answer]:
    """Every answer or refusal, and what stands in the tables after each call."""
    player, found = Player(seed), []
    with mock_aws():
        dynamodb = tables()
        for _ in range(calls):
            try:
                found.append(without_metadata(player.call(dynamodb)))
            except ClientError as refused:
                found.append(without_metadata(refused.response))
            found.append([sorted(map(str, dynamodb.scan(TableName=table)["Items"])) for table in (WIDE, NARROW)])
    return found


@pytest.mark.parametrize("seed", range(3))
def test_every_answer_is_motos_own(seed: int, plain: None) -> None:
    expected = played(seed, 200)
    dynamodb_tables.lighten()
    assert played(seed, 200) == expected
    refusals = str(expected)
    assert all(
        code in refusals for code in ("TransactionCanceledException", "ConditionalCheckFailed", "LastEvaluatedKey")
    )


def test_a_failed_transaction_leaves_everything_as_it_was() -> None:
    with mock_aws():
        dynamodb = tables()
        there = {"pk": {"S": "a"}, "sk": {"S": "1"}, "n": {"N": "1"}}
        dynamodb.put_item(TableName=WIDE, Item=there)
        dynamodb.put_item(TableName=NARROW, Item={"pk": {"S": "a"}, "n": {"N": "1"}})
        bump = {"UpdateExpression": "ADD n :one", "ExpressionAttributeValues": {":one": {"N": "1"}}}
        with pytest.raises(ClientError) as refused:
            dynamodb.transact_write_items(
                TransactItems=[
                    {"Update": {"TableName": WIDE, "Key": {"pk": {"S": "a"}, "sk": {"S": "1"}}, **bump}},
                    {"Put": {"TableName": WIDE, "Item": {"pk": {"S": "new"}, "sk": {"S": "1"}}}},
                    {"Delete": {"TableName": NARROW, "Key": {"pk": {"S": "a"}}}},
                    {"Put": {"TableName": NARROW, "Item": {"pk": {"S": "new"}}}},
                    {
                        "ConditionCheck": {
                            "TableName": WIDE,
                            "Key": {"pk": {"S": "x"}, "sk": {"S": "1"}},
                            "ConditionExpression": "attribute_exists(pk)",
                        }
                    },
                ]
            )
        reasons = [reason["Code"] for reason in refused.value.response["CancellationReasons"]]
        assert reasons == ["None", "None", "None", "None", "ConditionalCheckFailed"]
        assert dynamodb.scan(TableName=WIDE)["Items"] == [there]
        assert dynamodb.scan(TableName=NARROW)["Items"] == [{"pk": {"S": "a"}, "n": {"N": "1"}}]


def test_a_call_looks_at_what_it_touches_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with mock_aws():
        dynamodb = tables()
        for number in range(30):
            dynamodb.put_item(TableName=WIDE, Item={"pk": {"S": f"p{number}"}, "sk": {"S": "s"}})
        copied: list[object] = []
        deepcopy = copy.deepcopy

        def counted(one: Any, memo: Any = None) -> Any:
            copied.append(one)
            return deepcopy(one, memo)

        with monkeypatch.context() as watched:
            watched.setattr(copy, "deepcopy", counted)
            watched.setattr(Table, "all_items", lambda table: pytest.fail("the whole table was read and sorted"))
            put = {"TableName": WIDE, "Item": {"pk": {"S": "p1"}, "sk": {"S": "s"}}}
            dynamodb.transact_write_items(TransactItems=[{"Put": put}])
            asked = {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": {"S": "p1"}}}
            assert dynamodb.query(TableName=WIDE, **asked)["Count"] == 1
    items = [one for one in copied if isinstance(one, Item)]
    assert [one.hash_key.value for one in items] == ["p1"], "the transaction's own"


def test_many_callers_at_once() -> None:
    with mock_aws():
        dynamodb = tables()
        for number in range(40):
            dynamodb.put_item(TableName=WIDE, Item={"pk": {"S": f"p{number % 8}"}, "sk": {"S": f"s{number}"}})

        def ask(number: int) -> int:
            asked = {"KeyConditionExpression": "pk = :p", "ExpressionAttributeValues": {":p": {"S": f"p{number % 8}"}}}
            return int(dynamodb.query(TableName=WIDE, **asked)["Count"])

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, range(200))) == [5] * 200
