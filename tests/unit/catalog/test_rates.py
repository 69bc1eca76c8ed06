"""Rates files: which weights hold on a day, what changes later, and every mistake with its file, line and column."""

from __future__ import annotations

import random
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.catalog.writing import catalogue, refusals
from tollgate.catalog.frozen import content_hash
from tollgate.catalog.model import Catalog, Meter, RateChange, WeightRule, condition, weight_of
from tollgate.catalog.rates import MAX_ROWS, MAX_RULES, Change, Columns, RateMistake, Rates, read_rates
from tollgate.catalog.schema import Beside, CatalogError, load_catalog, parse_catalog

TODAY = date(2026, 11, 21)
ONE: Columns = {"weight": {}}
KINDS = {
    "input": {"direction": ("input",)},
    "output": {"direction": ("output",)},
    "long_input": {"direction": ("input",), "context": ("long",)},
}
LISTED = """\
model,effective_from,input,output,long_input
aster,2026-01-01,3,15,6
aster,2026-11-21,2,12,
birch,2026-01-01,1,4,
birch,2027-01-01,1,5,2
cedar,2027-02-01,7,9,
"""


def read(text: str, today: date = TODAY) -> Rates:
    return read_rates(text, ["model"], KINDS, today)


def rate(found: Rates, **dimensions: str) -> Decimal:
    return weight_of(Meter("m", "M", "u", weights=found.weights), dimensions)


def rule(weight: str, **when: str) -> WeightRule:
    return WeightRule(condition(when), Decimal(weight))


# --- what holds ------------------------------------------------------------------------------------------------------


def test_the_newest_line_that_has_begun_holds() -> None:
    assert read(LISTED).weights == (
        rule("2", model="aster", direction="input"),
        rule("12", model="aster", direction="output"),
        rule("1", model="birch", direction="input"),
        rule("4", model="birch", direction="output"),
    )


def test_it_begins_with_its_day() -> None:
    assert rate(read(LISTED, TODAY - timedelta(days=1)), model="aster", direction="input") == 3
    assert rate(read(LISTED, TODAY), model="aster", direction="input") == 2


def test_an_empty_rate_takes_the_older_one_away() -> None:
    asked = {"model": "aster", "direction": "input", "context": "long"}
    assert rate(read(LISTED, TODAY - timedelta(days=1)), **asked) == 6
    assert rate(read(LISTED, TODAY), **asked) == 2  # now the rate of any other input


def test_nothing_holds_before_the_first_day() -> None:
    assert read(LISTED, date(2025, 12, 31)).weights == ()


def test_what_comes_later_is_told_by_day() -> None:
    def change(day: date, before: str | None, after: str | None, **when: str) -> Change:
        numbers = [None if text is None else Decimal(text) for text in (before, after)]
        return Change(day, condition(when), *numbers)

    new_year, february = date(2027, 1, 1), date(2027, 2, 1)
    later = [
        change(new_year, None, "2", model="birch", direction="input", context="long"),
        change(new_year, "4", "5", model="birch", direction="output"),
        change(february, None, "7", model="cedar", direction="input"),
        change(february, None, "9", model="cedar", direction="output"),
    ]
    assert list(read(LISTED).changes) == later
    assert read(LISTED, february).changes == ()
    before = read(LISTED, date(2026, 11, 20)).changes
    assert before[0] == change(TODAY, "6", None, model="aster", direction="input", context="long")
    assert {entry.on for entry in before} == {TODAY, new_year, february}


def test_two_changes_of_one_rate_follow_each_other() -> None:
    found = read_rates(
        "effective_from,weight,model\n2027-02-01,3,a\n2026-01-01,1,a\n2027-01-01,2,a\n", ["model"], ONE, TODAY
    )
    assert [(change.on, change.before, change.after) for change in found.changes] == [
        (date(2027, 1, 1), Decimal(1), Decimal(2)),
        (date(2027, 2, 1), Decimal(2), Decimal(3)),
    ]


ORDERED = """\
model,operation,effective_from,weight,x-note
,,2026-01-01,1,anything else
*-mini,,2026-01-01,2,
aster-*,,2026-01-01,3,
aster-*,chat,2026-01-01,4,
a*,,2026-01-01,7,
*t-mini,,2026-01-01,8,
ash-*ni,,2026-01-01,10,
aster-mini,,2026-01-01,5,"a note, with a comma
and a second line"
,chat,2026-01-01,6,
"""


@pytest.mark.parametrize(
    ("model", "operation", "weight"),
    [
        ("aster-mini", "chat", "5"),  # the exact model comes before the pattern, though that names the operation
        ("aster-pro", "chat", "4"),
        ("aster-pro", "image", "3"),
        ("birch-mini", "chat", "2"),
        ("ant-mini", "chat", "8"),  # `*t-mini` is longer than `*-mini` and `a*`
        ("ash-t-mini", "chat", "8"),  # as long as `ash-*ni`, which follows it in the alphabet
        ("avens", "chat", "7"),
        ("birch-pro", "chat", "6"),
        ("birch-pro", "image", "1"),
    ],
)
def test_the_narrower_rate_is_asked_first_in_whatever_order_the_lines_stand(
    model: str, operation: str, weight: str
) -> None:
    header, *lines = ORDERED.replace('"a note, with a comma\nand a second line"', "").splitlines()
    for seed in range(20):
        shuffled = random.Random(seed).sample(lines, len(lines))
        found = read_rates("\n".join([header, *shuffled]), ["model", "operation"], ONE, TODAY)
        assert rate(found, model=model, operation=operation) == Decimal(weight)


def test_notes_may_hold_anything() -> None:
    found = read_rates(ORDERED, ["model", "operation"], ONE, TODAY)
    assert found.mistakes == ()
    assert len(found.weights) == 9


def test_spaces_and_empty_lines_mean_nothing() -> None:
    text = " model , effective_from,weight\r\n\r\n a b , 2026-01-01 , 0.5 \r\n,,\r\n"
    assert read_rates(text, ["model"], ONE, TODAY).weights == (rule("0.5", model="a b"),)


days = st.integers(0, 12).map(lambda months: date(2026 + months // 12, months % 12 + 1, 1))


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abc"), days),
        st.tuples(*[st.none() | st.integers(0, 9)] * 3).filter(lambda cells: any(cell is not None for cell in cells)),
        min_size=1,
    ),
    days,
)
def test_changes_lead_from_the_rates_of_one_day_to_those_of_any_later_one(
    lines: dict[tuple[str, date], tuple[int | None, ...]], today: date
) -> None:
    text = "model,effective_from,input,output,long_input\n" + "".join(
        f"{model},{day},{','.join('' if cell is None else str(cell) for cell in cells)}\n"
        for (model, day), cells in lines.items()
    )
    now = read(text, today)
    for later in sorted({day for _, day in lines if day > today}):
        rates = {found.when: found.weight for found in now.weights}
        for change in now.changes:
            if change.on <= later:
                assert rates.pop(change.when, None) == change.before
                if change.after is not None:
                    rates[change.when] = change.after
        assert rates == {found.when: found.weight for found in read(text, later).weights}


# --- mistakes --------------------------------------------------------------------------------------------------------

HEAD = "model,effective_from,input,output,long_input\n"
GOOD = "a,2026-01-01,1,2,\n"


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("", 1, "", "is empty"),
        ("\n\n", 1, "", "is empty"),
        (HEAD, 1, "", "has no rates"),
        (HEAD.replace("model,", ""), 1, "model", "no such column; the file has effective_from, input"),
        (HEAD.replace("effective_from", "since"), 1, "effective_from", "no such column"),
        (HEAD.replace("output", "ouput"), 1, "output", "no such column"),
        (HEAD.replace("output", "output,output"), 1, "output", "given twice"),
        (HEAD.replace("output", "output,maker"), 1, "maker", "neither a dimension nor a rate"),
        (HEAD.replace(",", ";"), 1, "model", "no such column"),
        (HEAD + GOOD + "b,2026-01-01,1,2\n", 3, "", "has 4 cells; the header has 5"),
        (HEAD + GOOD + "b,2026-01-01,1,2,,\n", 3, "", "has 6 cells; the header has 5"),
        (HEAD + GOOD + "b,2026-01-01,,,\n", 3, "", "has no rate"),
        (HEAD + GOOD + "b,2026-13-01,1,2,\n", 3, "effective_from", "'2026-13-01' is no day"),
        (HEAD + GOOD + "b,2026-02-29,1,2,\n", 3, "effective_from", "is no day"),
        (HEAD + GOOD + "b,20260201,1,2,\n", 3, "effective_from", "is no day"),
        (HEAD + GOOD + "b,1.2.2026,1,2,\n", 3, "effective_from", "is no day"),
        (HEAD + GOOD + "b,,1,2,\n", 3, "effective_from", "'' is no day"),
        (HEAD + GOOD + "b,2026-01-01,1e-3,2,\n", 3, "input", "'1e-3' is not a plain decimal"),
        (HEAD + GOOD + 'b,2026-01-01,"1,5",2,\n', 3, "input", "plain decimal"),
        (HEAD + GOOD + "b,2026-01-01,$1,2,\n", 3, "input", "plain decimal"),
        (HEAD + GOOD + "b,2026-01-01,1,-2,\n", 3, "output", "plain decimal"),
        (HEAD + GOOD + "b,2026-01-01,1,2,0.0000000000001\n", 3, "long_input", "at most 12 places"),
        (HEAD + GOOD + "b,2026-01-01,NaN,2,\n", 3, "input", "plain decimal"),
        (HEAD + GOOD + f"{'b' * 129},2026-01-01,1,2,\n", 3, "model", "1 to 128 characters"),
        (HEAD + GOOD + GOOD, 3, "effective_from", "line 2 has the same dimensions from the same day"),
        (HEAD + GOOD + '"b,2026-01-01,1,2,\n', 3, "", "not readable as CSV"),
        (HEAD + GOOD + '"b"x,2026-01-01,1,2,\n', 3, "", "not readable as CSV"),
        (HEAD + '"a\n\nb",2026-01-01,1,2,\nc,never,1,2,\n', 5, "effective_from", "is no day"),
    ],
)
def test_a_mistake_is_named(text: str, line: int, column: str, reason: str) -> None:
    found = read(text)
    assert (found.weights, found.changes) == ((), ())
    assert [mistake[:2] for mistake in found.mistakes[:1]] == [(line, column)]
    assert reason in found.mistakes[0].reason
    assert len(found.mistakes) == 1 or line == 1


def test_all_mistakes_come_at_once() -> None:
    found = read(HEAD + "a,soon,x,2,\n" + GOOD + "b,2026-01-01,1\n" + GOOD)
    assert [(mistake.line, mistake.column) for mistake in found.mistakes] == [
        (2, "effective_from"),
        (2, "input"),
        (4, ""),
        (5, "effective_from"),
    ]


def test_a_file_has_an_end() -> None:
    many = HEAD + "".join(f"m{number},2026-01-01,1,2,\n" for number in range(MAX_ROWS + 1))
    assert read(many).mistakes[0] == RateMistake(MAX_ROWS + 2, "", f"more than {MAX_ROWS} lines")


def test_a_plan_version_has_an_end() -> None:
    lines = MAX_RULES // len(KINDS)
    fits = HEAD + "".join(f"m{number},2026-01-01,1,2,3\n" for number in range(lines))
    assert len(read(fits).weights) == lines * len(KINDS)
    assert read(fits + "one-more,2026-01-01,1,2,3\n").mistakes == (
        RateMistake(1, "", f"more than {MAX_RULES} weights for one meter"),
    )


# --- in a catalogue --------------------------------------------------------------------------------------------------

COLUMNS = (
    "columns: {input: {direction: input}, output: {direction: output}, long_input: {direction: input, context: long}}"
)
METER = f"""
x:
  rates:
    file: rates.csv
    dimensions: [model]
    {COLUMNS}
  weights: [{{when: {{model: old}}, weight: "8"}}, {{weight: "9"}}]
  multipliers: [{{when: {{service: batch}}, factor: "0.5"}}]
"""


def parsed(text: str = LISTED, meters: str = METER, today: date = TODAY) -> Catalog:
    return parse_catalog(catalogue(meters=meters), "shop/catalog.yaml", Beside(today, {"rates.csv": text}.__getitem__))


def test_rates_come_before_weights_and_under_multipliers() -> None:
    meter = parsed().meters["x"]
    asked = {"model": "aster", "direction": "input"}
    assert weight_of(meter, asked) == 2
    assert weight_of(meter, {**asked, "service": "batch"}) == 1
    assert weight_of(meter, {"model": "old", "direction": "input"}) == 8
    assert weight_of(meter, {"model": "cedar", "direction": "input"}) == 9


def test_the_catalogue_knows_what_changes_later_and_a_plan_version_does_not() -> None:
    catalog = parsed()
    assert catalog.rate_changes[1] == RateChange(
        "x", date(2027, 1, 1), condition({"model": "birch", "direction": "output"}), Decimal(4), Decimal(5)
    )
    later = LISTED.replace("2027-01-01,1,5,2", "2027-03-01,1,6,3")
    meters = catalog.meters.values()
    assert content_hash(catalog.plans["p"], parsed(later).meters.values()) == content_hash(catalog.plans["p"], meters)
    new_year = parsed(today=date(2027, 1, 1)).meters.values()
    assert content_hash(catalog.plans["p"], new_year) != content_hash(catalog.plans["p"], meters)


def test_changes_of_several_meters_stand_by_day() -> None:
    meters = METER + METER.replace("x:", "y:").replace("rates.csv", "other.csv")
    files = {"rates.csv": LISTED, "other.csv": HEAD + "a,2027-01-15,1,2,\n"}
    catalog = parse_catalog(catalogue(meters=meters), "catalog.yaml", Beside(TODAY, files.__getitem__))
    assert [(change.meter, change.on.month) for change in catalog.rate_changes] == [
        ("x", 1), ("x", 1), ("y", 1), ("y", 1), ("x", 2), ("x", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "path", "reason"),
    [
        ("file: rates.csv", "file: ../rates.csv", "file", "no way out of the folder"),
        ("file: rates.csv", "file: /rates.csv", "file", "beside the catalogue"),
        ("file: rates.csv", "file: 'a b.csv'", "file", "beside the catalogue"),
        ("file: rates.csv", "file: 5", "file", "beside the catalogue"),
        ("file: rates.csv", "url: rates.csv", "file", "is required"),
        ("dimensions: [model]", "dimensions: []", "dimensions", "at least 1"),
        ("dimensions: [model]", "dimensions: [model, model]", "dimensions[1]", "given twice"),
        ("dimensions: [model]", "dimensions: [effective_from]", "dimensions[0]", "another meaning"),
        ("dimensions: [model]", "dimensions: [model, input]", "dimensions[1]", "another meaning"),
        ("dimensions: [model]", "dimensions: [model, context]", "columns.long_input.context", "says this already"),
        (COLUMNS, "columns: {}", "columns", "at least 1"),
        (COLUMNS, "columns: {effective_from: {}}", "columns.effective_from", "the day from which"),
        (COLUMNS, "columns: {a: {x: [c, b]}, b: {x: [b, c]}}", "columns.b", "is for the same as column `a`"),
        (COLUMNS, "columns: {a: {x: 5}}", "columns.a.x", "in quotes"),
        (', {weight: "9"}', "", "", "what the file does not name would count 1"),
    ],
)
def test_a_mistake_in_what_is_said_about_the_file(before: str, after: str, path: str, reason: str) -> None:
    assert before in METER
    found = refusals(catalogue(meters=METER.replace(before, after)), Beside(TODAY, {"rates.csv": LISTED}.__getitem__))
    path = f"meters.x.rates.{path}" if path else "meters.x.rates"
    assert path in found
    assert reason in found[path]
    assert set(found) - {path} <= {"meters.x.rates.url"}


def test_one_column_of_weights_needs_no_name() -> None:
    meters = 'x: {rates: {file: rates.csv, dimensions: [model]}, weights: [{weight: "9"}]}'
    meter = parsed("model,weight,effective_from\na*,5,2026-01-01\n", meters).meters["x"]
    assert [weight_of(meter, {"model": model}) for model in ("aster", "birch")] == [5, 9]


def test_mistakes_of_both_files_come_at_once_file_by_file() -> None:
    text = catalogue("base_fee: 5", METER)
    with pytest.raises(CatalogError) as refused:
        parse_catalog(text, "shop/catalog.yaml", Beside(TODAY, {"rates.csv": LISTED.replace(",3,", ",x,")}.__getitem__))
    assert str(refused.value).splitlines()[1:] == [
        f"  shop/catalog.yaml:{text.splitlines().index('    base_fee: 5') + 1}: "
        'plans.p.base_fee: write it as a string, in quotes: "5"',
        "  shop/rates.csv:2: input: 'x' is not a plain decimal: at most 18 digits, then at most 12 places, no sign, "
        "no exponent",
    ]


def test_a_text_without_a_folder_has_no_rates_file() -> None:
    assert refusals(catalogue(meters=METER)) == {"meters.x.rates.file": "cannot be read: this text stands in no folder"}


def test_a_file_is_read_from_the_catalogues_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prices").mkdir()
    file = tmp_path / "catalog.yaml"
    file.write_text(catalogue(meters=METER.replace("rates.csv", "prices/rates.csv")))
    rates = tmp_path / "prices" / "rates.csv"
    rates.write_bytes(b"\xef\xbb\xbf" + LISTED.encode())  # as spreadsheets begin UTF-8
    assert weight_of(load_catalog(file, TODAY).meters["x"], {"model": "birch", "direction": "output"}) == 4
    # 2027-01-01T00:00:00Z, and a millisecond before
    for now, weight in ((1_798_761_600_000, 5), (1_798_761_599_999, 4)):
        monkeypatch.setattr("tollgate.catalog.schema.system_clock", lambda now=now: now)
        assert weight_of(load_catalog(file).meters["x"], {"model": "birch", "direction": "output"}) == weight
    rates.write_bytes(b"model\xff")
    with pytest.raises(CatalogError, match=r"catalog\.yaml:\d+: meters\.x\.rates\.file: cannot be read: is not UTF-8"):
        load_catalog(file, TODAY)
    rates.unlink()
    with pytest.raises(CatalogError, match=r"meters\.x\.rates\.file: cannot be read: No such file"):
        load_catalog(file, TODAY)
