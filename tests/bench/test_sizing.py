"""The sizing function against the documented rules, each by a value worked out by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from bench.sizing import index_write_units, item_size, number_size, read_units, value_size, write_units

KB_BUT_ONE = {"pk": {"S": "x" * 1021}}  # 2 + 1021 = 1023 bytes


@pytest.mark.parametrize(
    ("number", "size"),
    [
        ("0", 1),
        ("7", 2),
        ("42", 2),
        ("123", 3),
        ("1795262400", 5),  # eight digits, zeros at the end trimmed: 4 + 1
        ("1795262401", 6),
        ("-7", 3),
        ("0.0", 1),
        ("0.001", 2),
        ("10.50", 3),
        ("100", 2),
        ("1E+5", 2),
        ("0." + "1" * 38, 20),
    ],
)
def test_numbers_count_two_significant_digits_a_byte(number: str, size: int) -> None:
    assert number_size(number) == size


@pytest.mark.parametrize(
    ("attr", "size"),
    [
        ({"S": "abc"}, 3),
        ({"S": "é€"}, 5),
        ({"B": b"\x00" * 7}, 7),
        ({"BOOL": False}, 1),
        ({"NULL": True}, 1),
        ({"M": {}}, 3),
        ({"L": []}, 3),
        ({"M": {"ab": {"S": "c"}}}, 3 + 1 + 2 + 1),
        ({"L": [{"S": "c"}, {"N": "12"}]}, 3 + 1 + 1 + 1 + 2),
        ({"M": {"a": {"M": {"b": {"B": b"12"}}}}}, 3 + 1 + 1 + 3 + 1 + 1 + 2),
        ({"SS": ["ab", "c"]}, 3),
        ({"NS": ["1", "12"]}, 4),
    ],
)
def test_values(attr: dict[str, object], size: int) -> None:
    assert value_size(attr) == size


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="no DynamoDB type"):
        value_size({"X": "1"})


def test_names_count_their_utf8_bytes() -> None:
    assert item_size({"pk": {"S": "acme"}, "naïve": {"N": "1"}}) == 2 + 4 + 6 + 2


def test_a_write_costs_the_larger_of_before_and_after_by_started_kb() -> None:
    assert item_size(KB_BUT_ONE) == 1023
    exactly = {"pk": {"S": "x" * 1022}}
    above = {"pk": {"S": "x" * 1023}}
    assert write_units(None, KB_BUT_ONE) == 1
    assert write_units(None, exactly) == 1
    assert write_units(None, above) == 2
    assert write_units(above, exactly) == 2
    assert write_units(None, None) == 1, "a condition that fails on nothing is billed one unit"


def test_a_read_is_by_started_4_kb_and_half_where_eventual() -> None:
    assert read_units([], consistent=True) == 1
    assert read_units([KB_BUT_ONE] * 4, consistent=True) == 1
    assert read_units([KB_BUT_ONE] * 5, consistent=True) == 2
    assert read_units([KB_BUT_ONE] * 5, consistent=False) == 1
    assert read_units([], consistent=False) == Decimal("0.5")


def test_an_index_is_written_where_its_entry_changes() -> None:
    entry = {"pk": {"S": "a"}, "due_at": {"N": "1"}}
    other = {"pk": {"S": "a"}, "due_at": {"N": "2"}}
    assert index_write_units(None, None) == 0
    assert index_write_units(None, entry) == 1
    assert index_write_units(entry, entry) == 0
    assert index_write_units(entry, other) == 2
    assert index_write_units(other, None) == 1
