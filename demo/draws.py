"""Random draws, the same on every machine: integers and Decimals only, because libm differs between platforms."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Context, Decimal
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")

_EXACT = Context(prec=20)
_BITS = 53
_RAW = 1 << _BITS
# An Irwin-Hall sum of twelve uniforms has mean 6 and variance 1: a normal deviate cut off at six sigma.
_SUMMANDS = 12


class Draws:
    """A seeded source of the distributions that the trace is made of."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def uniform(self) -> Decimal:
        """Above 0, at most 1."""
        return _EXACT.divide(Decimal(self._random.getrandbits(_BITS) + 1), Decimal(_RAW))

    def chance(self, permille: int) -> bool:
        """True in `permille` of 1000 cases."""
        return self._random.randrange(1000) < permille

    def below(self, end: int) -> int:
        """A whole number from 0 to `end` - 1, all alike."""
        return self._random.randrange(end)

    def exponential(self, mean: Decimal) -> Decimal:
        """Gaps of a Poisson process."""
        return _EXACT.multiply(mean, -_EXACT.ln(self.uniform()))

    def normal(self) -> Decimal:
        """Mean 0, variance 1."""
        total = sum((self.uniform() for _ in range(_SUMMANDS)), Decimal(0))
        return _EXACT.subtract(total, Decimal(_SUMMANDS // 2))

    def lognormal(self, median: Decimal, sigma: Decimal) -> Decimal:
        """`sigma` is the standard deviation of the logarithm."""
        return _EXACT.multiply(median, _EXACT.exp(_EXACT.multiply(sigma, self.normal())))

    def pareto(self, least: Decimal, alpha: Decimal) -> Decimal:
        """At least `least`; the smaller `alpha`, the heavier the tail (mean without end at `alpha` <= 1)."""
        return _EXACT.multiply(least, _EXACT.exp(_EXACT.divide(-_EXACT.ln(self.uniform()), alpha)))

    def pick(self, weighted: Sequence[tuple[T, int]]) -> T:
        """One of the values, as often as its whole weight says."""
        mark = self._random.randrange(sum(weight for _, weight in weighted))
        for value, weight in weighted:
            mark -= weight
            if mark < 0:
                return value
        raise AssertionError("the mark lies below the sum of the weights")


class Zipf:
    """Ranks 0 to `count` - 1, rank r as often as 1 / (r + 1) ** `exponent`."""

    def __init__(self, count: int, exponent: Decimal) -> None:
        weights = [
            int(_EXACT.multiply(Decimal(10**9), _EXACT.exp(-_EXACT.multiply(exponent, _EXACT.ln(Decimal(rank))))))
            for rank in range(1, count + 1)
        ]
        self._ends = list(accumulate(max(1, weight) for weight in weights))

    def draw(self, draws: Draws) -> int:
        """A rank."""
        mark = draws.below(self._ends[-1])
        low, high = 0, len(self._ends) - 1
        while low < high:
            middle = (low + high) // 2
            if mark < self._ends[middle]:
                high = middle
            else:
                low = middle + 1
        return low
