"""Stripe's v1 lists: newest first, `limit` 1..100 (10), cursors that are object ids [SDK: *ListParams]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from local.stripe_double.errors import invalid, missing_resource
from local.stripe_double.params import Param, Params, Text, Whole
from local.stripe_double.wire import JsonObject

PAGING: dict[str, Param] = {
    "limit": Param(Whole(1, 100)),
    "starting_after": Param(Text()),
    "ending_before": Param(Text()),
}

_BOUND = Param(Whole())
CREATED = Params({"gt": _BOUND, "gte": _BOUND, "lt": _BOUND, "lte": _BOUND})


def page(items: Sequence[JsonObject], params: Mapping[str, Any], url: str, noun: str) -> JsonObject:
    """One page of `items`, which come newest first. Raises ApiError where a cursor names none of them."""
    limit = params.get("limit", 10)
    after, before = params.get("starting_after"), params.get("ending_before")
    if after is not None and before is not None:
        raise invalid("You may only specify one of these parameters: starting_after, ending_before.")
    if before is not None:
        end = _position(items, before, "ending_before", noun)
        start = max(0, end - limit)
        data, has_more = items[start:end], start > 0
    else:
        start = 0 if after is None else _position(items, after, "starting_after", noun) + 1
        data, has_more = items[start : start + limit], start + limit < len(items)
    return {"object": "list", "data": list(data), "has_more": has_more, "url": url}


def _position(items: Sequence[JsonObject], cursor: str, param: str, noun: str) -> int:
    for index, item in enumerate(items):
        if item["id"] == cursor:
            return index
    raise missing_resource(noun, cursor, param, status=400)


def within(value: int, bounds: Mapping[str, int] | None) -> bool:
    """Whether a value lies in `gt`, `gte`, `lt`, `lte` bounds; no bounds hold everything."""
    if bounds is None:
        return True
    return (
        value > bounds.get("gt", value - 1)
        and value >= bounds.get("gte", value)
        and value < bounds.get("lt", value + 1)
        and value <= bounds.get("lte", value)
    )
