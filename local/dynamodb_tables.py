"""moto's DynamoDB, made light enough for tables of tens of thousands of items. No answer is another one than moto's.

moto sorts a whole table for each Query, and for each transaction it copies the whole table once for each item of it, to
put everything back where the transaction fails. Here its own code runs on what a call can touch: a Query on the items
of its partition, a transaction with a copy of its own items. It also parses an update's expressions twice a call: here
once for each text; and it remembers every copy of an item that it ever made: here none. What it checks, in which order,
and what it answers stays its own.

Queries and transactions go one after another: a table lends itself to one of them at a time.
"""

from __future__ import annotations

import copy
import pickle
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from threading import RLock
from typing import Any, Final, NamedTuple

from moto.dynamodb.comparisons import ConditionExpressionParser
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.dynamodb.models.table import Table
from moto.dynamodb.parsing import validators
from moto.dynamodb.parsing.ast_nodes import Expression  # type: ignore[attr-defined] # moto leaves these two unchecked
from moto.dynamodb.parsing.expressions import UpdateExpressionParser  # type: ignore[attr-defined]

_query: Final = Table.query
_transact: Final = DynamoDBBackend.transact_write_items
_make: Final = UpdateExpressionParser.make
_lex: Final = ConditionExpressionParser._lex_condition_expression
_tracked: Final = Item.__new__
_alone: Final = RLock()


def lighten() -> None:
    """From now on, for all tables of this process."""
    for owner, name, _, light in _changes():
        setattr(owner, name, light)


def restore() -> None:
    """moto as it comes: for a comparison."""
    for owner, name, own, _ in _changes():
        setattr(owner, name, own)


def _changes() -> Iterator[tuple[Any, str, Any, Any]]:
    """Where, what, moto's own, and what stands there instead."""
    yield Table, "query", _query, query
    yield DynamoDBBackend, "transact_write_items", _transact, transact_write_items
    yield UpdateExpressionParser, "make", _make, staticmethod(_update_expression)
    yield ConditionExpressionParser, "_lex_condition_expression", _lex, _tokens
    yield validators, "deepcopy", copy.deepcopy, _fresh
    yield Item, "__new__", _tracked, staticmethod(_untracked)


# --- Query -----------------------------------------------------------------------------------------------------------


def query(
    table: Table,
    hash_key: DynamoType | None,
    range_comparison: str | None,
    range_objs: list[DynamoType],
    limit: int,
    exclusive_start_key: dict[str, Any],
    scan_index_forward: bool,
    projection_expressions: list[list[str]] | None,
    index_name: str | None = None,
    consistent_read: bool = False,
    filter_expression: Any = None,
    hash_key_conditions: list[tuple[str, DynamoType]] | None = None,
    **more: Any,
) -> Any:
    """As moto's `Table.query`, which filters, sorts and pages what `all_items` gives: here, one partition."""
    if index_name is not None:
        found = list(_with(_every(table), hash_key_conditions or []))
    else:
        found = _partition(table, hash_key)
    with _alone, _all_items(table, found):
        return _query(
            table,
            hash_key,
            range_comparison,
            range_objs,
            limit,
            exclusive_start_key,
            scan_index_forward,
            projection_expressions,
            index_name,
            consistent_read,
            filter_expression,
            hash_key_conditions=hash_key_conditions,
            **more,
        )


@contextmanager
def _all_items(table: Table, items: list[Item]) -> Iterator[None]:
    table.__dict__["all_items"] = lambda: items
    try:
        yield
    finally:
        del table.__dict__["all_items"]


def _partition(table: Table, hash_key: DynamoType | None) -> list[Item]:
    there: Any = table.items.get(hash_key)
    if there is None:
        return []
    return list(there.values()) if table.has_range_key else [there]


def _every(table: Table) -> Iterator[Item]:
    partitions: Iterable[Any] = table.items.values()
    for there in partitions:
        if table.has_range_key:
            yield from there.values()
        else:
            yield there


def _with(items: Iterable[Item], conditions: Iterable[tuple[str, DynamoType]]) -> Iterator[Item]:
    """Those with these attributes. An index is looked for through the whole table, but by the texts as they stand."""
    wanted = list(conditions)
    for item in items:
        for name, value in wanted:
            there = item.attrs.get(name)
            if there is None or there.type != value.type:
                break
            if there.value != value.value and (value.type != "N" or there != value):
                break
        else:
            yield item


# --- TransactWriteItems ----------------------------------------------------------------------------------------------


class _Before(NamedTuple):
    """An item as it was, None where there was none."""

    table: Table
    hash_key: DynamoType
    range_key: DynamoType | None
    item: Item | None

    def put_back(self) -> None:
        items: Any = self.table.items
        if self.range_key is not None:
            items, key = items[self.hash_key], self.range_key
        else:
            key = self.hash_key
        if self.item is None:
            items.pop(key, None)
        else:
            items[key] = self.item


def transact_write_items(backend: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
    """As moto's, which puts back its copies of the tables before it raises: here they are the tables themselves, and
    the items are put back. Streams are not: no table of the template has one."""
    with _alone:
        before = list(_touched(backend, transact_items))
        try:
            with _uncopied_tables():
                _transact(backend, transact_items)
        except Exception:  # whatever moto refuses it by, nothing of the transaction may stay
            for one in before:
                one.put_back()
            raise


def _touched(backend: DynamoDBBackend, transact_items: Iterable[Mapping[str, Any]]) -> Iterator[_Before]:
    for action in transact_items:
        for op in action.values():
            table = backend.tables.get(op.get("TableName", ""))
            given = op.get("Key") or op.get("Item") or {}
            names = [] if table is None else [name for name in (table.hash_key_attr, table.range_key_attr) if name]
            if table is None or not all(given.get(name) for name in names):
                continue  # moto refuses it before it changes anything
            keys = [DynamoType(given[name]) for name in names]
            range_key = keys[1] if len(keys) > 1 else None
            yield _Before(table, keys[0], range_key, copy.deepcopy(table.get_item(keys[0], range_key)))


@contextmanager
def _uncopied_tables() -> Iterator[None]:
    """`copy.deepcopy` of a table is the table: moto's class has no such method of its own, hence the ignored types."""
    Table.__deepcopy__ = lambda table, memo: table  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del Table.__deepcopy__  # type: ignore[attr-defined]


# --- Expressions -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _update_expression(text: str) -> Expression:
    """moto reads the tree that it has parsed, and changes a copy of it only: `_fresh`."""
    tree: Expression = _make(text)
    tree.pickled = pickle.dumps(tree)
    return tree


def _fresh(one: Any) -> Any:
    """In place of `copy.deepcopy` in moto's validators, which copy values besides trees."""
    pickled = one.__dict__.get("pickled") if isinstance(one, Expression) else None
    return copy.deepcopy(one) if pickled is None else pickle.loads(pickled)


@lru_cache(maxsize=1024)
def _lexed(text: str) -> tuple[Any, ...]:
    """Tokens are named tuples that moto's parser builds others from."""
    return tuple(_lex(ConditionExpressionParser(text, None, None)))


def _tokens(parser: ConditionExpressionParser) -> deque[Any]:
    return deque(_lexed(parser.condition_expression or ""))


# --- Items -----------------------------------------------------------------------------------------------------------


def _untracked(cls: type[Item], *args: Any, **kwargs: Any) -> Item:
    """moto lists all instances of its models, for resets that nobody asks for here."""
    return object.__new__(cls)
