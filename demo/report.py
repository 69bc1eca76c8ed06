"""The end of a demo: a table of what happened, and whether Stripe holds exactly what it must."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from demo.answers import Answer
from demo.expect import Difference, Expected, plain
from demo.stripe_api import Sent


@dataclass(frozen=True, slots=True)
class Played:
    """A replayed trace."""

    answers: Sequence[Answer]
    accounts: int
    paying: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Stripes:
    """Stripe's side. `sent` and `calls` are known of the double only."""

    pairs: int
    units: Mapping[str, Decimal]
    """By event name, over all accounts."""
    sent: Sent | None
    calls: Mapping[str, int] | None


def table(played: Played, expected: Expected, stripes: Stripes) -> Table:
    """What happened, in numbers."""
    shown = Table(title="Tollgate demo", show_header=False, title_justify="left", min_width=60)
    shown.add_column("what")
    shown.add_column("how much", justify="right")
    answers = played.answers
    shown.add_row("accounts", f"{played.accounts} ({played.paying} paying)")
    shown.add_row("requests", f"{len(answers)}")
    shown.add_row("  by call", _counts(Counter(answer.request.call for answer in answers)))
    shown.add_row("granted", f"{_count(answers, 'granted')}")
    _group(shown, "refused, by limit", Counter(a.reason for a in answers if a.verdict == "refused"))
    _group(shown, "rejected as wrong, by code", Counter(a.reason for a in answers if a.verdict == "rejected"))
    shown.add_section()
    ends = Counter(answer.end for answer in answers)
    shown.add_row("committed", f"{ends['committed']}")
    shown.add_row("  late: their hold had been given back", f"{sum(answer.late for answer in answers)}")
    shown.add_row("  above what was reserved", f"{sum(answer.over_reserved for answer in answers)}")
    cached = sum(a.end == "committed" and a.request.outcome == "cached" for a in answers)
    shown.add_row("  from the app's cache (0 units)", f"{cached}")
    resent = sum(answer.request.sends - 1 for answer in answers if answer.end == "committed")
    shown.add_row("  sent again (counted once)", f"{resent}")
    shown.add_row("released after a failure", f"{ends['released']}")
    shown.add_row("crashed, never committed", f"{ends['crashed']}")
    shown.add_section()
    meters = sorted({meter for _, meter in expected.committed})
    for meter in meters:
        units = sum((found for (_, name), found in expected.committed.items() if name == meter), Decimal(0))
        shown.add_row(f"units committed, {meter}", plain(units))
    for event_name, units in sorted(stripes.units.items()):
        shown.add_row(f"units in Stripe, {event_name}", plain(units))
    if stripes.sent is not None:
        shown.add_row("batches", f"{stripes.sent.batches}")
        shown.add_row("meter events counted by Stripe", f"{stripes.sent.events}")
        _group(shown, "meter events not counted, by reason", Counter(stripes.sent.uncounted), only_if_any=True)
    if stripes.calls is not None:
        shown.add_row("meter event calls, by status", _counts(Counter(stripes.calls)))
    shown.add_section()
    rate = len(answers) / played.seconds if played.seconds else 0
    shown.add_row("replay", f"{played.seconds:.1f} s, {rate:.1f} requests/s")
    return shown


def _count(answers: Sequence[Answer], verdict: str) -> int:
    return sum(answer.verdict == verdict for answer in answers)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common()) or "0"


def _group(shown: Table, title: str, counter: Counter[str], only_if_any: bool = False) -> None:
    if only_if_any and not counter:
        return
    shown.add_row(title, f"{counter.total()}")
    for name, count in counter.most_common():
        shown.add_row(f"  {name}", f"{count}")


def verdict(
    console: Console, expected: Expected, differences: Sequence[Difference], stripes: Stripes, accounts: int
) -> bool:
    """Print the check's result with every difference. Whether it passed."""
    for objection in expected.objections:
        console.print(Text(f"  {objection}", "yellow"))
    for difference in differences:
        off = difference.found - difference.expected
        console.print(
            Text(
                f"  {difference.account}, {difference.event_name}: expected {plain(difference.expected)}, "
                f"Stripe holds {plain(difference.found)} ({'+' if off > 0 else ''}{plain(off)})",
                "yellow",
            )
        )
    passed = not differences and not expected.objections
    if passed:
        line = (
            f"PASS  Stripe's summaries hold exactly the committed units of every paying account "
            f"({accounts} accounts, {stripes.pairs} totals)"
        )
        console.print(Text(line, "bold green"), soft_wrap=True)
    else:
        line = (
            f"FAIL  {len(differences)} of {stripes.pairs} totals differ, "
            f"{len(expected.objections)} answers contradict the trace"
        )
        console.print(Text(line, "bold red"), soft_wrap=True)
    return passed
