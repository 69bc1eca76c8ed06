"""What the machine draws from: meters, limits of every window kind, plans, bodies, clocks. Few small values, so that
calls meet at caps, keys come back, and windows end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Final, NamedTuple

from hypothesis import strategies as st

from tests.support.gate import concurrent, limit
from tollgate.catalog.model import Limit, Meter, Multiplier, Plan, WeightRule, condition
from tollgate.windows import DAY, HOURLY, LIFETIME, MINUTE, MONTH, PERIOD, WEEK, WindowKind

ACCOUNTS: Final = ("acme", "beta")
MEMBERS: Final = ("alice", "bob")
ZONES: Final = ("UTC", "America/New_York", "Asia/Kathmandu")
SKEWS_MS: Final = (0, 1_700, -2_000)
"""The clock error of each process."""
STARTS_MS: Final = (
    1_795_262_400_000,  # 2026-11-21 12:00:00 UTC
    1_796_083_170_000,  # half a minute before December begins, UTC
    1_793_512_770_000,  # half a minute before New York puts its clocks back (2026-11-01 06:00 UTC)
)


class Asked(NamedTuple):
    """One measured thing of a request."""

    meter: str
    quantity: str
    dimensions: tuple[tuple[str, str], ...] = ()

    @property
    def dims(self) -> dict[str, str]:
        return dict(self.dimensions)


Body = tuple[Asked, ...]


def _meters(image: str) -> dict[str, Meter]:
    credits = Meter(
        "credits",
        "Credits",
        "credit",
        weights=(
            WeightRule(condition({"operation": "image"}), Decimal(image)),
            WeightRule(condition({"operation": "chat", "model": "small-*"}), Decimal("0.001")),
        ),
        multipliers=(Multiplier(condition({"quality": "hd"}), Decimal(2)),),
    )
    tokens = Meter(
        "tokens", "Tokens", "token", scale=0, weights=(WeightRule(condition({"model": "small-*"}), Decimal("0.4")),)
    )
    calls = Meter("calls", "Calls", "call", scale=2)
    return {meter.id: meter for meter in (credits, tokens, calls)}


WEIGHINGS: Final[tuple[Mapping[str, Meter], ...]] = (_meters("5"), _meters("3"))
"""The meters as two generations of plans weigh them."""

POOL: Final[tuple[Limit, ...]] = (
    limit("day", 1, DAY, meters=["credits"]),
    limit("day-again", 1, DAY, meters=["credits"]),
    limit("own-day", 1, DAY, per="member", meters=["credits"]),
    limit("hour", 1, HOURLY, meters=["credits", "tokens"]),
    limit("own-minute", 1, MINUTE, per="member", meters=["credits"]),
    limit("week", 1, WEEK, meters=["tokens"]),
    limit("premium-month", 1, MONTH, meters=["credits"], where={"model": "premium"}),
    limit("period", 1, PERIOD, meters=["tokens"]),
    limit("lifetime", 1, LIFETIME, meters=["credits"]),
    limit("burst", 1, WindowKind.first_use(5), meters=["credits"]),
    limit("own-burst", 1, WindowKind.first_use(1), per="member", meters=["credits", "tokens"]),
    limit("own-premium", 1, DAY, per="member", meters=["credits"], where={"model": "premium"}),
    limit("own-lifetime", 1, LIFETIME, per="member", meters=["tokens"]),
    limit("calls", 1, MINUTE, meters=["calls"]),
    concurrent("jobs", 1),
    concurrent("own-jobs", 1, per="member"),
)
CAPS: Final = ("2", "5", "8", "13", "30", "200")


@st.composite
def plan_shapes(draw: st.DrawFn) -> tuple[tuple[Limit, ...], bool, int]:
    """(limits, unlimited, weighing)."""
    chosen = draw(st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=6, unique=True))
    limits = []
    for at in chosen:
        template = POOL[at]
        if template.concurrent is not None:
            limits.append(replace(template, concurrent=draw(st.integers(1, 4))))
        else:
            limits.append(replace(template, max=Decimal(draw(st.sampled_from(CAPS)))))
    return tuple(limits), draw(st.booleans()), draw(st.integers(0, len(WEIGHINGS) - 1))


def plan_of(shape: tuple[tuple[Limit, ...], bool, int], version: int) -> Plan:
    limits, unlimited, _ = shape
    return Plan("plan", version, "plan", limits=limits, unlimited=unlimited)


DIMENSIONS: Final[tuple[tuple[tuple[str, str], ...], ...]] = (
    (),
    (("model", "premium"),),
    (("operation", "image"),),
    (("model", "small-1"), ("operation", "chat")),
    (("model", "premium"), ("quality", "hd")),
)
QUANTITIES: Final = ("1", "2", "3", "5", "8", "0.5", "0.000001", "12.3456789", "1000")

dimensions = st.sampled_from(DIMENSIONS)
asked = st.builds(
    Asked,
    st.sampled_from(("credits", "credits", "credits", "tokens", "calls")),
    st.sampled_from(("1", "2", "3", "5", "1", "2", "3", "0.5", "0.000001", "12.3456789", "1000")),
    dimensions,
)
bodies = st.one_of(
    st.builds(lambda quantity: (Asked("credits", quantity),), st.sampled_from(("1", "2", "3", "5"))),
    st.lists(asked, min_size=1, max_size=3).map(tuple),
)
members = st.sampled_from((None, "alice", "alice", "bob"))
processes = st.integers(0, len(SKEWS_MS) - 1)
accounts = st.sampled_from(("acme", "acme", "acme", "beta"))
ttls = st.sampled_from((5, 60, 300, 300, 7200))
