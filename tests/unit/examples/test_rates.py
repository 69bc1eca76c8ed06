"""What the example catalogues count for a quantity: weights and multipliers, worked out by hand."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from decimal import Decimal

import pytest

from tests.unit.examples.shelf import AGENT, FOLDER, IMAGES, RESELLER, Call, catalog, counted
from tollgate.catalog.model import weight_of
from tollgate.catalog.schema import load_catalog

D = Decimal


@pytest.mark.parametrize(
    ("quantity", "dimensions", "credits"),
    [
        (1, {"operation": "image"}, "1"),
        (1, {"operation": "image", "quality": "hd"}, "2"),
        (3, {"operation": "image", "model": "draft-2", "quality": "hd"}, "1.5"),
        (1, {"operation": "image", "model": "ultra-1"}, "4"),
        (12, {"operation": "video", "model": "ultra-1"}, "60"),
        (2, {"operation": "upscale"}, "1"),
    ],
)
def test_credits_of_images(quantity: int, dimensions: dict[str, str], credits: str) -> None:
    assert counted(IMAGES, "free", ("credits", quantity, dimensions)) == {"credits": D(credits)}


def test_cents_of_an_agents_turn() -> None:
    turn: list[Call] = [
        ("model_use", 12_000, {"model": "steady-4", "direction": "input"}),  # at 0.0003: 3.6
        ("model_use", 90_000, {"model": "steady-4", "direction": "cached_input"}),  # at 0.00003: 2.7
        ("model_use", 2_000, {"model": "steady-4", "direction": "output"}),  # at 0.0015: 3
        ("model_use", 1, {"model": "swift-1", "direction": "cached_input"}),  # one token is not rounded away
    ]
    assert counted(AGENT, "pro", *turn) == {"model_use": D("9.300008")}


def test_the_reseller_has_three_rates_for_each_of_sixty_models_and_three_makers_three_more_for_long_prompts() -> None:
    rates: dict[str, dict[tuple[str, str], Decimal]] = defaultdict(dict)
    *listed, otherwise = catalog(RESELLER).meters["model_use"].weights
    for rule in listed:
        when = {dimension: value for dimension, (value,) in rule.when}
        key = (when.get("context", ""), when["direction"])
        assert key not in rates[when["model"]], f"{when['model']} has two rates for {key}"
        rates[when["model"]][key] = rule.weight
    assert len(rates) == 60
    dear = {"aster", "birch", "lumen"}
    for model, of in rates.items():
        contexts = ["", "long"] if model.partition("-")[0] in dear else [""]
        assert sorted(of) == [(each, kind) for each in contexts for kind in ("cached_input", "input", "output")], model
        for each in contexts:
            assert 0 < of[each, "cached_input"] < of[each, "input"] < of[each, "output"], model
        for each in contexts[1:]:
            assert all(of[each, kind] > of["", kind] for kind in ("cached_input", "input", "output")), model
    assert otherwise.when == ()
    assert otherwise.weight == max(rate for of in rates.values() for rate in of.values())


def test_rates_change_on_their_days() -> None:
    def output(day: date, model: str) -> Decimal:
        meter = load_catalog(FOLDER / f"{RESELLER}.yaml", day).meters["model_use"]
        return weight_of(meter, {"model": model, "direction": "output"})

    assert [output(date(2026, 8, 31), "aster-pro"), output(date(2026, 9, 1), "aster-pro")] == [D("17.5"), D(15)]
    assert [output(date(2026, 12, 31), "birch-pro"), output(date(2027, 1, 1), "birch-pro")] == [D(10), D(8)]
    later = catalog(RESELLER).rate_changes
    assert sorted({(change.on, dict(change.when)["model"]) for change in later}) == [
        (date(2027, 1, 1), ("birch-pro",)),
        (date(2027, 2, 1), ("lumen-ultra",)),
    ]
    assert len(later) == 12
    assert all(change.after is not None and change.before > change.after for change in later if change.before)


@pytest.mark.parametrize(
    ("dimensions", "rate"),
    [
        ({"model": "aster-pro", "direction": "input"}, "3"),
        ({"model": "aster-pro", "direction": "cached_input"}, "0.3"),
        ({"model": "aster-pro", "direction": "output"}, "15"),
        ({"model": "aster-pro", "direction": "input", "context": "long"}, "6"),
        ({"model": "aster-pro", "direction": "cached_input", "context": "long"}, "0.6"),
        ({"model": "aster-pro", "direction": "output", "context": "long"}, "22.5"),
        ({"model": "aster-pro", "direction": "output", "context": "long", "service": "batch"}, "11.25"),
        ({"model": "ember-pro", "direction": "input", "context": "long"}, "1.2"),  # this maker asks no more
        ({"model": "kelp-nano", "direction": "cached_input"}, "0.003"),
        ({"model": "nobody-knows-it", "direction": "input"}, "150"),
        ({"model": "aster-pro"}, "150"),
    ],
)
def test_dollars_for_a_million_tokens(dimensions: dict[str, str], rate: str) -> None:
    assert counted(RESELLER, "scale", ("model_use", 1_000_000, dimensions)) == {"model_use": D(rate) * 1_000_000}
