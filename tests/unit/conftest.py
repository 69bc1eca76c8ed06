"""Tables in moto, in this process, for the tests that hold the stores against their meaning."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from moto import mock_aws

from tollgate import dynamo

AWS_NAMES = ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
KEYS = {"gates": ("pk",), "events": ("pk", "sk"), "accounts": ("pk", "sk"), "catalog": ("pk", "sk")}


@pytest.fixture(scope="module")
def tables() -> Iterator[None]:
    """Tables `gates` (pk), `events`, `accounts` and `catalog` (pk, sk)."""
    before = {name: os.environ.get(name) for name in AWS_NAMES}
    os.environ.update({name: "us-east-1" if name.endswith("REGION") else "test" for name in before})
    with mock_aws():
        _forget_clients()
        for name, keys in KEYS.items():
            dynamo.client().create_table(
                TableName=name,
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
                KeySchema=[
                    {"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
                ],
                BillingMode="PAY_PER_REQUEST",
            )
        yield
    _forget_clients()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def _forget_clients() -> None:
    dynamo.client.cache_clear()
    dynamo.session.cache_clear()
