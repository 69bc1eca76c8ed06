"""Batch reads: what DynamoDB leaves unread is asked for again, with pauses, and not for ever."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tollgate import dynamo


class Table:
    """DynamoDB that answers as told, one (keys read, keys left unread) for each call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: tuple[str, str]) -> None:
        self.asked: list[Any] = []
        self.pauses: list[float] = []
        self._answers = iter(answers)
        monkeypatch.setattr(dynamo, "client", lambda: self)
        monkeypatch.setattr(time, "sleep", self.pauses.append)

    def batch_get_item(self, RequestItems: Any) -> Any:  # noqa: N803 (botocore's name)
        self.asked.append(RequestItems)
        read, left = next(self._answers)
        unread = {"UnprocessedKeys": {"t": {"Keys": _keys(left), "ConsistentRead": True}}} if left else {}
        return {"Responses": {"t": _keys(read)}, **unread}


def _keys(names: str) -> list[dynamo.Item]:
    return [{"pk": dynamo.s(name)} for name in names]


def test_no_keys_are_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(monkeypatch)
    assert list(dynamo.batch_get("t", [])) == []
    assert table.asked == []


def test_what_was_left_unread_is_asked_for_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(monkeypatch, ("a", "bc"), ("", "bc"), ("", "bc"), ("b", "c"), ("c", ""))
    assert list(dynamo.batch_get("t", _keys("abc"))) == _keys("abc")
    assert [len(asked["t"]["Keys"]) for asked in table.asked] == [3, 2, 2, 2, 1]
    assert all(asked["t"]["ConsistentRead"] for asked in table.asked)
    assert len(table.pauses) == 4
    grows = table.pauses[:3]
    assert grows == sorted(grows), "while nothing comes, the pauses grow"
    assert table.pauses[3] <= 0.05, "what comes shortens them again"


def test_a_table_that_reads_nothing_counts_as_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(monkeypatch, ("a", "bc"), *[("", "bc")] * 99)
    with pytest.raises(dynamo.LeftUnread, match="left 2 keys unread") as failed:
        list(dynamo.batch_get("t", _keys("abc")))
    assert dynamo.unavailable(failed.value)
    assert len(table.asked) == 7
    assert 1 < sum(table.pauses) < 3
