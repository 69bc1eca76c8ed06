"""Package prices as steps: the charge grows by the package's price wherever a package is opened (or completed)."""

from __future__ import annotations

from decimal import Decimal

from tollgate.catalog.model import Price
from tollgate.quantities import ZERO
from tollgate.rating.charge import bounded, packages, with_markup
from tollgate.rating.currency import EXACT, floor_at, quotient
from tollgate.rating.piece import ANYWHERE_FREE, Piece

NOWHERE = Decimal(-1)


class PackageSteps:
    """The schedule of a package price that is not 0; `scale` is the meter's."""

    def __init__(self, price: Price, scale: int) -> None:
        assert price.package_size is not None
        assert price.package_price
        self._price = price
        self._size = price.package_size
        self._each = with_markup(price.package_price, price.markup)
        self._scale = scale
        # Inside (after `_rising`, up to `_top`] the charge is the packages' own; outside it stands still.
        self._floor_end = NOWHERE if price.minimum is None else self._last(price.minimum)
        self._rising = NOWHERE if price.minimum is None else self._last(price.minimum, below=True)
        self._top = None if price.maximum is None else self._last(price.maximum)
        self._flat_after = None if price.maximum is None else self._last(price.maximum, below=True)

    def at(self, position: Decimal) -> Decimal:
        return bounded(self._price, EXACT.multiply(packages(self._price, position), self._each))

    def piece(self, position: Decimal, units: Decimal) -> Piece | None:
        if not units:
            return ANYWHERE_FREE
        end = EXACT.add(position, units)
        if end <= self._floor_end:
            return Piece(ZERO, False, self._floor_end, ZERO)
        if self._flat_after is not None and position > self._flat_after:
            return _above(self._flat_after, None, ZERO)
        if position <= self._rising or (self._top is not None and end > self._top):
            return None
        low, low_open, high, count = self._between(position, units)
        if self._rising >= low:
            low, low_open = max(self._rising, ZERO), self._rising >= 0
        if high is None:  # else all ends lie in one package, which `_top` does not cut
            high = self._top
        return Piece(low, low_open, high, EXACT.multiply(count, self._each))

    def buys(self, position: Decimal, amount: Decimal) -> Decimal | None:
        if amount < 0:
            return ZERO
        bound = EXACT.add(self.at(position), amount)
        if self._price.maximum is not None and bound >= self._price.maximum:
            return None
        return EXACT.subtract(self._last(bound), position)

    def _between(self, position: Decimal, units: Decimal) -> tuple[Decimal, bool, Decimal | None, Decimal]:
        """Around a position, where `units` come to the same number of packages: low, low_open, high, that number."""
        size = self._size
        whole = quotient(units, size)
        rest = EXACT.subtract(units, EXACT.multiply(whole, size))
        if not rest:
            return ZERO, False, None, whole
        begun = EXACT.multiply(quotient(position, size), size)
        into = EXACT.subtract(position, begun)
        if self._price.round == "down":
            turn = EXACT.subtract(EXACT.add(begun, size), rest)  # from here on one more package is completed
            if EXACT.add(into, rest) < size:
                return begun, False, EXACT.add(self._before(turn), units), whole
            return turn, False, EXACT.add(self._before(EXACT.add(begun, size)), units), EXACT.add(whole, Decimal(1))
        # Rounding up: (begun, full] is the package that the position stands in, or, at a full one, behind.
        full = EXACT.add(begun, size) if into else begun
        turn = EXACT.subtract(full, rest)  # up to here `rest` still fits into that package
        if position <= turn:
            return EXACT.subtract(full, size), True, EXACT.add(turn, units), whole
        return max(turn, ZERO), turn >= 0, EXACT.add(full, units), EXACT.add(whole, Decimal(1))

    def _last(self, bound: Decimal, *, below: bool = False) -> Decimal:
        """The last position at which the packages come to at most `bound` (`below`: to less); NOWHERE if there is
        none."""
        count = quotient(bound, self._each)
        if below and EXACT.multiply(count, self._each) == bound:
            count = EXACT.subtract(count, Decimal(1))
        if count < 0:
            return NOWHERE
        if self._price.round == "up":
            return floor_at(EXACT.multiply(count, self._size), self._scale)
        return self._before(EXACT.multiply(EXACT.add(count, Decimal(1)), self._size))

    def _before(self, edge: Decimal) -> Decimal:
        """The last position before an edge."""
        at = floor_at(edge, self._scale)
        return EXACT.subtract(at, Decimal(1).scaleb(-self._scale)) if at == edge else at


def _above(low: Decimal, high: Decimal | None, cost: Decimal) -> Piece:
    return Piece(max(low, ZERO), low >= 0, high, cost)
