"""Shadow mode's question: would we have billed what the other system billed?

Our side is what flush did not send: shadowed batches, rated by the plan that the account has now. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from tollgate.accounts.rules import Rules
from tollgate.billing.batch import Batch
from tollgate.quantities import EXACT, ZERO
from tollgate.rating.lines import total, usage_lines

Pair = tuple[str, str]
"""Account and meter."""
_HUNDREDTH: Final = Decimal("0.01")
_HUNDRED: Final = Decimal(100)


class Billed(NamedTuple):
    """Units of one meter and what they cost one account, in major units; None: not known."""

    units: Decimal
    amount: Decimal | None

    def plus(self, other: Billed) -> Billed:
        units = EXACT.add(self.units, other.units)
        if self.amount is None or other.amount is None:
            return Billed(units, None)
        return Billed(units, EXACT.add(self.amount, other.amount))


NOTHING: Final = Billed(ZERO, ZERO)


class Compared(NamedTuple):
    """One account and meter, or, in a sum, all accounts. Differences are ours less theirs."""

    account: str
    meter: str
    ours: Billed
    theirs: Billed

    @property
    def units(self) -> Decimal:
        return EXACT.subtract(self.ours.units, self.theirs.units)

    @property
    def amount(self) -> Decimal | None:
        """None where one side is not known."""
        if self.ours.amount is None or self.theirs.amount is None:
            return None
        return EXACT.subtract(self.ours.amount, self.theirs.amount)

    @property
    def units_percent(self) -> Decimal | None:
        """Of theirs, to two places; None where theirs is nothing."""
        return _percent(self.units, self.theirs.units)

    @property
    def amount_percent(self) -> Decimal | None:
        return None if self.amount is None or self.theirs.amount is None else _percent(self.amount, self.theirs.amount)

    def differs(self, tolerance: Decimal) -> bool:
        """Whether units or money are further apart than `tolerance` per cent of theirs."""
        if _beyond(self.units, self.theirs.units, tolerance):
            return True
        money, billed = self.amount, self.theirs.amount
        return money is not None and billed is not None and _beyond(money, billed, tolerance)


def rated(batches: Iterable[Batch], rules: Rules) -> dict[str, Billed]:
    """What one account would have been billed, by meter. Each billing period is rated by itself, from what is given of
    it; a priced meter without batches at quantity 0, once, as its price may cost something there."""
    prices = {price.meter: price for price in rules.plan.prices}
    periods: dict[tuple[str, int], list[Batch]] = {}
    for batch in batches:
        periods.setdefault((batch.meter, batch.period_start), []).append(batch)
    used = [(meter, _units(some, rules)) for (meter, _), some in periods.items()]
    used += [(meter, ZERO) for meter in prices if all(meter != known for known, _ in used)]
    found: dict[str, Billed] = {}
    for meter, units in used:
        price = prices.get(meter)
        amount = None if price is None else total(usage_lines(price, units, rules.plan.currency))
        there = found.get(meter)
        found[meter] = Billed(units, amount) if there is None else there.plus(Billed(units, amount))
    return found


def compare(ours: Mapping[Pair, Billed], theirs: Mapping[Pair, Billed]) -> list[Compared]:
    """Both sides of every pair that either of them billed something for, by account and meter. Where they do not know
    a pair, they billed nothing for it; in money only if they say money at all."""
    silent = all(one.amount is None for one in theirs.values())
    absent = Billed(ZERO, None if silent else ZERO)
    found = []
    for account, meter in sorted({*ours, *theirs}):
        mine = ours.get((account, meter), NOTHING)
        if (account, meter) in theirs or mine.units or mine.amount:
            found.append(Compared(account, meter, mine, theirs.get((account, meter), absent)))
    return found


def sums(rows: Iterable[Compared]) -> Iterator[Compared]:
    """All accounts together, by meter. Money of several currencies adds up to nothing that means something: the caller
    compares accounts of one currency."""
    found: dict[str, Compared] = {}
    for row in rows:
        there = found.get(row.meter)
        mine = row.ours if there is None else there.ours.plus(row.ours)
        theirs = row.theirs if there is None else there.theirs.plus(row.theirs)
        found[row.meter] = Compared("", row.meter, mine, theirs)
    yield from (found[meter] for meter in sorted(found))


def _units(batches: list[Batch], rules: Rules) -> Decimal:
    meter = rules.meters.get(batches[0].meter)
    if meter is not None and meter.kind == "level":  # of a level the last one is billed
        return max(batches, key=lambda one: (one.timestamp, one.window_start, one.supplement)).units
    found = ZERO
    for batch in batches:
        found = EXACT.add(found, batch.units)
    return found


def _beyond(difference: Decimal, of: Decimal, tolerance: Decimal) -> bool:
    # Multiplied out: a quotient would be rounded, and a tolerance of 0 must find the last digit.
    return EXACT.multiply(abs(difference), _HUNDRED) > EXACT.multiply(tolerance, abs(of))


def _percent(difference: Decimal, of: Decimal) -> Decimal | None:
    return EXACT.divide(EXACT.multiply(difference, _HUNDRED), of).quantize(_HUNDREDTH) if of else None
