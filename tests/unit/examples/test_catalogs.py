"""examples/catalogs: every file loads, says what is not enforced yet, and makes a pricing page."""

from __future__ import annotations

import re

import jsonschema
import pytest
import yaml

from tests.unit.examples.shelf import AGENT, FOLDER, IMAGES, RESELLER, catalog
from tollgate.catalog.examples import examples
from tollgate.catalog.page import sentence
from tollgate.catalog.schema import json_schema, notices

PLANS = {
    IMAGES: ["free", "casual", "creator", "creator_yearly", "studio"],
    AGENT: ["trial", "pro", "max", "team"],
    RESELLER: ["trial", "pay_as_you_go", "scale"],
}

RATES = "llm-rates.csv"

NOT_YET: dict[str, list[str]] = {  # what a release still leaves out, by field; a line goes when the release enforces it
    IMAGES: [],
    AGENT: [],
    RESELLER: [],
}

SAID = {
    (IMAGES, "free"): "Free, up to 10 credits a day",
    (
        IMAGES,
        "casual",
    ): "Packs of 200 credits for $9 and of 500 credits for $20, up to 400 credits a day",
    (
        IMAGES,
        "creator",
    ): (
        "$15/month, up to 400 credits a day, plus 500 credits each month, plus 100 credits once, "
        "extra packs of 200 credits for $9 and of 500 credits for $20"
    ),
    (
        IMAGES,
        "creator_yearly",
    ): (
        "$150/year, up to 400 credits a day, plus 500 credits each month, plus 300 credits once, "
        "extra packs of 200 credits for $9 and of 500 credits for $20"
    ),
    (IMAGES, "studio"): (
        "$60/month plus $0.02 per credit, plus 2,500 credits each month, usage capped at $100/month, "
        "extra packs of 5,000 credits for $80"
    ),
    (AGENT, "trial"): "Free, up to 200 cents in all",
    (AGENT, "pro"): (
        "$20/month with 2,000 cents included, then, if switched on, $0.01 each, usage capped at $100/month"
    ),
    (AGENT, "max"): (
        "$120/month with 20,000 cents included, then, if switched on, $0.01 each, usage capped at $500/month"
    ),
    (AGENT, "team"): (
        "$40/month per seat (5 at least) with 2,500 cents per seat included, then $0.01 each, "
        "usage capped at $2,000/month and $75/month per member"
    ),
    (RESELLER, "trial"): "Free, up to 20 requests a minute and 1,000,000 micro-dollars in all",
    (RESELLER, "pay_as_you_go"): "$1.05 per 1,000,000 micro-dollars, capped at $500/month",
    (RESELLER, "scale"): "$100/month plus $1.02 per 1,000,000 micro-dollars, usage capped at $20,000/month",
}

SHOWN = {
    (IMAGES, "free"): [],
    (IMAGES, "casual"): [],
    (IMAGES, "creator"): ["100 credits: $15/month", "500 credits: $15/month", "500 credits: $15/month"],
    (IMAGES, "creator_yearly"): ["1,200 credits: $150/year", "6,000 credits: $150/year", "6,000 credits: $150/year"],
    (IMAGES, "studio"): [
        "500 credits: $60/month",
        "5,000 credits: $110/month",
        "7,500 credits: $160/month, where the cap stops usage",
    ],
    (AGENT, "trial"): [],
    (AGENT, "pro"): [
        "400 cents: $20/month",
        "4,000 cents: $40/month",
        "12,000 cents: $120/month, where the cap stops usage",
    ],
    (AGENT, "max"): [
        "4,000 cents: $120/month",
        "40,000 cents: $320/month",
        "70,000 cents: $620/month, where the cap stops usage",
    ],
    (AGENT, "team"): [
        "5 seats, 2,500 cents: $200/month",
        "15 seats, 75,000 cents: $975/month",
        "50 seats, 325,000 cents: $4,000/month, where the cap stops usage",
    ],
    (RESELLER, "trial"): [],
    (RESELLER, "pay_as_you_go"): [
        "20,000,000 micro-dollars: $21/month",
        "100,000,000 micro-dollars: $105/month",
        "200,000,000 micro-dollars: $210/month",
    ],
    (RESELLER, "scale"): [
        "500,000,000 micro-dollars: $610/month",
        "2,000,000,000 micro-dollars: $2,140/month",
        "10,000,000,000 micro-dollars: $10,300/month",
    ],
}


def test_these_are_all_the_files() -> None:
    assert sorted(file.name for file in FOLDER.iterdir()) == sorted([*(f"{name}.yaml" for name in PLANS), RATES])


@pytest.mark.parametrize("name", PLANS)
def test_it_loads_with_these_plans(name: str) -> None:
    assert list(catalog(name).plans) == PLANS[name]


@pytest.mark.parametrize("name", PLANS)
def test_an_editor_finds_nothing_wrong_with_it(name: str) -> None:
    jsonschema.validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")), json_schema())


@pytest.mark.parametrize("name", PLANS)
def test_what_is_not_enforced_yet(name: str) -> None:
    assert [notice.removeprefix("plans.").partition(": ")[0] for notice in notices(catalog(name))] == NOT_YET[name]


@pytest.mark.parametrize("name", PLANS)
def test_every_public_plan_has_its_sentence_and_examples(name: str) -> None:
    found = catalog(name)
    public = [plan for plan in found.plans.values() if plan.public]
    assert {(name, plan.id): sentence(plan, found.meters, found.currency) for plan in public} == {
        at: said for at, said in SAID.items() if at[0] == name
    }
    shown = {
        (name, plan.id): [example.text for example in examples(plan, found.meters, found.currency)] for plan in public
    }
    assert shown == {at: texts for at, texts in SHOWN.items() if at[0] == name}


@pytest.mark.parametrize("name", PLANS)
def test_the_head_of_the_file_names_the_file_and_the_schema(name: str) -> None:
    head = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[:5]
    schema = re.fullmatch(r"# yaml-language-server: \$schema=(.*)", head[0])
    assert schema is not None
    assert (FOLDER / schema[1]).is_file()
    assert any(f"`tollgate catalog check examples/catalogs/{name}.yaml`" in line for line in head)
