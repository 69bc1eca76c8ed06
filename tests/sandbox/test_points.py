"""Every point against Stripe: the local double, or a sandbox where STRIPE_TEST_KEY is set (`make test-stripe`)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.sandbox.points import POINTS, Point, Result


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.id)
def test_stripe_does_what_the_product_expects(point: Point, results: Mapping[str, Result]) -> None:
    found = results[point.id]
    if found.verdict == "not probed" and not found.broke:
        pytest.skip(found.seen)
    assert found.verdict == "confirmed", f"{found.seen}; expected: {point.expected}; if not: {point.otherwise}"
