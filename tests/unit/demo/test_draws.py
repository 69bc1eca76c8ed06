"""The draws have the shapes that the trace's documentation claims."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest

from demo.draws import Draws, Zipf

MANY = 4000


def quantile(values: list[Decimal], permille: int) -> Decimal:
    return sorted(values)[len(values) * permille // 1000]


def test_equal_seeds_draw_alike_and_others_do_not() -> None:
    one, two, other = Draws(1), Draws(1), Draws(2)
    first = [one.lognormal(Decimal(10), Decimal(1)) for _ in range(50)]
    assert first == [two.lognormal(Decimal(10), Decimal(1)) for _ in range(50)]
    assert first != [other.lognormal(Decimal(10), Decimal(1)) for _ in range(50)]


def test_a_uniform_draw_is_never_zero_and_at_most_one() -> None:
    draws = Draws(3)
    values = [draws.uniform() for _ in range(MANY)]
    assert 0 < min(values) < Decimal("0.01")
    assert Decimal("0.99") < max(values) <= 1


def test_lognormal_has_its_median_and_its_spread() -> None:
    draws = Draws(4)
    values = [draws.lognormal(Decimal(1020), Decimal(1)) for _ in range(MANY)]
    assert 960 < quantile(values, 500) < 1080
    # One standard deviation of the logarithm above the median is its e-fold.
    assert Decimal("2.5") < quantile(values, 841) / quantile(values, 500) < Decimal("2.95")


def test_pareto_starts_at_its_least_and_has_its_tail() -> None:
    draws = Draws(5)
    values = [draws.pareto(Decimal(2), Decimal("1.2")) for _ in range(MANY)]
    assert min(values) >= 2
    above = sum(value > 20 for value in values) / MANY
    assert above == pytest.approx(10**-1.2, rel=0.2)


def test_exponential_gaps_have_their_mean() -> None:
    draws = Draws(6)
    assert sum(draws.exponential(Decimal(8)) for _ in range(MANY)) / MANY == pytest.approx(8, rel=Decimal("0.06"))


def test_zipf_ranks_fall_as_their_exponent_says() -> None:
    draws, zipf = Draws(7), Zipf(100, Decimal(1))
    counts = Counter(zipf.draw(draws) for _ in range(3 * MANY))
    assert set(counts) <= set(range(100))
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.2)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.35)


def test_a_pick_follows_its_weights() -> None:
    draws = Draws(8)
    counts = Counter(draws.pick((("often", 9), ("seldom", 1), ("never", 0))) for _ in range(MANY))
    assert set(counts) == {"often", "seldom"}
    assert counts["often"] / counts["seldom"] == pytest.approx(9, rel=0.2)
