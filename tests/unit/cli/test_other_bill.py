"""The other system's bill as CSV: what is read, and what each mistake says."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tollgate.billing.shadow import Billed
from tollgate_cli.other_bill import WrongBill, read_bill

METERS = {"ai_credits", "llm_tokens"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bill.csv"


def mistakes(file: Path, text: str) -> list[str]:
    file.write_text(text)
    with pytest.raises(WrongBill) as wrong:
        read_bill(file, METERS)
    return [one.replace(str(file), "bill.csv") for one in wrong.value.mistakes]


def test_units_alone_or_with_money(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbfaccount,meter,units\r\nacme,ai_credits,12.5\r\n\r\n"b,c",llm_tokens,0\r\n')
    assert read_bill(file, METERS) == {
        ("acme", "ai_credits"): Billed(Decimal("12.5"), None),
        ("b,c", "llm_tokens"): Billed(Decimal(0), None),
    }
    file.write_text("account,meter,units,amount\nacme,ai_credits,12,3.10\nacme,ai_credits,1,-0.10\n")
    assert read_bill(file, METERS) == {("acme", "ai_credits"): Billed(Decimal(13), Decimal("3.00"))}


@pytest.mark.parametrize("header", ["", "customer,meter,units", "account;meter;units", "account,meter,amount,units"])
def test_a_wrong_header_says_what_it_must_be(file: Path, header: str) -> None:
    assert mistakes(file, f"{header}\nacme,ai_credits,1\n") == [
        f"bill.csv:1: the header is `{header}`: make it `account,meter,units` or `account,meter,units,amount`"
    ]


def test_every_mistake_names_its_line_field_and_fix(file: Path) -> None:
    text = 'account,meter,units,amount\nacme,ai_credits,1,2\n,credits,"1,000",2e3\nacme,ai_credits,1\n'
    assert mistakes(file, text) == [
        "bill.csv:3: account is empty: name the account by the app's own id",
        "bill.csv:3: meter `credits` is not in the catalogue: one of ai_credits, llm_tokens",
        "bill.csv:3: units `1,000` is no number: plain digits, a point before decimals, as in 1234.5",
        "bill.csv:3: amount `2e3` is no number: plain digits, a point before decimals, as in 1234.5",
        "bill.csv:4: 3 values: give 4, one for each of account, meter, units, amount",
    ]


@pytest.mark.parametrize("value", ["NaN", "inf", "", " 1", "1.", ".5", "١", "1" * 31])
def test_what_is_no_plain_number_is_refused(file: Path, value: str) -> None:
    (said,) = mistakes(file, f"account,meter,units\nacme,ai_credits,{value}\n")
    assert said.startswith(f"bill.csv:2: units `{value}` is no number")


def test_a_file_of_nothing_but_mistakes_stays_readable(file: Path) -> None:
    found = mistakes(file, "account,meter,units\n" + "acme,nothing,1\n" * 30)
    assert (len(found), found[-1]) == (21, "bill.csv: 10 more like these")


def test_what_is_no_csv_file(file: Path, tmp_path: Path) -> None:
    assert "save the file as UTF-8" in _said(file, b"account,meter,units\n\xff")
    assert "bill.csv:2: " in _said(file, b'account,meter,units\nacme,"ai"credits,1\n')
    with pytest.raises(WrongBill, match=r"no\.csv: .*name a file that can be read"):
        read_bill(tmp_path / "no.csv", METERS)


def _said(file: Path, content: bytes) -> str:
    file.write_bytes(content)
    with pytest.raises(WrongBill) as wrong:
        read_bill(file, METERS)
    return str(wrong.value)
