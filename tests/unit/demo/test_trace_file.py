"""Traces as files: what is written is read back; what is wrong is named with file, line, field and fix."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from demo.generate import generate
from demo.trace_file import TraceError, load, to_csv

from .making import item, request


def written(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_is_read_back_as_it_was(tmp_path: Path) -> None:
    trace = generate(9, 25, 200)
    assert load(written(tmp_path, to_csv(trace))) == trace


def test_jsonl_may_leave_out_what_has_a_default(tmp_path: Path) -> None:
    lines = [
        '{"offset_seconds": 2, "account": "acme", "meter": "ai_credits", "used": 0.125}',
        '{"offset_seconds": "1.5", "account": "zeta", "meter": "ai_credits", "reserved": 7, "plan": "team",'
        ' "member": "m", "dimensions": {"operation": "chat", "tier": "x"}, "outcome": "failed"}',
        "",
        '{"request": "c", "offset_seconds": 3, "account": "acme", "meter": "llm_tokens", "used": 1e2, "call": "usage",'
        ' "sends": 2, "dimension.direction": "input"}',
        '{"request": "c", "offset_seconds": 3, "account": "acme", "meter": "llm_tokens", "used": 9, "call": "usage",'
        ' "sends": 2, "dimension.direction": "output"}',
    ]
    assert load(written(tmp_path, "\n".join(lines), "mine.jsonl")) == [
        request(
            "line 2",
            item("ai_credits", "7", operation="chat", tier="x"),
            account="zeta",
            plan="team",
            member="m",
            outcome="failed",
            at="1.5",
        ),
        request("line 1", item("ai_credits", "0.125"), plan=None, member=None, at="2"),
        request(
            "c",
            item("llm_tokens", "100", direction="input"),
            item("llm_tokens", "9", direction="output"),
            plan=None,
            member=None,
            call="usage",
            sends=2,
            at="3",
        ),
    ]


def test_numbers_are_read_exactly(tmp_path: Path) -> None:
    line = '{"offset_seconds": 0, "account": "a", "meter": "m", "used": 0.1, "reserved": 123456789012345.123456789012}'
    (call,) = load(written(tmp_path, line, "t.jsonl"))
    assert call.items[0].used == Decimal("0.1")
    assert call.items[0].reserved == Decimal("123456789012345.123456789012")


HEADER = "request,offset_seconds,account,plan,meter,call,outcome,sends,reserved,used"
WRONG = {
    "x,abc,acme,pro,ai_credits,,,,1,1": ("offset_seconds", "'abc' is no plain decimal"),
    "x,0,acme,pro,ai_credits,,,,1,-1": ("used", "'-1' is no plain decimal"),
    "x,0,acme,pro,ai_credits,,,,1e3,1": ("reserved", "'1e3' is no plain decimal"),
    "x,0,acme,pro,ai_credits,,,,1,NaN": ("used", "'NaN' is no plain decimal"),
    "x,0,,pro,ai_credits,,,,1,1": ("account", "is empty; it is needed"),
    "x,0,a b,pro,ai_credits,,,,1,1": ("account", "'a b' is no id"),
    "x,0,...,pro,ai_credits,,,,1,1": ("account", "'...' is no id"),
    "x,0,acme,pro,ai_credits,call,,,1,1": ("call", "'call' is not one of reserve, once, usage"),
    "x,0,acme,pro,ai_credits,,broken,,1,1": ("outcome", "'broken' is not one of ok, failed"),
    "x,0,acme,pro,ai_credits,usage,failed,,1,1": ("outcome", "failed does not fit call usage; it can be ok, cached"),
    "x,0,acme,pro,ai_credits,,,0,1,1": ("sends", "'0' is no whole number from 1 to 5"),
    "x,0,acme,pro,ai_credits,,,,,": ("used", "is empty, and so is reserved"),
    "x,0,acme,pro,ai_credits,,,,0,1": ("reserved", "is 0; a reservation is above 0"),
    "x,0,acme,pro,ai_credits,usage,,,1,0": ("used", "is 0; what is recorded by usage is above 0"),
    "x,0,acme,pro,ai_credits,,,,1": ("line", "has not the header's 10 fields"),
    'x,0,acme,pro,"ai_credits,,,,1,1': ("line", "is no CSV"),
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_line_is_named(line: str, tmp_path: Path) -> None:
    field, text = WRONG[line]
    path = written(tmp_path, f"{HEADER}\ngood,0,acme,pro,ai_credits,,,,1,1\n{line}\n")
    with pytest.raises(TraceError) as refused:
        load(path)
    (problem,) = refused.value.problems
    assert (problem.line, problem.field) == (3, field)
    assert text in problem.text
    assert str(refused.value).startswith(f"{path}: line 3, {field}: ")


def test_lines_of_one_call_must_agree(tmp_path: Path) -> None:
    body = "one,0,acme,pro,ai_credits,,,,1,1\none,5,acme,pro,ai_credits,,,,1,1\n"
    with pytest.raises(TraceError, match=r"line 3, offset_seconds: differs from the other lines of request one"):
        load(written(tmp_path, f"{HEADER}\n{body}"))


def test_an_account_has_one_plan(tmp_path: Path) -> None:
    body = "one,0,acme,pro,ai_credits,,,,1,1\ntwo,5,acme,team,ai_credits,,,,1,1\n"
    with pytest.raises(TraceError, match=r"line 3, plan: account acme is on pro above"):
        load(written(tmp_path, f"{HEADER}\n{body}"))


def test_a_call_has_at_most_eight_items(tmp_path: Path) -> None:
    body = "one,0,acme,pro,ai_credits,,,,1,1\n" * 8
    assert len(load(written(tmp_path, f"{HEADER}\n{body}"))[0].items) == 8
    body += "one,0,acme,pro,ai_credits,,,,1,1\n"
    with pytest.raises(TraceError, match=r"line 10, request: one has over 8 items"):
        load(written(tmp_path, f"{HEADER}\n{body}"))


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("offset_seconds,account,meter,used,colour", "line 1, colour: no such field"),
        ("offset_seconds,meter,used", "line 1, account: this column is needed"),
        ("offset_seconds,account,meter,used,used", "line 1, used: this column is there twice"),
        ("offset_seconds,account,meter,used", "holds no calls"),
        ("", "line 1, account: this column is needed; the header has: nothing"),
    ],
)
def test_a_wrong_header_is_named(header: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError) as refused:
        load(written(tmp_path, f"{header}\n"))
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("{", "line 1, line: is no JSON"),
        ("[1]", "line 1, line: is no JSON object"),
        ('{"offset_seconds": NaN}', "line 1, line: is no JSON (NaN is no number)"),
        ('{"offset_seconds": true}', "line 1, offset_seconds: is neither a string nor a number"),
        ('{"dimensions": 3}', "line 1, dimensions: is no object"),
        ('{"size": 3}', "line 1, size: no such field"),
    ],
)
def test_a_wrong_json_line_is_named(line: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError) as refused:
        load(written(tmp_path, line + "\n", "t.jsonl"))
    assert text in str(refused.value)


def test_all_mistakes_are_told_and_twenty_shown(tmp_path: Path) -> None:
    lines = [json.dumps({"offset_seconds": 0, "account": "a", "meter": "m"})] * 30
    with pytest.raises(TraceError) as refused:
        load(written(tmp_path, "\n".join(lines), "t.jsonl"))
    assert len(refused.value.problems) == 30
    assert str(refused.value).count("\n") == 20
    assert str(refused.value).endswith("and 10 more")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        load(tmp_path / "none.csv")
    with pytest.raises(TraceError, match=r"ends in neither \.csv nor \.jsonl"):
        load(written(tmp_path, "", "trace.txt"))
    (tmp_path / "latin.csv").write_bytes(b"account\n\xe9\n")
    with pytest.raises(TraceError, match="is not UTF-8"):
        load(tmp_path / "latin.csv")
