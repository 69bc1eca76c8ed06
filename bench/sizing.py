"""Item sizes and capacity units by DynamoDB's own rule; the figures that emulators report are wrong.

Source: Amazon DynamoDB Developer Guide, "DynamoDB item sizes and formats" and "DynamoDB read and write operations".
Names and strings count their UTF-8 bytes, numbers one byte for two significant digits and one more (one more again
below zero), binaries their raw bytes, booleans and nulls one byte; lists and maps three bytes, and one for each entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

Attr = Mapping[str, Any]
Item = Mapping[str, Attr]

WRITE_BYTES = 1024
READ_BYTES = 4096
_DOCUMENT = 3
_ENTRY = 1


def item_size(item: Item) -> int:
    """Bytes of an item in DynamoDB's JSON (`{"pk": {"S": "a"}}`), without the storage overhead that only bills disk."""
    return sum(_text(name) + value_size(attr) for name, attr in item.items())


def value_size(attr: Attr) -> int:
    """Bytes of one attribute value, without its name. Binaries are bytes, as botocore gives them.

    Raises ValueError for a type that DynamoDB has not.
    """
    ((kind, value),) = attr.items()
    match kind:
        case "S":
            return _text(value)
        case "N":
            return number_size(value)
        case "B":
            return len(value)
        case "BOOL" | "NULL":
            return 1
        case "M":
            return _DOCUMENT + sum(_ENTRY + _text(name) + value_size(inner) for name, inner in value.items())
        case "L":
            return _DOCUMENT + sum(_ENTRY + value_size(inner) for inner in value)
        case "SS" | "NS" | "BS":
            return sum(value_size({kind[0]: member}) for member in value)
    raise ValueError(f"no DynamoDB type {kind!r}")


def number_size(text: str) -> int:
    """Bytes of a number: zeros at either end do not count, wherever the point is."""
    number = Decimal(text)
    digits = "".join(str(digit) for digit in number.as_tuple().digits).strip("0")
    return (len(digits) + 1) // 2 + 1 + (1 if number < 0 else 0)


def write_units(before: Item | None, after: Item | None) -> int:
    """Units of a standard write: the larger of the item before and after it, by started KB; at least one.

    A write that its condition refuses costs the same: `after` is then the item that stood there (or None).
    """
    largest = max((item_size(item) for item in (before, after) if item is not None), default=0)
    return max(_started(largest, WRITE_BYTES), 1)


def read_units(items: Iterable[Item], *, consistent: bool) -> Decimal:
    """Units of one GetItem or one page of a Query: all bytes read together, by started 4 KB; half where eventual.

    Pass every item that was read, also those that a filter dropped. Finding nothing costs as much as one small item.
    """
    units = Decimal(max(_started(sum(item_size(item) for item in items), READ_BYTES), 1))
    return units if consistent else units / 2


def index_write_units(before: Item | None, after: Item | None) -> int:
    """Units of an index's own write, given the projected entry before and after (None: the item is not in it).

    Entering or leaving is one write, another key is two (delete and put), an unchanged projection none.
    """
    if before == after:
        return 0
    return sum(_started(item_size(entry), WRITE_BYTES) for entry in (before, after) if entry is not None)


def _started(size: int, block: int) -> int:
    return -(-size // block)


def _text(value: str) -> int:
    return len(value.encode())
