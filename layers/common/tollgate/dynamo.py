"""The one place that makes DynamoDB clients and speaks its wire types. Only store modules import it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import count
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tollgate.quantities import plain

Attr = dict[str, Any]
Item = dict[str, Attr]

TRANSIENT = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
        "InternalServerError",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
"""Not applied or unknown; worth another try. botocore's standard retries know neither transaction conflict."""
_FRUITLESS = 6
"""Batch reads in a row that bring nothing, until the table counts as unavailable: about two seconds."""


class LeftUnread(BotoCoreError):  # type: ignore[misc]  # botocore has no types
    """DynamoDB answered, and read nothing of what a batch still wants: to callers the same as a throttled call."""

    fmt = "BatchGetItem left {keys} keys unread"


@lru_cache(maxsize=1)
def session() -> Any:
    return botocore.session.get_session()


@lru_cache(maxsize=4)
def client(*, retry: bool = True) -> Any:
    """A DynamoDB client, one per process and retry mode. `retry` False: every call is sent once."""
    return session().create_client(
        "dynamodb",
        config=Config(
            connect_timeout=1,
            read_timeout=2,
            retries={"mode": "standard", "total_max_attempts": 4 if retry else 1},
            # Checking parameters again and spelling out the SDK's features in the user agent, which it does twice for
            # each call, are a third of a call's CPU (`make bench`).
            parameter_validation=False,
            user_agent="tollgate",
            max_pool_connections=8,
        ),
    )


def failed_condition(error: ClientError) -> bool:
    return bool(error.response["Error"]["Code"] == "ConditionalCheckFailedException")


def code_of(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def unavailable(error: Exception) -> bool:
    """Whether a call got no usable answer, SDK retries included: not applied or unknown, worth another try."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code_of(error) in TRANSIENT or int(status) >= 500
    return isinstance(error, BotoCoreError)


def s(value: str) -> Attr:
    return {"S": value}


def n(value: int | Decimal) -> Attr:
    return {"N": plain(value) if isinstance(value, Decimal) else str(value)}


def b(value: bytes) -> Attr:
    return {"B": value}


def wire(value: Any) -> Attr:
    """A value of str, int, Decimal, bytes, bool, None, list or mapping as a DynamoDB attribute."""
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | Decimal):
        return n(value)
    if isinstance(value, bytes):
        return {"B": value}
    if value is None:
        return {"NULL": True}
    if isinstance(value, Mapping):
        return {"M": {key: wire(inner) for key, inner in value.items()}}
    if isinstance(value, list | tuple):
        return {"L": [wire(inner) for inner in value]}
    raise TypeError(f"no DynamoDB type for {type(value).__name__}")


def unwire(attr: Attr) -> Any:
    """The value of an attribute; numbers come back as Decimal."""
    ((kind, value),) = attr.items()
    if kind in ("S", "B", "BOOL"):
        return value
    if kind == "N":
        return Decimal(value)
    if kind == "NULL":
        return None
    if kind == "M":
        return {key: unwire(inner) for key, inner in value.items()}
    if kind == "L":
        return [unwire(inner) for inner in value]
    raise TypeError(f"unknown DynamoDB type {kind}")


def item(values: Mapping[str, Any]) -> Item:
    """A mapping as an item; keys whose value is None are left out."""
    return {key: wire(value) for key, value in values.items() if value is not None}


def unitem(raw: Item) -> dict[str, Any]:
    return {key: unwire(attr) for key, attr in raw.items()}


def query(table: str, pages: int | None = None, **request: Any) -> Iterator[Item]:
    """All items of a query, page by page; of the first `pages` where that is said."""
    start: Item | None = None
    for _ in count() if pages is None else range(pages):
        page = client().query(TableName=table, **request, **({"ExclusiveStartKey": start} if start else {}))
        yield from page.get("Items", ())
        start = page.get("LastEvaluatedKey")
        if not start:
            return


def batch_get(table: str, keys: Sequence[Item], *, consistent: bool = True) -> Iterator[Item]:
    """The items at up to 100 keys, in no order; keys without one are left out. What DynamoDB leaves unread is asked for
    again after a growing pause (its documentation of BatchGetItem wants that). Raises LeftUnread."""
    wanted: Any = {table: {"Keys": list(keys), "ConsistentRead": consistent}} if keys else {}
    fruitless = 0
    while wanted:
        answer = client().batch_get_item(RequestItems=wanted)
        found = answer["Responses"].get(table, ())
        yield from found
        wanted = answer.get("UnprocessedKeys") or {}
        if wanted:
            fruitless = 0 if found else fruitless + 1
            if fruitless == _FRUITLESS:
                raise LeftUnread(keys=len(wanted[table]["Keys"]))
            most_ms = 50 * 2**fruitless
            time.sleep(random.randint(most_ms // 2, most_ms) / 1000)
