"""What the example catalogues count for a quantity: weights and multipliers, worked out by hand."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

import pytest

from tests.unit.examples.shelf import AGENT, IMAGES, RESELLER, Call, catalog, counted

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


def test_the_reseller_has_three_rates_for_each_of_sixty_models() -> None:
    rates: dict[str, dict[str, Decimal]] = defaultdict(dict)
    *listed, otherwise = catalog(RESELLER).meters["model_use"].weights
    for rule in listed:
        when = dict(rule.when)
        (model,), (direction,) = when["model"], when["direction"]
        assert direction not in rates[model], f"{model} has two rates for {direction}"
        rates[model][direction] = rule.weight
    assert len(rates) == 60
    for model, of in rates.items():
        assert sorted(of) == ["cached_input", "input", "output"], model
        assert 0 < of["cached_input"] < of["input"] < of["output"], model
    assert otherwise.when == ()
    assert otherwise.weight == max(rate for of in rates.values() for rate in of.values())


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
        ({"model": "nobody-knows-it", "direction": "input"}, "100"),
        ({"model": "aster-pro"}, "100"),
    ],
)
def test_dollars_for_a_million_tokens(dimensions: dict[str, str], rate: str) -> None:
    assert counted(RESELLER, "scale", ("model_use", 1_000_000, dimensions)) == {"model_use": D(rate) * 1_000_000}
